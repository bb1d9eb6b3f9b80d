"""Feature vectors: named columns of what was known when a request was made."""

from __future__ import annotations

import collections
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Self

from engine_ops.ml.columns import Column, reader_of
from engine_ops.ml.data_point import WorkloadDataPoint
from engine_ops.ml.keys import outcome_of
from engine_ops.ml.lags import SCOPES, Lag, Lags, keys_of, usage_of
from engine_ops.ml.request import Request

MAX_COLUMNS: Final = 64
"""Columns of a schema."""

_MAX_USED: Final = 3
_MAX_REQUESTED: Final = 4
_MAX_NUMBERS: Final = 8
_MAX_WORDS: Final = 8
_DURATION_LAGS: Final = ("last", "median5", "spread5", "level", "age_ms")
_USAGE_LAGS: Final = ("last", "median5", "spread5")
_SOURCES: Final = {"hour": 0, "weekday": 0, "type": 1, "requested": 1, "number": 1, "category": 2, "lag": 3}


class FeatureSchema:
    """The columns of a feature vector: fixed when it is fitted, and kept with the model that was trained on it.

    In a vector a missing value is NaN, and what the schema does not know is dropped.

    Parameters
    ----------
    columns
        At most `MAX_COLUMNS`.

    Raises
    ------
    ValueError
        If there are too many columns, two of one name, or one that is not understood; the message names it.
    """

    def __init__(self, columns: Iterable[Column]) -> None:
        self.columns = tuple(columns)
        _check(self.columns)
        self._readers = [reader_of(column) for column in self.columns]
        self._lagged: dict[tuple[str, str], list[tuple[int, int]]] = {}
        for index, column in enumerate(self.columns):
            if column.source == "lag":
                scope, outcome, statistic = column.path
                places = self._lagged.setdefault((scope, outcome), [])
                places.append((index, Lag._fields.index(statistic)))

    @classmethod
    def fit(cls, points: Iterable[WorkloadDataPoint]) -> Self:
        """Return the schema for points.

        The clock and the lags of success and duration are always there. Of resources used (3), resources requested (4)
        and numeric fields (8) those that most points have. What remains goes to the most frequent request types and
        words of fields (one-hot, at most 8 of each field), without those that every point has.
        """
        return cls(_fitted(points))

    def names(self) -> list[str]:
        """Return the names of the columns, in their order."""
        return [column.name for column in self.columns]

    def describe(self) -> list[dict[str, str]]:
        """Return name, unit and description of each column."""
        return [{"name": each.name, "unit": each.unit, "description": each.description} for each in self.columns]

    def vector(self, request: Request, lags: Lags) -> list[float]:
        """Return the features of a request.

        Parameters
        ----------
        request
            What is known of it.
        lags
            Outcomes; those that were not known before the request's timestamp do not count.

        Returns
        -------
        list of float
            One value a column; finite, or NaN where it is missing.
        """
        values = [reader(request) for reader in self._readers]
        keys = keys_of(request)
        for (scope, outcome), places in self._lagged.items():
            lag = lags.at(request.timestamp, keys.get(scope), outcome)
            for index, statistic in places:
                values[index] = lag[statistic]
        return [value if math.isfinite(value) else math.nan for value in values]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        columns = [{"name": each.name, "source": each.source, "path": list(each.path)} for each in self.columns]
        return {"version": 1, "columns": columns}

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """Make one of what `to_dict` returned.

        Raises
        ------
        ValueError
            If it is no schema, or one of a later version; the message names the place.
        """
        if not isinstance(data, Mapping) or data.get("version") != 1:
            version = data.get("version") if isinstance(data, Mapping) else None
            raise ValueError(f"version: a feature schema of version 1 is understood, not {version!r}")
        columns = data.get("columns")
        if not isinstance(columns, list):
            raise ValueError("columns: must be a list")
        return cls(_column(f"columns[{index}]", column) for index, column in enumerate(columns))

    def __eq__(self, other: object) -> bool:
        return self.columns == other.columns if isinstance(other, FeatureSchema) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.columns)

    def __repr__(self) -> str:
        return f"FeatureSchema({list(self.columns)!r})"


def _fitted(points: Iterable[WorkloadDataPoint]) -> list[Column]:
    used: collections.Counter[str] = collections.Counter()
    requested: collections.Counter[str] = collections.Counter()
    numbers: collections.Counter[str] = collections.Counter()
    words: collections.Counter[tuple[str, ...]] = collections.Counter()
    total = 0
    for point in points:
        request = Request.of_point(point)
        total += 1
        used.update(outcome_of(point).usage)
        requested.update(request.requested)
        words[request.type,] += 1
        for field, value in request.fields.items():
            if isinstance(value, str):
                words[field, value] += 1
            else:
                numbers[field] += 1
    columns = [Column("hour", "hour", ()), Column("weekday", "weekday", ())]
    for scope in SCOPES:
        columns.append(Column(f"{scope}.count", "lag", (scope, "success", "number")))
        columns.append(_lag(scope, "success", "mean5"))
        columns += [_lag(scope, "duration", statistic) for statistic in _DURATION_LAGS]
    for resource in _most(used, _MAX_USED):
        columns += [_lag("workload", usage_of(resource), statistic) for statistic in _USAGE_LAGS]
    columns += [Column(f"requested.{name}", "requested", (name,)) for name in _most(requested, _MAX_REQUESTED)]
    columns += [Column(f"request.{name}", "number", (name,)) for name in _most(numbers, _MAX_NUMBERS)]
    columns += [_one_hot(path) for path in _most_words(words, total)]
    return _unique(columns)


def _most_words(counts: collections.Counter[tuple[str, ...]], total: int) -> Iterator[tuple[str, ...]]:
    taken: collections.Counter[tuple[str, ...]] = collections.Counter()
    for path in _most(counts, len(counts)):
        # What every point has tells none of them from another. Who asked is told by the lags, better than by a few
        # columns of a field with thousands of words.
        if counts[path] < total and taken[path[:-1]] < _MAX_WORDS:
            taken[path[:-1]] += 1
            yield path


def _most(counts: collections.Counter[Any], number: int) -> list[Any]:
    return sorted(counts, key=lambda name: (-counts[name], name))[:number]


def _lag(scope: str, outcome: str, statistic: str) -> Column:
    return Column(f"{scope}.{outcome}.{statistic}", "lag", (scope, outcome, statistic))


def _one_hot(path: tuple[str, ...]) -> Column:
    if len(path) == 1:
        return Column(f"type={path[0]}", "type", path)
    return Column(f"request.{path[0]}={path[1]}", "category", path)


def _unique(columns: Iterable[Column]) -> list[Column]:
    # A field may be named like another one's value: `a=b` beside `a`.
    by_name: dict[str, Column] = {}
    for column in columns:
        by_name.setdefault(column.name, column)
    return list(by_name.values())[:MAX_COLUMNS]


def _column(place: str, data: Any) -> Column:
    if not isinstance(data, Mapping):
        raise ValueError(f"{place}: must be an object")
    name, source, path = data.get("name"), data.get("source"), data.get("path")
    if not isinstance(name, str):
        raise ValueError(f"{place}.name: must be a string")
    if not isinstance(source, str):
        raise ValueError(f"{place}.source: must be a string")
    if not isinstance(path, list) or not all(isinstance(part, str) for part in path):
        raise ValueError(f"{place}.path: must be a list of strings")
    return Column(name, source, tuple(path))


def _check(columns: tuple[Column, ...]) -> None:
    if len(columns) > MAX_COLUMNS:
        raise ValueError(f"columns: at most {MAX_COLUMNS}, not {len(columns)}")
    for place, why in _faults(columns):
        raise ValueError(f"{place}: {why}")


def _faults(columns: tuple[Column, ...]) -> Iterator[tuple[str, str]]:
    names = set()
    for index, column in enumerate(columns):
        if column.name in names:
            yield f"columns[{index}].name", f"there is another column {column.name!r}"
        names.add(column.name)
        if column.source not in _SOURCES:
            yield f"columns[{index}].source", f"must be one of {', '.join(_SOURCES)}, not {column.source!r}"
        elif len(column.path) != _SOURCES[column.source]:
            yield f"columns[{index}].path", f"must have {_SOURCES[column.source]} parts, has {len(column.path)}"
        elif column.source == "lag" and column.path[0] not in SCOPES:
            yield f"columns[{index}].path[0]", f"must be one of {', '.join(SCOPES)}, not {column.path[0]!r}"
        elif column.source == "lag" and column.path[2] not in Lag._fields:
            yield f"columns[{index}].path[2]", f"must be one of {', '.join(Lag._fields)}, not {column.path[2]!r}"
