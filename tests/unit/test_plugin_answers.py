"""What a plugin's dict is, whatever it is."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine_ops.api.faults import InvalidDataError
from engine_ops.ml.scoring import scored_values
from engine_ops.plugins.advice import Advice
from engine_ops.plugins.answers import Prediction, Question, Refusal, question_of, read_reply
from engine_ops.plugins.checked import Checked
from engine_ops.plugins.json_values import MAX_DEPTH, RefusedError, json_value

PACKING = question_of(
    "resource",
    {"items": [{"id": "a", "cpu": 1, "memory": 1}], "nodeTypes": [{"name": "small", "cpu": 2, "memory": 2}]},
    {},
)
PLACEMENT = question_of(
    "scheduling",
    {
        "tasks": [{"id": "t", "cpuRequired": 10, "memoryRequired": 10}],
        "nodes": [{"id": "n", "cpuLoad": 0, "memoryLoad": 0}],
    },
    {},
)
ONE = question_of(
    "scheduling",
    {
        "task": {"id": "t", "cpuRequired": 10, "memoryRequired": 10},
        "nodes": [{"id": "n", "cpuLoad": 95, "memoryLoad": 0}],
    },
    {},
)
SIZING = question_of("performance", {"samples": [{"name": "web", "cpu": [1], "memory": [1]}]}, {})
FREE = question_of("ml-driven", {"anything": 1}, {})
QUESTIONS = (PACKING, PLACEMENT, ONE, SIZING, FREE)

NAMES = (
    "success", "result", "error", "confidence", "model_id", "nodes", "items", "id", "type", "count", "placements",
    "taskId", "nodeId", "devices", "containers", "name", "requests", "limits", "cpu", "memory", "node_scores", "order",
    "recommended_resources", "expected_duration", "a", "t", "n", "web", "small",
)  # fmt: skip
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.sampled_from(NAMES), st.just(1)
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)),
    max_leaves=20,
)
envelopes = st.fixed_dictionaries(
    {"result": st.dictionaries(st.sampled_from(NAMES), values, max_size=4)},
    optional={"success": st.sampled_from((True, True, False, 1)), "confidence": scalars, "model_id": scalars},
)


@settings(max_examples=500)
@given(st.one_of(values, envelopes), st.sampled_from(QUESTIONS))
def test_whatever_comes_back_is_read_or_refused_with_a_reason(returned: Any, question: Question) -> None:
    reply = read_reply(returned, question, algorithm="mine")
    if isinstance(reply.said, Refusal):
        assert reply.said.reason
        return
    assert reply.claimed_confidence is None or 0 <= reply.claimed_confidence <= 1
    if isinstance(reply.said, Checked):
        json.dumps(reply.said.answer.result, allow_nan=False)
        assert question.checker is not None
    elif isinstance(reply.said, Prediction):
        json.dumps(reply.said.result, allow_nan=False)
        assert question.checker is None


class Unreadable:
    def __repr__(self) -> str:
        raise AssertionError("nothing of the plugin's own may be called")

    __str__ = __eq__ = __len__ = __iter__ = __repr__  # type: ignore[assignment]
    __hash__ = object.__hash__


class Liar(type):
    def __getattribute__(cls, name: str) -> Any:
        raise AssertionError("nothing of the plugin's own may be called")


class Masked(metaclass=Liar):
    @property
    def __class__(self) -> Any:  # type: ignore[override]
        raise AssertionError("nothing of the plugin's own may be called")


class Endless(dict[str, Any]):
    def items(self) -> Any:
        raise AssertionError("nothing of the plugin's own may be called")


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


LOOP: dict[str, Any] = {}
LOOP["again"] = [LOOP, LOOP]


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        (None, "what the plugin returned: must be a dict, not None"),
        (iter(()), "type tuple_iterator is no JSON"),
        ((number for number in range(3)), "type generator is no JSON"),
        ({"result": {"a": (number for number in range(3))}}, "result.a: a value of type generator"),
        (Unreadable(), "type Unreadable is no JSON"),
        ({"result": [Masked()]}, "result[0]: a value of type Masked is no JSON"),
        ({"result": {"a": np.datetime64("2026-01-01")}}, "result.a: a value of type date is no JSON"),
        ({"result": {"a": np.broadcast_to(1, 10**9)}}, "result.a: with it the whole is too large"),
        ({"result": {Unreadable(): 1}}, "result: a key of type Unreadable"),
        ({"result": {1: 1}}, "result: a key of type int is no string"),
        ({"result": {"a": [1, math.nan]}}, "result.a[1]: nan is not a finite number"),
        ({"result": {"a": np.array([1.0, np.inf])}}, "result.a[1]: inf is not a finite number"),
        ({"result": {"a": 2**63}}, "result.a: a whole number of more than 64 bits"),
        ({"result": {"a": "\ud800"}}, "result.a: a text that is no valid Unicode"),
        ({"result": {"a": "x" * 2**25}}, "result.a: with it the whole is too large"),
        ({"result": {"a": np.zeros(2**25, dtype=np.int8)}}, "result.a: with it the whole is too large"),
        ({"result": {"a": nested(MAX_DEPTH)}}, "result.a[0]: nested more than 32"),
        (LOOP, "nested more than 32"),
        ({"result": {"a": {1}}}, "result.a: a value of type set"),
        ({"success": 1, "result": {}}, "success: must be true or false"),
        ({"success": True}, "result: required with success"),
        ({"success": True, "result": None}, "result: required with success"),
        ({"result": {"a": 1}, "confidence": 1.5}, "confidence: must be a number from 0 to 1"),
        ({"result": {"a": 1}, "confidence": True}, "confidence: must be a number from 0 to 1"),
        ({"result": {"a": 1}, "model_id": 3}, "model_id: must be a text"),
    ],
)
def test_what_cannot_be_used_is_refused(returned: Any, reason: str) -> None:
    said = read_reply(returned, FREE, algorithm="mine").said
    assert isinstance(said, Refusal)
    assert not said.by_plugin
    assert reason in said.reason


def test_methods_of_a_dict_of_its_own_are_not_called() -> None:
    assert read_reply(Endless(result={"a": 1}), FREE, algorithm="mine").said == Prediction({"a": 1})


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("Model not trained", "Model not trained"),
        (None, "the plugin said no and gave no reason"),
        ("x" * 2000, "x" * 1021 + "..."),
        ({"a": 1}, "{'a': 1}"),
    ],
)
def test_a_no_is_the_plugins_own(error: Any, reason: str) -> None:
    said = read_reply({"success": False, "error": error}, PACKING, algorithm="mine").said
    assert said == Refusal(reason, by_plugin=True)


def test_a_prediction_is_the_result_where_the_built_in_has_nothing_to_solve() -> None:
    question = question_of("resource", {"workload_size": 200}, {})
    guide = {"expected_duration": 100.0, "recommended_resources": {"cpu": 4}, "confidence": 0.85}
    reply = read_reply(
        {"success": True, "result": guide, "confidence": 0.85, "model_id": "m"}, question, algorithm="mine"
    )
    assert reply.said == Prediction(guide)
    assert (reply.model_id, reply.claimed_confidence, reply.prediction) == ("m", 0.85, guide)
    assert read_reply({"result": np.float64(2.5)}, question, algorithm="mine").said == Prediction({"prediction": 2.5})


def test_the_same_prediction_is_advice_where_the_built_in_solves() -> None:
    guide = {"expected_duration": 100.0, "recommended_resources": {"cpu": 4, "memory": "8Gi"}, "confidence": 0.85}
    reply = read_reply({"success": True, "result": guide}, PACKING, algorithm="mine")
    assert scored_values(reply.prediction) == {
        "expected_duration": 100,
        "recommended_resources.cpu": 4,
        "recommended_resources.memory": 2**33,
    }
    assert reply.said == Advice(recommended_resources={"cpu": 4.0, "memory": 2.0**33}, expected_duration_ms=100.0)


def test_a_result_needs_no_envelope() -> None:
    said = read_reply({"placements": [{"taskId": "t", "nodeId": "n"}]}, PLACEMENT, algorithm="mine").said
    assert isinstance(said, Checked)
    assert said.answer.result == {
        "placements": [{"taskId": "t", "nodeId": "n"}],
        "placedCount": 1,
        "unplacedCount": 0,
        "algorithm": "mine",
    }


def test_a_result_that_is_nothing_of_the_kind_is_told_what_there_is() -> None:
    said = read_reply({"result": {"workload": 3}}, PLACEMENT, algorithm="mine").said
    assert isinstance(said, Refusal)
    assert said.reason.startswith("result: has neither nodeId nor placements, for an answer, nor any of recommended_")


@pytest.mark.parametrize(
    ("question", "result", "reason"),
    [
        (PLACEMENT, {"placements": []}, "result.placements: 1 of 1 tasks are not in it, such as 't'"),
        (PLACEMENT, {"nodeId": "n"}, "result.placements: required"),
        (PLACEMENT, {"placements": [{"nodeId": "n"}]}, "result.placements[0].taskId: required"),
        (PLACEMENT, {"placements": [{"taskId": "t", "nodeId": "m"}]}, "result.placements[0].nodeId: 'm' is no id"),
        (PLACEMENT, {"placements": [{"taskId": "t"}] * 2}, "result.placements[1].taskId: 't' is placed by result.pl"),
        (ONE, {"nodeId": "n"}, "result.nodeId: node 'n' cannot hold task 't': Insufficient cpu"),
        (ONE, {"placements": []}, "result.nodeId: required for data.task"),
        (PACKING, {"nodes": [{"items": [{"id": "a"}]}]}, "result.nodes[0].type: required"),
        (PACKING, {"nodes": [{"type": "x", "items": [{"id": "a"}]}]}, "result.nodes[0].type: 'x' is no name of data"),
        (SIZING, {"containers": []}, "result.containers: container 'web' is not in it"),
        (SIZING, {"containers": [{"name": "db"}]}, "result.containers[0].name: 'db' is no container"),
        (SIZING, {"containers": [{"name": "web", "requests": 3}]}, "result.containers[0].requests: must be an object"),
        (SIZING, {"containers": [{"name": "web"}]}, "result.containers[0].requests.cpu: required"),
    ],
)
def test_an_infeasible_answer_is_refused_with_its_field(question: Question, result: Any, reason: str) -> None:
    said = read_reply({"result": result}, question, algorithm="mine").said
    assert isinstance(said, Refusal)
    assert said.reason.startswith(reason)


def test_faulty_data_of_the_built_in_is_the_authors_to_correct() -> None:
    with pytest.raises(InvalidDataError, match=r"data\.items"):
        question_of("resource", {"items": [], "workload_size": 200}, {})


@settings(max_examples=200)
@given(values)
def test_json_goes_through_unchanged_or_is_refused(value: Any) -> None:
    try:
        copied = json_value(value)
    except RefusedError:
        return
    assert copied == value
    assert json.loads(json.dumps(copied, allow_nan=False)) == copied
