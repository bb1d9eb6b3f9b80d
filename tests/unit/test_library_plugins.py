"""Plugins in the library: asked first, in this process, and held against the built-in."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from engine_ops import EngineConfig, OptimizationEngine, OptimizationRequest, OptimizationResult, PluginConfig
from engine_ops.ml import BaseMLModel, MLPluginInterface, PluginMetadata, PredictionResult, WorkloadDataPoint
from engine_ops.plugins import BaseOptimizationPlugin, PluginRegistry

ITEMS = {
    "items": [{"id": "web", "cpu": "500m", "memory": "1Gi", "count": 6}],
    "nodeCapacity": {"cpu": 2, "memory": "8Gi"},
}
GOOD = {
    "nodes": [{"id": "a", "items": [{"id": "web", "count": 4}]}, {"id": "b", "items": [{"id": "web", "count": 2}]}],
}
WASTEFUL = {"nodes": [{"id": str(node), "items": [{"id": "web", "count": 1}]} for node in range(6)]}
INFEASIBLE = {"nodes": [{"id": "a", "items": [{"id": "web", "count": 6}]}]}


class Says(BaseOptimizationPlugin):
    """Returns what it was made with, or does it."""

    def __init__(self, name: str, said: Any, types: Sequence[str] = ("resource", "ml-driven")) -> None:
        self.metadata = PluginMetadata(name, "2.0.0", "Says it", supported_types=types)
        self.said = said
        self.seen: list[OptimizationRequest] = []
        self.history: Sequence[WorkloadDataPoint] | None = None

    def optimize(
        self, request: OptimizationRequest, historical_data: Sequence[WorkloadDataPoint] | None = None
    ) -> OptimizationResult:
        self.seen.append(request)
        self.history = historical_data
        if callable(self.said):
            self.said(request)
        return self.answer(request, self.said)


class Durations(BaseMLModel):
    """The mean of all durations."""

    def train(self, data: Sequence[WorkloadDataPoint]) -> None:
        self.mean = sum(point.duration for point in data) / len(data)
        self.is_trained = True

    def predict(self, input_data: Any) -> PredictionResult:
        return PredictionResult({"expected_duration": self.mean}, 0.5, self.model_id)


def engine(*plugins: Any, history: bool = False, **config: Any) -> OptimizationEngine:
    registry = PluginRegistry()
    for place, plugin in enumerate(plugins):
        registry.register(plugin, PluginConfig(priority=-place))
    chosen = EngineConfig(search_seconds=0, enable_plugins=True, enable_workload_collection=history, **config)
    return OptimizationEngine(chosen, registry=registry)


def request(request_type: Any = "resource", data: dict[str, Any] | None = None, **more: Any) -> OptimizationRequest:
    return OptimizationRequest(id="a", type=request_type, data=ITEMS if data is None else data, **more)


def point(number: int, duration: float = 1000.0) -> WorkloadDataPoint:
    return WorkloadDataPoint(1_767_225_600_000 + number, "ml-driven", {"cpu": 1.0}, duration, True)


def test_a_plugins_answer_is_served_and_says_so() -> None:
    result = engine(Says("packer", GOOD)).optimize(request())
    assert result.success
    assert result.result is not None
    assert result.result["nodeCount"] == 2
    assert result.solved_by is not None
    assert (result.solved_by.plugin, result.solved_by.role, result.solved_by.version) == ("packer", "answer", "2.0.0")
    assert result.solved_by.fallback_reason is None


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (WASTEFUL, "bad: worse than the built-in's answer"),
        (INFEASIBLE, "bad: "),
        ({"nodes": float("nan")}, "bad: "),
        (lambda asked: asked.data["?"], "bad: optimize failed: KeyError"),
        ({"wishes": 3}, "bad: result: has neither nodes"),
    ],
)
def test_the_built_in_answers_where_a_plugin_does_not(said: Any, why: str) -> None:
    result = engine(Says("bad", said)).optimize(request())
    assert result.success
    assert result.result is not None
    assert result.result["nodeCount"] == 2
    assert result.solved_by is not None
    assert result.solved_by.plugin is None
    assert result.solved_by.algorithm
    assert (result.solved_by.fallback_reason or "").startswith(why)


def test_the_next_plugin_is_asked_after_one_that_fails() -> None:
    result = engine(Says("first", INFEASIBLE), Says("second", GOOD)).optimize(request())
    assert result.solved_by is not None
    assert result.solved_by.plugin == "second"
    assert (result.solved_by.fallback_reason or "").startswith("first: ")


def test_a_plugin_that_hangs_is_left_behind() -> None:
    release = threading.Event()
    asked = engine(Says("slow", lambda _: release.wait(60)), plugin_timeout_seconds=0.05)
    first, second = asked.optimize(request()), asked.optimize(request())
    release.set()
    for result, why in ((first, "no answer within"), (second, "busy with an earlier request")):
        assert result.success
        assert result.solved_by is not None
        assert why in (result.solved_by.fallback_reason or "")


def test_a_plugin_cannot_change_the_request() -> None:
    data = {"items": [dict(ITEMS["items"][0])], "nodeCapacity": {"cpu": 2, "memory": "8Gi"}}  # type: ignore[index]

    def spoil(given: OptimizationRequest) -> None:
        given.data["items"].clear()

    result = engine(Says("spoiler", spoil)).optimize(request(data=data))
    assert result.success
    assert data["items"]


def test_a_request_chooses_its_plugin_or_none() -> None:
    first, second = Says("first", GOOD), Says("second", GOOD)
    both = engine(first, second)
    pinned = both.optimize(request(plugin="second"))
    assert pinned.solved_by is not None
    assert pinned.solved_by.plugin == "second"
    alone = both.optimize(request(plugin="none"))
    assert alone.solved_by is not None
    assert alone.solved_by.plugin is None
    assert not first.seen
    missing = both.optimize(request(plugin="third"))
    assert (missing.success, missing.reason) == (False, "NoPlugin")
    assert "'third'" in (missing.error or "")


def test_a_prediction_is_the_result_where_no_built_in_can_solve_the_data() -> None:
    says = Says("sizes", {"workload_size": 200})
    for kind, data in (("ml-driven", {"queue": 3}), ("resource", {"resource": "cpu"})):
        result = engine(says).optimize(request(kind, data))
        assert result.result == {"workload_size": 200}
        assert result.solved_by is not None
        assert result.solved_by.role == "prediction"


def test_ml_driven_without_a_plugin_is_answered_from_ten_points_on() -> None:
    asked = engine(history=True)
    for number in range(9):
        asked.record(point(number))
    few = asked.optimize(request("ml-driven", {"queue": 3}))
    assert (few.success, few.reason) == (False, "NotEnoughData")
    assert "9 of 10" in (few.error or "")
    # The question itself is a point, too: there are ten now.
    enough = asked.optimize(request("ml-driven", {"queue": 3}))
    assert enough.success
    assert enough.solved_by is not None
    assert (enough.solved_by.plugin, enough.solved_by.algorithm) == (None, "simple-predictor")
    assert enough.result is not None
    assert enough.result["expected_duration"] > 0


def test_ml_driven_without_plugins_and_history_waits() -> None:
    result = engine().optimize(request("ml-driven", {"queue": 3}))
    assert (result.success, result.reason) == (False, "NoPlugin")


def test_plugins_see_the_history_and_are_trained_on_it() -> None:
    metadata = PluginMetadata("mean", "1.0.0", "A mean", supported_types=["ml-driven"])
    trained, watching = MLPluginInterface(metadata, Durations("mean-duration")), Says("watching", GOOD)
    asked = engine(trained, watching, history=True)
    with pytest.raises(ValueError, match="0 points"):
        asked.train_plugins()
    for number in range(12):
        asked.record(point(number, duration=100.0))
    untrained = asked.optimize(request("ml-driven", {}, plugin="mean"))
    assert "not trained" in (untrained.error or "")
    assert asked.train_plugins() == ["mean"]
    result = asked.optimize(request("ml-driven", {}, plugin="mean"))
    assert result.result is not None
    assert result.result["expected_duration"] > 0
    assert result.solved_by is not None
    assert (result.solved_by.model_id, result.solved_by.claimed_confidence) == ("mean-duration", 0.5)
    asked.optimize(request())
    assert watching.history is not None
    assert len(watching.history) == 14
    assert watching.history[0] == point(0, duration=100.0)
    assert asked.collector is not None
    (last,) = [
        one for one in asked.collector.select().points() if one.metadata.get("solve", {}).get("plugin") == "mean"
    ]
    assert last.success


def test_training_needs_plugins_and_a_history() -> None:
    with pytest.raises(RuntimeError, match="enable_plugins=True, enable_workload_collection=True"):
        OptimizationEngine(EngineConfig(enable_plugins=True), registry=PluginRegistry()).train_plugins()
    with pytest.raises(ValueError, match="plugin_timeout_seconds"):
        EngineConfig(plugin_timeout_seconds=0)
