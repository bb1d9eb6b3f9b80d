"""The engine as a library records by itself."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from engine_ops import EngineConfig, OptimizationEngine, OptimizationRequest
from engine_ops.ml import WorkloadDataPoint

DATA = {
    "items": [{"id": "web", "cpu": "500m", "memory": "1Gi", "count": 6}],
    "nodeCapacity": {"cpu": 2, "memory": "8Gi"},
}


def engine(**config: Any) -> OptimizationEngine:
    return OptimizationEngine(EngineConfig(search_seconds=0, enable_workload_collection=True, **config))


def request(name: str, data: dict[str, Any] = DATA) -> OptimizationRequest:
    return OptimizationRequest(id=name, type="resource", data=data)


def test_nothing_is_recorded_unless_it_is_asked_for() -> None:
    plain = OptimizationEngine(EngineConfig(search_seconds=0))
    plain.optimize(request("a"))
    assert plain.collector is None
    with pytest.raises(RuntimeError, match="enable_workload_collection=True"):
        plain.record(WorkloadDataPoint(1, "resource", {}, 1.0, True))


def test_each_answer_is_a_point() -> None:
    recording = engine()
    good = recording.optimize(request("good"))
    recording.optimize(request("bad", {"items": [], "nodeCapacity": {}}))
    asyncio.run(recording.optimize_async(request("good")))
    assert recording.collector is not None
    first, second, third = recording.collector.select().points()
    assert first.metadata["requestId"] == third.metadata["requestId"] == "good"
    assert (first.success, second.success, third.success) == (True, False, True)
    assert first.duration == good.metrics.duration_ms
    assert first.metadata["request"]["items.count"] == 1
    assert first.metadata["solve"]["algorithm"] == good.solved_by.algorithm
    assert second.metadata["solve"]["reason"] == "InvalidData"
    statistics = recording.collector.statistics()
    assert statistics["total_requests"] == 3
    assert statistics["by_type"]["resource"]["count"] == 3


def test_what_really_happened_can_be_added() -> None:
    recording = engine()
    recording.record(WorkloadDataPoint(1, "ml-driven", {"memory": 512}, 60_000, True, {"team": "shop"}))
    assert recording.collector is not None
    (point,) = recording.collector.select().points()
    assert point.resource_usage == {"memory": 512.0}
    with pytest.raises(ValueError, match="metadata"):
        recording.record(WorkloadDataPoint(1, "ml-driven", {}, 1, True, {"what": object()}))
    assert len(recording.collector) == 1


def test_the_newest_points_are_kept() -> None:
    recording = engine(history_points=3)
    for number in range(5):
        recording.record(WorkloadDataPoint(number, "t", {}, 1, True))
    assert recording.collector is not None
    assert [point.timestamp for point in recording.collector.select().points()] == [2, 3, 4]


def test_a_directory_outlives_the_process(tmp_path: Path) -> None:
    with engine(history_directory=tmp_path / "history") as recording:
        recording.optimize(request("a"))
        assert recording.collector is not None
        (written,) = recording.collector.select().points()
    again = engine(history_directory=tmp_path / "history")
    assert again.collector is not None
    assert list(again.collector.select().points()) == [written]
    json.dumps(written.to_dict())


def test_a_bad_number_of_points_is_refused() -> None:
    with pytest.raises(ValueError, match="history_points must be at least 1, is 0"):
        EngineConfig(history_points=0)
