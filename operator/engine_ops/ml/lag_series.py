"""The outcomes of the requests of one key, in the order in which they were known."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import islice
from typing import Any, Final, NamedTuple

WINDOW: Final = 5
"""How many of the newest outcomes the median, the mean and the spread are over."""

Key = tuple[Any, ...]
"""What requests have in common."""

Rank = tuple[float, int, tuple[tuple[str, float], ...]]
"""When outcomes were known, when their request was made, and the outcomes by name: the order in a series."""


class Lag(NamedTuple):
    """One outcome, over the requests of one key whose outcome was known before an instant; NaN where there is none.

    Parameters
    ----------
    last
        The newest.
    median5, mean5, spread5
        Of the newest five: the median, the mean, the largest minus the smallest.
    level
        All of them, smoothed: the mean of ln(1 + x), each weighing 0.9 of the next newer one (exponential smoothing),
        taken back to the unit of x. One very long run moves it little. NaN once a value was -1 or less.
    number
        How many there are; 0 where there is none.
    age_ms
        How long ago the newest was known.
    """

    last: float
    median5: float
    mean5: float
    spread5: float
    level: float
    number: float
    age_ms: float


NOTHING: Final = Lag(math.nan, math.nan, math.nan, math.nan, math.nan, 0.0, math.nan)
"""Of a key that is known, without an outcome."""

_DECAY: Final = 0.9
_FADED: Final = 400
# Newer values after which one weighs less than the rounding of a level: 0.9 to this power.
_FEW: Final = 16
# Of so few outcomes nothing is kept beside them.
_LEAST_MOVED: Final = 64


class Ranked:
    """Ranks in their order. What is removed at the front stays in the list for a while: moving the rest takes long."""

    __slots__ = ("_ranks", "_start")

    def __init__(self) -> None:
        self._ranks: list[Rank] = []
        self._start = 0

    def __len__(self) -> int:
        return len(self._ranks) - self._start

    def add(self, rank: Rank) -> int:
        """Put a rank in its place, after those that are equal, and return the place."""
        ranks = self._ranks
        if not ranks or ranks[-1] <= rank:
            ranks.append(rank)
            return len(ranks) - 1
        index = bisect_right(ranks, rank, self._start)
        ranks.insert(index, rank)
        return index

    def remove(self, rank: Rank) -> int:
        """Remove a rank that is there, and return its place; -1 where it was the first."""
        ranks, start = self._ranks, self._start
        if ranks[start] is rank:
            self._start = start + 1
            if start >= _LEAST_MOVED and 2 * start > len(ranks):
                self._move(self._start)
            return -1
        index = bisect_left(ranks, rank, start)
        del ranks[index]
        return index

    def _move(self, start: int) -> None:
        del self._ranks[:start]
        self._start = 0


class Series(Ranked):
    """Values of one outcome.

    The smoothed level of a value depends on all earlier ones. It is worked out when it is first asked for, and again
    from where a value was put in between.
    """

    __slots__ = ("_felt", "_known", "_smoothed", "_values")

    def __init__(self, ranks: Iterable[Rank], outcome: str) -> None:
        super().__init__()
        found = [(rank, value) for rank in ranks for name, value in rank[2] if name == outcome]
        self._ranks = [rank for rank, _ in found]
        self._known = [rank[0] for rank, _ in found]
        self._values = [value for _, value in found]
        self._smoothed: list[tuple[float, float]] = []
        # Levels before this place feel a value that was removed; None where none was since they were worked out.
        self._felt: int | None = None

    def add_value(self, rank: Rank, value: float) -> None:
        """Put a value in its place."""
        index = self.add(rank)
        self._known.insert(index, rank[0])
        self._values.insert(index, value)
        del self._smoothed[index:]
        if self._felt is not None and index < self._felt:
            self._felt += 1

    def remove_value(self, rank: Rank) -> None:
        """Remove a value that is there."""
        index = self.remove(rank)
        if index >= 0:
            del self._known[index], self._values[index], self._smoothed[index : index + 1]
        self._felt = max(self._felt or 0, max(index, self._start) + _FADED)

    def at(self, instant: float) -> Lag:
        """Return what was known before ``instant``."""
        start = self._start
        end = bisect_left(self._known, instant, start)
        if end == start:
            return NOTHING
        window = self._values[max(start, end - WINDOW) : end]
        return _lag(window, self._level(end), end - start, instant - self._known[end - 1])

    def _move(self, start: int) -> None:
        super()._move(start)
        del self._known[:start], self._values[:start], self._smoothed[:start]
        if self._felt is not None:
            self._felt -= start

    def _level(self, end: int) -> float:
        smoothed = self._smooth(end) if self._smoothed else self._smooth_anew(end)
        total, weight = smoothed[end - 1]
        # What had no logarithm never fades.
        if self._felt is not None and (end <= self._felt or math.isnan(total)):
            total, weight = self._smooth_anew(end)[end - 1]
        return _level(total / weight)

    def _smooth_anew(self, end: int) -> list[tuple[float, float]]:
        self._smoothed = [(0.0, 0.0)] * self._start
        self._felt = None
        return self._smooth(end)

    def _smooth(self, end: int) -> list[tuple[float, float]]:
        smoothed = self._smoothed
        first = len(smoothed)
        if first < end:
            # In one step: threads that ask at the same time put the same values in the same places.
            smoothed[first:end] = _smoothed(self._values[first:end], smoothed[-1] if smoothed else (0.0, 0.0))
        return smoothed


class Group(Ranked):
    """All outcomes of the requests of one key. Where they are many, those that were asked for are series."""

    __slots__ = ("_series", "key")

    def __init__(self, key: Key) -> None:
        super().__init__()
        self.key = key
        self._series: dict[str, Series] | None = None

    def add(self, rank: Rank) -> int:
        """Put the outcomes of one point in their place."""
        if self._series is not None:
            for name, value in rank[2]:
                if name in self._series:
                    self._series[name].add_value(rank, value)
        return super().add(rank)

    def drop(self, rank: Rank) -> int:
        """Remove the outcomes of one point, and return how many points are left."""
        if self._series is not None:
            for name, _ in rank[2]:
                if name in self._series:
                    self._series[name].remove_value(rank)
        self.remove(rank)
        left = len(self._ranks) - self._start
        if left <= _FEW:
            self._series = None
        return left

    def at(self, instant: float, outcome: str) -> Lag:
        """Return what was known of an outcome before ``instant``."""
        if len(self) > _FEW:
            return self._series_of(outcome).at(instant)
        last, values = 0.0, []
        for rank in islice(self._ranks, self._start, None):
            if rank[0] >= instant:
                break
            for name, value in rank[2]:
                if name == outcome:
                    last = rank[0]
                    values.append(value)
        if not values:
            return NOTHING
        total, weight = _smoothed(values, (0.0, 0.0))[-1]
        return _lag(values[-WINDOW:], _level(total / weight), len(values), instant - last)

    def _series_of(self, outcome: str) -> Series:
        every = self._series
        if every is None:
            every = self._series = {}
        series = every.get(outcome)
        if series is None:
            series = every[outcome] = Series(islice(self._ranks, self._start, None), outcome)
        return series


def _smoothed(values: Iterable[float], last: tuple[float, float]) -> list[tuple[float, float]]:
    """Return the weighted total and the weight after each value."""
    total, weight = last
    smoothed = []
    for value in values:
        total = total * _DECAY + (math.log1p(value) if value > -1 else math.nan)
        weight = weight * _DECAY + 1.0
        smoothed.append((total, weight))
    return smoothed


def _lag(window: list[float], level: float, number: int, age_ms: float) -> Lag:
    ordered = sorted(window)
    middle = len(ordered) // 2
    median = ordered[middle] if len(ordered) % 2 else _half(ordered[middle - 1]) + _half(ordered[middle])
    return Lag(window[-1], median, sum(window) / len(window), ordered[-1] - ordered[0], level, float(number), age_ms)


def _level(logarithm: float) -> float:
    try:
        return math.expm1(logarithm)
    except OverflowError:  # the largest float, rounded up on its way there and back
        return math.inf


def _half(value: float) -> float:
    # Halved before they are added: the sum of two large values is infinite.
    return value / 2
