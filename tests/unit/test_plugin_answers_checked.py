"""Plugins' answers against the oracles of the built-in's own tests: what is accepted is feasible, and scored alike."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scheduling_oracle import Oracle
from test_resource_packing import check as check_packing
from test_resource_packing import requests as packing_requests
from test_scheduling_properties import problems as placement_problems
from test_scheduling_properties import spacious_problems

from engine_ops.api.quantity import parse_quantity
from engine_ops.engine.contract import Answer, Budget, ignore_report
from engine_ops.engine.solvers import solver_for
from engine_ops.plugins.answers import Question, Refusal, question_of, read_reply
from engine_ops.plugins.checked import Checked, holds_its_own

Data = dict[str, Any]


def built_in(request_type: str, data: Data, constraints: Data | None = None, steps: int = 5) -> Answer:
    budget = Budget(math.inf, max_steps=steps)
    return solver_for(request_type).solve(data, constraints or {}, budget, ignore_report)


def said(result: Any, question: Question) -> Checked | Refusal:
    reply = read_reply({"success": True, "result": result}, question, algorithm="mine")
    assert isinstance(reply.said, Checked | Refusal)
    return reply.said


def accepted(result: Any, question: Question) -> Checked:
    found = said(result, question)
    assert isinstance(found, Checked), found
    return found


def refused(result: Any, question: Question) -> str:
    found = said(result, question)
    assert isinstance(found, Refusal), found
    assert not found.by_plugin
    return found.reason


def without_algorithm(result: Any) -> Data:
    return {key: value for key, value in result.items() if key != "algorithm"}


def vandalised(draw: st.DrawFn, result: Any, ids: list[str]) -> Any:
    """Change a few places of a JSON value: ids for other ids, numbers for near ones, entries gone, doubled or moved."""
    result = copy.deepcopy(result)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(result))
        if not places:
            break
        holder, key = draw(st.sampled_from(places))
        value = holder[key]
        match draw(st.sampled_from(("other", "gone", "again", "moved", "rubbish"))):
            case "other" if isinstance(value, str):
                holder[key] = draw(st.sampled_from([*ids, "", "nobody"]))
            case "other" if isinstance(value, int | float):
                holder[key] = value + draw(st.sampled_from((-1, 1, 0.5, 2**62)))
            case "gone":
                del holder[key]
            case "again" if isinstance(holder, list):
                holder.append(copy.deepcopy(value))
            case "moved" if isinstance(holder, list):
                holder.insert(draw(st.integers(0, len(holder))), holder.pop(key))
                lists = [h[k] for h, k in _places(result) if isinstance(h[k], list)]
                if lists and not isinstance(value, list | dict):
                    draw(st.sampled_from(lists)).append(value)
            case "rubbish":
                holder[key] = draw(st.sampled_from((None, True, -1, 2.5, "x", [], {}, [[]], {"a": 1})))
            case _:
                pass
    return result


def _places(value: Any) -> Any:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(pairs):
        yield value, key
        yield from _places(item)


@settings(max_examples=150)
@given(packing_requests())
def test_the_built_in_packing_is_accepted_with_its_score(request_: tuple[Data, Data]) -> None:
    answer = built_in("resource", *request_)
    found = accepted(dict(answer.result), question_of("resource", *request_))
    assert found.answer.score == answer.score
    assert without_algorithm(found.answer.result) == without_algorithm(answer.result)
    assert found.answer.reason == answer.reason
    assert (found.answer.objective, found.answer.gap) == (answer.objective, answer.gap)
    assert holds_its_own(found, found)


@settings(max_examples=300)
@given(st.data(), packing_requests())
def test_an_accepted_packing_is_feasible(data: st.DataObject, request_: tuple[Data, Data]) -> None:
    question = question_of("resource", *request_)
    ids = [item["id"] for item in request_[0]["items"]] + ["t0", "node-1"]
    result = data.draw(st.composite(vandalised)(built_in("resource", *request_).result, ids))
    found = said(result, question)
    if isinstance(found, Refusal):
        assert found.reason.startswith("result")
    else:
        check_packing(*request_, found.answer)


@settings(max_examples=60)
@given(st.one_of(placement_problems(), spacious_problems()), st.sampled_from(("least-loaded", "balanced")))
def test_the_built_in_placement_is_accepted_with_its_score(data: Data, strategy: str) -> None:
    constraints = {"strategy": strategy}
    answer = built_in("scheduling", data, constraints)
    found = accepted(dict(answer.result), question_of("scheduling", data, constraints))
    assert found.answer.score == answer.score
    assert without_algorithm(found.answer.result) == without_algorithm(answer.result)
    assert found.answer.reason == answer.reason


@settings(max_examples=200)
@given(st.data(), st.one_of(placement_problems(), spacious_problems()))
def test_an_accepted_placement_passes_every_filter(data: st.DataObject, request_: Data) -> None:
    ids = [task["id"] for task in request_["tasks"]] + [node["id"] for node in request_["nodes"]]
    result = data.draw(st.composite(vandalised)(built_in("scheduling", request_).result, ids))
    found = said(result, question_of("scheduling", request_, {}))
    if isinstance(found, Refusal):
        assert found.reason.startswith("result")
        return
    oracle = Oracle(sorted(request_["nodes"], key=lambda node: node["id"]))
    tasks = {task["id"]: task for task in request_["tasks"]}
    nodes = {node["id"]: node for node in request_["nodes"]}
    for item in found.answer.result["placements"]:
        task = tasks.pop(item["taskId"])
        if "nodeId" in item:
            assert oracle.reasons(task, nodes[item["nodeId"]]) == []
            oracle.place(task, nodes[item["nodeId"]])
    assert not tasks


@settings(max_examples=200)
@given(st.data(), packing_requests(max_items=5, max_count=3))
def test_a_packing_is_accepted_if_and_only_if_everything_fits(data: st.DataObject, request_: tuple[Data, Data]) -> None:
    question_data, constraints = request_
    kinds = question_data.get("nodeTypes") or [question_data["nodeCapacity"]]
    on: dict[int, Data] = {}
    fits = True
    for item in question_data["items"]:
        # Few nodes, so that they overflow; -1 leaves the item out.
        for place in data.draw(st.lists(st.integers(-1, 2), max_size=item["count"])):
            if place >= 0:
                kind = kinds[place % len(kinds)]
                node = on.setdefault(place, {"items": []} | ({"type": kind["name"]} if "name" in kind else {}))
                node["items"].append({"id": item["id"]})
    asked = {item["id"]: item for item in question_data["items"]}
    for place, node in on.items():
        kind, here = kinds[place % len(kinds)], [asked[entry["id"]] for entry in node["items"]]
        fits &= len(here) <= kind.get("pods", math.inf)
        fits &= sum(parse_quantity(item["cpu"]) for item in here) <= kind["cpu"]
        fits &= sum(parse_quantity(item["memory"]) for item in here) <= parse_quantity(kind["memory"])
        for name in {name for item in here for name in item["resources"]}:
            fits &= sum(item["resources"].get(name, 0) for item in here) <= kind["resources"].get(name, 0)
    for number, kind in enumerate(kinds):
        fits &= sum(place % len(kinds) == number for place in on) <= kind.get("max", math.inf)
    fits &= len(on) <= constraints.get("maxNodes", math.inf)
    found = said({"nodes": list(on.values())}, question_of("resource", *request_))
    assert isinstance(found, Checked) == fits, found
    if isinstance(found, Checked):
        check_packing(*request_, found.answer)


@settings(max_examples=200)
@given(st.data(), st.one_of(placement_problems(), spacious_problems()))
def test_a_placement_is_accepted_if_and_only_if_every_filter_passes(data: st.DataObject, request_: Data) -> None:
    oracle = Oracle(sorted(request_["nodes"], key=lambda node: node["id"]))
    wrong = data.draw(st.booleans())
    fits, placements = True, []
    for task in data.draw(st.permutations(request_["tasks"])):
        good = [node for node in oracle.nodes if not oracle.reasons(task, node)]
        node = data.draw(st.sampled_from([None, *(oracle.nodes if wrong else good)]))
        placements.append({"taskId": task["id"], "nodeId": None if node is None else node["id"]})
        if node is not None:
            fits &= node in good
            oracle.place(task, node)
    found = said({"placements": placements}, question_of("scheduling", request_, {}))
    assert isinstance(found, Checked) == fits, found
    if isinstance(found, Checked):
        given = {item["taskId"]: item.get("nodeId") for item in found.answer.result["placements"]}
        assert given == {item["taskId"]: item["nodeId"] for item in placements}


@settings(max_examples=60)
@given(placement_problems())
def test_one_task_is_answered_by_its_node(data: Data) -> None:
    one = {"task": data["tasks"][0], "nodes": data["nodes"]}
    answer = built_in("scheduling", one)
    question = question_of("scheduling", one, {})
    found = accepted(dict(answer.result), question)
    assert (found.answer.result, found.answer.score) == (answer.result, answer.score)
    oracle = Oracle(one["nodes"])
    for node in one["nodes"]:
        feasible = not oracle.reasons(one["task"], node)
        assert isinstance(said({"nodeId": node["id"]}, question), Checked if feasible else Refusal)


def gpus(amount: float, **fields: Any) -> Data:
    return {"cpuRequired": 1, "memoryRequired": 1, "resourcesRequired": {"gpu": amount}, **fields}


@pytest.mark.parametrize(
    ("devices", "problem"),
    [
        ([1], "too little free gpu"),
        ([2], "no device 2"),
        ([-1], "no device -1"),
        ([True], "must be a list"),
        ([], "must name 1 different"),
        ([0, 1], "must name 1 devices"),
        ("0", "must be a list"),
    ],
)
def test_devices_must_have_room(devices: Any, problem: str) -> None:
    constraints = {"sharedDevices": [{"resource": "gpu", "unitsPerDevice": 1}]}
    node = {"id": "n", "cpuLoad": 0, "memoryLoad": 0, "deviceLoads": {"gpu": [0, 0.8]}}
    node["capacity"] = {"cpu": 8, "memory": 8, "resources": {"gpu": 2}}
    question = question_of("scheduling", {"task": gpus(0.5, id="t"), "nodes": [node]}, constraints)
    assert accepted({"nodeId": "n", "devices": [0]}, question).answer.result["devices"] == [0]
    assert accepted({"nodeId": "n"}, question).answer.result["devices"] == [0]
    reason = refused({"nodeId": "n", "devices": devices}, question)
    assert reason.startswith("result.devices: ")
    assert problem in reason


def test_whole_devices_must_be_different_ones() -> None:
    constraints = {"sharedDevices": [{"resource": "gpu", "unitsPerDevice": 1}]}
    node = {"id": "n", "cpuLoad": 0, "memoryLoad": 0, "capacity": {"cpu": 8, "memory": 8, "resources": {"gpu": 3}}}
    question = question_of("scheduling", {"tasks": [gpus(2, id="t")], "nodes": [node]}, constraints)
    entry = {"taskId": "t", "nodeId": "n"}
    found = accepted({"placements": [{**entry, "devices": [2, 0]}]}, question)
    assert found.answer.result["placements"][0]["devices"] == [0, 2]
    assert "different devices" in refused({"placements": [{**entry, "devices": [1, 1]}]}, question)


def test_a_plugin_is_not_served_for_small_tasks_in_place_of_an_important_one() -> None:
    tasks = [
        {"id": "big", "cpuRequired": 4, "memoryRequired": 1, "priority": 9},
        *({"id": f"s{i}", "cpuRequired": 2, "memoryRequired": 1} for i in range(2)),
    ]
    node = {"id": "n", "cpuLoad": 0, "memoryLoad": 0, "capacity": {"cpu": 4, "memory": 9}}
    data = {"tasks": tasks, "nodes": [node]}
    question = question_of("scheduling", data, {"strategy": "most-packed"})
    ours = accepted(
        {"placements": [{"taskId": "s0", "nodeId": "n"}, {"taskId": "s1", "nodeId": "n"}, {"taskId": "big"}]}, question
    )
    theirs = accepted(dict(built_in("scheduling", data, {"strategy": "most-packed"}).result), question)
    assert (ours.answer.score or 0) > (theirs.answer.score or 0)
    assert not holds_its_own(ours, theirs)
    assert not holds_its_own(theirs, ours)


def test_a_packing_on_more_nodes_is_feasible_but_not_served() -> None:
    data = {"items": [{"id": "a", "cpu": 1, "memory": 1, "count": 2}], "nodeCapacity": {"cpu": 2, "memory": 2}}
    question = question_of("resource", data, {})
    apart = accepted({"nodes": [{"items": [{"id": "a"}]}, {"items": [{"id": "a"}]}]}, question)
    together = accepted({"nodes": [{"id": "x", "items": [{"id": "a", "count": 2}]}]}, question)
    assert apart.answer.score == pytest.approx(0.5)
    assert [node["id"] for node in apart.answer.result["nodes"]] == ["node-1", "node-2"]
    assert together.answer.result["nodes"] == [
        {"id": "x", "cpuAvailable": 0, "memoryAvailable": 0, "items": [{"id": "a", "count": 2}]}
    ]
    assert holds_its_own(together, apart)
    assert not holds_its_own(apart, together)


HUGE = {"cpu": 0, "memory": 9 * 10**15}


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ({}, "result.nodes: must be a list"),
        ([3], "result.nodes[0]: must be an object"),
        ([{}], "result.nodes[0].items: required"),
        ([{"items": []}], "result.nodes[0].items: must not be empty"),
        ([{"items": [{"id": "z"}]}], "result.nodes[0].items[0].id: 'z' is no id"),
        ([{"items": [{"id": "a", "count": 1.0}]}], "result.nodes[0].items[0].count: must be a whole"),
        ([{"items": [{"id": "a", "count": 2**62}]}], "result.nodes[0].items[0].count: more of 'a'"),
        ([{"items": [{"id": "a", "count": 3000}]}], "result.nodes[0].items: they ask for memory"),
        ([{"items": [{"id": "big"}]}], "result.nodes[0].items[0].id: 'big' fits no node"),
        ([{"type": "t", "items": [{"id": "a"}]}], "result.nodes[0].type: data has nodeCapacity"),
        ([{"id": "", "items": [{"id": "a"}]}], "result.nodes[0].id: must be a text"),
        ([{"id": "x", "items": [{"id": "a"}]}] * 2, "result.nodes[1].id: 'x' is the id of result.nodes[0]"),
        ([{"id": "x", "items": [{"id": "a"}]}, {"items": [{"id": "a"}]}], "result.nodes[1].id: required"),
        ([{"items": [{"id": "a"}]}] * 3, "result.nodes: 3 nodes, but at most 2"),
    ],
)
def test_a_bad_packing_is_refused_with_its_field(nodes: Any, reason: str) -> None:
    items = [{"id": "a", **HUGE, "count": 3000}, {"id": "big", "cpu": 3, "memory": 1}]
    question = question_of("resource", {"items": items, "nodeCapacity": {"cpu": 2, "memory": 9e15}}, {"maxNodes": 2})
    assert refused({"nodes": nodes}, question).startswith(reason)


@settings(max_examples=100)
@given(
    st.lists(st.floats(0.001, 64), min_size=1, max_size=40),
    st.lists(st.floats(1, 2**40), min_size=1, max_size=40),
    st.sampled_from(("none", "request", "peak")),
    st.sampled_from(({}, {"minCpu": 0.0105, "maxCpu": 0.0105}, {"maxMemory": "1500Ki", "minCpu": 2})),
)
def test_the_built_in_sizing_is_accepted_as_it_is(cpu: Any, memory: Any, limit: str, bounds: Data) -> None:
    objective = {"cpuLimit": limit, "memoryLimit": limit, "bounds": bounds}
    data = {"samples": [{"name": "web", "cpu": cpu, "memory": memory}], "objective": objective}
    answer = built_in("performance", data)
    found = accepted(dict(answer.result), question_of("performance", data, {}))
    (ours,), (theirs,) = found.answer.result["containers"], answer.result["containers"]
    assert {**ours, "basis": None} == {**theirs, "basis": None}
    assert found.answer.score is None


@st.composite
def sizings(draw: st.DrawFn) -> Data:
    """Mostly in shape and near the bounds; now and then not."""
    rubbish = st.sampled_from(("x", None, -1, True, "1e300", 0, 1e18))
    cpu = st.one_of(st.floats(0.05, 5), st.sampled_from(("99m", "100m", "2300m", "3", 4)))
    memory = st.one_of(st.floats(900, 4e6), st.sampled_from(("1Ki", "3Mi", 999, 1000, "1Ti")))
    entry: Data = {}
    for part in ("requests", "limits", "lowerBound", "upperBound"):
        if part == "requests" or draw(st.integers(0, 2)) == 0:
            entry[part] = {"cpu": draw(cpu), "memory": draw(memory)}
    if draw(st.integers(0, 4)) == 0:
        entry["requests"][draw(st.sampled_from(("cpu", "memory", "gpu")))] = draw(rubbish)
    return entry


def kept_to(entry: Data, limit: str) -> bool:
    """Whether a sizing keeps to the objective below, in plain numbers."""
    for resource, unit, least, most, peak in (("cpu", 0.001, 0.1, 4, 2.3), ("memory", 2**20, 1000, 2**40, 2.3e6)):

        def rounded(amount: float, unit: float = unit) -> float:
            return math.ceil(amount / unit - 1e-6) * unit if amount >= unit else math.ceil(amount)

        amounts = {part: parse_quantity(value[resource]) for part, value in entry.items() if resource in value}
        if any(not least <= amount <= most for amount in amounts.values()):
            return False
        request = amounts["requests"]
        if not amounts.get("lowerBound", 0) <= request <= amounts.get("upperBound", math.inf):
            return False
        if limit == "none" and "limits" in amounts:
            return False
        given = rounded(amounts.get("limits", most))
        if limit == "request" and "limits" in amounts and given != pytest.approx(rounded(request)):
            return False
        if limit == "peak" and given < max(rounded(request), rounded(peak)) - 1e-9:
            return False
    return True


@settings(max_examples=300)
@given(sizings(), st.sampled_from(("none", "request", "peak")))
def test_a_sizing_is_accepted_where_it_keeps_to_the_objective(entry: Data, limit: str) -> None:
    bounds = {"minCpu": 0.1, "maxCpu": 4, "minMemory": 1000, "maxMemory": "1Ti"}
    objective = {"cpuLimit": limit, "memoryLimit": limit, "bounds": bounds}
    data = {"samples": [{"name": "web", "cpu": [1.0, 2.0], "memory": [1e6, 2e6]}], "objective": objective}
    found = said({"containers": [{"name": "web", **entry}]}, question_of("performance", data, {}))
    try:
        expected = set(entry["requests"]) == {"cpu", "memory"} and kept_to(entry, limit)
    except ValueError:
        expected = False
    assert isinstance(found, Checked) == expected, found
    if isinstance(found, Refusal):
        assert found.reason.startswith("result.containers[0].")
        return
    (container,) = found.answer.result["containers"]
    for resource, least, most, peak in (("cpu", 0.1, 4, 2.3), ("memory", 1000, 2**40, 2.3e6)):
        request = parse_quantity(container["requests"][resource])
        assert least <= request <= most
        assert (resource in container["limits"]) == (limit != "none")
        if limit != "none":
            assert request <= parse_quantity(container["limits"][resource]) <= most
        if limit == "peak":
            assert parse_quantity(container["limits"][resource]) >= peak
