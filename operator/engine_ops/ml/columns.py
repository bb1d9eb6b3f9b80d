"""One column of a feature vector: what it is, and how it is read of a request."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple

from engine_ops.ml.lags import SCOPES
from engine_ops.ml.request import Request

HOUR_MS: Final = 3_600_000


class Column(NamedTuple):
    """One column of a schema.

    Parameters
    ----------
    name
        Unique in its schema.
    source
        ``hour``, ``weekday``, ``type``, ``requested``, ``number``, ``category`` or ``lag``.
    path
        What of it: () of the clock, (type), (resource), (field), (field, value), or (scope, outcome, statistic).
    """

    name: str
    source: str
    path: tuple[str, ...]

    @property
    def unit(self) -> str:
        """The unit of the values, or an empty string where there is none or it is the writer's own."""
        if self.source == "lag":
            _, outcome, statistic = self.path
            if statistic == "age_ms" or (outcome == "duration" and statistic != "number"):
                return "ms"
            return ""
        return "h" if self.source == "hour" else ""

    @property
    def description(self) -> str:
        """One sentence for people."""
        if self.source == "lag":
            scope, outcome, statistic = self.path
            return f"{_LAGS[statistic].format(outcome)}, of requests {SCOPES[scope]} whose outcome was known by then."
        return _CLOCK_AND_REQUEST[self.source].format(*self.path)


_CLOCK_AND_REQUEST: Final = {
    "hour": "Hour of the day in UTC, 0 to 23.",
    "weekday": "Day of the week in UTC, 0 for Monday.",
    "type": "1 where the request is of type {}, else 0.",
    "requested": "What one pod of the workload asks for of {}.",
    "number": "The request's field {}; 1 and 0 for true and false.",
    "category": "1 where the request's field {} is {!r}, 0 where it is something else.",
}
_LAGS: Final = {
    "last": "The newest {}",
    "median5": "The median of the newest five values of {}",
    "mean5": "The mean of the newest five values of {}",
    "spread5": "The largest minus the smallest of the newest five values of {}",
    "level": "All values of {}, smoothed exponentially in the logarithm",
    "number": "How many values of {} there are",
    "age_ms": "How long ago the newest {} was known",
}


def reader_of(column: Column) -> Callable[[Request], float]:
    """Return what reads the column of a request; NaN for a lag, which is not read of the request itself."""
    path = column.path
    readers: dict[str, Callable[[Request], float]] = {
        "hour": lambda request: float(request.timestamp // HOUR_MS % 24),
        # The epoch began on a Thursday.
        "weekday": lambda request: float((request.timestamp // (24 * HOUR_MS) + 3) % 7),
        "type": lambda request: float(request.type == path[0]),
        "requested": lambda request: request.requested.get(path[0], math.nan),
        "number": lambda request: _number(request.fields.get(path[0])),
        "category": lambda request: _is(request.fields.get(path[0]), path[1]),
        "lag": lambda _request: math.nan,
    }
    return readers[column.source]


def _number(value: float | str | None) -> float:
    return math.nan if value is None or isinstance(value, str) else value


def _is(value: float | str | None, word: str) -> float:
    return math.nan if value is None else float(value == word)
