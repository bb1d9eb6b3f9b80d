"""A plugin without a model: it prefers idle nodes, and leaves the placement to the engine."""

from __future__ import annotations

from collections.abc import Sequence

from engine_ops import OptimizationRequest, OptimizationResult
from engine_ops.ml import PluginMetadata, WorkloadDataPoint
from engine_ops.plugins import BaseOptimizationPlugin


class IdleFirstPlugin(BaseOptimizationPlugin):
    """Gives each node a score for the share of it that is idle: advice, which the built-in algorithm follows."""

    metadata = PluginMetadata(
        name="idle-first",
        version="1.0.0",
        description="Prefers the nodes with the smallest load",
        author="The Engine-Ops developers",
        supported_types=["scheduling"],
    )

    def can_handle(self, request: OptimizationRequest) -> bool:
        """Only where every node has loads in percent, which is so where none has a capacity."""
        return super().can_handle(request) and not any("capacity" in node for node in request.data.get("nodes", []))

    def optimize(
        self, request: OptimizationRequest, historical_data: Sequence[WorkloadDataPoint] | None = None
    ) -> OptimizationResult:
        """Return ``node_scores``, from 0 (busy) to 1 (idle)."""
        nodes = request.data.get("nodes", [])
        scores = {node["id"]: 1 - max(node["cpuLoad"], node["memoryLoad"]) / 100 for node in nodes}
        return self.answer(request, {"node_scores": scores})
