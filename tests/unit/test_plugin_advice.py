"""What a plugin recommends, and what the built-in algorithms make of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_plugin_answers_checked import accepted
from test_resource_packing import check as check_packing
from test_resource_packing import requests as packing_requests
from test_scheduling_properties import problems as placement_problems
from test_scheduling_properties import spacious_problems

from engine_ops.plugins.advice import Advice, Names, read_advice
from engine_ops.plugins.answers import question_of, read_reply
from engine_ops.plugins.checked import Checked
from engine_ops.plugins.guided import guided_answer
from engine_ops.plugins.json_values import RefusedError

NAMES = Names(frozenset({"a", "b"}), frozenset({"n", "m"}))


def test_all_of_it_for_the_whole_and_by_id() -> None:
    assert read_advice(
        {
            "recommended_resources": {"cpu": "500m", "memory": 8192},
            "expected_duration": 100,
            "node_scores": {"n": -1, "m": 0.5},
            "order": ["b", "a"],
            "why": "the plugin's own",
        },
        NAMES,
    ) == Advice(
        recommended_resources={"cpu": 0.5, "memory": 8192.0},
        expected_duration_ms=100.0,
        node_scores={"n": -1.0, "m": 0.5},
        order=("b", "a"),
    )
    assert read_advice(
        {
            "recommended_resources": {"a": {"cpu": 1}},
            "expected_duration": {"b": 0},
            "node_scores": {"a": {"n": 1}, "b": {}},
        },
        NAMES,
    ) == Advice(
        recommended_resources_by_id={"a": {"cpu": 1.0}},
        expected_duration_ms_by_id={"b": 0.0},
        node_scores_by_task={"a": {"n": 1.0}, "b": {}},
    )


def test_readers_are_told_of_resources_and_durations() -> None:
    assert Advice(order=("a",)).told() == {}
    assert Advice(recommended_resources={"cpu": 1.0}, expected_duration_ms=0.0).told() == {
        "recommendedResources": {"cpu": 1.0},
        "expectedDurationMs": 0.0,
    }
    assert Advice(expected_duration_ms_by_id={"a": 3.0}).told() == {"expectedDurationMs": {"a": 3.0}}


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        ({"recommended_resources": 3}, "result.recommended_resources: must be an object"),
        ({"recommended_resources": {"cpu": -1}}, "result.recommended_resources.cpu: "),
        ({"recommended_resources": {"cpu": None}}, "result.recommended_resources.cpu: "),
        ({"recommended_resources": {"z": {"cpu": 1}}}, "result.recommended_resources.z: 'z' is no item or task"),
        ({"recommended_resources": {"a": {"cpu": 1}, "b": 1}}, "result.recommended_resources.b: must be an object"),
        ({"expected_duration": -1}, "result.expected_duration: must be at least 0 ms"),
        ({"expected_duration": True}, "result.expected_duration: must be a number"),
        ({"expected_duration": {"z": 1}}, "result.expected_duration.z: 'z' is no item or task"),
        ({"expected_duration": {"a": "1 h"}}, "result.expected_duration.a: must be a number"),
        ({"node_scores": {"a": 1}}, "result.node_scores.a: 'a' is no node"),
        ({"node_scores": {"a": {"b": 1}}}, "result.node_scores.a.b: 'b' is no node"),
        ({"node_scores": {"n": "high"}}, "result.node_scores.n: must be a number"),
        ({"order": "ab"}, "result.order: must be a list"),
        ({"order": ["a", "z"]}, "result.order[1]: 'z' is the id of no item or task"),
        ({"order": ["a", "a"]}, "result.order[1]: 'a' is named before"),
        ({"order": [["a"]]}, "result.order[0]: ['a'] is the id of no"),
    ],
)
def test_bad_advice_is_refused_with_its_field(result: dict[str, Any], reason: str) -> None:
    with pytest.raises(RefusedError) as caught:
        read_advice(result, NAMES)
    assert str(caught.value).startswith(reason)


def guided(result: dict[str, Any], request_type: str, data: Any, constraints: Any = None) -> Checked | None:
    question = question_of(request_type, data, constraints or {})
    advice = read_reply({"result": result}, question, algorithm="mine").said
    assert isinstance(advice, Advice), advice
    assert question.checker is not None
    return guided_answer(advice, question.checker)


def node(name: str, **fields: Any) -> dict[str, Any]:
    return {"id": name, "cpuLoad": 0, "memoryLoad": 0, "capacity": {"cpu": 4, "memory": 4}, **fields}


def task(name: str, cpu: float = 1, **fields: Any) -> dict[str, Any]:
    return {"id": name, "cpuRequired": cpu, "memoryRequired": 1, **fields}


def nodes_of(answer: Checked | None) -> dict[str, str | None]:
    assert answer is not None
    return {item["taskId"]: item.get("nodeId") for item in answer.answer.result["placements"]}


def test_the_node_of_the_highest_score_that_can_hold_the_task_is_taken() -> None:
    data = {"tasks": [task("t"), task("u"), task("v")], "nodes": [node("a"), node("b", cpuLoad=3), node("c")]}
    found = guided({"node_scores": {"a": 1, "b": 9, "c": 2}}, "scheduling", data)
    assert nodes_of(found) == {"t": "b", "u": "c", "v": "c"}
    by_task = guided({"node_scores": {"u": {"a": 1, "c": 0}}}, "scheduling", data)
    assert nodes_of(by_task)["u"] == "a"


def test_of_equal_scores_the_strategy_chooses() -> None:
    data = {"tasks": [task("t")], "nodes": [node("a", cpuLoad=2), node("b"), node("c", cpuLoad=1), node("d")]}
    scores = {"node_scores": {"a": 5, "b": 1, "c": 5, "d": 1}}
    assert nodes_of(guided(scores, "scheduling", data)) == {"t": "c"}
    assert nodes_of(guided(scores, "scheduling", data, {"strategy": "most-packed"})) == {"t": "a"}


def test_order_moves_nothing_ahead_of_a_higher_priority() -> None:
    data = {"tasks": [task("t", 3), task("u", 3), task("v", 3, priority=1)], "nodes": [node("a"), node("b")]}
    assert nodes_of(guided({"order": ["u", "v"]}, "scheduling", data)) == {"v": "a", "u": "b", "t": None}


def test_one_task_follows_scores() -> None:
    found = guided({"node_scores": {"b": 1}}, "scheduling", {"task": task("t"), "nodes": [node("a"), node("b")]})
    assert found is not None
    assert found.answer.result == {"nodeId": "b", "estimatedLoadAfter": {"cpu": 1, "memory": 1}}


def test_items_go_in_order_onto_the_types_of_the_highest_score() -> None:
    items = [{"id": "x", "cpu": 2, "memory": 1, "count": 2}, {"id": "y", "cpu": 1, "memory": 1}]
    types = [{"name": "big", "cpu": 4, "memory": 9}, {"name": "small", "cpu": 2, "memory": 9, "max": 1}]
    data = {"items": items, "nodeTypes": types}
    found = guided({"node_scores": {"small": 1}, "order": ["y"]}, "resource", data)
    assert found is not None
    assert [(n["type"], n["items"]) for n in found.answer.result["nodes"]] == [
        ("small", [{"id": "y", "count": 1}]),
        ("big", [{"id": "x", "count": 2}]),
    ]


def test_what_cannot_be_followed_is_only_told() -> None:
    data = {"items": [{"id": "x", "cpu": 2, "memory": 1}], "nodeCapacity": {"cpu": 2, "memory": 1}}
    assert guided({"expected_duration": 3, "recommended_resources": {"cpu": 9}}, "resource", data) is None
    sizing = {"samples": [{"name": "web", "cpu": [1], "memory": [1]}]}
    assert guided({"order": ["web"]}, "performance", sizing) is None


def drawn_advice(draw: st.DrawFn, subjects: list[str], nodes: list[str]) -> dict[str, Any]:
    scores = st.dictionaries(st.sampled_from(nodes), st.integers(-2, 2)) if nodes else st.just({})
    order = st.lists(st.sampled_from(subjects), unique=True)
    advice = {"order": draw(order), "node_scores": draw(scores)}
    if nodes and draw(st.booleans()):
        advice["node_scores"] = draw(st.dictionaries(st.sampled_from(subjects), scores))
    return advice


@settings(max_examples=150)
@given(st.data(), packing_requests())
def test_any_advice_gives_a_feasible_packing(data: st.DataObject, request_: tuple[Any, Any]) -> None:
    names = [kind["name"] for kind in request_[0].get("nodeTypes", ())]
    advice = data.draw(st.composite(drawn_advice)([item["id"] for item in request_[0]["items"]], names))
    found = guided(advice, "resource", *request_)
    if found is not None:
        check_packing(*request_, found.answer)


@settings(max_examples=150)
@given(st.data(), st.one_of(placement_problems(), spacious_problems()))
def test_any_advice_gives_a_placement_that_passes_every_filter(data: st.DataObject, request_: dict[str, Any]) -> None:
    subjects, nodes = ([entry["id"] for entry in request_[kind]] for kind in ("tasks", "nodes"))
    found = guided(data.draw(st.composite(drawn_advice)(subjects, nodes)), "scheduling", request_)
    if found is None:
        return
    # The checker holds it against the filters once more, and test_plugin_answers_checked that against an oracle.
    question = question_of("scheduling", request_, {})
    again = accepted(dict(found.answer.result), question)
    assert (again.answer.score, again.value) == (found.answer.score, found.value)
