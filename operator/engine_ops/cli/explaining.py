"""Why an answer is as it is: from a request, its data and its result to text."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from engine_ops.api.conditions import READY, find
from engine_ops.api.faults import Fault, InvalidDataError, WaitingError
from engine_ops.api.optimizationrequest import OptimizationRequestSpec, OptimizationRequestStatus, SolvedBy
from engine_ops.cli.answering import answer_all
from engine_ops.cli.cluster_question import ClusterQuestion, ClusterReader, NoCluster, ask
from engine_ops.cli.focus import Focus, explanations
from engine_ops.cli.hints import REQUEST_HINTS
from engine_ops.cli.manifests import Manifests, Request
from engine_ops.cli.predicted import explain_prediction, is_prediction, notes_of, solved_by_of
from engine_ops.cli.printing import format_table, safe
from engine_ops.controllers.solving import data_path
from engine_ops.engine.contract import Explanation, Solver
from engine_ops.engine.solvers import solver_for
from engine_ops.workers.documents import read_json, read_json_or_yaml, rename_root
from engine_ops.workers.early_pool import EarlyPool

if TYPE_CHECKING:
    from engine_ops.cli.fills import Picture

_RESULT: Final = "status.result"
_WHOLE: Final = Focus()
_NOBODY: Final = SolvedBy()


@dataclasses.dataclass(frozen=True, slots=True)
class Told:
    """What is said of one request.

    Parameters
    ----------
    text
        For standard output; empty for nothing.
    explained
        Whether there was an answer to explain.
    faults
        What is wrong with the request's spec, data or result.
    name
        Of the request.
    picture
        The nodes before and after, where the whole of an answer about a cluster is explained.
    """

    text: str = ""
    explained: bool = False
    faults: tuple[Fault, ...] = ()
    name: str = ""
    picture: Picture | None = None

    @property
    def exit_code(self) -> int:
        """0 for an explanation, 2 where something is wrong, else 1."""
        if self.faults:
            return 2
        return 0 if self.explained else 1


async def tell_manifests(
    manifests: Manifests, pool: EarlyPool, cluster: ClusterReader | None = None, focus: Focus = _WHOLE
) -> list[Told]:
    """Explain every request: by the answer in its status, if there is one, else by solving it now.

    Parameters
    ----------
    manifests
        The requests.
    pool
        To solve them.
    cluster
        What requests with ``dataFrom.cluster`` are about.
    focus
        What of each answer is explained.

    Raises
    ------
    WorkerStartError
        If a solver cannot be loaded.
    """
    reader = cluster or NoCluster()
    stored = [_stored_result(manifests, request) for request in manifests.requests]
    unsolved = [request for request, result in zip(manifests.requests, stored, strict=True) if result is None]
    fresh = iter(await answer_all(dataclasses.replace(manifests, requests=unsolved), pool, cluster=reader))
    told = []
    for request, result in zip(manifests.requests, stored, strict=True):
        if result is not None:
            told.append(await _tell_stored(manifests, request, result, reader, focus))
            continue
        answered = next(fresh)
        found = answered.status.get("result")
        if answered.faults:
            told.append(Told(faults=answered.faults))
        elif found is None:
            told.append(tell_conditions(request.name, answered.status))
        else:
            solved_by = solved_by_of(answered.status)
            told.append(_tell_request(manifests, request, found, answered.question, focus, solved_by))
    return told


def has_answer(body: Mapping[str, Any], generation: int) -> bool:
    """Whether an object has a status whose result, or a summary of it, answers the spec of this generation."""
    try:
        status = OptimizationRequestStatus.model_validate(body.get("status"))
    except ValidationError:
        return False
    return status.result is not None and status.observed_generation == generation


def tell(
    name: str,
    spec: OptimizationRequestSpec,
    data: bytes | None,
    result: Mapping[str, Any] | bytes,
    question: ClusterQuestion | None = None,
    focus: Focus = _WHOLE,
    notes: Sequence[str] = (),
    solved_by: SolvedBy = _NOBODY,
) -> Told:
    """Explain an answer.

    Parameters
    ----------
    name
        Of the request.
    spec
        The question.
    data
        What a ConfigMap of ``dataFrom`` holds; None where the data is inline.
    result
        The whole result, or its JSON as gzip.
    question
        What ``dataFrom.cluster`` asks.
    focus
        What of the answer is explained.
    notes
        Last sentences.
    solved_by
        What made the answer.
    """
    path = data_path(spec)
    try:
        whole = _decompress(result) if isinstance(result, bytes) else result
        if is_prediction(spec, solved_by):
            explanation = explain_prediction(spec.type.value, whole, solved_by)
            return Told(_format(name, explanation), explained=True, name=name)
        notes = (*notes_of(solved_by), *notes)
        problem = (spec.data or {}) if data is None else read_json_or_yaml(data, path)
        with _faults_named(spec):
            solver = _solver(spec, question)
            found = explanations(solver, problem, spec.constraints or {}, whole, question, focus)
            picture = None if question is None or not focus.whole else question.picture(whole)
    except InvalidDataError as error:
        return Told(faults=error.faults)
    text = "\n".join(_format(name, explanation) for explanation in found)
    if notes:
        text += "\n" + "".join(f"{safe(note)}\n" for note in notes)
    return Told(text, explained=True, name=name, picture=picture)


async def tell_about_cluster(
    name: str,
    namespace: str,
    spec: OptimizationRequestSpec,
    result: Mapping[str, Any] | bytes,
    cluster: ClusterReader,
    focus: Focus,
    solved_by: SolvedBy = _NOBODY,
) -> Told:
    """Explain an answer about a cluster as it was at another moment.

    Parameters
    ----------
    name, namespace
        Of the request.
    spec
        The question, with ``dataFrom.cluster``.
    result
        The whole result, or its JSON as gzip.
    cluster
        The cluster.
    focus
        What of the answer is explained.
    solved_by
        What made it.
    """
    try:
        question = await ask(cluster, namespace, spec)
        whole = _decompress(result) if isinstance(result, bytes) else result
    except WaitingError as error:
        return Told(f"{safe(name)}: {safe(error.message)}\n")
    except InvalidDataError as error:
        return Told(faults=error.faults)
    from engine_ops.cli.cluster_drift import fit

    try:
        with _faults_named(spec):
            fitted = fit(question, whole)
    except InvalidDataError as error:
        told = Told(faults=error.faults)
    else:
        notes = (cluster.moment, fitted.note) if fitted.note else (cluster.moment,)
        told = tell(name, spec, None, fitted.result, fitted.question, focus, notes, solved_by)
    if told.faults and all(fault.path.startswith(_RESULT) for fault in told.faults):
        # Nobody wrote it, and nobody need mend it.
        return Told(safe(f"{name}: the answer does not fit this cluster: {told.faults[0].message}; ask again") + "\n")
    return told


def tell_conditions(name: str, status: Mapping[str, Any]) -> Told:
    """Say why there is no answer, from the conditions."""
    conditions = status.get("conditions") or ()
    if not conditions:
        return Told(f"{safe(name)}: no answer, and no word from the operator yet: is it running?\n")
    rows = [[str(item.get(key, "")) for key in ("type", "status", "reason", "message")] for item in conditions]
    table = format_table(("TYPE", "STATUS", "REASON", "MESSAGE"), rows)
    text = f"{safe(name)}: no answer to explain\n\n{table}"
    notes = list(_pending(status))
    if notes:
        text += "\n" + "".join(f"{safe(note)}\n" for note in notes)
    return Told(text)


def _pending(status: Mapping[str, Any]) -> Iterator[str]:
    """Yield how far a search has come, and what a request without an answer needs or waits for."""
    progress = status.get("progress") or {}
    known = [
        f"{words} {progress[field]:g}"
        for field, words in (("objective", "objective"), ("lowerBound", "lower bound"))
        if isinstance(progress.get(field), int | float)
    ]
    if isinstance(progress.get("gap"), int | float):
        known.append(f"gap {progress['gap'] * 100:.1f} %")
    if known:
        yield f"The best answer so far: {', '.join(known)}."
    ready = find(status, READY)
    hint = None if ready is None else REQUEST_HINTS.get(str(ready.get("reason")))
    if hint is not None:
        yield f"{hint[0].upper()}{hint[1:]}."


def _stored_result(manifests: Manifests, request: Request) -> Mapping[str, Any] | bytes | None:
    """Return the whole result in a manifest's status, or in the ConfigMap that it names, if it answers the spec."""
    if request.spec is None or not has_answer(request.body, request.generation):
        return None
    status = request.body["status"]
    ref = status.get("resultRef")
    if ref is None:
        result: Mapping[str, Any] = status["result"]
        return result
    try:
        return manifests.value(request.namespace, ref["name"], ref["key"])
    except WaitingError:
        return None  # only a summary is here


async def _tell_stored(
    manifests: Manifests,
    request: Request,
    result: Mapping[str, Any] | bytes,
    cluster: ClusterReader,
    focus: Focus,
) -> Told:
    spec, solved_by = request.spec, solved_by_of(request.body["status"])
    if spec is None or spec.cluster is None:
        return _tell_request(manifests, request, result, None, focus, solved_by)
    return await tell_about_cluster(request.name, request.namespace, spec, result, cluster, focus, solved_by)


def _tell_request(
    manifests: Manifests,
    request: Request,
    result: Mapping[str, Any] | bytes,
    question: ClusterQuestion | None,
    focus: Focus,
    solved_by: SolvedBy,
) -> Told:
    spec = request.spec
    if spec is None:
        raise AssertionError("a request without a valid spec has no answer")
    data = None
    ref = spec.config_map_key_ref
    if ref is not None:
        try:
            data = manifests.value(request.namespace, ref.name, ref.key)
        except WaitingError as error:
            return Told(f"{safe(request.name)}: {safe(error.message)}\n")
    return tell(request.name, spec, data, result, question, focus, solved_by=solved_by)


@contextlib.contextmanager
def _faults_named(spec: OptimizationRequestSpec) -> Iterator[None]:
    """Give faults the paths that users know, and make a fault of a result that is none."""
    try:
        yield
    except InvalidDataError as error:
        roots = {"data": data_path(spec), "constraints": "spec.constraints", "result": _RESULT}
        raise InvalidDataError(rename_root(error.faults, roots)) from error
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # A result in a file may be anything; solvers check that it fits the data, not each value's type.
        message = f"is no result of type {spec.type.value} ({type(error).__name__}: {error})"
        raise InvalidDataError([Fault(_RESULT, message)]) from error


def _solver(spec: OptimizationRequestSpec, question: ClusterQuestion | None) -> Solver:
    if question is None:
        return solver_for(spec.type.value)
    from engine_ops.engine.cluster.solvers import cluster_solver_for

    return cluster_solver_for(spec.type.value, question.snapshot, question.selection)


def _format(name: str, explanation: Explanation) -> str:
    text = safe(f"{name}: {explanation.title}") + "\n"
    if explanation.rows:
        text += "\n" + format_table(explanation.headers, explanation.rows)
    if explanation.notes:
        text += "\n" + "".join(safe(note) + "\n" for note in explanation.notes)
    return text


def _decompress(result: bytes) -> dict[str, Any]:
    try:
        text = gzip.decompress(result)
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidDataError([Fault("status.resultRef", f"is not gzip: {error}")]) from error
    return read_json(text, "status.resultRef")
