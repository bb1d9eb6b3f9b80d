"""The base class of models: what they may learn from, and what they learn it as."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from growing_list import GrowingList
from hypothesis import given, settings
from hypothesis import strategies as st

from engine_ops.ml import BaseMLModel, PredictionResult, WorkloadDataPoint, WorkloadDataset
from engine_ops.ml.lags import Lags
from engine_ops.ml.testing import NOON_MS, sample_history


class Model(BaseMLModel):
    def train(self, data: list[WorkloadDataPoint]) -> None:
        self.preprocess_data(data)
        self.is_trained = True


class NaNModel(Model):
    missing_value = math.nan


def point(
    timestamp: int = 0, duration: float = 1.0, cpu: float = 1.0, metadata: dict[str, Any] | None = None
) -> WorkloadDataPoint:
    return WorkloadDataPoint(timestamp, "ml-driven", {"cpu": cpu}, duration, True, metadata)


POINTS = st.builds(
    point,
    st.integers(-(2**40), 2**41),
    st.floats() | st.sampled_from([0.0, 1.0, math.nan]),
    st.floats() | st.sampled_from([0.0, 1.0, math.nan]),
    st.sampled_from(
        [None, {"outcome": {"state": "unknown"}}, {"outcome": {"of": "request"}}, {"request": {"size": 5, "x": "a"}}]
    ),
)
TARGETS = st.sampled_from(["success", "duration", "usage:cpu"])


def test_a_new_model() -> None:
    model = Model("m")
    assert model.model_id == "m"
    assert model.get_metadata() == {"model_id": "m", "is_trained": False, "training_metadata": {}}
    assert model.feature_names is None
    assert model.save() is None
    with pytest.raises(NotImplementedError, match=r"'m' \(Model\) has no predict"):
        model.predict({})
    with pytest.raises(NotImplementedError, match=r"'m' \(Model\) has no load"):
        model.load({})
    with pytest.raises(TypeError, match="abstract"):
        BaseMLModel("m")  # type: ignore[abstract]


def test_metadata_are_a_copy() -> None:
    model = Model("m")
    model.get_metadata()["training_metadata"]["samples"] = 3
    assert model.training_metadata == {}


def test_predictions() -> None:
    result = PredictionResult({"expected_duration": 5.0}, 0.5, "m")
    assert result.metadata == {}
    assert result.to_dict() == {
        "prediction": {"expected_duration": 5.0},
        "confidence": 0.5,
        "model_id": "m",
        "metadata": {},
    }
    given_metadata = {"a": 1}
    other = PredictionResult(prediction=None, confidence=None, model_id="m", metadata=given_metadata)
    other.metadata["b"] = 2
    assert given_metadata == {"a": 1}
    assert result != other
    assert result == PredictionResult({"expected_duration": 5.0}, 0.5, "m", {})


# --- what may be learned from


def test_ten_points_are_enough_and_nine_are_not() -> None:
    model = Model("m")
    assert model.validate_training_data([point() for _ in range(10)])
    assert not model.validate_training_data([point() for _ in range(9)])
    assert model.validate_training_data(WorkloadDataset(point() for _ in range(10)))
    assert model.validate_training_data(point() for _ in range(10))


@pytest.mark.parametrize("bad", [None, 3, [], {}, "a string of more than ten letters"])
def test_what_is_no_data_is_not_valid(bad: Any) -> None:
    assert not Model("m").validate_training_data(bad)


def test_one_foreign_element_spoils_the_data() -> None:
    data: list[Any] = [point() for _ in range(20)]
    assert not Model("m").validate_training_data([*data, {"timestamp": 0}])


@pytest.mark.parametrize(
    "bad",
    [
        point(duration=-1.0),
        point(duration=math.inf),
        point(cpu=-0.5),
        point(cpu=math.inf),
        point(metadata={"outcome": {"state": "unknown"}}),
    ],
)
def test_points_that_teach_nothing_do_not_count(bad: WorkloadDataPoint) -> None:
    model = Model("m")
    nine = [point(at) for at in range(9)]
    assert not model.validate_training_data([*nine, bad, bad])
    assert model.validate_training_data([*nine, bad, bad, point(9)])
    features, labels = model.preprocess_data([*nine, bad, bad, point(9)])
    assert len(features) == len(labels) == 10


def test_what_counts_depends_on_the_target() -> None:
    model = Model("m")
    data = [point(at, duration=math.nan) for at in range(10)]
    assert model.validate_training_data(data)
    assert model.validate_training_data(data, "usage:cpu")
    assert not model.validate_training_data(data, "duration")
    with pytest.raises(ValueError, match="target must be success, duration or usage:"):
        model.validate_training_data(data, "speed")


@given(st.lists(POINTS, max_size=25), TARGETS)
def test_valid_data_give_at_least_ten_rows(points: list[WorkloadDataPoint], target: str) -> None:
    model = Model("m")
    _, labels = model.preprocess_data(points, target)
    assert model.validate_training_data(points, target) == (len(labels) >= 10)


# --- what is learned


@given(st.lists(POINTS, max_size=12), TARGETS)
@settings(max_examples=60)
def test_features_and_labels_are_finite_and_rectangular(points: list[WorkloadDataPoint], target: str) -> None:
    model = Model("m")
    features, labels = model.preprocess_data(points, target)
    assert model.feature_names is not None
    assert len(features) == len(labels)
    assert all(len(row) == len(model.feature_names) for row in features)
    assert all(math.isfinite(value) for row in (*features, labels) for value in row)


def test_missing_values() -> None:
    """They are -1 unless the model says otherwise; every other value is that of the data set."""
    history = sample_history(30)
    expected, expected_labels = WorkloadDataset(history).to_numpy("duration")
    filled, labels = Model("m").preprocess_data(history, "duration")
    kept, _ = NaNModel("m").preprocess_data(history, "duration")
    assert np.isnan(expected).any(), "nothing is missing, nothing is tested"
    np.testing.assert_array_equal(kept, expected)
    np.testing.assert_array_equal(filled, np.where(np.isnan(expected), -1.0, expected))
    np.testing.assert_array_equal(labels, expected_labels)


def test_the_label_is_success_by_default() -> None:
    history = sample_history(30)
    _, labels = Model("m").preprocess_data(history)
    assert labels == [float(each.success) for each in history]
    assert len(set(labels)) == 2


def test_what_is_no_point_is_named() -> None:
    data: list[Any] = [point(), {}]
    with pytest.raises(TypeError, match=r"data_points\[1\] must be a WorkloadDataPoint, not dict"):
        Model("m").preprocess_data(data)


# --- the vector of a request


def request_of(each: WorkloadDataPoint) -> dict[str, Any]:
    return {
        "type": each.request_type,
        "timestamp": each.timestamp,
        "constraints": {"zone": "a", "limit": 3},
        "workload": each.metadata["workload"],
        **each.metadata["request"],
    }


@pytest.mark.parametrize("model", [Model("m"), NaNModel("m")])
def test_serving_builds_the_vector_of_training(model: Model) -> None:
    history = sample_history(30)
    rows, _ = model.preprocess_data(history)
    for each, row in zip(history, rows, strict=True):
        np.testing.assert_array_equal(model.feature_vector(request_of(each)), row)
        np.testing.assert_array_equal(model.feature_vector(request_of(each), history), row)


def test_lags_come_from_the_history_that_was_given_last() -> None:
    history = sample_history(40)
    model = Model("m")
    model.train(history[:20])
    request = {**request_of(history[-1]), "timestamp": NOON_MS}
    old = model.feature_vector(request)
    new = model.feature_vector(request, history)
    assert old != new
    assert model.feature_vector(request) == old, "one call's history is kept for the next"
    model.use_history(history)
    assert model.feature_vector(request) == new
    model.use_history(None)
    model.use_history([])
    assert model.feature_vector(request) == new
    model.use_history(Lags(history))
    assert model.feature_vector(request) == new
    model.train(history[:20])
    assert model.feature_vector(request) == old, "what it was trained on before is forgotten"


@pytest.mark.parametrize("given", ["used", "passed"])
def test_lags_keep_up_with_a_growing_history(given: str) -> None:
    """Only new points are read, and the vector is that of the points that are there."""
    every = sample_history(60)
    model = Model("m")
    model.train(every[:20])
    growing = GrowingList(every[:20])
    request = {**request_of(every[-1]), "timestamp": NOON_MS}
    for first in range(20, 60, 10):
        growing.grow(every[first : first + 10], capacity=30)
        passed = growing if given == "passed" else None
        if passed is None:
            model.use_history(growing)
        growing.read = 0
        vector = model.feature_vector(request, passed)
        assert vector == model.feature_vector(request, growing.points)
        assert growing.read == (30 if first == 20 else 10)
        assert model.feature_vector(request, passed) == vector
        assert growing.read == (30 if first == 20 else 10), "what was read is read again"
    growing.replace(every[:5])
    assert model.feature_vector(request, growing) == model.feature_vector(request, every[:5])
    other = GrowingList(every[:15])
    assert model.feature_vector(request, other) == model.feature_vector(request, every[:15])


def test_a_request_may_name_no_type() -> None:
    model = Model("m")
    model.train(sample_history(20))
    assert model.feature_names is not None
    vector = dict(zip(model.feature_names, model.feature_vector({"workload_size": 7}), strict=True))
    assert vector["request.workload_size"] == 7


def test_without_training_there_are_no_columns() -> None:
    with pytest.raises(RuntimeError, match="'m' has no feature schema"):
        Model("m").feature_vector({"type": "ml-driven"})


def test_a_schema_that_was_kept_serves_without_training() -> None:
    history = sample_history(20)
    trained, loaded = Model("m"), Model("m")
    trained.train(history)
    assert trained.feature_schema is not None
    kept = json.loads(json.dumps(trained.feature_schema.to_dict()))
    loaded.feature_schema = type(trained.feature_schema).from_dict(kept)
    request = {**request_of(history[0]), "timestamp": NOON_MS}
    assert loaded.feature_vector(request, history) == trained.feature_vector(request, history)


def test_a_model_may_have_features_of_its_own() -> None:
    model = Model("m")
    model.feature_names = ["a", "b"]
    assert model.feature_names == ["a", "b"]
