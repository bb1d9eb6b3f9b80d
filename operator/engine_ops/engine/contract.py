"""What a solver is: the one interface behind every type of request."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from engine_ops.api.reasons import Reason


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """An answer, with the proof of its quality.

    Parameters
    ----------
    result
        The answer in the type's shape: JSON values, camelCase keys. Shared, never to be changed.
    algorithm
        The name of what made it, for ``status.solvedBy.algorithm``.
    message
        One sentence for people, for the condition Ready.
    reason
        `Reason.SOLVED`, or `Reason.UNPLACEABLE` when something asked for is not in the answer.
    score
        0 to 1, defined for each type in the same way for every algorithm; None where it is not defined.
    summary
        The few fields of ``result`` that stay in status when the whole result is too large for it.
    objective, lower_bound, gap
        In the unit of the objective (nodes, or money); None for types without one.
        ``gap`` is ``(objective - lower_bound) / lower_bound``.
    """

    result: Mapping[str, Any]
    algorithm: str
    message: str
    reason: Reason = Reason.SOLVED
    score: float | None = None
    summary: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    objective: float | None = None
    lower_bound: float | None = None
    gap: float | None = None

    @property
    def complete(self) -> bool:
        """Whether everything that was asked for is in the answer."""
        return self.reason is Reason.SOLVED


Report = Callable[[Callable[[], Answer]], None]
"""How a solver tells of a better answer: it passes a function that builds it, called only when it is wanted.

The function may be called later and on another thread, so it closes over a snapshot, not over what the search changes.
"""


def ignore_report(_build: Callable[[], Answer]) -> None:
    """Take no notice of better answers: the `Report` of callers that want only the last one."""


@dataclasses.dataclass(frozen=True, slots=True)
class Budget:
    """How long a solver may search for something better than its first answer.

    Parameters
    ----------
    search_until
        When to stop improving, on the clock of `time.monotonic`. The first answer is made in any case.
    max_steps
        Stop after so many steps of the search; with it, and time to spare, the answer depends on the seed alone.
    seed
        Of every random choice.
    """

    search_until: float
    max_steps: int | None = None
    seed: int = 0

    @classmethod
    def of(cls, search_seconds: float, *, max_steps: int | None = None, seed: int = 0) -> Budget:
        """Return the budget that begins now and lasts ``search_seconds``."""
        return cls(time.monotonic() + search_seconds, max_steps, seed)

    def allows(self, step: int) -> bool:
        """Whether step number ``step``, counted from 0, may begin."""
        if self.max_steps is not None and step >= self.max_steps:
            return False
        return time.monotonic() < self.search_until


@dataclasses.dataclass(frozen=True, slots=True)
class Explanation:
    """Why an answer is as it is: one table, a title above it and notes below it.

    Parameters
    ----------
    title
        One line.
    headers
        Column names in capitals, as kubectl prints them.
    rows
        A row for each item, task or container; cells are short texts.
    notes
        Sentences on the whole.
    """

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


class Solver(Protocol):
    """What answers one type of request. Solvers keep no state between calls."""

    def solve(self, data: Mapping[str, Any], constraints: Mapping[str, Any], budget: Budget, report: Report) -> Answer:
        """Answer.

        Parameters
        ----------
        data, constraints
            As the user wrote them; paths in faults begin with ``data`` and ``constraints``.
        budget
            How long to search. The first answer is not bounded by it.
        report
            Called with the first answer and with each better one.

        Returns
        -------
        Answer
            The best answer found, never worse than the last reported one.

        Raises
        ------
        InvalidDataError
            If the data or a constraint is wrong. Every fault is named with its path.
        WaitingError
            If something outside the request is missing.
        """
        ...

    def explain(
        self, data: Mapping[str, Any], constraints: Mapping[str, Any], result: Mapping[str, Any]
    ) -> Explanation:
        """Explain ``result``, an answer to ``data`` and ``constraints``, from the answer itself.

        Raises
        ------
        InvalidDataError
            If the data or a constraint is wrong, or the result does not belong to them.
        """
        ...
