"""Every placement against a naive oracle that knows kube-scheduler's filters one task and one node at a time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scheduling_oracle import AFFINITY, Oracle, terms

from engine_ops.api.reasons import Reason
from engine_ops.engine.contract import Answer, Budget, ignore_report
from engine_ops.engine.scheduling.solver import SchedulingSolver

KEYS = ("zone", "host", "disk")
VALUES = ("a", "b", "c", "1", "2")
APPS = ("web", "db", "cache")
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def _optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


node_expressions = st.one_of(
    st.fixed_dictionaries(
        {
            "key": st.sampled_from(KEYS),
            "operator": st.sampled_from(("In", "NotIn")),
            "values": st.lists(st.sampled_from(VALUES), min_size=1, max_size=2),
        }
    ),
    st.fixed_dictionaries({"key": st.sampled_from(KEYS), "operator": st.sampled_from(("Exists", "DoesNotExist"))}),
    st.fixed_dictionaries(
        {"key": st.sampled_from(KEYS), "operator": st.sampled_from(("Gt", "Lt")), "values": st.just(["1"])}
    ),
)
selectors = st.one_of(
    st.none(),
    st.just({}),
    st.fixed_dictionaries({"matchLabels": st.fixed_dictionaries({"app": st.sampled_from(APPS)})}),
    st.fixed_dictionaries(
        {
            "matchExpressions": st.lists(
                st.fixed_dictionaries(
                    {
                        "key": st.just("app"),
                        "operator": st.sampled_from(("In", "NotIn")),
                        "values": st.lists(st.sampled_from(APPS), min_size=1, max_size=2),
                    }
                ),
                min_size=1,
                max_size=2,
            )
        }
    ),
)
affinity_terms = st.lists(
    st.fixed_dictionaries({"topologyKey": st.sampled_from(KEYS[:2]), "labelSelector": selectors}), max_size=2
).map(lambda items: {AFFINITY: items})
tolerations = st.lists(
    st.one_of(
        st.fixed_dictionaries({"operator": st.just("Exists")}, optional={"effect": st.sampled_from(EFFECTS)}),
        st.fixed_dictionaries(
            {"key": st.sampled_from(("team", "node.kubernetes.io/unschedulable"))},
            optional={"value": st.sampled_from(VALUES), "effect": st.sampled_from(EFFECTS)},
        ),
    ),
    max_size=2,
)
spread = st.lists(
    st.fixed_dictionaries(
        {
            "maxSkew": st.integers(1, 2),
            "topologyKey": st.sampled_from(KEYS[:2]),
            "whenUnsatisfiable": st.just("DoNotSchedule"),
            "labelSelector": selectors,
        },
        optional={"minDomains": st.integers(1, 4)},
    ),
    max_size=2,
)
rules = _optional(
    labels=st.fixed_dictionaries({"app": st.sampled_from(APPS)}),
    nodeSelector=st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES), max_size=1),
    tolerations=tolerations,
    topologySpreadConstraints=spread,
    affinity=_optional(
        nodeAffinity=st.lists(
            st.lists(node_expressions, max_size=2).map(lambda items: {"matchExpressions": items}),
            min_size=1,
            max_size=2,
        ).map(lambda items: {AFFINITY: {"nodeSelectorTerms": items}}),
        podAffinity=affinity_terms,
        podAntiAffinity=affinity_terms,
    ),
)


@st.composite
def problems(draw: st.DrawFn) -> dict[str, Any]:
    percent = draw(st.booleans())
    nodes = []
    for i in range(draw(st.integers(1, 6))):
        node = draw(
            _optional(
                labels=st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES)),
                taints=st.lists(
                    st.fixed_dictionaries(
                        {"key": st.just("team"), "effect": st.sampled_from(EFFECTS)},
                        optional={"value": st.sampled_from(VALUES)},
                    ),
                    max_size=2,
                ),
                unschedulable=st.booleans(),
                podCount=st.integers(0, 2),
            )
        )
        node |= {"id": f"n{i}", "cpuLoad": draw(st.integers(0, 110)), "memoryLoad": draw(st.integers(0, 110))}
        if not percent:
            node["capacity"] = {"cpu": draw(st.integers(1, 100)), "memory": draw(st.integers(1, 100))}
            if draw(st.booleans()):
                node["capacity"]["pods"] = draw(st.integers(0, 4))
        nodes.append(node)
    kinds = draw(st.lists(rules, min_size=1, max_size=4))
    tasks = [
        {
            "id": f"t{i}",
            "cpuRequired": draw(st.integers(0, 40)),
            "memoryRequired": draw(st.integers(0, 40)),
            "priority": draw(st.integers(0, 2)),
            **draw(st.sampled_from(kinds)),
        }
        for i in range(draw(st.integers(1, 12)))
    ]
    return {"tasks": tasks, "nodes": draw(st.permutations(nodes))}


@st.composite
def spacious_problems(draw: st.DrawFn) -> dict[str, Any]:
    """Room enough, every label there: what tasks do to each other decides."""
    app = st.sampled_from(APPS)
    term = st.fixed_dictionaries({"topologyKey": st.sampled_from(KEYS[:2]), "labelSelector": selectors})
    one = st.one_of(
        st.just({}),
        spread.map(lambda items: {"topologySpreadConstraints": items}),
        term.map(lambda item: {"affinity": {"podAntiAffinity": {AFFINITY: [item]}}}),
        term.map(lambda item: {"affinity": {"podAffinity": {AFFINITY: [item]}}}),
    )
    pods = draw(st.sampled_from((2, 3, 50)))
    nodes = [
        {
            "id": f"n{i}",
            "cpuLoad": 0,
            "memoryLoad": 0,
            "labels": {"zone": draw(st.sampled_from("ab")), "host": f"n{i}"},
            "capacity": {"cpu": 100, "memory": 100, "pods": pods},
        }
        for i in range(draw(st.integers(2, 5)))
    ]
    kinds = [{"labels": {"app": draw(app)}} | draw(one) for _ in range(draw(st.integers(1, 3)))]
    tasks = [
        {
            "id": f"t{i}",
            "cpuRequired": draw(st.integers(0, 3)),
            "memoryRequired": 1,
            "priority": draw(st.integers(0, 1)),
            **draw(st.sampled_from(kinds)),
        }
        for i in range(draw(st.integers(2, 12)))
    ]
    return {"tasks": tasks, "nodes": nodes}


def _solve(data: dict[str, Any], *, strategy: str = "least-loaded", steps: int = 0) -> Answer:
    budget = Budget.of(60.0 if steps else 0.0, max_steps=steps)
    return SchedulingSolver().solve(data, {"strategy": strategy}, budget, ignore_report)


def _score(oracle: Any, task: dict[str, Any], node: dict[str, Any], strategy: str) -> float:
    capacity = node.get("capacity", {"cpu": 100, "memory": 100})
    cpu, memory, _ = oracle.used(node)
    before = [min(cpu / capacity["cpu"], 1), min(memory / capacity["memory"], 1)]
    after = [
        before[0] + task["cpuRequired"] / capacity["cpu"],
        before[1] + task["memoryRequired"] / capacity["memory"],
    ]
    if strategy == "least-loaded":
        return sum(1 - share for share in after) / 2
    if strategy == "most-packed":
        return sum(after) / 2
    return 0.75 + (abs(before[0] - before[1]) - abs(after[0] - after[1])) / 4


def _check(data: dict[str, Any], answer: Answer, strategy: str, *, greedy: bool) -> None:
    oracle = Oracle(sorted(data["nodes"], key=lambda node: node["id"]))
    tasks = {task["id"]: task for task in data["tasks"]}
    nodes = {node["id"]: node for node in data["nodes"]}
    placed = 0
    for item in answer.result["placements"]:
        task = tasks.pop(item["taskId"])
        if "nodeId" not in item:
            assert item["reason"] == oracle.message(task)
            assert all(oracle.reasons(task, node) for node in oracle.nodes)
            continue
        placed += 1
        node = nodes[item["nodeId"]]
        assert oracle.reasons(task, node) == []
        # Required affinity of a placed task draws others near (a preference), which the plain scores do not know.
        drawn = any(terms(t, "podAffinity") for t in data["tasks"])
        soft = any(taint["effect"] == "PreferNoSchedule" for n in data["nodes"] for taint in n.get("taints", []))
        if greedy and not drawn and not soft:
            open_nodes = [other for other in oracle.nodes if not oracle.reasons(task, other)]
            best = max(_score(oracle, task, other, strategy) for other in open_nodes)
            # Scores are compared in billionths.
            score = _score(oracle, task, node, strategy)
            assert score == pytest.approx(best, abs=3e-9)
            before = [n for n in open_nodes if n["id"] < node["id"]]
            assert all(_score(oracle, task, n, strategy) < best + 1e-12 for n in before)
            assert not any(_score(oracle, task, n, strategy) == score for n in before)
        oracle.place(task, node)
    assert not tasks
    assert answer.result["placedCount"] == placed
    assert answer.result["unplacedCount"] == len(data["tasks"]) - placed
    assert answer.reason is (Reason.SOLVED if placed == len(data["tasks"]) else Reason.UNPLACEABLE)
    assert answer.score is not None
    assert 0 <= answer.score <= placed / len(data["tasks"]) + 1e-9
    for node in data["nodes"]:
        capacity = node.get("capacity", {"cpu": 100, "memory": 100})
        cpu, memory, count = oracle.used(node)
        assert cpu <= max(capacity["cpu"], node["cpuLoad"])
        assert memory <= max(capacity["memory"], node["memoryLoad"])
        assert count <= max(capacity.get("pods", count), node.get("podCount", 0))


@settings(max_examples=300)
@given(st.one_of(problems(), spacious_problems()), st.sampled_from(("least-loaded", "most-packed", "balanced")))
def test_greedy_agrees_with_oracle(data: dict[str, Any], strategy: str) -> None:
    answer = _solve(data, strategy=strategy)
    order = sorted(data["tasks"], key=lambda task: -task["priority"])
    assert [item["taskId"] for item in answer.result["placements"]] == [task["id"] for task in order]
    _check(data, answer, strategy, greedy=True)


@settings(max_examples=100)
@given(st.one_of(problems(), spacious_problems()))
def test_search_keeps_to_filters_and_is_never_worse(data: dict[str, Any]) -> None:
    def by_priority(answer: Answer) -> list[int]:
        placed = {item["taskId"] for item in answer.result["placements"] if "nodeId" in item}
        return [sum(t["priority"] == p and t["id"] in placed for t in data["tasks"]) for p in (2, 1, 0)]

    first, searched = _solve(data), _solve(data, steps=8)
    _check(data, searched, "least-loaded", greedy=False)
    assert by_priority(searched) >= by_priority(first)
    assert _solve(data, steps=8).result == searched.result


@settings(max_examples=100)
@given(problems())
def test_one_task_is_the_first_of_many(data: dict[str, Any]) -> None:
    task = data["tasks"][0]
    many = _solve({"tasks": [task], "nodes": data["nodes"]}).result["placements"][0]
    one = _solve({"task": task, "nodes": data["nodes"]}).result
    assert one["nodeId"] == many.get("nodeId")
    assert one.get("reason") == many.get("reason")
    if one["nodeId"] is not None:
        node = next(node for node in data["nodes"] if node["id"] == one["nodeId"])
        assert one["estimatedLoadAfter"] == {
            "cpu": node["cpuLoad"] + task["cpuRequired"],
            "memory": node["memoryLoad"] + task["memoryRequired"],
        }


@settings(max_examples=60)
@given(problems())
def test_explain_tells_the_answer(data: dict[str, Any]) -> None:
    answer = _solve(data, steps=3)
    explanation = SchedulingSolver().explain(data, {}, answer.result)
    assert [row[:2] for row in explanation.rows] == [
        (item["taskId"], item.get("nodeId", "-")) for item in answer.result["placements"]
    ]
    for row, item in zip(explanation.rows, answer.result["placements"], strict=True):
        if "reason" in item:
            assert item["reason"].endswith(f": {row[3]}.")
        else:
            assert 0 <= float(row[2]) <= 1


@settings(max_examples=200)
@given(
    st.lists(st.floats(0, 60), min_size=1, max_size=20),
    st.lists(st.tuples(st.floats(0, 150), st.floats(0, 150)), min_size=1, max_size=5),
)
def test_percent_never_above_100(needs: list[float], loads: list[tuple[float, float]]) -> None:
    tasks = [{"id": f"t{i}", "cpuRequired": need, "memoryRequired": need / 2} for i, need in enumerate(needs)]
    nodes = [{"id": f"n{i}", "cpuLoad": cpu, "memoryLoad": memory} for i, (cpu, memory) in enumerate(loads)]
    answer = _solve({"tasks": tasks, "nodes": nodes})
    used = {node["id"]: [node["cpuLoad"], node["memoryLoad"]] for node in nodes}
    required = {task["id"]: task for task in tasks}
    for item in answer.result["placements"]:
        if "nodeId" in item:
            task, node = required[item["taskId"]], used[item["nodeId"]]
            node[0] += task["cpuRequired"]
            node[1] += task["memoryRequired"]
            # Percentages are rounded to a billionth; what asks for less than that asks for nothing.
            assert node[0] <= 100 + 1e-6 or task["cpuRequired"] < 1e-9
            assert node[1] <= 100 + 1e-6 or task["memoryRequired"] < 1e-9
