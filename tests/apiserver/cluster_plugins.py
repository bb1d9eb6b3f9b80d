"""Small plugins for tests of the whole operator; found by entry point `cluster_plugins:Name`."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pydantic
from bad_plugins import Good

from engine_ops import OptimizationRequest, OptimizationResult
from engine_ops.ml import BaseMLModel, MLPluginInterface, PluginMetadata, PredictionResult, WorkloadDataPoint
from engine_ops.plugins import BaseOptimizationPlugin


class Prefers(BaseOptimizationPlugin):
    """Advises one node: ``config.node``."""

    metadata = PluginMetadata("prefers", "1.2.0", "Prefers a node", supported_types=["scheduling"])

    def optimize(
        self, request: OptimizationRequest, historical_data: Sequence[WorkloadDataPoint] | None = None
    ) -> OptimizationResult:
        return self.answer(request, {"node_scores": {self.config["node"]: 100.0}})


class Places(BaseOptimizationPlugin):
    """Puts every task onto one node, ``config.node``, whatever the request has."""

    metadata = PluginMetadata("places", "1.2.0", "Knows one node", supported_types=["scheduling"])

    def optimize(
        self, request: OptimizationRequest, historical_data: Sequence[WorkloadDataPoint] | None = None
    ) -> OptimizationResult:
        tasks = request.data.get("tasks") or [request.data["task"]]
        placements = [{"taskId": task["id"], "nodeId": self.config["node"]} for task in tasks]
        return self.answer(request, {"placements": placements})


class Tells(BaseOptimizationPlugin):
    """Returns what it was given, and who it is; with ``config.bytes``, so much more of what cannot be compressed."""

    metadata = PluginMetadata("tells", "1.0.0", "Tells what it sees", supported_types=["ml-driven"])

    def optimize(
        self, request: OptimizationRequest, historical_data: Sequence[WorkloadDataPoint] | None = None
    ) -> OptimizationResult:
        result: dict[str, Any] = {
            "type": request.type,
            "data": dict(request.data),
            "constraints": dict(request.constraints or {}),
            "history": None if historical_data is None else len(historical_data),
            "pid": os.getpid(),
        }
        if self.config.get("bytes"):
            result["more"] = os.urandom(self.config["bytes"] // 2).hex()
        return self.answer(request, result)


class TellsOfSizes(Tells):
    """The same of requests whose type has a built-in algorithm."""

    metadata = PluginMetadata("tells-of-sizes", "1.0.0", "Tells what it sees", supported_types=["resource"])


class MarksSettings(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    file: Path
    seconds: float = pydantic.Field(default=0.0, ge=0)
    hold: Path | None = None


class Marks(Good):
    """Packs as `Good` does, after a while, and not while there is a file ``config.hold``.

    First it adds a line with its process to ``config.file``.
    """

    metadata = PluginMetadata("marks", "1.0.0", "Says when it is asked", supported_types=["resource"])
    config_schema: ClassVar[type[pydantic.BaseModel] | None] = MarksSettings

    def optimize(
        self, request: OptimizationRequest, historical_data: Sequence[WorkloadDataPoint] | None = None
    ) -> OptimizationResult:
        with self.config["file"].open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(self.config["seconds"])
        hold = self.config["hold"]
        while hold is not None and hold.exists():
            time.sleep(0.01)
        return super().optimize(request, historical_data)


class _Size(BaseMLModel):
    def train(self, data: list[WorkloadDataPoint]) -> None:
        self.is_trained = True

    def predict(self, input_data: dict[str, Any]) -> PredictionResult:
        return PredictionResult({"workload_size": 200}, 0.75, self.model_id)


class Sizes(MLPluginInterface):
    """Predicts something for a type that has a built-in algorithm, as the plugins of the guide do."""

    def __init__(self) -> None:
        super().__init__(PluginMetadata("sizes", "3.0.0", "Sizes", supported_types=["resource"]), _Size("size-model"))

    def optimize(self, request_data: dict[str, Any], historical_data: Any = None) -> dict[str, Any]:
        if "workload_size" not in request_data:
            return {"success": False, "error": "it needs a workload_size"}
        answer = self.model.predict(request_data)
        return {
            "success": True,
            "result": answer.prediction,
            "confidence": answer.confidence,
            "model_id": answer.model_id,
        }


class LearnsSettings(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    train_seconds: float = pydantic.Field(default=0.0, ge=0)


class _Mean(BaseMLModel):
    """The mean duration; its state says which training it is of, so that no two have the same digest."""

    train_seconds = 0.0

    def train(self, data: list[WorkloadDataPoint]) -> None:
        time.sleep(self.train_seconds)
        if len(data) < 10:
            raise ValueError("too few")
        self.state = {
            "mean": sum(point.duration for point in data) / len(data),
            "samples": len(data),
            "training": time.time_ns(),
        }
        self.is_trained = True

    def predict(self, input_data: dict[str, Any]) -> PredictionResult:
        result = {"expected_duration": self.state["mean"], "training": self.state["training"]}
        return PredictionResult(result, 0.5, self.model_id)

    def save(self) -> dict[str, Any] | None:
        return dict(self.state)

    def load(self, state: Mapping[str, Any]) -> None:
        self.state = dict(state)
        self.is_trained = True


class Learns(MLPluginInterface):
    """Predicts the mean duration, for every type, with a model that can be saved."""

    config_schema: ClassVar[type[pydantic.BaseModel] | None] = LearnsSettings

    def __init__(self) -> None:
        super().__init__(PluginMetadata("learns", "1.0.0", "Learns the mean"), _Mean("mean-duration"))

    def init(self, config: Mapping[str, Any] | None = None) -> None:
        super().init(config)
        self.model.train_seconds = self.config["train_seconds"]  # type: ignore[attr-defined]
