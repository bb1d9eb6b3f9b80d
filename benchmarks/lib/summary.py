"""From measurements to figures: percentiles, ratios, targets, tables."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tabulate import tabulate


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least ``percent`` of the values do not exceed (nearest rank).

    Parameters
    ----------
    values
        In any order, at least one.
    percent
        Above 0, at most 100.

    Raises
    ------
    ValueError
        If there are no values or ``percent`` is out of range.
    """
    if not values or not 0 < percent <= 100:
        raise ValueError("a percentile needs values, and a percentage above 0 and at most 100")
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def ratio(ours: float | None, other: float | None) -> float | None:
    """Return ours divided by the other, or None where either was not measured or the other is 0."""
    if ours is None or not other:
        return None
    return ours / other


def median_of(rounds: Sequence[Mapping[str, float]], key: str) -> float | None:
    """Return the median over the rounds that measured ``key``, or None if none did."""
    values = [measured[key] for measured in rounds if key in measured]
    return statistics.median(values) if values else None


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """What a figure should reach.

    Parameters
    ----------
    what
        For people.
    measured
        The figure, or None where it was not measured.
    limit
        What it is compared with.
    at_most
        Whether the limit is an upper one.
    unit
        Behind the figure.
    """

    what: str
    measured: float | None
    limit: float
    at_most: bool = True
    unit: str = "x"

    @property
    def verdict(self) -> str:
        """``ok``, ``short``, or ``not measured``."""
        if self.measured is None:
            return "not measured"
        reached = self.measured <= self.limit if self.at_most else self.measured >= self.limit
        return "ok" if reached else "short"

    def row(self) -> tuple[str, str, str, str]:
        """Return what, measured, limit and verdict as texts."""
        sign = "at most" if self.at_most else "at least"
        measured = "-" if self.measured is None else f"{self.measured:.3g} {self.unit}"
        return self.what, measured, f"{sign} {self.limit:g} {self.unit}", self.verdict

    def as_json(self) -> dict[str, Any]:
        """Return its fields and the verdict."""
        return {**dataclasses.asdict(self), "verdict": self.verdict}


def target_table(targets: Sequence[Target]) -> str:
    """Return the targets as a table."""
    return tabulate([target.row() for target in targets], headers=("WHAT", "MEASURED", "REACH", ""), tablefmt="simple")


def comparison_table(
    systems: Mapping[str, Sequence[Mapping[str, float]]],
    rows: Sequence[tuple[str, str, str]],
    *,
    ours: str,
    peers: Sequence[str],
    show: Callable[[float], str] = "{:.3g}".format,
) -> str:
    """Return a table of medians over rounds, with the ratio of ours to each peer.

    Parameters
    ----------
    systems
        Rounds of measurements by the system's name.
    rows
        Key, title and unit of each line.
    ours, peers
        Names of systems.
    show
        How a number is written.
    """
    lines = []
    for key, title, unit in rows:
        medians = {name: median_of(rounds, key) for name, rounds in systems.items()}
        if all(value is None for value in medians.values()):
            continue
        cells = ["-" if value is None else show(value) for value in medians.values()]
        ratios = [ratio(medians.get(ours), medians.get(peer)) for peer in peers if peer in systems]
        cells += ["-" if value is None else f"{value:.2f}" for value in ratios]
        lines.append([f"{title} ({unit})", *cells])
    headers = ["MEDIAN OF ROUNDS", *systems, *(f"ours / {peer}" for peer in peers if peer in systems)]
    return tabulate(lines, headers=headers, tablefmt="simple", disable_numparse=True)
