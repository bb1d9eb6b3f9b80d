"""When a point's outcome is known, and which points a request is compared with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from engine_ops.ml.data_point import WorkloadDataPoint


def known_at(point: WorkloadDataPoint) -> float:
    """Return when the point's outcome was known, in epoch milliseconds.

    That is ``metadata.outcome.closedAt``; without it, when the workload had ended (timestamp + duration), and the
    timestamp where the duration is not known.
    """
    closed_at = mapping_of(point.metadata, "outcome").get("closedAt")
    if isinstance(closed_at, int | float) and not isinstance(closed_at, bool):
        try:
            moment = float(closed_at)
        except OverflowError:
            moment = math.nan
        if not math.isnan(moment):
            return moment
    return float(point.timestamp) if math.isnan(point.duration) else point.timestamp + point.duration


def workload_key(point: WorkloadDataPoint) -> str | None:
    """Return ``namespace/kind/name`` of the workload, or None where the point names none."""
    return key_of_workload(mapping_of(point.metadata, "workload"))


def key_of_workload(workload: Mapping[str, Any]) -> str | None:
    """Return ``namespace/kind/name``; None if there is no name. A missing namespace or kind is empty."""
    name = workload.get("name")
    if not isinstance(name, str) or not name:
        return None
    parts = (workload.get("namespace"), workload.get("kind"), name)
    return "/".join(part if isinstance(part, str) else "" for part in parts)


class Outcome(NamedTuple):
    """What can be learned of a point.

    Parameters
    ----------
    success
        1 or 0; None where the outcome is unknown.
    duration_ms
        None where it is not known, or is not the workload's own.
    usage
        Amounts by resource; the finite ones.
    """

    success: float | None
    duration_ms: float | None
    usage: Mapping[str, float]


_UNKNOWN = Outcome(None, None, {})


def outcome_of(point: WorkloadDataPoint) -> Outcome:
    """Return what the point teaches.

    Where ``metadata.outcome.of`` is ``request``, the point is about the answer and not about a workload: its duration
    is the solver's and teaches nothing about workloads, nor does its usage. Where ``metadata.outcome.state`` is
    ``unknown`` nobody saw how it ended, and it teaches nothing at all.
    """
    outcome = mapping_of(point.metadata, "outcome")
    if outcome.get("state") == "unknown":
        return _UNKNOWN
    success = 1.0 if point.success else 0.0
    if outcome.get("of") == "request":
        return Outcome(success, None, {})
    duration = point.duration if math.isfinite(point.duration) else None
    return Outcome(
        success, duration, {name: used for name, used in point.resource_usage.items() if math.isfinite(used)}
    )


def mapping_of(mapping: Mapping[Any, Any], key: str) -> Mapping[Any, Any]:
    """Return the mapping under a key; an empty one where there is none."""
    value = mapping.get(key)
    return value if isinstance(value, Mapping) else {}
