"""What is counted of requests where it happens, whoever counts.

The reconcile loop and the REST API's requests tell a `Measured`; `engine_ops.server.metrics.Metrics` is one.
"""

from __future__ import annotations

from typing import Final, Literal, Protocol

from engine_ops.api.reasons import Reason
from engine_ops.controllers.solving import Answered

Outcome = Literal["answered", "stalled", "waiting"]


class Measured(Protocol):
    """Whoever counts. Called on the engine's loop, or on the REST API's."""

    def request_ended(
        self,
        request_type: str,
        outcome: Outcome,
        reason: str,
        *,
        algorithm: str | None,
        plugin: str | None,
        gap: float | None,
    ) -> None:
        """Count what became of one try to answer a request.

        Parameters
        ----------
        request_type
            Of `engine_ops.api.optimizationrequest.RequestType`; anything else where the spec is wrong.
        outcome
            ``answered``; ``stalled`` where the request must change; ``waiting`` where it is tried again.
        reason
            Of the condition Ready.
        algorithm, plugin
            Whose the answer is; None where there is none, or no plugin has a share in it.
        gap
            Of the answer; None where it has none.
        """

    def solved(self, request_type: str, seconds: float) -> None:
        """Take note how long it took to find an answer or to find that there is none, the workers' queue included."""

    def reconciled(self, seconds: float, *, failed: bool) -> None:
        """Take note of one pass over one request, from the decision to the status that is written.

        Parameters
        ----------
        seconds
            How long it took, waiting for its turn included.
        failed
            Whether an outage or a defect ended it.
        """


class Unmeasured:
    """Counts nothing."""

    def request_ended(
        self,
        request_type: str,
        outcome: Outcome,
        reason: str,
        *,
        algorithm: str | None,
        plugin: str | None,
        gap: float | None,
    ) -> None:
        """See `Measured`."""

    def solved(self, request_type: str, seconds: float) -> None:
        """See `Measured`."""

    def reconciled(self, seconds: float, *, failed: bool) -> None:
        """See `Measured`."""


UNMEASURED: Final = Unmeasured()


def count_answer(measured: Measured, request_type: str, answered: Answered) -> None:
    """Count an answer that its user has.

    Parameters
    ----------
    measured
        Who counts.
    request_type
        Of the request.
    answered
        As `engine_ops.controllers.asking.Asking.answer` has it.
    """
    solved, share = answered.solved, answered.share
    complete = solved.reason == Reason.SOLVED  # else it is Stalled with a partial answer
    measured.request_ended(
        request_type,
        "answered" if complete else "stalled",
        Reason.BEST_SO_FAR if complete and answered.cut_off is not None else solved.reason,
        algorithm=solved.algorithm,
        plugin=share.plugin if share is not None else None,
        gap=solved.gap,
    )


def count_failure(measured: Measured, request_type: str, reason: str, *, waiting: bool) -> None:
    """Count a try that brought no answer.

    Parameters
    ----------
    measured, request_type
        See `count_answer`.
    reason
        Of the condition Ready.
    waiting
        Whether the request is tried again as it is.
    """
    outcome: Outcome = "waiting" if waiting else "stalled"
    measured.request_ended(request_type, outcome, reason, algorithm=None, plugin=None, gap=None)
