"""The base class of plugins."""

from __future__ import annotations

import json
from typing import Any

import pydantic
import pytest

from engine_ops.ml import BaseMLModel, MLPluginInterface, PluginMetadata, PredictionResult, WorkloadDataPoint
from engine_ops.ml.testing import sample_history


class Silent(BaseMLModel):
    """Trains and cannot predict."""

    def train(self, data: list[WorkloadDataPoint]) -> None:
        if not self.validate_training_data(data):
            raise ValueError("too few points")
        self.is_trained = True
        self.training_metadata = {"samples": len(data)}


class Mean(Silent):
    """Predicts the mean duration, and how much history it was shown."""

    def train(self, data: list[WorkloadDataPoint]) -> None:
        super().train(data)
        self.mean_ms = sum(point.duration for point in data) / len(data)
        self.seen: Any = None

    def use_history(self, historical_data: Any) -> None:
        self.seen = historical_data

    def predict(self, input_data: dict[str, Any]) -> PredictionResult:
        return PredictionResult({"expected_duration": self.mean_ms}, 0.5, self.model_id)


class Config(pydantic.BaseModel, extra="forbid"):
    factor: float = pydantic.Field(default=1.5, gt=0)


class Configured(MLPluginInterface):
    config_schema = Config


def plugin_of(model: BaseMLModel, types: list[str] | None = None) -> MLPluginInterface:
    return MLPluginInterface(PluginMetadata("p", "1.0.0", "A plugin.", supported_types=types), model)


def test_metadata() -> None:
    metadata = PluginMetadata("p", "1.0.0", "A plugin.")
    assert (metadata.author, metadata.supported_types) == (None, None)
    full = PluginMetadata(name="p", version="1", description="d", author="a", supported_types=("x", "y"))
    assert full.to_dict() == {
        "name": "p",
        "version": "1",
        "description": "d",
        "author": "a",
        "supported_types": ["x", "y"],
    }


def test_the_life_of_a_plugin() -> None:
    plugin = plugin_of(Mean("m"), ["resource"])
    assert plugin.get_info() == {
        "plugin": {
            "name": "p",
            "version": "1.0.0",
            "description": "A plugin.",
            "author": None,
            "supported_types": ["resource"],
        },
        "model": {"model_id": "m", "is_trained": False, "training_metadata": {}},
        "is_initialized": False,
    }
    plugin.init()
    assert plugin.config == {}
    plugin.train_model(sample_history(20))
    info = plugin.get_info()
    assert json.loads(json.dumps(info)) == info
    assert info["model"]["training_metadata"] == {"samples": 20}
    assert info["is_initialized"]
    plugin.shutdown()
    assert not plugin.is_initialized
    assert plugin.model.is_trained, "a plugin that is shut down keeps its model"
    with pytest.raises(RuntimeError, match="'p' is not initialized"):
        plugin.predict({})


@pytest.mark.parametrize("call", ["train_model", "predict", "optimize"])
def test_nothing_is_done_before_init(call: str) -> None:
    plugin = plugin_of(Mean("m"))
    with pytest.raises(RuntimeError, match="'p' is not initialized: call init"):
        getattr(plugin, call)({})
    assert not plugin.model.is_trained


def test_types() -> None:
    assert plugin_of(Mean("m"), ["resource"]).can_handle("resource")
    assert not plugin_of(Mean("m"), ["resource"]).can_handle("scheduling")
    assert not plugin_of(Mean("m"), []).can_handle("resource")
    assert plugin_of(Mean("m")).can_handle("anything")


def test_the_answer_is_the_prediction() -> None:
    plugin = plugin_of(Mean("m"))
    plugin.init()
    assert plugin.optimize({"type": "ml-driven"}) == {"success": False, "error": "Model not trained"}
    history = sample_history(20)
    assert not plugin.optimize({}, history)["success"], "a request must not train"
    plugin.train_model(history)
    answer = plugin.optimize({}, history)
    assert answer == {
        "success": True,
        "result": {"expected_duration": pytest.approx(sum(point.duration for point in history) / 20)},
        "confidence": 0.5,
        "model_id": "m",
    }
    assert plugin.model.seen is history  # type: ignore[attr-defined]
    assert plugin.predict({}).prediction == answer["result"]


def test_a_model_without_predict_says_no() -> None:
    plugin = plugin_of(Silent("m"))
    plugin.init()
    plugin.train_model(sample_history(20))
    answer = plugin.optimize({})
    assert answer == {"success": False, "error": "model 'm' (Silent) has no predict method"}


def test_training_that_fails_is_told() -> None:
    plugin = plugin_of(Mean("m"))
    plugin.init()
    with pytest.raises(ValueError, match="too few points"):
        plugin.train_model(sample_history(9))
    assert not plugin.model.is_trained


def test_config_without_a_schema_is_taken_as_it_is() -> None:
    plugin = plugin_of(Mean("m"))
    given = {"anything": [1, 2]}
    plugin.init(given)
    assert plugin.config == given
    plugin.config["more"] = 1
    assert given == {"anything": [1, 2]}
    plugin.init()
    assert plugin.config == {}


def test_config_is_checked_against_the_schema() -> None:
    plugin = Configured(PluginMetadata("p", "1.0.0", "A plugin."), Mean("m"))
    with pytest.raises(ValueError, match="factor"):
        plugin.init({"factor": 0})
    assert not plugin.is_initialized
    plugin.init()
    assert plugin.config == {"factor": 1.5}
    plugin.init({"factor": 2})
    with pytest.raises(ValueError, match="fctor"):
        plugin.init({"fctor": 3})
    assert plugin.config == {"factor": 2.0}, "a configuration that is rejected must not replace the last one"
