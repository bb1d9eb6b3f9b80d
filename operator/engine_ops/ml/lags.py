"""Lags: what was known, at a given instant, of the outcomes of earlier requests of the same key."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping
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


class Series:
    """Values of one outcome in the order in which they were known."""

    __slots__ = ("_known", "_smoothed", "_values")

    def __init__(self) -> None:
        self._known: list[float] = []
        self._values: list[float] = []
        self._smoothed: list[tuple[float, float]] = []

    def append(self, known: float, value: float) -> None:
        """Add a value that was known no earlier than the last one."""
        total, weight = self._smoothed[-1] if self._smoothed else (0.0, 0.0)
        logarithm = math.log1p(value) if value > -1 else math.nan
        self._known.append(known)
        self._values.append(value)
        self._smoothed.append((total * _DECAY + logarithm, weight * _DECAY + 1.0))

    def at(self, instant: float) -> Lag:
        """Return what was known before ``instant``."""
        end = bisect_left(self._known, instant)
        if not end:
            return _NOTHING
        window = self._values[max(0, end - WINDOW) : end]
        ordered = sorted(window)
        middle = len(ordered) // 2
        median = ordered[middle] if len(ordered) % 2 else _half(ordered[middle - 1]) + _half(ordered[middle])
        total, weight = self._smoothed[end - 1]
        return Lag(
            window[-1],
            median,
            sum(window) / len(window),
            ordered[-1] - ordered[0],
            _level(total / weight),
            float(end),
            instant - self._known[end - 1],
        )


_EMPTY: Final = Series()


class Lags:
    """The outcomes of many points, by key and in the order in which they were known.

    An outcome counts for a request only where it was known before the request's timestamp, and its own request was
    made before that too: no request sees its own outcome, nor that of another of the same instant. What serving builds
    of the outcomes that it knows is therefore what training builds of all.

    Parameters
    ----------
    points
        In any order: where two outcomes were known at once, their values decide which is the newer.
    keys
        Only series of these keys are built; None for all. For one request it saves most of the time.
    """

    def __init__(self, points: Iterable[WorkloadDataPoint], keys: Collection[Key] | None = None) -> None:
        self._series: dict[Key, Series] = {}
        entries = []
        for point in points:
            success, duration, usage = outcome_of(point)
            if success is None:
                continue
            own = [key for key in keys_of(Request.of_point(point)).values() if keys is None or key in keys]
            if not own:
                continue
            outcomes = [("success", success)]
            if duration is not None:
                outcomes.append(("duration", duration))
            if usage:
                outcomes += sorted((usage_of(name), amount) for name, amount in usage.items())
            # Not converted: as a float, a timestamp beyond 2**53 could lie before itself.
            entries.append((max(known_at(point), point.timestamp), point.timestamp, outcomes, own))
        entries.sort(key=lambda entry: entry[:3])
        for known, _, outcomes, own in entries:
            for key in own:
                for outcome, value in outcomes:
                    name = (*key, outcome)
                    series = self._series.get(name)
                    if series is None:
                        series = self._series[name] = Series()
                    series.append(known, value)

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
