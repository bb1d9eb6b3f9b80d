"""Small plugins for tests of the registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pydantic

from engine_ops import OptimizationRequest, OptimizationResult
from engine_ops.ml import BaseMLModel, MLPluginInterface, PluginMetadata, PredictionResult, WorkloadDataPoint
from engine_ops.plugins import BaseOptimizationPlugin, PluginEvent, PluginRegistry


class Model(BaseMLModel):
    def train(self, data: list[WorkloadDataPoint]) -> None:
        self.training_metadata = {"samples": len(data)}
        self.is_trained = True

    def predict(self, input_data: dict[str, Any]) -> PredictionResult:
        return PredictionResult({"expected_duration": 7.0, "asked": input_data}, 0.5, self.model_id)


class ModelPlugin(MLPluginInterface):
    def __init__(self, name: str = "model", types: Sequence[str] | None = None) -> None:
        super().__init__(PluginMetadata(name, "1.0.0", "A test", supported_types=types), Model(name))


class Settings(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    scale: float = 1.0


class Algorithm(BaseOptimizationPlugin):
    """Counts what is done to it, and fails where it is told to."""

    config_schema: ClassVar[type[pydantic.BaseModel] | None] = Settings

    def __init__(self, name: str = "algorithm", types: Sequence[str] | None = None) -> None:
        self.metadata = PluginMetadata(name, "2.0.0", "A test", supported_types=types)
        self.calls: list[str] = []
        self.failing: dict[str, BaseException] = {}

    def _do(self, what: str) -> None:
        self.calls.append(what)
        if what in self.failing:
            raise self.failing[what]

    def init(self, config: Mapping[str, Any] | None = None) -> None:
        self._do("init")
        super().init(config)

    def can_handle(self, request: OptimizationRequest) -> bool:
        self._do("can_handle")
        return super().can_handle(request)

    def optimize(
        self, request: OptimizationRequest, historical_data: Sequence[WorkloadDataPoint] | None = None
    ) -> OptimizationResult:
        return self.answer(request, {"nodeId": "n1"})

    def shutdown(self) -> None:
        self._do("shutdown")
        super().shutdown()


def request(request_type: str = "ml-driven", **data: Any) -> OptimizationRequest:
    return OptimizationRequest.model_validate({"id": "r", "type": request_type, "data": data})


def names(registry: PluginRegistry, request_type: str = "ml-driven", **options: Any) -> list[str]:
    return [each.name for each in registry.select(request(request_type), **options)]


class Heard(list[PluginEvent]):
    """A listener that remembers."""

    def __call__(self, event: PluginEvent, /) -> None:
        self.append(event)

    def words(self) -> list[str]:
        return [f"{event.kind} {event.plugin}" for event in self]
