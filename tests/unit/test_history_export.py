"""JSON in pieces, and the table to train on."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_points import exact, plain_points, points

from engine_ops.history import block as blocks
from engine_ops.history.block import Block
from engine_ops.history.codec import SegmentHeader, decode_segment, encode_segment
from engine_ops.history.collector import WorkloadCollector
from engine_ops.history.export import PIECE_POINTS, block_lines
from engine_ops.history.training import MAX_COLUMNS
from engine_ops.ml.data_point import WorkloadDataPoint


def filled(count: int) -> WorkloadCollector:
    collector = WorkloadCollector(block_points=150)
    for number in range(count):
        collector.record(
            WorkloadDataPoint(number, "resource", {"cpu": number / 8}, 1.5, True, {"name": f"ä\n{number}"})
        )
    return collector


@pytest.mark.parametrize("count", [0, 1, PIECE_POINTS, 2 * PIECE_POINTS + 1])
def test_json_in_pieces_is_what_the_points_say(count: int) -> None:
    collector = filled(count)
    expected = [point.to_dict() for point in collector.select()]
    assert len(expected) == count
    lines, array = list(collector.export_jsonl()), list(collector.export_json())
    assert [json.loads(line) for line in b"".join(lines).splitlines()] == expected
    assert json.loads(b"".join(array)) == expected
    assert all(0 < piece.count(b"\n") <= PIECE_POINTS for piece in lines)
    assert len(lines) <= math.ceil(count / 150), "blocks have 150 points"
    assert len(array) == len(lines) + 1
    assert [json.loads(line) for line in b"".join(collector.export_jsonl(newest=1)).splitlines()] == expected[-1:]


def encoded(points: Iterable[WorkloadDataPoint]) -> bytes:
    return b"".join(msgspec.json.encode(point.to_dict()) + b"\n" for point in points)


few_kinds = st.lists(plain_points, min_size=1, max_size=3).flatmap(
    lambda kinds: st.lists(st.sampled_from(kinds), max_size=20)
)


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(made=few_kinds | st.lists(plain_points, max_size=12) | st.lists(points, max_size=6), data=st.data())
def test_columns_are_written_as_the_points_that_they_hold(made: list[WorkloadDataPoint], data: st.DataObject) -> None:
    block = Block()
    for point in made:
        block.append(point)
    _, columns = decode_segment(encode_segment(block, SegmentHeader(1, 0, 0, 0, 0, 0, "w")))
    rows = data.draw(st.lists(st.sampled_from(range(len(made))), unique=True).map(sorted)) if made else []
    for one in (block, columns):
        text = b"".join(block_lines(one))
        assert text == encoded(one.points()), "byte for byte what the points of the block say"
        assert read(text) == read(encoded(made)), "value for value what was recorded"
        assert b"".join(block_lines(one, rows)) == encoded(one.points(rows))


def read(lines: bytes) -> list[Any]:
    return [exact(json.loads(line)) for line in lines.splitlines()]


def test_points_of_several_chunks_are_written_and_those_that_are_no_columns_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(blocks, "CHUNK_POINTS", 4)
    block = Block()
    for number in range(10):
        block.append(WorkloadDataPoint(number, "t", {}, 0.5, True, {"n": number, "at": {"x": None}}))
    assert [run.kept.chunk != b"" for run in block.runs()] == [True, True, False]
    for _ in range(2):
        assert b"".join(block_lines(block)) == encoded(block.points())
        assert b"".join(block_lines(block, [3, 4, 9])) == encoded(block.points([3, 4, 9]))
        block.seal()


def test_moments_of_objects_that_few_points_have_are_written_right() -> None:
    block = Block()
    for number in range(64):
        began = 1_700_000_000_000 + number**4 * 1_000
        at = {"at": began + number % 5} if number % 3 else {}
        named = {f"k{number}-{n}": {"at": began + n} if number % 3 else None for n in range(number % 4)}
        block.append(WorkloadDataPoint(began, "t", {}, 0.5, True, {"o": {"in": at | named}} if number % 2 else {}))
    _, columns = decode_segment(encode_segment(block, SegmentHeader(1, 0, 0, 0, 0, 0, "w")))
    assert read(b"".join(block_lines(columns))) == read(encoded(block.points()))


def test_numbers_that_json_cannot_spell_become_null() -> None:
    collector = WorkloadCollector()
    collector.record(WorkloadDataPoint(1, "t", {"cpu": math.inf}, math.nan, True, {"x": -math.inf}))
    (text,) = collector.export_jsonl()
    found = json.loads(text)
    assert (found["duration"], found["resourceUsage"], found["metadata"]) == (None, {"cpu": None}, {"x": None})


def test_the_training_table_has_names_units_and_columns() -> None:
    collector = WorkloadCollector()
    metadata = {
        "namespace": "shop",
        "requested": {"memory": 1024.0},
        "request": {"queue": "night", "deep": {"no": 1}},
        "outcome": {"of": "workload", "state": "failed"},
        "workload": {"kind": "Job", "name": "report"},
    }
    collector.record(WorkloadDataPoint(5, "resource", {"cpu": 0.5}, 100.0, False, metadata))
    collector.record(WorkloadDataPoint(6, "scheduling", {}, math.nan, True, {"request": "no object"}))
    table = collector.training_format()
    names = [column["name"] for column in table["columns"]]
    assert names == list(table["data"])
    assert names[-3:] == ["usage.cpu", "requested.memory", "request.queue"]
    units = {column["name"]: column["unit"] for column in table["columns"]}
    assert (units["timestamp"], units["duration"]) == ("ms", "ms")
    assert (units["usage.cpu"], units["requested.memory"]) == ("cores", "bytes")
    assert all(column["description"] for column in table["columns"])
    assert table["count"] == 2
    assert all(len(values) == 2 for values in table["data"].values())
    first = {name: values[0] for name, values in table["data"].items()}
    assert first["workload.kind"] == "Job"
    assert (first["outcome.state"], first["request.queue"], first["usage.cpu"]) == ("failed", "night", 0.5)
    assert table["data"]["usage.cpu"][1] is None
    assert collector.training_format(type="none")["count"] == 0


def test_the_training_table_has_a_bounded_number_of_columns() -> None:
    collector = WorkloadCollector()
    for number in range(3):
        request = {f"field-{index}": index for index in range(100)} if number == 0 else {"often": number}
        collector.record(WorkloadDataPoint(number, "t", {}, 1.0, True, {"request": request}))
    names = list(collector.training_format()["data"])
    assert len(names) == MAX_COLUMNS
    assert "request.often" in names
