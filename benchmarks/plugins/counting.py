"""A plugin that says how long the history is, and nothing else."""

from __future__ import annotations

from typing import Any

from engine_ops.ml import PluginMetadata
from engine_ops.plugins import BaseOptimizationPlugin


class CountingPlugin(BaseOptimizationPlugin):
    """See the module."""

    metadata = PluginMetadata("counting", "1.0.0", "Says how long the history is")

    def optimize(self, request: Any, historical_data: Any = None) -> Any:
        """Count the points."""
        del request
        return {"success": True, "result": {"points": len(historical_data or ())}, "confidence": None}
