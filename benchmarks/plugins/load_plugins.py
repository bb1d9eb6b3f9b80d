"""The plugins that the operator is measured with: able ones, and two that are of no use to anybody."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from engine_ops import OptimizationRequest, OptimizationResult
from engine_ops.api.quantity import parse_quantity
from engine_ops.ml import PluginMetadata, WorkloadDataPoint
from engine_ops.plugins import BaseOptimizationPlugin

History = Sequence[WorkloadDataPoint] | None
Amounts = dict[str, float]


class Packs(BaseOptimizationPlugin):
    """Answers requests of one node size by first-fit decreasing."""

    metadata = PluginMetadata("packs", "1.0.0", "First-fit decreasing", supported_types=["resource"])

    def optimize(self, request: OptimizationRequest, historical_data: History = None) -> OptimizationResult:
        """Pack."""
        del historical_data
        capacity = amounts(request.data["nodeCapacity"])
        return self.answer(request, {"nodes": first_fit_decreasing(request.data["items"], capacity)})


class Advises(BaseOptimizationPlugin):
    """Says in which order to place, and how long it will take."""

    metadata = PluginMetadata("advises", "1.0.0", "The largest first", supported_types=["resource"])

    def optimize(self, request: OptimizationRequest, historical_data: History = None) -> OptimizationResult:
        """Sort."""
        del historical_data
        capacity = amounts(request.data["nodeCapacity"])
        order = sorted(request.data["items"], key=lambda item: -size_of(amounts(item), capacity))
        return self.answer(request, {"order": [item["id"] for item in order], "expected_duration": 90_000.0})


class Predicts(BaseOptimizationPlugin):
    """Predicts from the request alone."""

    metadata = PluginMetadata("predicts", "1.0.0", "A rule of thumb", supported_types=["ml-driven"])

    def optimize(self, request: OptimizationRequest, historical_data: History = None) -> OptimizationResult:
        """Predict."""
        del historical_data
        return self.answer(request, {"replicas": 1 + request.data["queueDepth"] // 100})


class Hangs(BaseOptimizationPlugin):
    """Never answers."""

    metadata = PluginMetadata("hangs", "1.0.0", "Never answers", supported_types=["resource"])

    def optimize(self, request: OptimizationRequest, historical_data: History = None) -> OptimizationResult:
        """Sleep."""
        del request, historical_data
        while True:
            time.sleep(3600)


class Crashes(BaseOptimizationPlugin):
    """Ends its own process each time."""

    metadata = PluginMetadata("crashes", "1.0.0", "Ends its own process", supported_types=["resource"])

    def optimize(self, request: OptimizationRequest, historical_data: History = None) -> OptimizationResult:
        """End the process."""
        del request, historical_data
        os._exit(3)


def first_fit_decreasing(items: Sequence[Mapping[str, Any]], capacity: Amounts) -> list[dict[str, Any]]:
    """Return nodes with the items on them, as answers of type ``resource`` have them.

    Parameters
    ----------
    items
        Each with an id, amounts and perhaps a count. None may be larger than a node.
    capacity
        Of a node.
    """
    free: list[Amounts] = []
    placed: list[dict[str, int]] = []
    sized = [(amounts(item), item) for item in items]
    for needs, item in sorted(sized, key=lambda pair: -size_of(pair[0], capacity)):
        for _ in range(item.get("count", 1)):
            place = next((place for place, room in enumerate(free) if fits(needs, room)), None)
            if place is None:
                place = len(free)
                free.append(dict(capacity))
                placed.append({})
            for name, amount in needs.items():
                free[place][name] -= amount
            placed[place][item["id"]] = placed[place].get(item["id"], 0) + 1
    return [{"items": [{"id": name, "count": count} for name, count in node.items()]} for node in placed]


def amounts(entry: Mapping[str, Any]) -> Amounts:
    """Return what an item asks for, or a node has, in units; an item takes one of the ``pods`` of a node."""
    return {name: parse_quantity(entry.get(name, 1)) for name in ("cpu", "memory", "pods")}


def size_of(needs: Amounts, capacity: Amounts) -> float:
    """Return the largest part of a node that an item takes."""
    return max(needs[name] / capacity[name] for name in capacity)


def fits(needs: Amounts, room: Amounts) -> bool:
    """Whether an item still goes onto a node. Floats hold milli-cores inexactly: sums may be off by a rounding."""
    return all(amount <= room[name] + 1e-9 * amount for name, amount in needs.items())
