"""Two plugins for the demo: one that gives advice, and one that crashes each time it is asked."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from engine_ops import OptimizationRequest, OptimizationResult
from engine_ops.ml import PluginMetadata, WorkloadDataPoint
from engine_ops.plugins import BaseOptimizationPlugin


class IdleFirst(BaseOptimizationPlugin):
    """Advises to use the node with the least load; the engine still places, and checks every rule."""

    metadata = PluginMetadata("idle-first", "1.0.0", "Prefers idle nodes", supported_types=["scheduling"])

    def optimize(
        self, request: OptimizationRequest, historical_data: Sequence[WorkloadDataPoint] | None = None
    ) -> OptimizationResult:
        """Score nodes by what is free."""
        del historical_data
        nodes = request.data.get("nodes", [])
        if not all("cpuLoad" in node for node in nodes):
            return self.refuse(request, "a node does not say its cpuLoad")
        return self.answer(request, {"node_scores": {node["id"]: -float(node["cpuLoad"]) for node in nodes}})


class Crashes(BaseOptimizationPlugin):
    """Reads address 0."""

    metadata = PluginMetadata("crashes", "1.0.0", "Ends its own process", supported_types=["resource"])

    def optimize(
        self, request: OptimizationRequest, historical_data: Sequence[WorkloadDataPoint] | None = None
    ) -> OptimizationResult:
        """End the process."""
        del historical_data
        ctypes.string_at(0)
        return self.refuse(request, "never said")
