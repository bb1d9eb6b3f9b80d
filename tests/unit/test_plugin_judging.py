"""What is served of a plugin's reply: never worse than the built-in, never infeasible, and every no says why."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_plugin_answers_checked import built_in, vandalised
from test_resource_packing import check as check_packing
from test_resource_packing import requests as packing_requests
from test_scheduling_properties import problems as placement_problems
from test_scheduling_properties import spacious_problems

from engine_ops.api.faults import InvalidDataError, WaitingError
from engine_ops.engine.contract import Answer
from engine_ops.engine.performance.hold_out import older_data
from engine_ops.plugins.answers import question_of
from engine_ops.plugins.judging import Judged, answer_of, judge, respond
from engine_ops.plugins.own_fields import needs_prediction
from engine_ops.workers.messages import Failed, Outcome, PluginReply, Solved, SolveTask
from engine_ops.workers.pool import WorkerPool
from engine_ops.workers.solve import evaluate

Data = dict[str, Any]

PACKING: Data = {
    "items": [{"id": "a", "cpu": 1, "memory": "1Gi", "count": 2}, {"id": "b", "cpu": 2, "memory": "1Gi"}],
    "nodeCapacity": {"cpu": 2, "memory": "8Gi"},
}
TWO_NODES = {"nodes": [{"items": [{"id": "a", "count": 2}]}, {"items": [{"id": "b"}]}]}
THREE_NODES = {"nodes": [{"items": [{"id": "a"}]}, {"items": [{"id": "a"}]}, {"items": [{"id": "b"}]}]}
TOO_FULL = {"nodes": [{"items": [{"id": "a", "count": 2}, {"id": "b"}]}]}


def judged(request_type: str, data: Data, result: Any, constraints: Data | None = None, **options: Any) -> Judged:
    constraints = constraints or {}
    returned = {"success": True, "result": result, "confidence": 0.5, "model_id": "m"}
    return judge(
        request_type,
        data,
        constraints,
        returned,
        lambda: built_in(request_type, data, constraints),
        plugin="p",
        **options,
    )


def is_no_worse(request_type: str, data: Data, constraints: Data, answer: Answer, other: Answer) -> bool:
    """Whether an answer is no worse than another by all that the engine can say of them."""
    checker = question_of(request_type, data, constraints).checker
    assert checker is not None
    ours, theirs = (checker.check(found.result, "x") for found in (answer, other))
    if request_type == "resource":
        return ours.value <= theirs.value
    return ours.value[0] <= theirs.value[0] and (answer.score or 0) >= (other.score or 0) - 1e-9


@st.composite
def advice(draw: st.DrawFn, subjects: list[str], nodes: list[str]) -> Data:
    found: Data = {"order": draw(st.permutations(subjects))}
    if nodes:
        found["node_scores"] = draw(st.dictionaries(st.sampled_from(nodes), st.floats(-1e3, 1e3)))
    if draw(st.booleans()):
        found["expected_duration"] = draw(st.floats(0, 1e6))
    return found


@settings(max_examples=150)
@given(st.data(), packing_requests())
def test_a_packing_that_is_served_is_feasible_and_no_worse_than_the_built_ins(
    data: st.DataObject, request_: tuple[Data, Data]
) -> None:
    own = built_in("resource", *request_)
    items = [item["id"] for item in request_[0]["items"]]
    types = [kind["name"] for kind in request_[0].get("nodeTypes", [])]
    result = data.draw(st.one_of(st.composite(vandalised)(own.result, items), advice(items, types)))
    found = judged("resource", request_[0], result, request_[1])
    served = {key: value for key, value in found.answer.result.items() if key != "advice"}
    check_packing(*request_, Answer(served, **{name: getattr(found.answer, name) for name in _OF_ANSWER}))
    assert is_no_worse("resource", *request_, found.answer, own)
    assert bool(found.role) != bool(found.no) or "advice" in found.answer.result
    if not found.role:
        assert found.answer == own


_OF_ANSWER = ("algorithm", "message", "reason", "score", "summary", "objective", "lower_bound", "gap")


@settings(max_examples=150)
@given(st.data(), st.one_of(placement_problems(), spacious_problems()))
def test_a_placement_that_is_served_is_feasible_and_no_worse_than_the_built_ins(
    data: st.DataObject, request_: Data
) -> None:
    own = built_in("scheduling", request_)
    tasks, nodes = ([entry["id"] for entry in request_[name]] for name in ("tasks", "nodes"))
    result = data.draw(st.one_of(st.composite(vandalised)(own.result, [*tasks, *nodes]), advice(tasks, nodes)))
    found = judged("scheduling", request_, result)
    # is_no_worse has the checker place it anew: what is infeasible is refused by it.
    assert is_no_worse("scheduling", request_, {}, found.answer, own)
    assert bool(found.role) != bool(found.no) or "advice" in found.answer.result


_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(("success", "result", "error", "nodes", "items", "id", "order", "confidence", "x")), inner
        ),
    ),
    max_leaves=8,
)


@settings(max_examples=200)
@given(_JSON)
def test_rubbish_costs_nobody_the_answer_and_is_named(returned: Any) -> None:
    own = built_in("resource", PACKING)
    found = judge("resource", PACKING, {}, returned, lambda: own, plugin="p")
    if not found.role:
        assert found.answer is own
        assert found.no


def test_an_answer_as_good_as_the_built_ins_is_the_plugins() -> None:
    found = judged("resource", PACKING, TWO_NODES)
    assert (found.role, found.no, found.answer.algorithm, found.answer.score) == ("answer", "", "p", 1.0)
    assert found.reply is not None
    assert (found.reply.model_id, found.reply.claimed_confidence) == ("m", 0.5)


def test_what_is_proven_best_is_held_against_nothing() -> None:
    def solve() -> Answer:
        raise AssertionError("nothing can be better")

    assert judge("resource", PACKING, {}, {"result": TWO_NODES}, solve, plugin="p").role == "answer"


def test_a_worse_answer_is_told_by_its_score() -> None:
    found = judged("resource", PACKING, THREE_NODES)
    assert (found.role, found.unusable) == ("", False)
    assert found.no == "worse than the built-in's answer: score 0.666667 against 1"
    assert found.answer.result["nodeCount"] == 2


def test_an_infeasible_answer_is_at_fault() -> None:
    found = judged("resource", PACKING, TOO_FULL)
    assert (found.role, found.unusable) == ("", True)
    assert found.no.startswith("result.nodes[0].items: they ask for cpu 4")


def test_a_plugins_own_no_is_no_fault() -> None:
    own = built_in("resource", PACKING)
    found = judge("resource", PACKING, {}, {"success": False, "error": "not today"}, lambda: own, plugin="p")
    assert (found.role, found.no, found.unusable) == ("", "not today", False)


def test_nothing_of_a_model_in_shadow_is_served() -> None:
    found = judged("resource", PACKING, TWO_NODES, served=False)
    assert (found.role, found.no, found.answer.algorithm) == ("", "", built_in("resource", PACKING).algorithm)


def test_advice_that_nothing_can_follow_is_told_beside_the_built_ins_answer() -> None:
    told = {"recommended_resources": {"cpu": "500m"}, "expected_duration": 1200}
    found = judged("resource", PACKING, told)
    assert (found.role, found.no) == ("advice", "")
    own = built_in("resource", PACKING)
    assert found.answer.result == {
        **own.result,
        "advice": {"recommendedResources": {"cpu": 0.5}, "expectedDurationMs": 1200.0},
    }
    assert found.answer.algorithm == own.algorithm


def test_advice_that_does_no_harm_is_followed() -> None:
    found = judged("resource", PACKING, {"order": ["b", "a"], "expected_duration": 5})
    assert (found.role, found.no, found.answer.algorithm) == ("advice", "", "first-fit-advised")
    assert found.answer.result["advice"] == {"expectedDurationMs": 5.0}


NODES = [
    {"id": "calm", "cpuLoad": 10, "memoryLoad": 10},
    {"id": "busy", "cpuLoad": 60, "memoryLoad": 60},
]
TASK = {"task": {"id": "t", "cpuRequired": 10, "memoryRequired": 10}, "nodes": NODES}


def test_advice_that_makes_the_answer_worse_is_not_followed_but_its_numbers_are_told() -> None:
    harmful = {"node_scores": {"busy": 1.0, "calm": 0.0}}
    found = judged("scheduling", TASK, harmful)
    assert (found.role, found.answer.result["nodeId"]) == ("", "calm")
    assert found.no.startswith("as it advises: worse than the built-in's answer: score 0.")
    found = judged("scheduling", TASK, {**harmful, "expected_duration": 7})
    assert (found.role, found.answer.result["advice"]) == ("advice", {"expectedDurationMs": 7.0})
    assert found.no.startswith("as it advises: worse")


def test_a_request_at_fault_is_its_users_to_mend() -> None:
    with pytest.raises(InvalidDataError) as told:
        judged("resource", {"items": [{"id": "a", "cpu": -1, "memory": 1}]}, TWO_NODES)
    with pytest.raises(InvalidDataError) as without:
        built_in("resource", {"items": [{"id": "a", "cpu": -1, "memory": 1}]})
    assert str(told.value) == str(without.value)


@pytest.mark.parametrize("request_type", ["ml-driven", "resource"])
def test_a_prediction_is_the_result_where_there_is_nothing_else(request_type: str) -> None:
    prediction = {"expected_duration": 5, "why": {"trees": 3}}
    found = judged(request_type, {"workload_size": 200}, prediction)
    assert (found.role, found.answer.result, found.answer.algorithm) == ("prediction", prediction, "p")
    assert found.answer.score is None
    assert found.answer.summary == {"expected_duration": 5}


def test_without_a_prediction_it_is_waited_for() -> None:
    with pytest.raises(WaitingError) as told:
        judge("ml-driven", {"x": 1}, {}, {"success": True, "result": None}, built_in_is_not_asked, plugin="p")
    assert (told.value.reason, told.value.message) == ("NoPlugin", "result: required with success, but absent")


def built_in_is_not_asked() -> Answer:
    raise AssertionError("there is no built-in for it")


# -- Type performance ---------------------------------------------------------------------------------------------

SAMPLES = [0.1 + 0.01 * (number % 7) for number in range(30)] + [0.3]
"""The rule is fitted on the first 70 % of them."""
SIZING: Data = {"samples": [{"name": "web", "cpu": SAMPLES, "memory": [2**28] * len(SAMPLES)}]}
OLDER = older_data(SIZING)


def sized(cpu: float, memory: str = "300Mi") -> Data:
    return {"containers": [{"name": "web", "requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": "1Gi"}}]}


def test_a_sizing_is_held_against_the_built_in_by_what_it_said_of_the_older_samples() -> None:
    own = built_in("performance", SIZING)
    assert own.score is not None
    better = judged("performance", SIZING, sized(0.2), backtest={"result": sized(0.16, "256Mi")})
    assert better.role == "answer"
    assert better.answer.score is not None
    assert better.answer.score > own.score
    for much in (2.0, 2000.0):  # either score is 0
        worse = judged("performance", SIZING, sized(0.2), backtest={"result": sized(much)})
        assert (worse.role, worse.unusable, worse.answer) == ("", False, own)
        assert worse.no.startswith("worse than the built-in's answer")
    same = judged("performance", SIZING, sized(0.2), backtest={"result": built_in("performance", OLDER).result})
    assert worse.answer.score == own.score
    assert (same.role, same.answer.score) == ("answer", pytest.approx(own.score, abs=0.02))


@pytest.mark.parametrize(
    ("backtest", "why", "unusable"),
    [
        (None, "it was not tried on the newest samples", False),
        ({"success": False, "error": "too few"}, "for the older samples alone, too few", False),
        ({"result": {"containers": []}}, "container 'web' is not in it", True),
        ({"result": {"expected_duration": 3}}, "it gave no answer", False),
    ],
)
def test_a_sizing_that_cannot_be_compared_is_not_served(backtest: Any, why: str, unusable: bool) -> None:
    found = judged("performance", SIZING, sized(0.2), backtest=backtest)
    assert (found.role, found.unusable) == ("", unusable)
    assert why in found.no


def test_where_there_are_too_few_samples_for_any_score_a_sizing_is_served() -> None:
    few = {"samples": [{"name": "web", "cpu": [0.1, 0.2], "memory": [2**28, 2**28]}]}
    assert judged("performance", few, sized(0.2)).role == "answer"


# -- In the worker ------------------------------------------------------------------------------------------------


def task_of(result: Any, *, data: Data | None = None, returned: bytes | None = None, **fields: Any) -> SolveTask:
    envelope = msgspec.json.encode({"success": True, "result": result, "confidence": 0.25, "model_id": "m"})
    return SolveTask(
        "t",
        fields.pop("type", "resource"),
        json.dumps(PACKING if data is None else data).encode(),
        reply=PluginReply("p", "1.2.3", envelope if returned is None else returned, **fields.pop("reply", {})),
        **fields,
    )


def outcome_of(task: SolveTask) -> Outcome:
    return evaluate(task, respond=respond)


def solved_by(task: SolveTask) -> Solved:
    outcome = outcome_of(task)
    assert isinstance(outcome, Solved), outcome
    return outcome


def test_a_worker_says_what_is_the_plugins() -> None:
    solved = solved_by(task_of(TWO_NODES))
    assert (solved.plugin_role, solved.plugin_no, solved.algorithm, solved.version) == ("answer", "", "p", "1.2.3")
    assert (solved.model_id, solved.claimed_confidence) == ("m", 0.25)
    assert solved.request_fields["items.count"] == 2


def test_a_worker_without_a_reply_answers_as_ever() -> None:
    task = msgspec.structs.replace(task_of(TWO_NODES), reply=None)
    changing = {"duration_ms": 0}
    assert msgspec.structs.replace(outcome_of(task), **changing) == msgspec.structs.replace(evaluate(task), **changing)


def test_a_built_in_answer_that_is_there_is_not_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    own = solved_by(msgspec.structs.replace(task_of(None), reply=None))
    monkeypatch.setattr("engine_ops.workers.solve.solver_for", built_in_is_not_asked)
    solved = solved_by(task_of(THREE_NODES, built_in=own))
    assert (solved.plugin_role, solved.algorithm, solved.result) == ("", own.algorithm, own.result)
    assert solved.plugin_no


def test_a_long_built_in_answer_is_held_against_as_well() -> None:
    own = solved_by(msgspec.structs.replace(task_of(None), reply=None, inline_limit_bytes=10))
    assert own.compressed is not None
    whole = answer_of(own)
    assert whole.result == json.loads(gzip.decompress(own.compressed))
    assert whole.summary == json.loads(own.result)
    assert solved_by(task_of(THREE_NODES, built_in=own)).plugin_no.startswith("worse")


def test_what_is_no_json_is_at_fault() -> None:
    solved = solved_by(task_of(None, returned=b"\xff{"))
    assert (solved.plugin_role, solved.plugin_unusable) == ("", True)
    assert solved.plugin_no.startswith("what the plugin returned is no JSON")


def test_an_unread_request_is_the_users_fault() -> None:
    outcome = outcome_of(task_of(TWO_NODES, data={"items": []}))
    assert isinstance(outcome, Failed)
    assert outcome.reason == "InvalidData"


def test_nonsense_where_only_a_plugin_can_answer_is_waited_for() -> None:
    outcome = outcome_of(task_of(None, type="ml-driven", data={"x": 1}, returned=b"[]"))
    assert isinstance(outcome, Failed)
    assert (outcome.reason, outcome.waiting) == ("NoPlugin", True)
    assert outcome.message == "what the plugin returned: must be a dict, not []"


def test_a_defect_in_judging_costs_nobody_the_answer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def defective(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("engine_ops.plugins.judging.guided_answer", defective)
    solved = solved_by(task_of({"order": ["a"]}))
    assert (solved.plugin_role, solved.plugin_unusable) == ("", True)
    assert solved.plugin_no == "holding it against the request failed with ZeroDivisionError"
    assert "ZeroDivisionError" in caplog.text


def test_workers_judge_where_their_pool_says_so() -> None:
    async def main() -> list[Outcome]:
        found = []
        for handler in ("engine_ops.plugins.judging:HANDLER", "engine_ops.workers.solve:HANDLER"):
            async with WorkerPool(1, handler=handler) as pool:
                found.append(await pool.run(task_of(TWO_NODES), timeout_seconds=30))
        return found

    judging, solving = asyncio.run(asyncio.wait_for(main(), 60))
    assert isinstance(judging, Solved)
    assert isinstance(solving, Solved)
    assert (judging.plugin_role, solving.plugin_role) == ("answer", "")


# -- Whose the data is --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_type", "text", "expected"),
    [
        ("ml-driven", b"{}", True),
        ("resource", b'{"workload_size": 200}', True),
        ("resource", b'{"a": {"items": []}}', True),
        ("resource", b'{"items": [], "x": 1}', False),
        ("resource", b'{"node_types": []}', False),
        ("scheduling", b'{"items": []}', True),
        ("resource", b"workload_size: 200\nnested:\n  items: [1]\n", True),
        ("resource", b"# a comment\nx: 1\nitems:\n- id: a\n", False),
        ("resource", b"  x: 1\n  'items': []\n", False),
        ("resource", b"\xff\x00", False),
        ("resource", b"[]", False),
    ],
)
def test_who_can_answer_is_seen_at_the_outermost_names(request_type: str, text: bytes, expected: bool) -> None:
    assert needs_prediction(request_type, text) is expected
