"""Lags: what was known, at a given instant, of the outcomes of earlier requests of the same key."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final, NamedTuple

from engine_ops.ml.data_point import WorkloadDataPoint
from engine_ops.ml.keys import known_at, outcome_of
from engine_ops.ml.request import Request

WINDOW: Final = 5
"""How many of the newest outcomes the median, the mean and the spread are over."""

SCOPES: Final = {
    "workload": "of the same workload",
    "alike": "alike in everything that was asked",
    "sized": "of the same owner that asked for the same amounts",
    "owner": "of the same owner",
    "type": "of the same type",
}
"""What a request is compared by."""

Key = tuple[Any, ...]


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


_NOTHING: Final = Lag(math.nan, math.nan, math.nan, math.nan, math.nan, 0.0, math.nan)
_DECAY: Final = 0.9
_REMEMBERED: Final = 400
"""Newer values after which a value's weight, 0.9 to this power, is below the rounding of any level."""
_LEAST_REMOVED: Final = 64


_Rank = tuple[float, int, tuple[tuple[str, float], ...]]
# When an outcome was known, when its request was made, and the outcomes themselves: the order of values in a series.


class Series:
    """Values of one outcome in the order in which they were known.

    The smoothed level of a value depends on all earlier ones. It is worked out when it is first asked for, and again
    from where a value was put in between.
    """

    __slots__ = ("_known", "_ranks", "_smoothed", "_smoothed_from", "_start", "_values", "name")

    def __init__(self, name: Key = ()) -> None:
        self.name = name
        self._known: list[float] = []
        self._ranks: list[_Rank] = []
        self._values: list[float] = []
        self._smoothed: list[tuple[float, float]] = []
        self._smoothed_from = 0
        # What was removed at the front stays in the lists for a while: they would be moved as a whole each time.
        self._start = 0

    def __len__(self) -> int:
        return len(self._known) - self._start

    def add(self, rank: _Rank, value: float) -> None:
        """Add a value in its place."""
        if not self._ranks or self._known[-1] < rank[0] or self._ranks[-1] <= rank:
            self._known.append(rank[0])
            self._ranks.append(rank)
            self._values.append(value)
            return
        index = self._place(rank, bisect_right)
        self._known.insert(index, rank[0])
        self._ranks.insert(index, rank)
        self._values.insert(index, value)
        self._unsmooth(index)

    def remove(self, rank: _Rank) -> None:
        """Remove a value that was added with this rank."""
        start = self._start
        if self._ranks[start] is rank:
            self._start = start + 1
            if self._start > _LEAST_REMOVED and 2 * self._start > len(self._known):
                self._move()
            return
        index = self._place(rank, bisect_left)
        del self._known[index], self._ranks[index], self._values[index]
        self._unsmooth(index)

    def at(self, instant: float) -> Lag:
        """Return what was known before ``instant``."""
        start = self._start
        end = bisect_left(self._known, instant, start)
        if end == start:
            return _NOTHING
        window = self._values[max(start, end - WINDOW) : end]
        ordered = sorted(window)
        middle = len(ordered) // 2
        median = ordered[middle] if len(ordered) % 2 else _half(ordered[middle - 1]) + _half(ordered[middle])
        return Lag(
            window[-1],
            median,
            sum(window) / len(window),
            ordered[-1] - ordered[0],
            self._level(end),
            float(end - start),
            instant - self._known[end - 1],
        )

    def _place(self, rank: _Rank, bisect: Callable[[list[_Rank], _Rank, int, int], int]) -> int:
        # Few are known in the same millisecond; ranks are slower to compare.
        low = bisect_left(self._known, rank[0], self._start)
        return bisect(self._ranks, rank, low, bisect_right(self._known, rank[0], low))

    def _level(self, end: int) -> float:
        smoothed = self._smooth(end) if self._smoothed else self._smooth_anew(end)
        total, weight = smoothed[end - 1]
        # What has been removed can still be felt of few values, and of one that has no logarithm.
        if self._smoothed_from != self._start and (end - self._start < _REMEMBERED or math.isnan(total)):
            total, weight = self._smooth_anew(end)[end - 1]
        return _level(total / weight)

    def _smooth_anew(self, end: int) -> list[tuple[float, float]]:
        self._smoothed = [(0.0, 0.0)] * self._start
        self._smoothed_from = self._start
        return self._smooth(end)

    def _smooth(self, end: int) -> list[tuple[float, float]]:
        smoothed = self._smoothed
        first = len(smoothed)
        if first < end:
            total, weight = smoothed[-1] if smoothed else (0.0, 0.0)
            further = []
            for value in self._values[first:end]:
                total = total * _DECAY + (math.log1p(value) if value > -1 else math.nan)
                weight = weight * _DECAY + 1.0
                further.append((total, weight))
            # In one step: threads that ask at the same time put the same values in the same places.
            smoothed[first:end] = further
        return smoothed

    def _unsmooth(self, index: int) -> None:
        del self._smoothed[index:]

    def _move(self) -> None:
        start = self._start
        del self._known[:start], self._ranks[:start], self._values[:start], self._smoothed[:start]
        # Negative where the first of the smoothed levels still feels what was removed.
        self._smoothed_from -= start
        self._start = 0


_EMPTY: Final = Series()


class _Entry(NamedTuple):
    """One point: where its outcomes are."""

    rank: _Rank
    series: tuple[Series, ...]


_NO_ENTRY: Final = _Entry((0.0, 0, ()), ())


class Lags:
    """The outcomes of many points, by key and in the order in which they were known.

    An outcome counts for a request only where it was known before the request's timestamp, and its own request was
    made before that too: no request sees its own outcome, nor that of another of the same instant. What serving builds
    of the outcomes that it knows is therefore what training builds of all.

    They can be kept up with a history: what `extend` and `forget` leave is what the points that are left would give, up
    to the rounding of ``level`` (of which values that were forgotten have faded below the 400th power of 0.9). Both
    cost time by the points that they are about, not by those that are there.

    Parameters
    ----------
    points
        In any order: where two outcomes were known at once, their values decide which is the newer.
    keys
        Only series of these keys are built; None for all. For one request it saves most of the time.
    """

    def __init__(self, points: Iterable[WorkloadDataPoint], keys: Collection[Key] | None = None) -> None:
        self._keys = keys
        self._series: dict[Key, Series] = {}
        self._entries: deque[_Entry] = deque()
        self.extend(points)

    def __len__(self) -> int:
        """How many points were given and not forgotten, those without an outcome too."""
        return len(self._entries)

    def extend(self, points: Iterable[WorkloadDataPoint]) -> None:
        """Add points, in any order: one that is added later may have been known earlier."""
        added = list(map(self._entry, points))
        self._entries += added
        # In order each one comes at the end of its series.
        for rank, every in sorted((entry for entry in added if entry.series), key=_rank_of):
            values = [value for _, value in rank[2]]
            for index, series in enumerate(every):
                series.add(rank, values[index % len(values)])

    def forget(self, count: int) -> None:
        """Remove points: those that were added first, all where there are fewer."""
        for _ in range(min(count, len(self._entries))):
            rank, every = self._entries.popleft()
            for series in every:
                series.remove(rank)
                if not len(series):
                    self._series.pop(series.name, None)

    def _entry(self, point: WorkloadDataPoint) -> _Entry:
        success, duration, usage = outcome_of(point)
        if success is None:
            return _NO_ENTRY
        own = [key for key in keys_of(Request.of_point(point)).values() if self._keys is None or key in self._keys]
        if not own:
            return _NO_ENTRY
        outcomes = [("success", success)]
        if duration is not None:
            outcomes.append(("duration", duration))
        if usage:
            outcomes += sorted((usage_of(name), amount) for name, amount in usage.items())
        # Not converted: as a float, a timestamp beyond 2**53 could lie before itself.
        rank = (max(known_at(point), point.timestamp), point.timestamp, tuple(outcomes))
        return _Entry(rank, tuple(self._series_of((*key, outcome)) for key in own for outcome, _ in outcomes))

    def _series_of(self, name: Key) -> Series:
        series = self._series.get(name)
        if series is None:
            series = self._series[name] = Series(name)
        return series

    def at(self, instant: float, key: Key | None, outcome: str) -> Lag:
        """Return what was known of an outcome before ``instant``.

        Parameters
        ----------
        instant
            Epoch milliseconds.
        key
            One of `keys_of`; None where the request has no key of that scope.
        outcome
            ``success``, ``duration`` (ms) or ``usage:<resource>``.
        """
        if key is None:
            return _NO_KEY
        return self._series.get((*key, outcome), _EMPTY).at(instant)


_NO_KEY: Final = _NOTHING._replace(number=math.nan)


def _rank_of(entry: _Entry) -> _Rank:
    return entry.rank


def usage_of(resource: str) -> str:
    """Return the outcome's name for the usage of a resource."""
    return f"usage:{resource}"


def keys_of(request: Request) -> Mapping[str, Key]:
    """Return scope to key, of `SCOPES`; a scope that the request has no key for is absent."""
    keys: dict[str, Key] = {"type": ("type", request.type)}
    if request.workload is not None:
        keys["workload"] = ("workload", request.workload)
    if request.owner is not None:
        keys["owner"] = ("owner", request.owner)
    requested = tuple(sorted(request.requested.items()))
    fields = tuple(sorted(request.fields.items()))
    keys["alike"] = ("alike", request.type, request.workload, request.owner, fields, requested)
    if request.owner is not None:
        numbers = tuple(field for field in fields if not isinstance(field[1], str))
        keys["sized"] = ("sized", request.owner, numbers, requested)
    return keys


def _level(logarithm: float) -> float:
    try:
        return math.expm1(logarithm)
    except OverflowError:  # the largest float, rounded up on its way there and back
        return math.inf


def _half(value: float) -> float:
    # Halved before they are added: the sum of two large values is infinite.
    return value / 2
