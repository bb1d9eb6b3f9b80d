"""Points of the history as series over time: what `engine-ops history show` draws."""

from __future__ import annotations

import dataclasses
import math
from array import array
from collections.abc import Iterable, Mapping
from typing import Any, Final

from engine_ops.ml.data_point import WorkloadDataPoint

CPU, MEMORY, DURATION = "cpu", "memory", "duration"
QUANTITIES: Final = (CPU, MEMORY, DURATION)
UNKNOWN: Final = "unknown"
"""The state of an outcome that nobody saw."""


@dataclasses.dataclass(slots=True)
class Series:
    """What one workload, or everything that was chosen, did over time.

    Parameters
    ----------
    name
        As ``namespace/kind/name``, or what was chosen.
    timestamps
        Epoch milliseconds, in any order.
    values
        By quantity (cores, bytes, milliseconds): a number for each timestamp, NaN where it is not known.
    succeeded, unknown
        How many; of how many nobody knows how they ended.
    requested
        The newest amounts that a pod asked for.
    """

    name: str
    timestamps: array[int] = dataclasses.field(default_factory=lambda: array("q"))
    values: dict[str, array[float]] = dataclasses.field(
        default_factory=lambda: {quantity: array("d") for quantity in QUANTITIES}
    )
    succeeded: int = 0
    unknown: int = 0
    requested: dict[str, float] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.timestamps)

    def add(self, point: WorkloadDataPoint) -> None:
        """Take in a point."""
        self.timestamps.append(point.timestamp)
        for resource in (CPU, MEMORY):
            self.values[resource].append(point.resource_usage.get(resource, math.nan))
        # The time that an answer took is no workload's.
        outcome = outcome_of(point)
        own = outcome.get("of") != "request"
        self.values[DURATION].append(point.duration if own else math.nan)
        self.succeeded += point.success
        self.unknown += not point.success and outcome.get("state") == UNKNOWN
        requested = point.metadata.get("requested")
        if isinstance(requested, Mapping):
            for resource, amount in requested.items():
                if isinstance(amount, int | float):
                    self.requested[resource] = float(amount)

    @property
    def success_rate(self) -> float | None:
        """The share that succeeded, of those of which it is known; None if it is known of none."""
        known = len(self) - self.unknown
        return self.succeeded / known if known else None

    @property
    def window_ms(self) -> float:
        """How long every point is, where all are windows of usage of one length; else 0."""
        lengths = set(self.values[DURATION])
        length = lengths.pop() if len(lengths) == 1 else math.nan
        return length if math.isfinite(length) and self.known(CPU) + self.known(MEMORY) else 0.0

    @property
    def span(self) -> tuple[int, int]:
        """The first moment and the last, to the end of the last window. There must be a point."""
        return min(self.timestamps), max(self.timestamps) + max(0, int(self.window_ms) - 1)

    def peak(self, quantity: str) -> float:
        """Return the highest value; minus infinity where none is known."""
        return max((value for value in self.values[quantity] if math.isfinite(value)), default=-math.inf)

    def known(self, quantity: str) -> list[tuple[int, float]]:
        """Return the moments at which a quantity is known, and its values, in order of time."""
        pairs = zip(self.timestamps, self.values[quantity], strict=True)
        return sorted((at, value) for at, value in pairs if math.isfinite(value))


def collect(points: Iterable[WorkloadDataPoint], title: str, wanted: str | None) -> tuple[Series, dict[str, Series]]:
    """Return the series of all points that are wanted, and that of each workload.

    Parameters
    ----------
    points
        To choose from.
    title
        What they are called together.
    wanted
        A workload: ``name``, ``kind/name``, ``namespace/name`` or ``namespace/kind/name``; None for all.
    """
    whole, workloads = Series(title), {}
    for point in points:
        name = workload_of(point)
        if wanted is not None and not _is_named(name, wanted):
            continue
        whole.add(point)
        if name not in workloads:
            workloads[name] = Series(name)
        workloads[name].add(point)
    return whole, workloads


def rank(workloads: Mapping[str, Series]) -> list[Series]:
    """Return the series, those that use most cpu first; those of which none is known after them, by their points."""
    return sorted(workloads.values(), key=lambda series: (-series.peak(CPU), -len(series), series.name))


def workload_of(point: WorkloadDataPoint) -> str:
    """Return ``namespace/kind/name`` without what is missing; the request's own name where no workload is known."""
    workload = point.metadata.get("workload")
    source = workload if isinstance(workload, Mapping) else point.metadata
    parts = [str(source[key]) for key in ("namespace", "kind", "name") if source.get(key)]
    return "/".join(parts) or point.request_type


def _is_named(name: str, wanted: str) -> bool:
    if name == wanted:
        return True
    have, want = name.lower().split("/"), wanted.lower().split("/")
    if len(want) >= len(have):
        return have == want
    return have[-len(want) :] == want or (len(have) == 3 and len(want) == 2 and [have[0], have[2]] == want)


def format_share(rate: float | None) -> str:
    """Return a share in percent, of which only none is 0 and only all is 100; an empty text where it is not known."""
    if rate is None:
        return ""
    shown = round(rate, 3)
    if 0 < rate < 1:
        shown = min(max(shown, 0.001), 0.999)
    return f"{shown:.1%}"


def outcome_of(point: WorkloadDataPoint) -> Mapping[str, Any]:
    """Return how it ended, as far as the point says."""
    outcome = point.metadata.get("outcome")
    return outcome if isinstance(outcome, Mapping) else {}
