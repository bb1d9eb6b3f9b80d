"""What is asked over HTTP, and what becomes of it."""

from __future__ import annotations

import dataclasses

from engine_ops.api.reasons import Reason
from engine_ops.engine.request import SolvedBy


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """A request for an answer, as it came over HTTP, with its envelope checked and its data still encoded.

    Parameters
    ----------
    id
        The caller's name for it.
    namespace
        Where it counts.
    username
        Whose it is.
    type
        Of `engine_ops.api.optimizationrequest.RequestType`.
    data, constraints
        JSON of an object each.
    plugin
        The only plugin to ask; ``none`` for no plugin, None for any.
    search_seconds
        Budget for improving the answer.
    timeout_seconds
        Hard limit.
    """

    id: str
    namespace: str
    username: str
    type: str
    data: bytes
    constraints: bytes = b"{}"
    plugin: str | None = None
    search_seconds: float = 1.0
    timeout_seconds: float = 30.0


@dataclasses.dataclass(frozen=True, slots=True)
class Improvement:
    """The best answer so far is better than before; numbers as in ``status.progress``, None where there is none."""

    objective: float | None
    lower_bound: float | None
    gap: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """What became of a question.

    Parameters
    ----------
    success
        Whether everything that was asked for is in the result.
    reason, message
        Of the condition Ready of a resource that asked the same.
    duration_ms
        From the question to the reply, wall clock.
    result
        JSON of the answer, never compressed nor cut; None where there is none.
    score
        0 to 1; None where it is not defined.
    solved_by
        What made the answer.
    faults
        Field path and sentence of what is wrong with the question; paths begin at ``data`` or ``constraints``.
    waiting
        Whether the same question may be answered later: what is missing is not the question's fault.
    cut_off
        Why the search ended early, if it did.
    cacheable
        Whether the same question would get the same answer for as long as `Engine.lineup` stays.
    """

    success: bool
    reason: Reason
    message: str
    duration_ms: int
    result: bytes | None = None
    score: float | None = None
    solved_by: SolvedBy | None = None
    faults: tuple[tuple[str, str], ...] = ()
    waiting: bool = False
    cut_off: str | None = None
    cacheable: bool = False
