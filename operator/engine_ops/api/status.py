"""The whole status of an OptimizationRequest, for each thing that can become of it.

Statuses are plain JSON values, camelCase, so that a result can pass through as encoded JSON. Ready is always there;
Reconciling and Stalled are abnormal-true: present only while they are true, as kstatus reads them.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any, Final

from engine_ops.api.reasons import Reason

Status = dict[str, Any]

READY: Final = "Ready"
RECONCILING: Final = "Reconciling"
STALLED: Final = "Stalled"

MAX_MESSAGE: Final = 2048
"""Messages are cut here: they are read in terminals, and the API server's limit is far above."""


@dataclasses.dataclass(frozen=True, slots=True)
class Attempt:
    """One solve of one generation of one object.

    Parameters
    ----------
    previous
        The status before it; `lastTransitionTime` is taken from there.
    generation
        Of the object.
    run
        1 for the first solve of the generation, counted up by standing requests.
    started
        When the solve began, UTC.
    input_digest
        Of what mattered in the live cluster, if that was the source.
    """

    previous: Mapping[str, Any]
    generation: int
    run: int
    started: datetime.datetime
    input_digest: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Solution:
    """What goes into the status of an answered request.

    Parameters
    ----------
    result
        JSON values, or encoded JSON that the status is encoded with later.
    reason, message
        `Reason.SOLVED`, or `Reason.UNPLACEABLE` with the sentence that names what is left out.
    metrics
        ``durationMs`` and, where it is defined, ``score``.
    solved_by
        ``algorithm``, ``version``; see `engine_ops.api.optimizationrequest.SolvedBy`.
    result_ref
        Where the whole result is, if ``result`` is a summary.
    cut_off
        Why the search ended before its budget, if it did: the answer is then the best so far.
    """

    result: Any
    reason: str
    message: str
    metrics: Mapping[str, Any]
    solved_by: Mapping[str, Any]
    result_ref: Mapping[str, Any] | None = None
    cut_off: str | None = None


def answered(attempt: Attempt, solution: Solution, now: datetime.datetime) -> Status:
    """Return the status of an answered request: Ready, or Stalled with a partial answer."""
    complete = solution.reason == Reason.SOLVED
    reason, message = solution.reason, solution.message
    if solution.cut_off is not None:
        message = f"{message}; the search was cut off: {solution.cut_off}"
        reason = Reason.BEST_SO_FAR if complete else reason
    conditions = [(READY, complete, reason, message)]
    if not complete:
        conditions.append((STALLED, True, reason, message))
    status = _final(attempt, conditions, now)
    status["result"] = solution.result
    if solution.result_ref is not None:
        status["resultRef"] = dict(solution.result_ref)
    status["metrics"] = dict(solution.metrics)
    status["solvedBy"] = dict(solution.solved_by)
    return status


def stalled(attempt: Attempt, reason: str, message: str, now: datetime.datetime) -> Status:
    """Return the status of a request whose spec must change first. An older answer is not kept: it was to another."""
    return _final(attempt, [(READY, False, reason, message), (STALLED, True, reason, message)], now)


def suspended(attempt: Attempt, now: datetime.datetime) -> Status:
    """Return the status of a suspended request. The last answer stays."""
    message = "spec.suspend is true; set it to false to have the request answered"
    status = _keeping_answer(attempt.previous)
    status["observedGeneration"] = attempt.generation
    status["conditions"] = _conditions(attempt, [(READY, False, Reason.SUSPENDED, message)], now)
    return status


def waiting(attempt: Attempt, reason: str, message: str, now: datetime.datetime) -> Status:
    """Return the status of a request that waits for something outside it. `observedGeneration` does not advance."""
    status = _keeping_answer(attempt.previous)
    if status["observedGeneration"] != attempt.generation:
        status["startTime"] = timestamp(attempt.started)
    conditions = [(READY, False, reason, message), (RECONCILING, True, reason, message)]
    status["conditions"] = _conditions(attempt, conditions, now)
    return status


def solving(attempt: Attempt, progress: Mapping[str, Any] | None, now: datetime.datetime) -> Status:
    """Return the status of a request whose solve takes long. A standing request stays Ready with its last answer."""
    status = _keeping_answer(attempt.previous)
    message = _describe(progress) if progress else "no answer yet"
    conditions = [(RECONCILING, True, Reason.SOLVING, message)]
    ready = find(attempt.previous, READY)
    if status["observedGeneration"] == attempt.generation and ready is not None:
        conditions.insert(0, (READY, ready["status"] == "True", ready["reason"], ready["message"]))
    else:
        status["startTime"] = timestamp(attempt.started)
        conditions.insert(0, (READY, False, Reason.SOLVING, message))
    status["conditions"] = _conditions(attempt, conditions, now)
    if progress:
        status["progress"] = dict(progress)
    return status


def find(status: Mapping[str, Any], type_: str) -> Mapping[str, Any] | None:
    """Return the condition of a type, or None."""
    for condition in status.get("conditions") or ():
        if condition.get("type") == type_:
            found: Mapping[str, Any] = condition
            return found
    return None


def is_true(status: Mapping[str, Any], type_: str) -> bool:
    """Whether the condition of a type is there and true."""
    condition = find(status, type_)
    return condition is not None and condition.get("status") == "True"


def timestamp(moment: datetime.datetime) -> str:
    """Write a moment as Kubernetes does: RFC 3339, UTC, whole seconds."""
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_timestamp(text: str) -> datetime.datetime:
    """Read what `timestamp` wrote."""
    return datetime.datetime.fromisoformat(text)


def _final(attempt: Attempt, conditions: Sequence[tuple[str, bool, str, str]], now: datetime.datetime) -> Status:
    status: Status = {
        "observedGeneration": attempt.generation,
        "run": attempt.run,
        "conditions": _conditions(attempt, conditions, now),
        "startTime": timestamp(attempt.started),
        "completionTime": timestamp(now),
    }
    if attempt.input_digest is not None:
        status["inputDigest"] = attempt.input_digest
    return status


def _keeping_answer(previous: Mapping[str, Any]) -> Status:
    status = {key: value for key, value in previous.items() if key not in ("conditions", "progress")}
    status.setdefault("observedGeneration", -1)
    return status


def _conditions(
    attempt: Attempt, wanted: Sequence[tuple[str, bool, str, str]], now: datetime.datetime
) -> list[dict[str, Any]]:
    conditions = []
    for type_, is_so, reason, message in wanted:
        status = "True" if is_so else "False"
        before = find(attempt.previous, type_)
        unchanged = before is not None and before.get("status") == status
        conditions.append(
            {
                "type": type_,
                "status": status,
                "reason": str(reason),
                "message": _cut(message),
                "observedGeneration": attempt.generation,
                "lastTransitionTime": before["lastTransitionTime"] if before and unchanged else timestamp(now),
            }
        )
    return conditions


def _cut(message: str) -> str:
    return message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…"


def _describe(progress: Mapping[str, Any]) -> str:
    parts = [f"objective {progress['objective']:g}"] if progress.get("objective") is not None else []
    if progress.get("lowerBound") is not None:
        parts.append(f"lower bound {progress['lowerBound']:g}")
    if progress.get("gap") is not None:
        parts.append(f"gap {progress['gap'] * 100:.1f} %")
    return "searching: " + (", ".join(parts) or "an answer is there")
