"""Samples of usage as one point for each workload and window of time."""

from __future__ import annotations

import array
import math
from collections.abc import Mapping
from typing import Any, Final

from engine_ops.ml.data_point import WorkloadDataPoint

OBSERVED_USAGE: Final = "observed-usage"
DAY_MS: Final = 86_400_000

QUANTILES: Final = {"p50": 0.5, "p95": 0.95}


def window_start(timestamp_ms: int, window_ms: int) -> int:
    """Return when the window of a moment began; windows are counted from the epoch, so that days are days of UTC."""
    return timestamp_ms - timestamp_ms % window_ms


def summarise(samples: array.array[float]) -> dict[str, float]:
    """Return p50, p95 (interpolated) and peak of at least one sample."""
    ordered = sorted(samples)
    return {name: _quantile(ordered, share) for name, share in QUANTILES.items()} | {"peak": ordered[-1]}


def _quantile(ordered: list[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def window_point(
    start_ms: int,
    window_ms: int,
    *,
    workload: Mapping[str, str],
    usage: Mapping[str, float],
    containers: Mapping[str, Any],
    samples: int,
    requested: Mapping[str, float] | None = None,
    pods: int | None = None,
    request_type: str | None = None,
) -> WorkloadDataPoint:
    """Return the point of one window.

    Parameters
    ----------
    start_ms, window_ms
        When it began and how long it is.
    workload
        kind and name, and a namespace where there is one.
    usage
        The peak of one pod by resource: cores, bytes.
    containers
        By name and resource: p50, p95, peak.
    samples
        How many there were.
    requested
        What one pod asks for, where it is known.
    pods
        How many there were, where it is known.
    request_type
        Instead of ``observed-usage``.
    """
    outcome: dict[str, Any] = {
        "of": "import",
        "state": "succeeded",
        "closedAt": start_ms + window_ms,
        "samples": samples,
    }
    if pods is not None:
        outcome["pods"] = pods
    metadata: dict[str, Any] = {key: workload[key] for key in ("namespace", "name") if workload.get(key)}
    metadata["workload"] = dict(workload)
    if requested:
        metadata["requested"] = dict(requested)
    metadata["outcome"] = outcome
    if containers:
        metadata["containers"] = dict(containers)
    return WorkloadDataPoint(start_ms, request_type or OBSERVED_USAGE, usage, float(window_ms), True, metadata)
