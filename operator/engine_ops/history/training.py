"""Points as named columns with units, for tools that train on tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from engine_ops.ml.data_point import WorkloadDataPoint

MAX_COLUMNS: Final = 64
"""Columns in all; of resources and request fields the ones that most points have are kept."""

_UNITS: Final = {"cpu": "cores", "memory": "bytes", "ephemeral-storage": "bytes"}


class _Column(NamedTuple):
    name: str
    unit: str
    description: str
    value: Callable[[WorkloadDataPoint], Any]


def _text(*path: str) -> Callable[[WorkloadDataPoint], str | None]:
    def value(point: WorkloadDataPoint) -> str | None:
        found = _at(point.metadata, path)
        return found if isinstance(found, str) else None

    return value


def _at(value: Any, path: Iterable[str]) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


_FIXED: Final = (
    _Column("timestamp", "ms", "When it was asked for or began, since 1970", lambda point: point.timestamp),
    _Column("type", "", "Request type", lambda point: point.request_type),
    _Column("namespace", "", "Namespace of the request", _text("namespace")),
    _Column("name", "", "Name of the request", _text("name")),
    _Column("workload.kind", "", "Kind of the workload that it was for", _text("workload", "kind")),
    _Column("workload.name", "", "Name of the workload that it was for", _text("workload", "name")),
    _Column("outcome.of", "", "What the outcome is of: request, workload or import", _text("outcome", "of")),
    _Column("outcome.state", "", "succeeded, failed, running or unknown", _text("outcome", "state")),
    _Column("duration", "ms", "How long it took", lambda point: point.duration),
    _Column("success", "", "Whether it succeeded", lambda point: point.success),
)
# Prefix of the names, where the values are, how a column is described.
_GROUPS: Final = (
    ("usage", None, "Peak usage of {}, as the point's writer meant it"),
    ("requested", ("requested",), "Amount of {} that one pod asked for"),
    ("request", ("request",), "Field {} of the request, known when it was made"),
)


def training_format(points: Iterable[WorkloadDataPoint]) -> dict[str, Any]:
    """Return points as columns.

    Returns
    -------
    dict
        ``columns``, a list of {name, unit, description}; ``count``; ``data``, name to a list of ``count`` values, None
        where a point has none. Amounts of cpu are in cores and of memory in bytes where the operator wrote the point.
    """
    kept = list(points)
    table = [*_FIXED, *_varying(kept)]
    return {
        "columns": [{"name": column.name, "unit": column.unit, "description": column.description} for column in table],
        "count": len(kept),
        "data": {column.name: [column.value(point) for point in kept] for column in table},
    }


def _varying(points: list[WorkloadDataPoint]) -> list[_Column]:
    counts: Counter[tuple[int, str]] = Counter()
    for point in points:
        for group, (_, path, _) in enumerate(_GROUPS):
            values = point.resource_usage if path is None else _at(point.metadata, path)
            if isinstance(values, Mapping):
                counts.update((group, name) for name, value in values.items() if not isinstance(value, Mapping | list))
    # The most frequent ones; of equally frequent ones those first in the alphabet, so that the choice is repeatable.
    chosen = sorted(counts, key=lambda entry: (-counts[entry], entry))[: MAX_COLUMNS - len(_FIXED)]
    return [_varying_column(group, name) for group, name in sorted(chosen)]


def _varying_column(group: int, name: str) -> _Column:
    prefix, path, description = _GROUPS[group]
    unit = _UNITS.get(name, "") if prefix != "request" else ""

    def value(point: WorkloadDataPoint) -> Any:
        values = point.resource_usage if path is None else _at(point.metadata, path)
        found = values.get(name) if isinstance(values, Mapping) else None
        return None if isinstance(found, Mapping | list) else found

    return _Column(f"{prefix}.{name}", unit, description.format(name), value)
