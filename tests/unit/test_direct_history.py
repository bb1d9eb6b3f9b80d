"""The history as the REST API reads it: filtered as one would by hand, at one moment, on any thread."""

from __future__ import annotations

import asyncio
import importlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hosted_world import on_a_loop
from hypothesis import given
from hypothesis import strategies as st

from engine_ops.controllers.direct_history import SelectedPoints, namespaces_of, select
from engine_ops.history.block import Block
from engine_ops.history.collector import WorkloadCollector
from engine_ops.history.formats.parquet import read_parquet
from engine_ops.history.formats.source import Source
from engine_ops.history.log import HistoryLog
from engine_ops.history.memory_store import MemoryStore
from engine_ops.ml.data_point import WorkloadDataPoint
from engine_ops.ml.dataset import WorkloadDataset
from engine_ops.server.workload_points import PointFilter


def point(number: int, namespace: str = "shop", kind: str = "resource", **metadata: Any) -> WorkloadDataPoint:
    identity = {"uid": f"u{number}", "generation": 1, "run": 1} if number % 2 else {}
    named = {"namespace": namespace} if namespace else {}
    return WorkloadDataPoint(
        number, kind, {"cpu": number / 7}, float(number), number % 3 > 0, identity | named | metadata
    )


def lines(selection: SelectedPoints) -> list[Any]:
    return [json.loads(line) for piece in selection.json_lines() for line in piece.decode().splitlines()]


def chosen_by_hand(points: list[WorkloadDataPoint], chosen: PointFilter) -> list[WorkloadDataPoint]:
    kept = [
        each
        for each in points
        if (chosen.namespaces is None or each.metadata.get("namespace") in chosen.namespaces)
        and chosen.request_type in (None, each.request_type)
        and (chosen.from_ms is None or each.timestamp >= chosen.from_ms)
        and (chosen.to_ms is None or each.timestamp <= chosen.to_ms)
    ]
    return kept if chosen.limit is None else kept[len(kept) - min(chosen.limit, len(kept)) :]


_NAMES = st.sampled_from(["", "shop", "bank", "team-ü"])
_TYPES = st.sampled_from(["resource", "ml-driven"])


@given(
    facts=st.lists(st.tuples(_NAMES, _TYPES), max_size=60),
    capacity=st.integers(1, 50),
    block_points=st.integers(1, 12),
    stored=st.booleans(),
    chosen=st.builds(
        PointFilter,
        namespaces=st.none() | st.frozensets(_NAMES | st.just("nobody")),
        request_type=st.none() | _TYPES | st.just("none"),
        from_ms=st.none() | st.integers(-1, 61),
        to_ms=st.none() | st.integers(-1, 61),
        limit=st.none() | st.integers(0, 70),
    ),
)
def test_a_selection_is_what_one_would_choose_by_hand(
    facts: list[tuple[str, str]], capacity: int, block_points: int, stored: bool, chosen: PointFilter
) -> None:
    points = [point(number, *each) for number, each in enumerate(facts)]

    async def test() -> None:
        log = HistoryLog(MemoryStore(), capacity=capacity, segment_points=block_points)
        await log.load()
        for each in points:
            log.record(each, log.stamp())
        if stored:
            await log.flush()
        selection, there = await select(log.collector, chosen), namespaces_of(log.collector)
        log.record(point(1_000), log.stamp())  # it is too late for this selection
        expected = chosen_by_hand(points[-capacity:], chosen)
        visible = {each.metadata["namespace"] for each in points[-capacity:] if "namespace" in each.metadata}
        assert len(selection) == len(expected)
        assert lines(selection) == [json.loads(json.dumps(each.to_dict())) for each in expected]
        assert selection.statistics() == WorkloadDataset(expected).get_statistics()
        assert selection.training_format()["data"]["timestamp"] == [each.timestamp for each in expected]
        assert visible <= there <= {"shop", "bank", "team-ü"}

    asyncio.run(test())


@on_a_loop
async def test_points_of_no_namespace_are_for_those_who_may_see_all() -> None:
    collector = WorkloadCollector()
    collector.record_many([point(1, ""), point(2, "shop")])
    assert len(await select(collector, PointFilter())) == 2
    assert len(await select(collector, PointFilter(namespaces=frozenset({"", "shop"})))) == 1
    assert len(await select(collector, PointFilter(namespaces=frozenset()))) == 0
    assert namespaces_of(collector) == {"shop"}


@on_a_loop
async def test_what_no_json_can_say_is_null() -> None:
    collector = WorkloadCollector()
    collector.record(WorkloadDataPoint(1, "resource", {"cpu": math.inf}, math.nan, True, {}))
    (found,) = lines(await select(collector, PointFilter()))
    assert (found["duration"], found["resourceUsage"]) == (None, {"cpu": None})


@on_a_loop
async def test_a_limit_below_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        await select(WorkloadCollector(), PointFilter(limit=-1))


@on_a_loop
async def test_a_selection_is_read_on_a_thread_while_others_record_and_flush() -> None:
    log = HistoryLog(MemoryStore(), capacity=4_000, segment_points=100)
    await log.load()
    for number in range(2_050):
        log.record(point(number), log.stamp())
    selections = [await select(log.collector, PointFilter())]
    reading = [asyncio.create_task(asyncio.to_thread(lines, selections[0]))]
    for number in range(2_050, 3_000):
        log.record(point(number), log.stamp())
        if number % 100 == 0:
            await log.flush()
            selections.append(await select(log.collector, PointFilter()))
            reading.append(asyncio.create_task(asyncio.to_thread(lines, selections[-1])))
    for selection, read in zip(selections, await asyncio.gather(*reading), strict=True):
        assert [each["timestamp"] for each in read] == list(range(len(selection)))
        assert lines(selection) == read, "and again later"


@given(count=st.integers(0, 30), more=st.integers(0, 30))
def test_a_frozen_block_stays_as_it_was(count: int, more: int) -> None:
    block = Block()
    points = [point(number) for number in range(count + more)]
    for each in points[:count]:
        block.append(each)
    frozen = block.frozen()
    for each in points[count:]:
        block.append(each)
    block.seal()
    assert list(frozen.points()) == points[:count]
    assert list(frozen.documents()) == [each.to_dict() for each in points[:count]]
    assert block.frozen() is block
    assert list(block.documents(range(count, count + more))) == [each.to_dict() for each in points[count:]]


@on_a_loop
async def test_pieces_are_small() -> None:
    collector = WorkloadCollector()
    collector.record_many(point(number) for number in range(5_000))
    pieces = list((await select(collector, PointFilter())).json_lines())
    assert sum(piece.count(b"\n") for piece in pieces) == 5_000
    assert max(piece.count(b"\n") for piece in pieces) <= 500
    assert all(piece.endswith(b"\n") for piece in pieces)


@on_a_loop
async def test_parquet_comes_in_pieces_and_is_read_again(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    collector = WorkloadCollector()
    points = [point(number, note="n" * (number % 50)) for number in range(9_000)]
    collector.record_many(points)
    pieces = list((await select(collector, PointFilter())).parquet())
    assert len(pieces) > 2
    file = tmp_path / "points.parquet"
    file.write_bytes(b"".join(pieces))
    assert list(read_parquet(Source.of(file))) == points


@on_a_loop
async def test_without_pyarrow_that_is_said_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    selection = await select(WorkloadCollector(), PointFilter())
    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ModuleNotFoundError, match=r"engine-ops\[parquet\]"):
        selection.parquet()
