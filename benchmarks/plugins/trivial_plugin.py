"""A plugin that answers at once."""

from __future__ import annotations

from typing import Any

from engine_ops.ml import BaseMLModel, MLPluginInterface, PluginMetadata, WorkloadDataPoint


class Model(BaseMLModel):
    """Knows nothing."""

    def train(self, data: list[WorkloadDataPoint]) -> None:
        """Learn nothing."""
        del data
        self.is_trained = True


class Trivial(MLPluginInterface):
    """Answers at once."""

    def __init__(self) -> None:
        super().__init__(PluginMetadata("trivial", "1.0.0", "Answers at once"), Model("trivial"))

    def optimize(self, request_data: dict[str, Any], historical_data: Any = None) -> dict[str, Any]:
        """Answer."""
        del request_data, historical_data
        return {"success": True, "result": {"expected_duration": 1000.0}, "confidence": 0.9, "model_id": "trivial"}
