"""Answering manifests as the operator would: the same tasks, workers, limits and words, without an API server."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import enum
from typing import Any, Final

import msgspec

from engine_ops.api import status as statuses
from engine_ops.api.faults import Fault, InvalidDataError, WaitingError
from engine_ops.api.optimizationrequest import OptimizationRequestSpec
from engine_ops.api.reasons import Reason
from engine_ops.api.status import READY, Attempt, Status, find, is_true
from engine_ops.cli.cluster_question import ClusterQuestion, ClusterReader, NoCluster, ask
from engine_ops.cli.manifests import Manifests, Request
from engine_ops.controllers import solving
from engine_ops.controllers.solving import run_task, solution_of, task_for
from engine_ops.workers.early_pool import EarlyPool
from engine_ops.workers.messages import SolveTask

UNLIMITED_BYTES: Final = 2**62
"""A status that is printed holds the whole result."""


class Outcome(enum.IntEnum):
    """What became of a document; the exit code is the worst of all."""

    DONE = 0
    """Answered, or suspended as its owner wants it."""
    UNANSWERED = 1
    """Understood, but not answerable now or as it is."""
    INVALID = 2
    """The manifest, or its data, is wrong."""


@dataclasses.dataclass(frozen=True, slots=True)
class Answered:
    """One request, and what the operator would write of it.

    Parameters
    ----------
    request
        The question.
    status
        The whole status, as JSON values.
    faults
        What is wrong with the spec or the data, with paths.
    question
        What was asked about which cluster, if the answer is about one.
    """

    request: Request
    status: Status
    faults: tuple[Fault, ...] = ()
    question: ClusterQuestion | None = None

    @property
    def outcome(self) -> Outcome:
        """How bad it is."""
        if self.faults:
            return Outcome.INVALID
        ready = find(self.status, READY) or {}
        if is_true(self.status, READY) or ready.get("reason") == Reason.SUSPENDED:
            return Outcome.DONE
        return Outcome.UNANSWERED

    def to_manifest(self) -> dict[str, Any]:
        """Return the object as the API server would show it."""
        return {**self.request.body, "status": self.status}


async def answer_all(
    manifests: Manifests,
    pool: EarlyPool,
    *,
    search_seconds: float | None = None,
    cluster: ClusterReader | None = None,
) -> list[Answered]:
    """Answer every request, in order, as the operator answers a new object.

    An older status in a manifest is not looked at, and a standing request is answered once.

    Parameters
    ----------
    manifests
        The requests, and the ConfigMaps that they refer to.
    pool
        The workers; not waited for where there is nothing for them to do.
    search_seconds
        In place of each ``spec.searchSeconds``.
    cluster
        What requests with ``dataFrom.cluster`` are about; without one they wait.

    Raises
    ------
    WorkerStartError
        If a solver cannot be loaded.
    """
    reader = cluster or NoCluster()
    prepared = [await _prepare(manifests, request, search_seconds, reader) for request in manifests.requests]
    return list(await asyncio.gather(*(_finish(pool, item) for item in prepared)))


@dataclasses.dataclass(frozen=True, slots=True)
class _Prepared:
    """A request that a worker is to answer."""

    request: Request
    spec: OptimizationRequestSpec
    task: SolveTask
    question: ClusterQuestion | None = None
    digest: str | None = None


async def _prepare(
    manifests: Manifests, request: Request, search_seconds: float | None, cluster: ClusterReader
) -> Answered | _Prepared:
    """Make the worker's task, or answer what needs no worker."""
    attempt = _attempt(request)
    spec = request.spec
    if spec is None:
        message = InvalidDataError(request.faults).summary()
        status = statuses.stalled(attempt, Reason.INVALID_SPEC, message, attempt.started)
        return Answered(request, status, request.faults)
    if spec.suspend:
        return Answered(request, statuses.suspended(attempt, attempt.started))
    question = None
    ref = spec.config_map_key_ref
    try:
        if ref is not None:
            data = manifests.value(request.namespace, ref.name, ref.key)
        else:
            data = msgspec.json.encode(spec.data or {})
        if spec.cluster is not None:
            question = await ask(cluster, request.namespace, spec)
        source = None if question is None else question.to_input()
        task = task_for(
            spec,
            data,
            task_id=f"{request.namespace}/{request.name}",
            cluster=source,
            inline_limit_bytes=UNLIMITED_BYTES,
        )
    except WaitingError as error:
        return Answered(request, statuses.waiting(attempt, error.reason, error.message, attempt.started))
    except InvalidDataError as error:
        status = statuses.stalled(attempt, Reason.INVALID_DATA, error.summary(), attempt.started)
        return Answered(request, status, error.faults)
    if search_seconds is not None:
        task = msgspec.structs.replace(task, search_seconds=search_seconds)
    return _Prepared(request, spec, task, question, None if source is None else source.digest)


async def _finish(pool: EarlyPool, item: Answered | _Prepared) -> Answered:
    if isinstance(item, Answered):
        return item
    request, spec = item.request, item.spec
    workers = await pool.ready()
    attempt = dataclasses.replace(_attempt(request), input_digest=item.digest)
    outcome = await run_task(workers, item.task, spec)
    now = _now()
    if isinstance(outcome, solving.Answered):
        solution = solution_of(outcome.solved, cut_off=outcome.cut_off)
        return Answered(request, _plain(statuses.answered(attempt, solution, now)), question=item.question)
    to_status = statuses.waiting if outcome.waiting else statuses.stalled
    faults = tuple(Fault(path, message) for path, message in outcome.faults)
    return Answered(request, to_status(attempt, outcome.reason, outcome.message, now), faults)


def _attempt(request: Request) -> Attempt:
    return Attempt(previous={}, generation=request.generation, run=1, started=_now())


def _plain(status: Status) -> Status:
    """Decode the result, which the worker has encoded."""
    decoded: Status = msgspec.json.decode(msgspec.json.encode(status))
    return decoded


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
