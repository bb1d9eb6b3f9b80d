"""Models whose predictions rest on the newest outcomes, not only on those that they were trained on."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

from engine_ops.ml.base_model import BaseMLModel
from engine_ops.ml.data_point import WorkloadDataPoint
from engine_ops.ml.keys import known_at, workload_key
from engine_ops.ml.lags import Lags


class RememberingModel(BaseMLModel):
    """A model that digests the history when it has changed, and not for each prediction.

    Digesting 10,000 points takes some tenths of a second, a prediction some tenths of a millisecond. A history grows at
    its end and is cut at its start, so that its length and its ends tell whether it has changed.
    """

    def __init__(self, model_id: str) -> None:
        super().__init__(model_id)
        self._digested: Any = None

    def use_history(self, historical_data: Iterable[WorkloadDataPoint] | Lags | None) -> None:
        """Rest predictions on these outcomes from now on.

        Parameters
        ----------
        historical_data
            What is known by now. None and no points at all change nothing: what the model was trained on is more. An
            object whose length and ends are as before is taken to be unchanged.
        """
        if historical_data is None or isinstance(historical_data, Lags):
            super().use_history(historical_data)
            return
        points = historical_data if isinstance(historical_data, Sequence) else list(historical_data)
        if not points:
            return
        ends = (len(points), _identity(points[0]), _identity(points[-1]))
        if ends != self._digested:
            self._digest(points)
            self._digested = ends

    @abstractmethod
    def _digest(self, points: Sequence[WorkloadDataPoint]) -> None:
        """Take over what predictions need of the points."""


def _identity(point: WorkloadDataPoint) -> tuple[Any, ...]:
    return point.timestamp, known_at(point), point.success, point.request_type, workload_key(point)
