"""Models whose predictions rest on the newest outcomes, not only on those that they were trained on."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

from engine_ops.ml.base_model import BaseMLModel
from engine_ops.ml.data_point import WorkloadDataPoint
from engine_ops.ml.growing import GrowingHistory
from engine_ops.ml.keys import known_at, workload_key
from engine_ops.ml.lags import Lags


class RememberingModel(BaseMLModel):
    """A model that digests the history when it has changed, and not for each prediction.

    Digesting 10,000 points takes some tenths of a second, a prediction some tenths of a millisecond. Of a
    `GrowingHistory` only what is new is taken in. A list is digested as a whole: histories grow at their end and are
    cut at their start, so that its length and its ends tell whether it has changed.
    """

    def __init__(self, model_id: str) -> None:
        super().__init__(model_id)
        self._digested: Any = None
        self._growing: GrowingHistory | None = None
        # Where it was when it was looked at last: the positions of its oldest point and after its newest.
        self._span = (0, 0)

    def use_history(self, historical_data: Iterable[WorkloadDataPoint] | Lags | None) -> None:
        """Rest predictions on these outcomes from now on.

        Parameters
        ----------
        historical_data
            What is known by now. None and no points at all change nothing: what the model was trained on is more. A
            list whose length and ends are as before is taken to be unchanged.
        """
        if historical_data is None:
            return
        if isinstance(historical_data, Lags):
            self._start_anew()
            super().use_history(historical_data)
            return
        if isinstance(historical_data, GrowingHistory):
            self._follow(historical_data)
            return
        points = historical_data if isinstance(historical_data, Sequence) else list(historical_data)
        if not points:
            return
        ends = _ends(points)
        if ends != self._digested:
            self._start_anew()
            self._digest(points)
            self._digested = ends

    def preprocess_data(
        self, data: Iterable[WorkloadDataPoint], target: str = "success"
    ) -> tuple[list[list[float]], list[float]]:
        """Return features and labels, see `BaseMLModel.preprocess_data`; what was digested is forgotten."""
        self._start_anew()
        return super().preprocess_data(data, target)

    @abstractmethod
    def _digest(self, points: Iterable[WorkloadDataPoint]) -> None:
        """Take over what predictions need of the points, and forget what was digested before."""

    def _extend(self, points: Iterable[WorkloadDataPoint], gone: int) -> bool:
        """Take over points that are new, and forget those that have gone.

        Parameters
        ----------
        points
            In the order in which they were recorded, after those that were digested.
        gone
            How many have gone then, the oldest ones in that order.

        Returns
        -------
        bool
            False, the default, where the model cannot do it: everything is digested then.
        """
        del points, gone
        return False

    def _follow(self, history: GrowingHistory) -> None:
        span = history.start, history.added
        if history is self._growing and span == self._span:
            return
        if not len(history):
            return
        known = history is self._growing or self._is_digested(history)
        new = history.since(self._span[1]) if known else None
        gone = span[0] - self._span[0]
        self._start_anew()  # until it is done: what fails in the middle is half of a digest
        if new is None or not self._extend(new, gone):
            self._digest(history.since(history.start) or ())
        self._growing, self._span = history, span

    def _is_digested(self, history: GrowingHistory) -> bool:
        """Whether a list of the same points was digested, as a model is that was trained on one."""
        if self._digested is None or self._digested[0] != len(history) or self._digested != _ends(history):
            return False
        self._span = history.start, history.added
        return True

    def _start_anew(self) -> None:
        self._digested = self._growing = None


def _ends(points: Sequence[WorkloadDataPoint]) -> tuple[int, Any, Any]:
    return len(points), _identity(points[0]), _identity(points[-1])


def _identity(point: WorkloadDataPoint) -> tuple[Any, ...]:
    return point.timestamp, known_at(point), point.success, point.request_type, workload_key(point)
