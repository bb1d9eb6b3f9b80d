"""JSON in pieces, and the table to train on."""

from __future__ import annotations

import json
import math

import pytest

from engine_ops.history.collector import WorkloadCollector
from engine_ops.history.export import PIECE_POINTS
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
    assert len(lines) == math.ceil(count / PIECE_POINTS)
    assert len(array) == max(len(lines), 0) + 1
    assert [json.loads(line) for line in b"".join(collector.export_jsonl(newest=1)).splitlines()] == expected[-1:]


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
