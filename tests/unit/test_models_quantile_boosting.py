"""The boosting model: what it learns, that quantiles never cross, and its saved state."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import Any, ClassVar

import numpy as np
import pytest
from growing_list import GrowingList
from hypothesis import given, settings
from hypothesis import strategies as st

from engine_ops.ml import WorkloadDataPoint, WorkloadDataset
from engine_ops.ml.lags import Lags
from engine_ops.ml.models import QuantileBoostingModel, QuantileBoostingPlugin
from engine_ops.ml.models.flat_trees import FlatTrees
from engine_ops.ml.testing import PluginContract, check_state

START = 1_700_006_400_000
DURATION, CPU = "expected_duration", "recommended_resources.cpu"


class TestContract(PluginContract):
    def make_plugin(self) -> QuantileBoostingPlugin:
        return QuantileBoostingPlugin()


class TestConfiguredContract(PluginContract):
    config: ClassVar = {"targets": ["usage:memory"], "quantiles": [0.25, 0.5, 0.95], "recommend": 0.95}

    def make_plugin(self) -> QuantileBoostingPlugin:
        return QuantileBoostingPlugin()


def history(count: int = 300, seed: int = 0) -> list[WorkloadDataPoint]:
    """A duration of about size x 1 s and a usage of about size cores, each within a factor of about 1.35."""
    rng = np.random.default_rng(seed)
    points = []
    for index in range(count):
        size = int(rng.choice([10, 100, 1000]))
        request = {"size": size, "kind": str(rng.choice(["a", "b"]))}
        duration = float(size * 1000 * np.exp(rng.normal(0, 0.3)))
        metadata = {"request": request if rng.random() < 0.9 else {}, "namespace": f"ns-{index % 3}"}
        used = {"cpu": float(size * np.exp(rng.normal(0, 0.3)))}
        points.append(WorkloadDataPoint(START + index * 5_000_000, "batch", used, duration, True, metadata))
    return points


@pytest.fixture(scope="module")
def model() -> QuantileBoostingModel:
    model = QuantileBoostingModel()
    model.train(history())
    return model


def request(size: int) -> dict[str, Any]:
    return {"type": "batch", "timestamp": START + 10**10, "size": size, "kind": "a", "namespace": "ns-1"}


def test_it_learns_what_the_size_means(model: QuantileBoostingModel) -> None:
    small, large = (model.predict(request(size)).prediction for size in (10, 1000))
    assert 7_000 < small[DURATION] < 14_000
    assert 700_000 < large[DURATION] < 1_400_000
    assert 7 < small["recommended_resources"]["cpu"] < 14
    assert large["quantiles"][CPU]["0.5"] == large["recommended_resources"]["cpu"]
    assert model.predict(request(10)).confidence is None


def test_most_outcomes_lie_between_its_quantiles(model: QuantileBoostingModel) -> None:
    rows, durations = [], []
    for point in history(200, seed=1):
        if "size" in point.metadata["request"]:
            rows.append(model.feature_vector(request(point.metadata["request"]["size"])))
            durations.append(point.duration)
    predicted = [row[DURATION] for row in model.predict_quantiles(rows)]
    inside = [each[0.1] <= actual <= each[0.9] for each, actual in zip(predicted, durations, strict=True)]
    assert 0.6 < np.mean(inside) < 0.95  # 0.8, but for what the sample says


@settings(max_examples=50)
@given(data=st.data())
def test_quantiles_never_cross(model: QuantileBoostingModel, data: st.DataObject) -> None:
    width = len(model.feature_names or ())
    value = st.one_of(st.just(float("nan")), st.floats(-10, 1e7))
    rows = data.draw(st.lists(st.lists(value, min_size=width, max_size=width), min_size=1, max_size=20))
    for row in model.predict_quantiles(rows):
        for values in row.values():
            ordered = list(values.values())
            assert list(values) == [0.1, 0.5, 0.9]
            assert ordered == sorted(ordered)
            assert ordered[0] >= 0


def test_sorting_is_needed_and_is_what_keeps_them_apart(model: QuantileBoostingModel) -> None:
    rows = np.random.default_rng(3).uniform(-10, 1e6, (500, len(model.feature_names or ())))
    assert model._trees is not None
    raw = model._trees.predict(rows).reshape(-1, 2, 3)
    assert (np.diff(raw, axis=2) < 0).any()  # the ensembles do cross
    assert (np.diff([list(row[CPU].values()) for row in model.predict_quantiles(rows)], axis=1) >= 0).all()


@pytest.mark.parametrize("seed", range(3))
def test_on_the_named_schema_it_predicts_what_scikit_learn_predicts(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: list[Any] = []

    def kept(regressors: list[Any]) -> FlatTrees:
        fitted.extend(regressors)
        return of_boosting(regressors)

    of_boosting = FlatTrees.of_boosting
    monkeypatch.setattr(FlatTrees, "of_boosting", kept)
    model = QuantileBoostingModel()
    model.train(history(120, seed))
    # Another history in the same columns: fields that are missing or of other words, outcomes that are not known yet.
    others = history(60, seed + 10)
    for index, point in enumerate(others[::3]):
        point.metadata["request"] = {"kind": "c", "size": float(index)}
    rows, _ = WorkloadDataset(others).to_numpy("duration", model.feature_schema)
    assert np.isnan(rows).any()
    assert {0.0, 1.0} <= set(rows[:, (model.feature_names or []).index("request.kind=a")])
    expected = np.column_stack([regressor.predict(rows) for regressor in fitted])
    assert model._trees is not None
    assert expected.shape == (60, 6)
    assert np.ptp(expected, axis=0).min() > 0.1  # they tell requests apart
    assert np.abs(model._trees.predict(rows) - expected).max() < 1e-9


def stored(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state as it is after a file: JSON text, and arrays from which a pickle is refused."""
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **state["trees"])
    file.seek(0)
    with np.load(file, allow_pickle=False) as read:
        trees = {name: read[name] for name in read.files}
    rest = {key: value for key, value in state.items() if key != "trees"}
    return {**json.loads(json.dumps(rest, allow_nan=False)), "trees": trees}


def test_saved_and_loaded_it_predicts_the_same(model: QuantileBoostingModel) -> None:
    state = model.save()
    assert state is not None
    check_state(state)
    again = QuantileBoostingModel(quantiles=(0.2, 0.5))
    again.load(stored(state))
    again.use_history(history())
    assert again.get_metadata() == model.get_metadata()
    assert again.feature_names == model.feature_names
    for size in (1, 10, 500):
        assert again.predict(request(size)).prediction == model.predict(request(size)).prediction


def test_it_keeps_up_with_a_history(model: QuantileBoostingModel) -> None:
    """It predicts as a model does that took the whole history over, and reads what is new only."""
    every = history()
    growing = GrowingList(every[:40])
    state = stored(model.save() or {})
    model = loaded(state)
    for first in range(40, len(every), 15):
        model.use_history(growing)
        fresh = loaded(state)
        fresh.use_history(growing.points)
        assert model.feature_vector(request(100)) == pytest.approx(fresh.feature_vector(request(100)), nan_ok=True)
        assert model.predict(request(100)).prediction == fresh.predict(request(100)).prediction
        growing.read = 0
        model.use_history(growing)
        model.predict(request(100))
        assert growing.read == 0
        new = every[first : first + 15]
        growing.grow(new, capacity=50)
        model.use_history(growing)
        assert growing.read == len(new)


def test_other_lags_and_another_training_end_it(model: QuantileBoostingModel) -> None:
    growing = GrowingList(history()[:50])
    model = loaded(stored(model.save() or {}))
    model.use_history(growing)
    with_history = model.feature_vector(request(100))
    model.use_history(Lags([]))
    assert not same(model.feature_vector(request(100)), with_history)
    model.use_history(growing)
    assert same(model.feature_vector(request(100)), with_history)
    again = QuantileBoostingModel(targets=["duration"])
    again.train(growing)
    assert same(again.feature_vector(request(100)), QuantileBoostingModel.feature_vector(again, request(100), growing))
    growing.read = 0
    again.use_history(growing)
    assert growing.read == 0
    again.preprocess_data(history())
    again.use_history(growing)
    assert growing.read == 50


def loaded(state: dict[str, Any]) -> QuantileBoostingModel:
    model = QuantileBoostingModel()
    model.load(state)
    return model


def same(left: list[float], right: list[float]) -> bool:
    return repr(left) == repr(right)


def test_loaded_without_scikit_learn_it_predicts(model: QuantileBoostingModel, tmp_path: Any) -> None:
    state = stored(model.save() or {})
    np.savez(tmp_path / "trees.npz", allow_pickle=False, **state.pop("trees"))
    (tmp_path / "rest.json").write_text(json.dumps(state))
    code = (
        "import json, sys, numpy\n"
        "sys.modules['sklearn'] = None\n"
        "from engine_ops.ml.models import QuantileBoostingModel\n"
        "model = QuantileBoostingModel()\n"
        "trees = dict(numpy.load(sys.argv[1] + '/trees.npz', allow_pickle=False))\n"
        "model.load({**json.load(open(sys.argv[1] + '/rest.json')), 'trees': trees})\n"
        "print(json.dumps(model.predict(json.loads(sys.argv[2])).prediction))\n"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path), json.dumps(request(100))]
    printed = subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=60).stdout
    fresh = QuantileBoostingModel()
    fresh.load(stored(model.save() or {}))
    assert json.loads(printed) == fresh.predict(request(100)).prediction


def test_without_scikit_learn_training_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    model = QuantileBoostingModel()
    with pytest.raises(ImportError, match=r"engine-ops\[ml\]"):
        model.train(history(10))
    assert not model.is_trained


def test_training_again_gives_the_same_model(model: QuantileBoostingModel) -> None:
    again = QuantileBoostingModel()
    again.train(history())
    assert again.predict(request(77)).prediction == model.predict(request(77)).prediction


def test_ten_points_are_enough_and_nine_are_not() -> None:
    model = QuantileBoostingModel()
    model.train(history(10))
    assert model.predict(request(10)).prediction[DURATION] > 0
    with pytest.raises(ValueError, match=r"10 .* duration"):
        QuantileBoostingModel().train(history(9))
    with pytest.raises(ValueError, match="usage:gpu"):
        QuantileBoostingModel(targets=["duration", "usage:gpu"]).train(history(20))
    with pytest.raises(RuntimeError, match="not trained"):
        QuantileBoostingModel().predict(request(10))
    assert QuantileBoostingModel().save() is None


def test_a_target_that_few_points_have_is_left_out() -> None:
    points = history(30)
    for point in points[:9]:
        point.resource_usage["gpu"] = 1.0
    model = QuantileBoostingModel()
    model.train(points)
    assert set(model.predict(request(10)).prediction["quantiles"]) == {DURATION, CPU}


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"schema": None},
        {"keys": []},
        {"keys": ["success_rate", CPU]},
        {"keys": [DURATION]},
        {"quantiles": [0.1, 0.9, 0.5]},
        {"quantiles": [0.1, 0.9]},
        {"quantiles": [0.1, 0.5, 0.9, 1.0]},
        {"quantiles": 3},
        {"recommend": 0.95},
        {"trees": None},
        {"trees": {}},
        {"trainingMetadata": None},
    ],
)
def test_other_states_are_refused_and_change_nothing(model: QuantileBoostingModel, changes: dict[str, Any]) -> None:
    state = model.save() or {}
    before = model.predict(request(10)).prediction
    with pytest.raises(ValueError, match=r"^\w+: "):
        model.load({**state, **changes})
    assert model.predict(request(10)).prediction == before


def test_another_configuration_of_the_plugin_is_another_model() -> None:
    plugin = QuantileBoostingPlugin()
    plugin.init()
    first = plugin.model
    plugin.init({"quantiles": [0.1, 0.5, 0.9]})
    assert plugin.model is first
    plugin.init({"recommend": 0.9})
    assert plugin.model is not first
    plugin.train_model(history(60))
    answer = plugin.optimize(request(10), history(60))
    assert answer["result"]["recommended_resources"]["cpu"] == answer["result"]["quantiles"][CPU]["0.9"]
    for wrong in ({"recommend": 0.8}, {"quantiles": [0.1]}, {"targets": ["speed"]}, {"target": "duration"}):
        with pytest.raises(ValueError, match=next(iter(wrong))[:6]):
            plugin.init(wrong)
