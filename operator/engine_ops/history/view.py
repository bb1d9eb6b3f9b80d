"""The history as a plugin's process has it: a sequence of points that are decoded when they are read."""

from __future__ import annotations

import operator
from bisect import bisect_right
from collections.abc import Iterator
from typing import Final, SupportsIndex, overload

from engine_ops.history.feed import HistoryUpdate
from engine_ops.history.part import DamagedHistoryError, Part
from engine_ops.ml.data_point import WorkloadDataPoint
from engine_ops.ml.growing import GrowingHistory

__all__ = ["DamagedHistoryError", "HistoryView"]

MAX_KEPT: Final = 10_000
"""Decoded points that are kept at most, the newest that were read: some 2 KB each."""


class HistoryView(GrowingHistory):
    """The newest points of the operator's history, oldest first; kept up by updates.

    A part that is read for the second time is kept decoded (`MAX_KEPT`); what `since` returns is not. Points that are
    kept are shared by all who read them: whoever changes one changes it for later readers of the same process.
    """

    def __init__(self) -> None:
        self._parts: list[Part] = []
        self._starts: list[int] = []
        self._start = 0
        self._added = 0
        self._replaced = 0
        self._kept = 0

    def apply(self, update: HistoryUpdate) -> None:
        """Take in what is new.

        Raises
        ------
        DamagedHistoryError
            If the update is not whole; the view is as before.
        """
        parts = [Part(run) for run in update.runs]
        if update.size < 0:
            raise DamagedHistoryError(f"a history has no {update.size} points")
        if update.reset and self._added:
            self.forget_decoded()
            self._parts, self._starts = [], []
            self._added += 1
            self._start = self._replaced = self._added
        for part in parts:
            if not (self._parts and self._parts[-1].extend(part)):
                self._parts.append(part)
                self._starts.append(self._added)
            self._added += len(part)
        self._start = max(self._start, self._added - update.size)
        self._drop()

    @property
    def added(self) -> int:
        """The position after the newest point; see `GrowingHistory`."""
        return self._added

    @property
    def start(self) -> int:
        """The position of the oldest point."""
        return self._start

    def since(self, position: int) -> Iterator[WorkloadDataPoint] | None:
        """Return the points from a position on, see `GrowingHistory.since`; none of them is kept decoded for it."""
        if position < self._replaced or position < self._start or position > self._added:
            return None
        return self._fresh(position)

    def forget_decoded(self) -> None:
        """Free the memory of the points that are kept decoded. They are decoded again where they are read."""
        for part in self._parts:
            part.kept, part.was_read = [], False
        self._kept = 0

    def __len__(self) -> int:
        return self._added - self._start

    @overload
    def __getitem__(self, index: SupportsIndex) -> WorkloadDataPoint: ...

    @overload
    def __getitem__(self, index: slice) -> list[WorkloadDataPoint]: ...

    def __getitem__(self, index: SupportsIndex | slice) -> WorkloadDataPoint | list[WorkloadDataPoint]:
        if isinstance(index, slice):
            return self._slice(range(*index.indices(len(self))))
        position = operator.index(index)
        position += self._added if position < 0 else self._start
        if not self._start <= position < self._added:
            raise IndexError(f"the history has {len(self)} points, none at {operator.index(index)}")
        number = bisect_right(self._starts, position) - 1
        part, row = self._parts[number], position - self._starts[number]
        if part.is_packed and row >= len(part.kept):
            return part.decode(row, row + 1)[0]
        return self._read(part, len(part))[row]

    def __iter__(self) -> Iterator[WorkloadDataPoint]:
        return self._between(self._start, self._added)

    def __reversed__(self) -> Iterator[WorkloadDataPoint]:
        for start, part in zip(reversed(self._starts[:]), reversed(self._parts[:]), strict=True):
            points = self._read(part, len(part))
            yield from reversed(points[max(0, self._start - start) :])

    def __repr__(self) -> str:
        return f"<HistoryView of {len(self)} points>"

    def _slice(self, rows: range) -> list[WorkloadDataPoint]:
        if not rows:
            return []
        low, high = min(rows[0], rows[-1]), max(rows[0], rows[-1])
        between = list(self._between(self._start + low, self._start + high + 1))
        return between[:: rows.step]

    def _between(self, first: int, last: int) -> Iterator[WorkloadDataPoint]:
        for part, start, end in self._covering(first, last):
            yield from self._read(part, end)[start:]

    def _fresh(self, first: int) -> Iterator[WorkloadDataPoint]:
        for part, start, end in self._covering(first, self._added):
            yield from part.decode(start, end)

    def _covering(self, first: int, last: int) -> list[tuple[Part, int, int]]:
        """Return the parts that hold some positions, and which of their rows."""
        found = []
        for number in range(max(0, bisect_right(self._starts, first) - 1), len(self._parts)):
            start, part = self._starts[number], self._parts[number]
            if start >= last:
                break
            found.append((part, max(0, first - start), min(len(part), last - start)))
        return found

    def _read(self, part: Part, end: int) -> list[WorkloadDataPoint]:
        """Return the first points of a part, and keep all of them if it was read before."""
        if len(part.kept) >= end:
            return part.kept[:end]
        if not part.was_read:
            part.was_read = True
            return part.decode(0, end)
        points = part.decode(0, len(part))
        self._kept += len(points) - len(part.kept)
        part.kept = points
        self._make_room()
        return points[:end]

    def _make_room(self) -> None:
        # The oldest go first, even if they were read just now: whoever goes through all of them again and again would
        # else find none of them.
        for part in self._parts:
            if self._kept <= MAX_KEPT:
                break
            self._kept -= len(part.kept)
            part.kept = []

    def _drop(self) -> None:
        gone = 0
        while gone < len(self._parts) and self._starts[gone] + len(self._parts[gone]) <= self._start:
            self._kept -= len(self._parts[gone].kept)
            gone += 1
        del self._parts[:gone], self._starts[:gone]
