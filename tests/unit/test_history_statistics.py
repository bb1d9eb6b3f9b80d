"""Filters and statistics are what the SDK's data set gives of the same points."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine_ops.history.collector import WorkloadCollector
from engine_ops.ml.data_point import WorkloadDataPoint
from engine_ops.ml.dataset import WorkloadDataset

points = st.builds(
    WorkloadDataPoint,
    st.integers(0, 40),
    st.sampled_from(["resource", "scheduling", "observed-job"]),
    st.just({"cpu": 1.0}),
    st.floats(0, 1e9) | st.just(math.nan),
    st.booleans(),
    st.fixed_dictionaries({}, optional={"namespace": st.sampled_from(["a", "b", ""]) | st.none()}),
)
filters = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["resource", "scheduling", "other"]),
        "namespace": st.sampled_from(["a", "b", "other"]),
        "start": st.integers(-1, 41),
        "end": st.integers(-1, 41),
        "newest": st.integers(0, 12),
    },
)


def chosen(kept: list[WorkloadDataPoint], wanted: dict[str, Any]) -> list[WorkloadDataPoint]:
    found = [
        point
        for point in kept
        if wanted.get("type", point.request_type) == point.request_type
        and ("namespace" not in wanted or point.metadata.get("namespace") == wanted["namespace"])
        and wanted.get("start", -math.inf) <= point.timestamp <= wanted.get("end", math.inf)
    ]
    return found[max(0, len(found) - wanted["newest"]) :] if "newest" in wanted else found


def text(point: WorkloadDataPoint) -> str:
    return repr(point)  # NaN is not equal to itself, its text is


@settings(max_examples=100)
@given(st.lists(points, max_size=40), filters, st.integers(1, 50), st.integers(1, 9))
def test_filters_and_statistics(
    made: list[WorkloadDataPoint], wanted: dict[str, Any], capacity: int, block_points: int
) -> None:
    collector = WorkloadCollector(capacity, block_points=block_points)
    assert collector.record_many(made) == len(made)
    expected = chosen(made[-capacity:], wanted)
    selection = collector.select(**wanted)
    assert len(selection) == len(expected)
    assert list(map(text, selection.points())) == list(map(text, expected))
    ours, theirs = collector.statistics(**wanted), WorkloadDataset(expected).get_statistics()
    assert list(ours["by_type"]) == list(theirs["by_type"])
    assert ours == theirs
    assert len(collector.dataset(**wanted)) == len(expected)


def test_a_selection_is_what_was_there_when_it_was_made() -> None:
    collector = WorkloadCollector(3, block_points=2)
    for number in range(3):
        collector.record(WorkloadDataPoint(number, "t", {}, 1.0, True))
    selection = collector.select()
    for number in range(3, 20):
        collector.record(WorkloadDataPoint(number, "t", {}, 1.0, True))
    assert [point.timestamp for point in selection] == [0, 1, 2]
    assert selection.statistics()["time_span_ms"] == 2
    assert selection.columns.type_names == ("t",)


def test_newest_must_not_be_negative() -> None:
    with pytest.raises(ValueError, match="newest"):
        WorkloadCollector().select(newest=-1)


def test_tables_of_names_do_not_grow_while_the_ring_turns() -> None:
    collector = WorkloadCollector(20, block_points=5)
    for number in range(500):
        collector.record(WorkloadDataPoint(number, f"type-{number}", {}, 1.0, True, {"namespace": f"space-{number}"}))
    assert sum(len(block.type_codes) for block in collector.blocks) <= 30
    assert sum(len(block.namespace_codes) for block in collector.blocks) <= 40
    assert collector.select().columns.type_names == tuple(f"type-{number}" for number in range(480, 500))
