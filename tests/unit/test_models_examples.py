"""The two example models: what they predict of a history, by hand and in general, and their plugins' habits."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_ops.ml import WorkloadDataPoint
from engine_ops.ml.examples import (
    ResourceOptimizerModel,
    ResourceOptimizerPlugin,
    SimplePredictorModel,
    SimplePredictorPlugin,
)
from engine_ops.ml.examples.by_type import ByTypeModel
from engine_ops.ml.scoring import scored_values
from engine_ops.ml.testing import PluginContract

MODELS = (SimplePredictorModel, ResourceOptimizerModel)
PLUGINS = (SimplePredictorPlugin, ResourceOptimizerPlugin)


class TestSimplePredictorContract(PluginContract):
    def make_plugin(self) -> SimplePredictorPlugin:
        return SimplePredictorPlugin()


class TestResourceOptimizerContract(PluginContract):
    def make_plugin(self) -> ResourceOptimizerPlugin:
        return ResourceOptimizerPlugin()


def point(
    duration: float, *, kind: str = "resource", success: bool = True, size: float | None = None, **used: float
) -> WorkloadDataPoint:
    metadata = {} if size is None else {"request": {"workload_size": size}}
    return WorkloadDataPoint(1_700_000_000_000, kind, used or {"cpu": duration / 100}, duration, success, metadata)


# Ten of one type, of 100 and 300 ms, and four of another.
HISTORY = [point(100.0, success=index > 0) for index in range(5)]
HISTORY += [point(300.0) for _ in range(5)]
HISTORY += [point(5000.0, kind="batch", cpu=8.0) for _ in range(4)]


def trained(model: ByTypeModel, points: list[WorkloadDataPoint] = HISTORY) -> ByTypeModel:
    model.train(points)
    return model


def test_averages_by_type() -> None:
    model = trained(SimplePredictorModel())
    resource = model.predict({"type": "resource"})
    assert resource.prediction == {
        "expected_duration": pytest.approx(200),
        "success_rate": pytest.approx(0.9),
        "recommended_resources": {"cpu": pytest.approx(2)},
    }
    assert resource.confidence == pytest.approx(0.5)  # ten samples
    assert resource.model_id == "simple-predictor"
    assert model.predict({"type": "batch"}).prediction["expected_duration"] == pytest.approx(5000)
    assert model.get_metadata()["training_metadata"]["samples_by_type"] == {"batch": 4, "resource": 10}


@pytest.mark.parametrize("request_data", [{}, {"type": "unheard-of"}, {"type": 3}])
def test_other_types_are_predicted_from_all(request_data: dict[str, Any]) -> None:
    answer = trained(SimplePredictorModel()).predict(request_data)
    assert answer.prediction["expected_duration"] == pytest.approx((5 * 100 + 5 * 300 + 4 * 5000) / 14)
    assert answer.metadata["basis"] == "all types"


def test_a_type_of_two_points_is_too_small() -> None:
    model = trained(SimplePredictorModel(), [*HISTORY, point(1.0, kind="rare"), point(1.0, kind="rare")])
    assert model.predict({"type": "rare"}).metadata["samples"] == 16


@pytest.mark.parametrize("model", MODELS)
def test_scaling_with_the_workload_size(model: type[ByTypeModel]) -> None:
    # Without sizes in the history, what was seen is that of 100.
    once, thrice = (trained(model()).predict({"type": "batch", "workload_size": size}) for size in (100, 300))
    assert once.prediction["recommended_resources"] == {"cpu": pytest.approx(8)}
    assert thrice.prediction["recommended_resources"] == {"cpu": pytest.approx(24)}
    assert thrice.prediction["expected_duration"] == pytest.approx(15000)
    assert thrice.prediction["success_rate"] == once.prediction["success_rate"]
    configured = trained(model(baseline_workload_size=200)).predict({"type": "batch", "workload_size": 100})
    assert configured.prediction["recommended_resources"] == {"cpu": pytest.approx(4)}


@pytest.mark.parametrize("model", MODELS)
def test_the_history_says_what_size_is_typical(model: type[ByTypeModel]) -> None:
    points = [point(1000.0, size=50, cpu=1.0) for _ in range(10)]
    assert trained(model(), points).predict({"type": "resource", "workload_size": 100}).prediction == {
        "expected_duration": pytest.approx(2000),
        "success_rate": 1.0,
        "recommended_resources": {"cpu": pytest.approx(2)},
    }


def test_medians_are_not_moved_by_wild_values() -> None:
    wild = [point(1e9, cpu=1e6) for _ in range(4)]
    points = [point(100.0, cpu=value) for value in (1.0, 2.0, 2.0, 2.0, 3.0)] * 2
    model = trained(ResourceOptimizerModel(), points + wild)
    assert model.predict({"type": "resource"}).prediction["recommended_resources"] == {"cpu": 2.0}
    mean = trained(SimplePredictorModel(), points + wild).predict({"type": "resource"}).prediction
    assert mean["recommended_resources"]["cpu"] > 1e5


def test_values_of_several_sizes_are_brought_to_one() -> None:
    points = [point(size * 10.0, size=size, cpu=size / 100) for size in (10, 20, 100, 400, 1000) * 2]
    model = trained(ResourceOptimizerModel(), points)
    for size in (1, 77, 5000):
        answer = model.predict({"type": "resource", "workload_size": size})
        assert answer.prediction["recommended_resources"]["cpu"] == pytest.approx(size / 100)
        assert answer.confidence == pytest.approx(10 / 20)  # no spread: all agree


def test_a_few_sizes_in_a_history_do_not_silence_the_rest() -> None:
    points = [point(100.0, cpu=1.0) for _ in range(9)] + [point(100.0, size=1000, cpu=9.0)]
    assert trained(ResourceOptimizerModel(), points).predict({}).prediction["recommended_resources"] == {"cpu": 1.0}


def test_confidence_falls_with_spread_and_rises_with_samples() -> None:
    def confidence(values: list[float]) -> float:
        answer = trained(ResourceOptimizerModel(), [point(1.0, cpu=value) for value in values]).predict({})
        assert answer.confidence is not None
        return answer.confidence

    steady, wide = [4.0] * 12, [1.0, 4.0, 16.0] * 4
    assert confidence(wide) < confidence(steady) < confidence(steady * 5) < 1
    assert confidence([0.0] * 9 + [1.0]) > 0


SIZES = st.one_of(st.none(), st.floats(0.1, 1e6))
POINTS = st.builds(
    point,
    st.one_of(st.just(math.nan), st.floats(0, 1e12)),
    kind=st.sampled_from(["a", "b"]),
    success=st.booleans(),
    size=SIZES,
    cpu=st.floats(0, 1e6),
)


@given(points=st.lists(POINTS, min_size=10, max_size=40), size=SIZES, index=st.integers(0, 1))
def test_any_history_gives_sane_predictions_saved_or_not(
    points: list[WorkloadDataPoint], size: float | None, index: int
) -> None:
    model, again = trained(MODELS[index](), points), MODELS[index]()
    again.load(json.loads(json.dumps(model.save(), allow_nan=False)))
    for kind in ("a", "b", "c"):
        request = {"type": kind} | ({} if size is None else {"workload_size": size})
        answer = model.predict(request)
        cpu = answer.prediction["recommended_resources"]["cpu"]
        scored = scored_values(answer.prediction)
        assert {"success_rate", "recommended_resources.cpu"} <= set(scored)
        assert len(scored) == 2 + ("expected_duration" in answer.prediction)
        assert 0 <= (answer.confidence or 0) < 1
        if size is not None:
            twice = model.predict({**request, "workload_size": 2 * size})
            assert twice.prediction["recommended_resources"]["cpu"] == pytest.approx(2 * cpu)
        assert again.predict(request).to_dict() == answer.to_dict()
    assert again.get_metadata() == model.get_metadata()


@pytest.mark.parametrize("size", [0, -1, math.nan, math.inf, "100", True])
@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_wrong_workload_size_is_said(plugin: Any, size: Any) -> None:
    ready = plugin()
    ready.init()
    answer = ready.optimize({"type": "batch", "workload_size": size}, HISTORY)
    assert answer["success"] is False
    assert "workload_size" in answer["error"]


def test_a_workload_size_beyond_numbers_is_said() -> None:
    with pytest.raises(ValueError, match="too large"):
        trained(SimplePredictorModel()).predict({"type": "batch", "workload_size": 1e307})


@pytest.mark.parametrize("plugin", PLUGINS)
def test_it_learns_from_the_history_of_a_request(plugin: Any) -> None:
    ready = plugin()
    ready.init()
    assert ready.optimize({"workload_size": 100}, HISTORY[:9])["success"] is False
    answer = ready.optimize({"workload_size": 100}, HISTORY)
    assert (answer["success"], answer["model_id"]) == (True, ready.model.model_id)
    assert 0 < answer["confidence"] < 1
    assert ready.model.is_trained


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_history_of_unknown_outcomes_is_said_to_be_too_little(plugin: Any) -> None:
    ready = plugin()
    ready.init()
    unknown = WorkloadDataPoint(1, "batch", {}, math.nan, True, {"outcome": {"state": "unknown"}})
    answer = ready.optimize({"type": "batch"}, [unknown] * 20)
    assert answer["success"] is False
    assert "10" in answer["error"]


@pytest.mark.parametrize("plugin", PLUGINS)
def test_the_baseline_is_configured(plugin: Any) -> None:
    ready = plugin()
    for config, cpu in (({"baseline_workload_size": 50}, 16), ({}, 8)):
        ready.init(config)
        answer = ready.optimize({"type": "batch", "workload_size": 100}, HISTORY)
        assert answer["result"]["recommended_resources"]["cpu"] == pytest.approx(cpu)
    for wrong in ({"baseline_workload_size": 0}, {"baseline_workload_size": math.inf}, {"baseline": 1}):
        with pytest.raises(ValueError, match="baseline"):
            ready.init(wrong)


def test_types_that_the_plugins_take() -> None:
    assert SimplePredictorPlugin().can_handle("anything")
    assert [ResourceOptimizerPlugin().can_handle(kind) for kind in ("resource", "ml-driven", "scheduling")] == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize("model", MODELS)
def test_too_little_is_refused(model: type[ByTypeModel]) -> None:
    with pytest.raises(ValueError, match="10"):
        model().train(HISTORY[:9])
    with pytest.raises(RuntimeError, match="not trained"):
        model().predict({})
    with pytest.raises(ValueError, match="baseline_workload_size"):
        model(baseline_workload_size=0)
    assert model().save() is None


SUMMARY = {"samples": 1, "size": None, "values": {"success_rate": 1.0}, "spreads": {}}


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"format": 0}, "format"),
        ({"model": "ResourceOptimizerModel"}, "model"),
        ({"summaries": []}, "summaries"),
        ({"summaries": {"batch": SUMMARY}}, "all types"),
        ({"summaries": {"": None}}, "summaries"),
        ({"summaries": {"": {**SUMMARY, "samples": 0}}}, "samples"),
        ({"summaries": {"": {**SUMMARY, "size": 0}}}, "size"),
        ({"summaries": {"": {**SUMMARY, "values": {"success_rate": math.nan}}}}, "values"),
        ({"summaries": {"": {**SUMMARY, "spreads": {"x": -1}}}}, "spreads"),
        ({"trainingMetadata": 1}, "trainingMetadata"),
    ],
)
def test_other_states_are_refused_and_change_nothing(changes: dict[str, Any], where: str) -> None:
    model = trained(SimplePredictorModel())
    state = model.save() or {}
    with pytest.raises(ValueError, match=where):
        model.load({**state, **changes})
    assert model.save() == state


def test_they_need_no_numpy() -> None:
    code = (
        "import sys\n"
        "sys.modules['numpy'] = sys.modules['sklearn'] = None\n"
        "from engine_ops.ml import WorkloadDataPoint\n"
        "from engine_ops.ml.examples import ResourceOptimizerModel, SimplePredictorModel\n"
        "points = [WorkloadDataPoint(1, 'batch', {'cpu': 1.0}, 5.0, True)] * 10\n"
        "for model in (ResourceOptimizerModel(), SimplePredictorModel()):\n"
        "    model.train(points)\n"
        "    assert model.predict({'type': 'batch'}).prediction['expected_duration'] == 5.0\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
