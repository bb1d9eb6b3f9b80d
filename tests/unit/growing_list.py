"""A growing history that is a list, and says how much of it was read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from engine_ops.ml.data_point import WorkloadDataPoint
from engine_ops.ml.growing import GrowingHistory


class GrowingList(GrowingHistory):
    """Points that are added and dropped by hand; ``read`` counts those that somebody was given."""

    def __init__(self, points: Iterable[WorkloadDataPoint] = ()) -> None:
        self.points = list(points)
        self.dropped = 0
        self.replaced = 0
        self.read = 0

    @property
    def added(self) -> int:
        return self.dropped + len(self.points)

    def since(self, position: int) -> Iterator[WorkloadDataPoint] | None:
        if position < max(self.dropped, self.replaced):
            return None
        return self._given(self.points[position - self.dropped :])

    def grow(self, points: Iterable[WorkloadDataPoint], capacity: int = 1_000_000) -> None:
        self.points += points
        gone = max(0, len(self.points) - capacity)
        del self.points[:gone]
        self.dropped += gone

    def replace(self, points: Iterable[WorkloadDataPoint]) -> None:
        self.dropped = self.replaced = self.added + 1
        self.points = list(points)

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: Any) -> Any:
        found = self.points[index]
        self.read += len(found) if isinstance(index, slice) else 1
        return found

    def __iter__(self) -> Iterator[WorkloadDataPoint]:
        return self._given(self.points)

    def _given(self, points: list[WorkloadDataPoint]) -> Iterator[WorkloadDataPoint]:
        for point in points:
            self.read += 1
            yield point
