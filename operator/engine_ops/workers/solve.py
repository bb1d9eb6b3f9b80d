"""Answering one task: used by workers and, in its own process, by the command line."""

from __future__ import annotations

import gzip
import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from engine_ops import __version__
from engine_ops.api.faults import Fault, InvalidDataError, WaitingError
from engine_ops.api.reasons import Reason
from engine_ops.engine.cluster.records import ClusterSnapshot
from engine_ops.engine.cluster.selection import ClusterSelection
from engine_ops.engine.cluster.solvers import CLUSTER_TYPES, cluster_solver_for
from engine_ops.engine.contract import Answer, Budget, Report, Solver
from engine_ops.engine.solvers import TYPES, solver_for
from engine_ops.ml.request_fields import request_fields
from engine_ops.workers.documents import read_json, read_json_or_yaml, rename_root
from engine_ops.workers.messages import MAX_FAULTS, Failed, Incumbent, Outcome, Solved, SolveTask
from engine_ops.workers.throttle import Throttle
from engine_ops.workers.wire import Emit, Handler

logger = logging.getLogger(__name__)

_COMPRESSION_LEVEL = 6

Improved = Callable[[Callable[[], Solved | None]], None]
"""Told of each better answer: a function that encodes it, or returns None where it is too large to be kept."""


Fields = dict[str, float | str | bool]

Labels = Mapping[str, Any]
"""Fields of a `Solved`, by name."""


class ResultTooLargeError(Exception):
    """Even compressed, the result is too large to be stored."""


def load_solvers() -> None:
    """Load every solver, so that workers forked afterwards have them."""
    for request_type in TYPES:
        solver_for(request_type)
    nothing = ClusterSnapshot([], [], [])
    for request_type in CLUSTER_TYPES:
        cluster_solver_for(request_type, nothing, ClusterSelection())


def ignore_improved(_encode: Callable[[], Solved | None]) -> None:
    """Take no notice of better answers."""


class Respond(Protocol):
    """Answers a question that has been read."""

    def __call__(
        self, task: SolveTask, data: Mapping[str, Any], constraints: Mapping[str, Any], report: Report
    ) -> tuple[Answer, Labels]:
        """Return the answer, and fields of `Solved` that are not in it.

        Raises
        ------
        InvalidDataError, WaitingError
            See `engine_ops.engine.contract.Solver.solve`.
        """
        ...


def built_in(
    task: SolveTask, data: Mapping[str, Any], constraints: Mapping[str, Any], report: Report
) -> tuple[Answer, Labels]:
    """Answer with the built-in algorithm. See `Respond`."""
    budget = Budget.of(task.search_seconds, max_steps=task.max_steps, seed=task.seed)
    return solver_of(task).solve(data, constraints, budget, report), {}


def evaluate(task: SolveTask, improved: Improved = ignore_improved, respond: Respond = built_in) -> Outcome:
    """Answer a task in this process.

    Parameters
    ----------
    task
        The question.
    improved
        Told of the first answer and of each better one. It may call what it gets later, and on another thread.
    respond
        What answers it.

    Returns
    -------
    Solved or Failed
        The answer, or why there is none. Nothing is raised: a fault of the solver's own is logged, and its kind named.
    """
    started = time.monotonic()
    fields: Fields = {}
    try:
        answer, labels = _solve(task, improved, started, fields, respond)
        solved = _encode(answer, task, started, fields)
        return msgspec.structs.replace(solved, **labels) if labels else solved
    except InvalidDataError as error:
        faults = rename_root(error.faults, {"data": task.data_path, "constraints": task.constraints_path})
        return Failed(
            reason=Reason.INVALID_DATA,
            message=InvalidDataError(faults).summary(),
            faults=tuple((fault.path, fault.message) for fault in faults[:MAX_FAULTS]),
            duration_ms=_duration_ms(started),
            request_fields=fields,
        )
    except WaitingError as error:
        return Failed(reason=str(error.reason), message=error.message, waiting=True, duration_ms=_duration_ms(started))
    except ResultTooLargeError as error:
        duration_ms = _duration_ms(started)
        return Failed(Reason.RESULT_TOO_LARGE, str(error), duration_ms=duration_ms, request_fields=fields)
    except Exception as error:
        logger.exception("the solver of type %s failed at task %s", task.type, task.task_id)
        return Failed(
            reason=Reason.SOLVER_CRASHED,
            message=f"the solver of type {task.type} failed with {type(error).__name__}; the log has the traceback",
            duration_ms=_duration_ms(started),
            request_fields=fields,
        )


def _solve(
    task: SolveTask, improved: Improved, started: float, fields: Fields, respond: Respond
) -> tuple[Answer, Labels]:
    if task.type not in TYPES:
        raise InvalidDataError([Fault("spec.type", f"must be one of {', '.join(TYPES)}, not {task.type}")])
    read_data = read_json if task.data_format == "json" else read_json_or_yaml
    data = read_data(task.data, task.data_path)
    fields.update(request_fields(task.type, data))
    constraints = read_json(task.constraints, task.constraints_path) if task.constraints else {}

    def report(build: Callable[[], Answer]) -> None:
        improved(lambda: _encode_if_small(build(), task, started, fields))

    return respond(task, data, constraints, report)


def solver_of(task: SolveTask) -> Solver:
    """Return the built-in solver of a task.

    Raises
    ------
    InvalidDataError
        If there is none.
    """
    if not task.cluster:
        return solver_for(task.type)
    snapshot = msgspec.msgpack.decode(task.cluster, type=ClusterSnapshot)
    selection = ClusterSelection.model_validate_json(task.selection)
    return cluster_solver_for(task.type, snapshot, selection)


def _encode_if_small(answer: Answer, task: SolveTask, started: float, fields: Fields) -> Solved | None:
    try:
        return _encode(answer, task, started, fields)
    except ResultTooLargeError:
        return None  # a better answer may be smaller


def _encode(answer: Answer, task: SolveTask, started: float, fields: Fields) -> Solved:
    result = _to_json(answer.result)
    size_bytes = len(result)
    compressed = None
    if size_bytes > task.inline_limit_bytes:
        compressed = gzip.compress(result, _COMPRESSION_LEVEL, mtime=0)
        if len(compressed) > task.stored_limit_bytes:
            raise ResultTooLargeError(
                f"the result is {size_bytes} bytes long, {len(compressed)} compressed, and the limit is "
                f"{task.stored_limit_bytes}: split the request"
            )
        result = _to_json(answer.summary)
    return Solved(
        result=result,
        size_bytes=size_bytes,
        compressed=compressed,
        reason=str(answer.reason),
        message=answer.message,
        algorithm=answer.algorithm,
        version=__version__,
        score=_number(answer.score),
        objective=_number(answer.objective),
        lower_bound=_number(answer.lower_bound),
        gap=_number(answer.gap),
        duration_ms=_duration_ms(started),
        request_fields=fields,
    )


def _to_json(value: Any) -> bytes:
    return msgspec.json.encode(value, enc_hook=_plain)


def _plain(value: Any) -> Any:
    """Turn a numpy scalar or array, which a solver let slip, into plain values."""
    if type(value).__module__ == "numpy":
        return value.tolist()
    raise TypeError(f"a result must be JSON values, not {type(value).__name__}")


def _number(value: float | None) -> float | None:
    """Return a plain float; None for what JSON cannot say."""
    return float(value) if value is not None and math.isfinite(value) else None


def _duration_ms(started: float) -> int:
    return round((time.monotonic() - started) * 1000)


def handle(task: SolveTask, emit: Emit, respond: Respond = built_in) -> Outcome:
    """Answer a task, telling of better and better answers on the way.

    Parameters
    ----------
    task
        The question.
    emit
        Takes an `Incumbent`.
    respond
        What answers it.
    """

    def send(solved: Solved) -> None:
        emit(Incumbent(solved))

    # Without a search the final answer follows the first one at once: it is sent only if it does not.
    throttle: Throttle[Solved] = Throttle(send, first_at_once=task.search_seconds > 0)
    try:
        return evaluate(task, throttle.offer, respond)
    finally:
        throttle.finish()


HANDLER: Handler[SolveTask] = Handler(SolveTask, handle)
"""What a worker that solves does."""
