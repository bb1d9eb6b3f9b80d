"""Bad ``resource`` data: every fault is named with its path."""

from __future__ import annotations

import math
from typing import Any

import pytest

from engine_ops.api.faults import InvalidDataError
from engine_ops.engine.contract import Budget, ignore_report
from engine_ops.engine.resource.data import MAX_TOTAL_COUNT, parse
from engine_ops.engine.resource.solver import ResourceSolver

ITEM = {"id": "a", "cpu": "500m", "memory": "1Gi"}
NODE = {"cpu": 4, "memory": "16Gi"}


def faults(data: Any, constraints: Any = None) -> dict[str, str]:
    with pytest.raises(InvalidDataError) as caught:
        parse(data, constraints or {})
    return {fault.path: fault.message for fault in caught.value.faults}


def with_item(**fields: Any) -> dict[str, Any]:
    return {"items": [ITEM | fields], "nodeCapacity": NODE}


def with_types(*types: dict[str, Any]) -> dict[str, Any]:
    return {"items": [ITEM], "nodeTypes": list(types)}


def test_amounts_are_numbers_or_quantities() -> None:
    data, _ = parse(with_item(cpu="250m", memory=1024, resources={"nvidia.com/gpu": "2"}), {})
    item = data.items[0]
    assert (item.cpu, item.memory, item.resources, item.count, item.priority) == (
        0.25,
        1024,
        {"nvidia.com/gpu": 2},
        1,
        0,
    )


@pytest.mark.parametrize(
    ("fields", "path", "message"),
    [
        ({"cpu": -1}, "data.items[0].cpu", "negative"),
        ({"cpu": math.nan}, "data.items[0].cpu", "NaN"),
        ({"cpu": math.inf}, "data.items[0].cpu", "too large"),
        ({"cpu": 1e14}, "data.items[0].cpu", "below 2^53 thousandths"),
        ({"memory": "8EiB"}, "data.items[0].memory", "not a Kubernetes quantity"),
        ({"memory": 2**53}, "data.items[0].memory", "below 2^53 bytes"),
        ({"memory": None}, "data.items[0].memory", "must be a number"),
        ({"memory": True}, "data.items[0].memory", "boolean"),
        ({"resources": {"gpu": -1}}, "data.items[0].resources.gpu", "negative"),
        ({"resources": {"gpu": 1e15}}, "data.items[0].resources", "too large: an amount of gpu"),
        ({"resources": {"memory": 1}}, "data.items[0].resources", "field of its own"),
        ({"count": 0}, "data.items[0].count", "greater than or equal to 1"),
        ({"count": 1.5}, "data.items[0].count", "integer"),
        ({"count": "2"}, "data.items[0].count", "integer"),
        ({"count": MAX_TOTAL_COUNT + 1}, "data.items[0].count", "less than or equal"),
        ({"priority": 2**31}, "data.items[0].priority", "less than"),
        ({"id": ""}, "data.items[0].id", "at least 1 character"),
        ({"id": 7}, "data.items[0].id", "string"),
        ({"colour": "red"}, "data.items[0].colour", "unknown field"),
    ],
)
def test_faults_of_an_item(fields: dict[str, Any], path: str, message: str) -> None:
    assert message in faults(with_item(**fields))[path]


@pytest.mark.parametrize("key", ["id", "cpu", "memory"])
def test_required_fields(key: str) -> None:
    item = {name: value for name, value in ITEM.items() if name != key}
    assert faults({"items": [item], "nodeCapacity": NODE}) == {f"data.items[0].{key}": "required, but absent"}


@pytest.mark.parametrize(
    ("data", "path", "message"),
    [
        ({"nodeCapacity": NODE}, "data.items", "required"),
        ({"items": [], "nodeCapacity": NODE}, "data.items", "at least 1"),
        ({"items": {}, "nodeCapacity": NODE}, "data.items", "list"),
        ({"items": [7], "nodeCapacity": NODE}, "data.items[0]", "an object"),
        ({"items": [ITEM]}, "data", "both are absent"),
        ({"items": [ITEM], "nodeCapacity": NODE, "nodeTypes": [NODE | {"name": "t"}]}, "data", "both are given"),
        ({"items": [ITEM], "nodeTypes": []}, "data.nodeTypes", "at least 1"),
        ({"items": [ITEM], "nodeCapacity": {"cpu": 0, "memory": "0"}}, "data.nodeCapacity", "size zero"),
        ({"items": [ITEM], "nodeCapacity": NODE | {"pods": 0}}, "data.nodeCapacity.pods", "whole number from 1"),
        ({"items": [ITEM], "nodeCapacity": NODE | {"pods": 1.5}}, "data.nodeCapacity.pods", "whole number from 1"),
        ({"items": [ITEM], "nodeCapacity": NODE | {"cpu": -4}}, "data.nodeCapacity.cpu", "negative"),
        (with_types({"name": "t", "cpu": 0, "memory": 0}), "data.nodeTypes[0]", "size zero"),
        (with_types(NODE | {"name": "t", "cost": -1}), "data.nodeTypes[0].cost", "negative"),
        (with_types(NODE | {"name": "t", "max": -1}), "data.nodeTypes[0].max", "greater than or equal to 0"),
        (with_types(NODE | {"name": "t"}, NODE | {"name": "t"}), "data.nodeTypes[1].name", "already the name of"),
        (
            with_types(NODE | {"name": "t", "cost": 1}, NODE | {"name": "u"}),
            "data.nodeTypes[1].cost",
            "other node types",
        ),
        ({"items": [ITEM], "nodeCapacity": NODE, "zones": 3}, "data.zones", "unknown field"),
    ],
)
def test_faults_of_the_whole(data: dict[str, Any], path: str, message: str) -> None:
    assert message in faults(data)[path]


def test_duplicate_ids_name_both_places() -> None:
    named = faults({"items": [ITEM, ITEM | {"id": "b"}, ITEM, ITEM], "nodeCapacity": NODE})
    assert named == {
        "data.items[2].id": "'a' is already the id of data.items[0]",
        "data.items[3].id": "'a' is already the id of data.items[0]",
    }


def test_the_counts_are_bounded_together() -> None:
    items = [ITEM | {"id": str(number), "count": MAX_TOTAL_COUNT // 2} for number in range(3)]
    assert "add up to 1500000" in faults({"items": items, "nodeCapacity": NODE})["data.items"]


def test_all_faults_are_named_at_once() -> None:
    data = {
        "items": [ITEM | {"cpu": -1}, ITEM | {"memory": "x"}],
        "nodeCapacity": {"cpu": 0, "memory": 0},
        "nodeTypes": [NODE | {"name": "t", "cost": 1}, NODE | {"name": "u", "pods": 0}],
    }
    assert set(faults(data, {"maxNodes": 0, "zones": 1})) == {
        "data.items[0].cpu",
        "data.items[1].memory",
        "data.items[1].id",
        "data.nodeCapacity",
        "data.nodeTypes[1].pods",
        "data.nodeTypes[1].cost",
        "data",
        "constraints.maxNodes",
        "constraints.zones",
    }


@pytest.mark.parametrize("entry", [None, 7, "x", [], [[]]])
@pytest.mark.parametrize("field", ["items", "nodeTypes", "nodeCapacity"])
def test_any_json_value_in_any_place_is_a_fault_not_a_crash(field: str, entry: Any) -> None:
    data = with_types(NODE | {"name": "t"}) | {field: entry}
    if field == "nodeCapacity" and entry is None:
        parse(data, {})
        return
    assert faults(data)


def test_unhashable_ids_are_faults() -> None:
    assert "data.items[0].id" in faults(with_item(id={"a": 1}))


def test_explain_tells_where_why_and_what_binds() -> None:
    data = {
        "items": [ITEM | {"cpu": 1, "count": 6}, {"id": "big", "cpu": 9, "memory": 1}],
        "nodeCapacity": NODE,
    }
    solver = ResourceSolver()
    result = solver.solve(data, {}, Budget.of(0), ignore_report).result
    explanation = solver.explain(data, {}, result)
    assert explanation.title == "resource: 6 of 7 items on 2 nodes"
    assert explanation.rows[0][:4] == ("a", "6", "1", "1Gi")
    assert "node-1 (4), node-2 (2)" in explanation.rows[0][4]
    assert "25.0 % of the largest node" in explanation.rows[0][5]
    assert explanation.rows[1][4:] == ("-", "1 not placed: cpu 9 exceeds the largest node's 4")
    assert "the sum of cpu" in explanation.notes[0]
    assert explanation.notes[-1] == "In use on the nodes: cpu 75.0 %, memory 18.8 %."


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _result: {},
        lambda result: result | {"nodes": 7},
        lambda result: result | {"nodes": []},
        lambda result: result | {"unplacedItems": [{"id": "a", "count": 1, "reason": "?"}]},
        lambda result: result | {"nodes": [result["nodes"][0] | {"items": [{"id": "z", "count": 1}]}]},
        lambda result: result | {"nodes": [result["nodes"][0] | {"type": "other"}]},
        lambda result: result | {"nodes": [result["nodes"][0] | {"items": [{"id": "a", "count": 99}]}]},
    ],
)
def test_explain_refuses_a_result_of_something_else(spoil: Any) -> None:
    data = with_item(count=2)
    solver = ResourceSolver()
    result = solver.solve(data, {}, Budget.of(0), ignore_report).result
    solver.explain(data, {}, result)
    with pytest.raises(InvalidDataError, match="result"):
        solver.explain(data, {}, spoil(dict(result)))
