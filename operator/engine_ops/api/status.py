"""The whole status of an OptimizationRequest, for each thing that can become of it.

Statuses are plain JSON values, camelCase, so that a result can pass through as encoded JSON. Ready is always there;
Reconciling and Stalled are abnormal-true: present only while they are true, as kstatus reads them.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from engine_ops.api.conditions import (
    MAX_MESSAGE,
    READY,
    RECONCILING,
    STALLED,
    Wanted,
    conditions_of,
    find,
    is_true,
    parse_timestamp,
    timestamp,
)
from engine_ops.api.reasons import Reason

Status = dict[str, Any]

__all__ = [
    "MAX_MESSAGE",
    "READY",
    "RECONCILING",
    "STALLED",
    "Attempt",
    "Solution",
    "Status",
    "answered",
    "find",
    "is_true",
    "parse_timestamp",
    "solving",
    "stalled",
    "suspended",
    "timestamp",
    "waiting",
]


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


def verdict(solution: Solution) -> tuple[bool, str, str]:
    """Return whether an answer is complete, and the reason and the message that tell of it."""
    complete = solution.reason == Reason.SOLVED
    reason, message = solution.reason, solution.message
    if solution.cut_off is not None:
        message = f"{message}; the search was cut off: {solution.cut_off}"
        reason = Reason.BEST_SO_FAR if complete else reason
    return complete, reason, message


def answered(attempt: Attempt, solution: Solution, now: datetime.datetime) -> Status:
    """Return the status of an answered request: Ready, or Stalled with a partial answer."""
    complete, reason, message = verdict(solution)
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
    status["conditions"] = _of(attempt, [(READY, False, Reason.SUSPENDED, message)], now)
    return status


def waiting(attempt: Attempt, reason: str, message: str, now: datetime.datetime) -> Status:
    """Return the status of a request that waits for something outside it. `observedGeneration` does not advance."""
    status = _keeping_answer(attempt.previous)
    if status["observedGeneration"] != attempt.generation:
        status["startTime"] = timestamp(attempt.started)
    conditions = [(READY, False, reason, message), (RECONCILING, True, reason, message)]
    status["conditions"] = _of(attempt, conditions, now)
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
    status["conditions"] = _of(attempt, conditions, now)
    if progress:
        status["progress"] = dict(progress)
    return status


def _final(attempt: Attempt, conditions: Sequence[Wanted], now: datetime.datetime) -> Status:
    status: Status = {
        "observedGeneration": attempt.generation,
        "run": attempt.run,
        "conditions": _of(attempt, conditions, now),
        "startTime": timestamp(attempt.started),
        "completionTime": timestamp(now),
    }
    if attempt.input_digest is not None:
        status["inputDigest"] = attempt.input_digest
    return status


def _of(attempt: Attempt, wanted: Sequence[Wanted], now: datetime.datetime) -> list[dict[str, Any]]:
    return conditions_of(wanted, attempt.previous, attempt.generation, now)


def _keeping_answer(previous: Mapping[str, Any]) -> Status:
    status = {key: value for key, value in previous.items() if key not in ("conditions", "progress")}
    status.setdefault("observedGeneration", -1)
    return status


def _describe(progress: Mapping[str, Any]) -> str:
    parts = [f"objective {progress['objective']:g}"] if progress.get("objective") is not None else []
    if progress.get("lowerBound") is not None:
        parts.append(f"lower bound {progress['lowerBound']:g}")
    if progress.get("gap") is not None:
        parts.append(f"gap {progress['gap'] * 100:.1f} %")
    return "searching: " + (", ".join(parts) or "an answer is there")
