"""Data sets: filters, figures, labels, files."""

from __future__ import annotations

import json
import math
import os
import stat
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine_ops.ml import WorkloadDataPoint, WorkloadDataset


def point(timestamp: int, kind: str = "resource", duration: float = 1.0, success: bool = True) -> WorkloadDataPoint:
    return WorkloadDataPoint(timestamp, kind, {"cpu": 1.0}, duration, success)


POINTS = st.builds(
    point,
    st.integers(-(2**63), 2**63 - 1) | st.integers(0, 5),
    st.sampled_from(["resource", "scheduling", ""]),
    st.floats(),
    st.booleans(),
)
DATASETS = st.builds(WorkloadDataset, st.lists(POINTS))


def test_an_empty_data_set() -> None:
    dataset = WorkloadDataset()
    assert len(dataset) == 0
    assert list(dataset) == dataset.data_points == []
    assert dataset.get_statistics() == {
        "total_requests": 0,
        "success_rate": None,
        "avg_duration": None,
        "p50_duration": None,
        "p95_duration": None,
        "time_span_ms": 0,
        "by_type": {},
    }
    assert dataset.to_features_labels() == ([], [])
    features, labels = dataset.to_numpy()
    assert features.shape == (0, len(dataset.feature_names()))
    assert labels.shape == (0,)


def test_adding() -> None:
    dataset = WorkloadDataset([point(1)])
    dataset.add(point(2))
    assert [each.timestamp for each in dataset] == [1, 2]
    with pytest.raises(TypeError, match=r"data_points\[2\] must be a WorkloadDataPoint, not dict"):
        dataset.add({})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"data_points\[1\] must be a WorkloadDataPoint, not int"):
        WorkloadDataset([point(1), 5])  # type: ignore[list-item]


def test_filters_return_data_sets_and_times_are_inclusive() -> None:
    dataset = WorkloadDataset([point(3), point(1, "scheduling"), point(2), point(4)])
    by_type = dataset.filter_by_type("scheduling")
    assert isinstance(by_type, WorkloadDataset)
    assert [each.timestamp for each in by_type] == [1]
    by_time = dataset.filter_by_time_range(2, 3)
    assert isinstance(by_time, WorkloadDataset)
    assert [each.timestamp for each in by_time] == [3, 2]
    assert len(dataset) == 4


@given(DATASETS, st.integers(0, 20))
def test_the_newest_are_kept(dataset: WorkloadDataset, n: int) -> None:
    recent = dataset.get_recent(n)
    ordered = sorted(dataset, key=lambda each: each.timestamp)
    expected = ordered[max(0, len(ordered) - n) :]
    assert [id(each) for each in recent] == [id(each) for each in expected]


def test_the_number_of_the_newest_is_checked() -> None:
    assert len(WorkloadDataset([point(1)]).get_recent(0)) == 0
    with pytest.raises(ValueError, match="n must not be negative, is -1"):
        WorkloadDataset().get_recent(-1)


def test_statistics() -> None:
    dataset = WorkloadDataset(
        [
            point(1_000, duration=10),
            point(3_000, duration=20, success=False),
            point(2_000, "scheduling", duration=math.nan),
            point(5_000, duration=60),
        ]
    )
    assert dataset.get_statistics() == {
        "total_requests": 4,
        "success_rate": 0.75,
        "avg_duration": 30.0,
        "p50_duration": 20.0,
        "p95_duration": 56.0,
        "time_span_ms": 4_000,
        "by_type": {
            "resource": {"count": 3, "success_rate": 2 / 3, "avg_duration": 30.0},
            "scheduling": {"count": 1, "success_rate": 1.0, "avg_duration": None},
        },
    }


@given(DATASETS)
def test_statistics_agree_with_the_points(dataset: WorkloadDataset) -> None:
    figures = dataset.get_statistics()
    json.dumps(figures)
    timestamps = [each.timestamp for each in dataset]
    assert figures["total_requests"] == len(dataset)
    assert figures["time_span_ms"] == (max(timestamps) - min(timestamps) if timestamps else 0)
    assert sum(entry["count"] for entry in figures["by_type"].values()) == len(dataset)
    known = sorted(each.duration for each in dataset if not math.isnan(each.duration))
    assert (figures["avg_duration"] is None) == (not known)
    if known and all(abs(value) < 1e300 for value in known):
        # Rounding may move a mean of equal values by the last digit.
        slack = 1e-9 * max(abs(known[0]), abs(known[-1]))
        for name in ("avg_duration", "p50_duration", "p95_duration"):
            assert known[0] - slack <= figures[name] <= known[-1] + slack
    for kind, entry in figures["by_type"].items():
        of_type = dataset.filter_by_type(kind)
        assert entry["count"] == len(of_type)
        assert entry["success_rate"] == pytest.approx(sum(each.success for each in of_type) / len(of_type))


@pytest.mark.parametrize("target", ["", "usage", "usage:", "Duration", None, 3])
def test_an_unknown_target_is_named(target: Any) -> None:
    with pytest.raises(ValueError, match=r"target must be success, duration or usage:<resource>.*not " + repr(target)):
        WorkloadDataset([point(1)]).to_features_labels(target)


def test_shapes_of_features_and_labels() -> None:
    dataset = WorkloadDataset([point(1), point(2, success=False), point(3, duration=math.nan)])
    vectors, labels = dataset.to_features_labels()
    assert labels == [1.0, 0.0, 1.0]
    assert all(type(value) is float for vector in vectors for value in vector)
    assert {len(vector) for vector in vectors} == {len(dataset.feature_names())}
    assert dataset.to_features_labels("duration")[1] == [1.0, 1.0]
    assert dataset.to_features_labels("usage:cpu")[1] == [1.0, 1.0, 1.0]
    features, numbers = dataset.to_numpy("duration")
    np.testing.assert_array_equal(features, np.array(dataset.to_features_labels("duration")[0]))
    assert numbers.dtype == np.float64


def test_pandas() -> None:
    pytest.importorskip("pandas")
    dataset = WorkloadDataset([point(1, duration=math.nan), point(2, duration=7)])
    frame = dataset.to_pandas("duration")
    assert list(frame.columns) == [*dataset.feature_names(), "duration"]
    assert list(frame.index) == [1]
    assert frame["duration"].tolist() == [7.0]


def test_without_pandas_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"to_pandas needs pandas: pip install 'engine-ops\[pandas\]'"):
        WorkloadDataset().to_pandas()


FLOATS = st.floats() | st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 5e-324])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | st.text(st.characters()) | st.just("NaN") | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FULL = st.builds(
    WorkloadDataPoint,
    st.integers(-(2**63), 2**63 - 1),
    st.text(),
    st.dictionaries(st.text(), FLOATS, max_size=3),
    FLOATS,
    st.booleans(),
    st.dictionaries(st.text(), JSON, max_size=4),
)


@settings(max_examples=50)
@given(st.lists(FULL, max_size=4))
def test_a_file_gives_back_every_bit(tmp_path_factory: pytest.TempPathFactory, points: list[WorkloadDataPoint]) -> None:
    path = tmp_path_factory.mktemp("dataset") / "points.json"
    WorkloadDataset(points).save(path)
    # repr tells NaN, -0.0 and 1.0 from 1 apart, where == does not.
    assert [repr(each) for each in WorkloadDataset.load(path)] == [repr(each) for each in points]


def test_unknown_keys_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "points.json"
    kept = {
        **point(1).to_dict(),
        "node": "n1",
        "metadata": {"later": {"x": [1, None]}},
    }
    path.write_text(json.dumps({"version": 1, "source": "a team", "dataPoints": [kept]}))
    WorkloadDataset.load(path).save(path)
    assert json.loads(path.read_text()) == {"version": 1, "source": "a team", "dataPoints": [kept]}


def test_other_writers_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "points.json"
    path.write_text(
        '[{"timestamp": 1, "request_type": "t", "resource_usage": {"cpu": null}, "duration": null, "success": true}]'
    )
    (loaded,) = WorkloadDataset.load(path)
    assert math.isnan(loaded.duration)
    assert math.isnan(loaded.resource_usage["cpu"])


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ("{", "is no JSON"),
        ("\xff", "is no JSON"),
        ("5", "the file must hold a list of data points, not int"),
        ("{}", "dataPoints is missing"),
        ('{"dataPoints": {}}', "dataPoints must hold a list of data points, not an object"),
        ('{"version": 2, "dataPoints": []}', "version: 2 is not understood; this release reads version 1"),
        ("[1]", r"\[0\]: a data point must be an object, not int"),
        ('{"dataPoints": [{"timestamp": 1}]}', r"dataPoints\[0\]: requestType is missing"),
        (
            '[{"timestamp": 1, "requestType": "t", "resourceUsage": {"cpu": "x"}, "duration": 1, "success": true}]',
            r"\[0\]: resource_usage\['cpu'\] must be a number, not str",
        ),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_file_that_is_no_data_set_is_refused_with_the_place(tmp_path: Path, content: str, where: str) -> None:
    path = tmp_path / "points.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=where) as caught:
        WorkloadDataset.load(path)
    assert str(path) in str(caught.value)


def circle() -> dict[str, Any]:
    outer: dict[str, Any] = {}
    outer["inner"] = outer
    return outer


@pytest.mark.parametrize(
    ("metadata", "error", "where"),
    [
        ({"a": {"b": [1, {2}]}}, TypeError, r"dataPoints\[1\]\.metadata\.a\.b\[1\]: set is no JSON value"),
        ({"a": {1: 2}}, TypeError, r"dataPoints\[1\]\.metadata\.a: has the key 1; keys must be strings"),
        (circle(), ValueError, r"dataPoints\[1\]: is nested too deeply, or holds itself"),
    ],
)
def test_a_save_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, metadata: dict[str, Any], error: type[Exception], where: str
) -> None:
    path = tmp_path / "points.json"
    WorkloadDataset([point(1)]).save(path)
    before = path.read_bytes()
    bad = WorkloadDataPoint(1, "t", {}, 1, True, metadata)
    with pytest.raises(error, match=where):
        WorkloadDataset([point(2), bad]).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_save_keeps_the_files_mode_and_follows_links(tmp_path: Path) -> None:
    path = tmp_path / "points.json"
    path.write_text("old")
    path.chmod(0o640)
    link = tmp_path / "link.json"
    link.symlink_to(path)
    WorkloadDataset([point(1)]).save(str(link))
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert len(WorkloadDataset.load(os.fspath(path))) == 1
