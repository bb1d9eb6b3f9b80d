"""A feature is what was known when the request was made, in training as in serving."""

from __future__ import annotations

import copy
import json
import math
import random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine_ops.ml import WorkloadDataPoint, WorkloadDataset
from engine_ops.ml.columns import Column
from engine_ops.ml.features import MAX_COLUMNS, FeatureSchema
from engine_ops.ml.keys import known_at, workload_key
from engine_ops.ml.lags import Lags
from engine_ops.ml.request import Request

MONDAY_MS = 345_600_000
"""1970-01-05, a Monday."""

AMOUNTS = st.floats(min_value=-10, max_value=1e6) | st.sampled_from([math.nan, math.inf, -math.inf, 1e308, -1.0, 0.0])
WORDS = st.sampled_from(["a", "b", "c=d", ""])
FIELDS = st.dictionaries(st.sampled_from(["x", "y", "x=a", "z"]), AMOUNTS | WORDS | st.booleans(), max_size=4)
OUTCOMES = st.fixed_dictionaries(
    {},
    optional={
        "of": st.sampled_from(["request", "workload", "import"]),
        "state": st.sampled_from(["succeeded", "failed", "running", "unknown"]),
        "closedAt": st.integers(0, 60) | st.just(math.nan) | st.just("soon"),
        "exitCode": st.integers(0, 255),
    },
)
METADATA = st.fixed_dictionaries(
    {},
    optional={
        "namespace": st.sampled_from(["n1", "n2"]),
        "owner": st.sampled_from(["o1", "o2"]),
        "workload": st.fixed_dictionaries(
            {"kind": st.just("Job")},
            optional={"name": st.sampled_from(["w1", "w2"]), "namespace": st.sampled_from(["n1", "n2"])},
        ),
        "request": FIELDS,
        "requested": st.dictionaries(st.sampled_from(["cpu", "memory"]), AMOUNTS | st.just("500m")),
        "outcome": OUTCOMES,
        "censored": st.just(["memory"]),
    },
)
# Few instants, so that runs overlap and much happens at once.
POINTS = st.builds(
    WorkloadDataPoint,
    st.integers(0, 50) | st.just(2**53 + 1),
    st.sampled_from(["resource", "observed-job"]),
    st.dictionaries(st.sampled_from(["cpu", "memory", "gpu", "disk"]), AMOUNTS, max_size=4),
    st.integers(0, 40) | AMOUNTS,
    st.booleans(),
    METADATA,
)
DATASETS = st.lists(POINTS, min_size=1, max_size=12)
ASKED = ("namespace", "owner", "workload", "request", "requested")


def request_of(point: WorkloadDataPoint) -> dict[str, Any]:
    asked = {key: point.metadata[key] for key in ASKED if key in point.metadata}
    return {"request": {}, **asked, "type": point.request_type, "timestamp": point.timestamp}


def same(one: list[float], other: list[float]) -> bool:
    return len(one) == len(other) and all(
        a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(one, other, strict=True)
    )


def job(timestamp: int, duration: float, success: bool = True, **metadata: Any) -> WorkloadDataPoint:
    workload = {"namespace": "shop", "kind": "Job", "name": "report"}
    return WorkloadDataPoint(timestamp, "observed-job", {}, duration, success, {"workload": workload, **metadata})


def named(dataset: WorkloadDataset, row: int) -> dict[str, float]:
    vectors, _ = dataset.to_features_labels()
    return dict(zip(dataset.feature_names(), vectors[row], strict=True))


@given(DATASETS, st.randoms(use_true_random=False))
def test_serving_builds_the_vector_of_training(points: list[WorkloadDataPoint], order: random.Random) -> None:
    dataset = WorkloadDataset(points)
    schema = FeatureSchema.fit(points)
    for target in ("success", "duration", "usage:cpu"):
        vectors, labels = dataset.to_features_labels(target, schema)
        rows = dataset.labelled(target)
        assert len(vectors) == len(labels) == len(rows)
        assert all(math.isfinite(label) for label in labels)
        for row, vector in zip(rows, vectors, strict=True):
            point = points[row]
            # All that can be in the hands of who serves: everything, what was known by then, what had been asked.
            known = [other for other in points if known_at(other) <= point.timestamp]
            asked = [other for other in points if other.timestamp < point.timestamp]
            order.shuffle(known)
            for history in (None, known, asked, dataset.lags(), (other for other in points)):
                assert same(dataset.features(request_of(point), history), vector)


@given(DATASETS, st.data())
def test_no_outcome_of_a_point_is_a_feature_of_it(points: list[WorkloadDataPoint], data: st.DataObject) -> None:
    row = data.draw(st.integers(0, len(points) - 1))
    schema = FeatureSchema.fit(points)
    before = schema.vector(Request.of_point(points[row]), Lags(points))
    changed = copy.deepcopy(points)
    point = changed[row]
    point.duration = data.draw(st.integers(-40, 40) | AMOUNTS)
    point.success = not point.success
    point.resource_usage = {"cpu": 77.0, "gpu": 5.0}
    point.metadata["outcome"] = data.draw(OUTCOMES)
    point.metadata |= {"solve": {"durationMs": 5}, "censored": [], "containers": {"main": {"restarts": 9}}}
    assert same(schema.vector(Request.of_point(point), Lags(changed)), before)


@given(DATASETS)
def test_what_is_known_later_changes_nothing(points: list[WorkloadDataPoint]) -> None:
    schema = FeatureSchema.fit(points)
    for point in points:
        earlier = [other for other in points if max(known_at(other), other.timestamp) < point.timestamp]
        request = Request.of_point(point)
        assert same(schema.vector(request, Lags(earlier)), schema.vector(request, Lags(points)))


@given(DATASETS)
@example(
    [WorkloadDataPoint(n, f"t{n}", {f"r{n}": 1}, 1, True, {"request": {f"f{n}": n, "w": str(n)}}) for n in range(90)]
)
def test_a_schema_is_bounded_and_survives_as_json(points: list[WorkloadDataPoint]) -> None:
    schema = FeatureSchema.fit(points)
    assert len(schema.columns) <= MAX_COLUMNS
    assert len(set(schema.names())) == len(schema.columns)
    kept = FeatureSchema.from_dict(json.loads(json.dumps(schema.to_dict())))
    assert kept == schema
    assert hash(kept) == hash(schema)
    lags = Lags(points)
    for point in points:
        vector = kept.vector(Request.of_point(point), lags)
        assert len(vector) == len(kept.columns)
        assert not any(math.isinf(value) for value in vector)
    for entry in schema.describe():
        assert entry["description"].endswith((".", "known by then."))


def test_lags_are_over_what_was_known_by_then() -> None:
    points = [
        job(0, 100.0),
        job(10, 50.0, success=False),  # known at 60, before the first
        job(20, 1000.0),  # known at 1020
        job(90, 1.0),
        job(101, 7.0),
        job(1021, 9.0),
    ]
    dataset = WorkloadDataset(points)
    at_90, at_101, at_1021 = (named(dataset, row) for row in (3, 4, 5))
    for scope in ("workload", "alike", "sized", "owner", "type"):
        assert at_90[f"{scope}.count"] == 1
        assert at_90[f"{scope}.duration.last"] == 50
        assert at_90[f"{scope}.duration.spread5"] == 0
        assert at_90[f"{scope}.duration.age_ms"] == 30
        assert at_90[f"{scope}.success.mean5"] == 0
        # Known in this order: 50 (at 60), 1 (at 91), 100 (at 100).
        assert at_101[f"{scope}.count"] == 3
        assert at_101[f"{scope}.duration.last"] == 100
        assert at_101[f"{scope}.duration.median5"] == 50
        assert at_101[f"{scope}.duration.spread5"] == 99
        assert at_101[f"{scope}.success.mean5"] == pytest.approx(2 / 3)
        # And 7 (at 108), 1000 (at 1020).
        assert at_1021[f"{scope}.duration.last"] == 1000
        assert at_1021[f"{scope}.duration.median5"] == 50
        logarithms = [math.log1p(value) for value in (50, 1, 100, 7, 1000)]
        weights = [0.9**age for age in (4, 3, 2, 1, 0)]
        mean = sum(w * x for w, x in zip(weights, logarithms, strict=True)) / sum(weights)
        assert at_1021[f"{scope}.duration.level"] == pytest.approx(math.expm1(mean))
    first = named(dataset, 0)
    assert first["workload.count"] == 0
    assert math.isnan(first["workload.duration.last"])


def test_an_import_is_known_when_it_was_closed() -> None:
    assert known_at(job(5, 10.0)) == 15
    assert known_at(job(5, math.nan)) == 5
    assert known_at(job(5, 10.0, outcome={"closedAt": 40})) == 40
    for closed in (True, "40", None, math.nan, 10**400):
        assert known_at(job(5, 10.0, outcome={"closedAt": closed})) == 15
    assert known_at(job(5, 10.0, outcome="none")) == 15


def test_answers_and_unknown_outcomes_teach_nothing_about_durations() -> None:
    points = [
        job(0, 1.0, outcome={"of": "request"}),
        job(1, 2.0, outcome={"of": "workload", "state": "unknown"}),
        job(2, 3.0, outcome={"of": "workload", "state": "succeeded"}),
        job(9, 4.0),
    ]
    dataset = WorkloadDataset(points)
    assert dataset.labelled("success") == [0, 2, 3]
    assert dataset.labelled("duration") == [2, 3]
    assert dataset.to_features_labels("duration")[1] == [3.0, 4.0]
    last = named(dataset, 2)
    assert last["workload.count"] == 2
    assert last["workload.duration.median5"] == 3


def test_usage_of_the_workload_lags() -> None:
    workload = {"workload": {"namespace": "n", "kind": "Job", "name": "w"}}
    points = [WorkloadDataPoint(10 * n, "t", {"cpu": n + 1.0}, 1.0, True, workload) for n in range(4)]
    dataset = WorkloadDataset(points)
    last = named(dataset, 3)
    assert [last[f"workload.usage:cpu.{statistic}"] for statistic in ("last", "median5", "spread5")] == [3, 2, 2]
    assert dataset.to_features_labels("usage:cpu")[1] == [1, 2, 3, 4]
    assert dataset.to_features_labels("usage:gpu") == ([], [])


def test_fields_and_amounts_become_columns() -> None:
    asked = {"request": {"strategy": "spread", "items.count": 3, "fast": True}, "requested": {"cpu": "500m"}}
    other = {"request": {"strategy": "pack", "items.count": 8.5}, "requested": {"cpu": 2}}
    hour_5 = MONDAY_MS + 5 * 3_600_000
    dataset = WorkloadDataset(
        [WorkloadDataPoint(hour_5, "a", {}, 1, True, asked), WorkloadDataPoint(0, "b", {}, 1, True, other)]
    )
    one, two = named(dataset, 0), named(dataset, 1)
    assert (one["hour"], one["weekday"], two["hour"], two["weekday"]) == (5, 0, 0, 3)
    assert (one["requested.cpu"], two["requested.cpu"]) == (0.5, 2)
    assert (one["request.items.count"], two["request.items.count"]) == (3, 8.5)
    assert one["request.fast"] == 1
    assert math.isnan(two["request.fast"])
    assert (one["request.strategy=spread"], two["request.strategy=spread"]) == (1, 0)
    assert (one["type=a"], two["type=a"]) == (1, 0)
    new = dict(
        zip(dataset.feature_names(), dataset.features({"type": "c", "strategy": "new", "unheard": 1}), strict=True)
    )
    assert new["request.strategy=spread"] == 0
    assert new["type=a"] == 0
    assert math.isnan(new["request.items.count"])


def test_fields_are_taken_from_the_data_where_they_are_not_given() -> None:
    dataset = WorkloadDataset([WorkloadDataPoint(1, "resource", {}, 1, True, {"request": {"items.cpu": 2.0}})])
    names = dataset.feature_names()
    vector = dataset.features({"type": "resource", "items": [{"cpu": "500m", "count": 8}], "timestamp": 9})
    assert vector[names.index("request.items.cpu")] == 4
    # `workload` is a field of some types' data: without a name it is no reference to a workload.
    dataset = WorkloadDataset([WorkloadDataPoint(1, "t", {}, 1, True, {"request": {"workload.pods": 2.0}})])
    vector = dataset.features({"type": "t", "workload": {"pods": 3}})
    assert vector[dataset.feature_names().index("request.workload.pods")] == 3


@pytest.mark.parametrize(
    ("data", "error", "named_field"),
    [
        ({}, TypeError, r"request_data\['type'\] must be a string, not NoneType"),
        ({"type": "t", "timestamp": "now"}, TypeError, r"request_data\['timestamp'\].*not str"),
        ({"type": "t", "timestamp": math.inf}, ValueError, r"request_data\['timestamp'\].*64 bits"),
        ([], TypeError, "request_data must be a mapping, not list"),
    ],
)
def test_a_bad_request_is_named(data: Any, error: type[Exception], named_field: str) -> None:
    with pytest.raises(error, match=named_field):
        WorkloadDataset().features(data)


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ({"version": 2, "columns": []}, "version: .* not 2"),
        ([], "version"),
        ({"version": 1, "columns": {}}, "columns: must be a list"),
        ({"version": 1, "columns": [1]}, r"columns\[0\]: must be an object"),
        ({"version": 1, "columns": [{"name": 1, "source": "hour", "path": []}]}, r"columns\[0\].name"),
        ({"version": 1, "columns": [{"name": "h", "source": None, "path": []}]}, r"columns\[0\].source"),
        ({"version": 1, "columns": [{"name": "h", "source": "hour", "path": [1]}]}, r"columns\[0\].path"),
    ],
)
def test_a_file_that_is_no_schema_is_refused(data: Any, place: str) -> None:
    with pytest.raises(ValueError, match=place):
        FeatureSchema.from_dict(data)


@pytest.mark.parametrize(
    ("columns", "place"),
    [
        ([Column("h", "hour", ()), Column("h", "weekday", ())], r"columns\[1\].name: there is another column 'h'"),
        ([Column("x", "moon", ())], r"columns\[0\].source: must be one of hour"),
        ([Column("x", "number", ())], r"columns\[0\].path: must have 1 parts, has 0"),
        ([Column("x", "lag", ("cluster", "duration", "last"))], r"path\[0\]: must be one of workload"),
        ([Column("x", "lag", ("owner", "duration", "first"))], r"path\[2\]: must be one of last"),
        ([Column(str(n), "number", (str(n),)) for n in range(65)], "at most 64, not 65"),
    ],
)
def test_a_schema_that_cannot_be_is_refused(columns: list[Column], place: str) -> None:
    with pytest.raises(ValueError, match=place):
        FeatureSchema(columns)


def test_key_of_a_workload() -> None:
    assert workload_key(job(0, 1.0)) == "shop/Job/report"
    assert workload_key(WorkloadDataPoint(0, "t", {}, 1, True)) is None
    assert workload_key(WorkloadDataPoint(0, "t", {}, 1, True, {"workload": {"name": "x"}})) == "//x"
    assert workload_key(WorkloadDataPoint(0, "t", {}, 1, True, {"workload": "x"})) is None


@settings(max_examples=20)
@given(DATASETS)
def test_a_schema_that_was_set_is_the_one_that_serves(points: list[WorkloadDataPoint]) -> None:
    schema = FeatureSchema.fit(points[:1])
    dataset = WorkloadDataset(points)
    dataset.schema = schema
    assert dataset.feature_names() == schema.names()
    assert len(dataset.features({"type": "t"})) == len(schema.columns)
    dataset.to_features_labels()
    assert dataset.schema == FeatureSchema.fit(points)
