"""The bases of plugins that the registry takes, and the plugin made of any model."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pydantic
import pytest
from plugin_stand_ins import Algorithm, Model, names, request

import engine_ops.plugins
from engine_ops import OptimizationRequest, OptimizationResult, PluginConfig
from engine_ops.api.optimizerplugin import PluginLimits
from engine_ops.ml import BaseMLModel, PluginMetadata, PredictionResult, WorkloadDataPoint
from engine_ops.plugins import BaseOptimizationPlugin, MLOptimizationPlugin, PluginRegistry

POINTS = [WorkloadDataPoint(turn, "resource", {}, 5.0, True) for turn in range(12)]


@pytest.mark.parametrize("module", ["base", "registry"])
def test_the_examples_in_docstrings(module: str) -> None:
    results = doctest.testmod(importlib.import_module(f"engine_ops.plugins.{module}"))
    assert results.attempted > 0
    assert results.failed == 0


def test_the_names_of_the_package() -> None:
    for name in dir(engine_ops.plugins):
        assert getattr(engine_ops.plugins, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Registry'"):
        _ = engine_ops.plugins.Registry


def test_importing_loads_nothing_heavy() -> None:
    heavy = ("kopf", "kubernetes", "sklearn", "pandas", "numpy", "aiohttp")
    script = (
        "import sys; from engine_ops import PluginConfig, plugin_registry\n"
        "from engine_ops.plugins import *\n"
        f"print(*[name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_defaults_of_the_configuration() -> None:
    config = PluginConfig()
    assert (config.enabled, config.priority, config.config, config.supported_types) == (True, 0, {}, None)
    assert config.limits == PluginLimits()
    assert PluginConfig(True, 3, {"a": 1}) == PluginConfig(priority=3, config={"a": 1})


class Nearest(BaseOptimizationPlugin):
    """Has no __init__ of its own, as a first plugin might."""

    metadata = PluginMetadata("nearest", "0.3.0", "A test", supported_types=["scheduling"])

    def optimize(
        self, request: OptimizationRequest, historical_data: Sequence[WorkloadDataPoint] | None = None
    ) -> OptimizationResult:
        return self.answer(request, {"nodeId": "n1"}, algorithm="by-distance", duration_ms=4, score=0.5)


def test_a_plugin_of_one_method() -> None:
    plugin = Nearest()
    assert not plugin.is_initialized
    assert plugin.config == {}
    assert plugin.can_handle(request("scheduling"))
    assert not plugin.can_handle(request("resource"))
    plugin.init({"reach": 3})
    assert plugin.is_initialized
    assert plugin.config == {"reach": 3}
    plugin.shutdown()
    assert not plugin.is_initialized
    assert not Nearest().is_initialized
    assert Nearest().config == {}


def test_without_types_it_takes_every_type() -> None:
    plugin = Algorithm()
    assert all(plugin.can_handle(request(each)) for each in ("resource", "scheduling", "performance", "ml-driven"))


def test_answers_and_refusals() -> None:
    answer = Nearest().answer(request("scheduling"), {"nodeId": "n1"}, duration_ms=4, score=0.5)
    assert answer.success
    assert (answer.request_id, answer.result, answer.reason) == ("r", {"nodeId": "n1"}, "Solved")
    assert (answer.metrics.duration_ms, answer.metrics.score) == (4, 0.5)
    assert answer.solved_by is not None
    assert (answer.solved_by.algorithm, answer.solved_by.version) == ("nearest", "0.3.0")
    named = Nearest().optimize(request("scheduling")).solved_by
    assert named is not None
    assert named.algorithm == "by-distance"
    refusal = Nearest().refuse(request("scheduling"), "no node is near", reason="Unplaceable")
    assert not refusal.success
    assert (refusal.result, refusal.error, refusal.reason) == (None, "no node is near", "Unplaceable")


def test_the_schema_of_settings_fills_in_and_rejects() -> None:
    plugin = Algorithm()
    plugin.init()
    assert plugin.config == {"scale": 1.0}
    with pytest.raises(pydantic.ValidationError):
        plugin.init({"scale": "wide"})
    assert plugin.config == {"scale": 1.0}


def test_a_plugin_made_of_a_model() -> None:
    plugin = MLOptimizationPlugin(Model("m1"))
    registry = PluginRegistry()
    registry.register(plugin)
    assert names(registry, "resource") == names(registry, "ml-driven") == ["m1"]

    refusal = plugin.optimize(request("resource", workload_size=3))
    assert not refusal.success
    assert (refusal.reason, refusal.error) == ("NotEnoughData", "model 'm1' is not trained")

    plugin.train_model(POINTS)
    assert plugin.model.training_metadata == {"samples": 12}
    asked = OptimizationRequest(id="r", type="resource", data={"size": 3, "type": "mine"}, constraints={"nodes": 2})
    answer = plugin.optimize(asked)
    assert answer.success
    assert answer.result == {
        "expected_duration": 7.0,
        "asked": {"size": 3, "type": "resource", "constraints": {"nodes": 2}},
    }
    assert answer.solved_by is not None
    assert answer.solved_by.algorithm == "m1"


def test_a_plugin_made_of_a_model_never_trains_inside_a_request() -> None:
    plugin = MLOptimizationPlugin(Model("m1"))
    plugin.init()
    assert not plugin.optimize(request(), POINTS).success
    assert not plugin.model.is_trained


def test_its_metadata_can_be_given() -> None:
    metadata = PluginMetadata("runtimes", "4.0.0", "A test", supported_types=["ml-driven"])
    plugin = MLOptimizationPlugin(Model("m1"), metadata)
    assert plugin.metadata is metadata
    assert not plugin.can_handle(request("resource"))


class Returns(Model):
    def __init__(self, prediction: object) -> None:
        super().__init__("returns")
        self.is_trained = True
        self.prediction = prediction
        self.history: object = None

    def use_history(self, historical_data: Any) -> None:
        self.history = historical_data

    def predict(self, input_data: dict[str, Any]) -> PredictionResult:
        return PredictionResult(self.prediction, 0.5, self.model_id)


@pytest.mark.parametrize("prediction", [{"cpu": 2}, 7.5, [1, 2], None])
def test_a_prediction_that_is_no_mapping_has_a_name(prediction: object) -> None:
    model = Returns(prediction)
    plugin = MLOptimizationPlugin(model)
    plugin.init()
    expected = prediction if isinstance(prediction, Mapping) else {"prediction": prediction}
    assert plugin.optimize(request(), POINTS).result == expected
    assert model.history is POINTS


class OnlyTrains(BaseMLModel):
    def train(self, data: list[WorkloadDataPoint]) -> None:
        self.is_trained = True


def test_a_model_without_predict_says_no() -> None:
    plugin = MLOptimizationPlugin(OnlyTrains("only-trains"))
    plugin.init()
    plugin.train_model(POINTS)
    refusal = plugin.optimize(request())
    assert not refusal.success
    assert refusal.reason == "NoPlugin"
    assert "has no predict method" in cast("str", refusal.error)


def test_nothing_is_done_before_init() -> None:
    plugin = MLOptimizationPlugin(Model("m1"))
    for act in (lambda: plugin.train_model(POINTS), lambda: plugin.optimize(request())):
        with pytest.raises(RuntimeError, match="'m1' is not initialized: call init"):
            act()
    plugin.init()
    plugin.train_model(POINTS)
    plugin.shutdown()
    with pytest.raises(RuntimeError, match="not initialized"):
        plugin.optimize(request())
