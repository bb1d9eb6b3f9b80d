"""Type scheduling by example: formulas, words, preferences, search, bad input."""

from __future__ import annotations

import math
from typing import Any

import pytest

from engine_ops.api.faults import InvalidDataError
from engine_ops.api.reasons import Reason
from engine_ops.engine.contract import Answer, Budget, ignore_report
from engine_ops.engine.scheduling.rules import Toleration
from engine_ops.engine.scheduling.solver import SchedulingSolver

PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def solve(data: dict[str, Any], constraints: dict[str, Any] | None = None, *, steps: int = 0) -> Answer:
    budget = Budget.of(60.0 if steps else 0.0, max_steps=steps)
    return SchedulingSolver().solve(data, constraints or {}, budget, ignore_report)


def faults(data: Any, constraints: dict[str, Any] | None = None) -> dict[str, str]:
    with pytest.raises(InvalidDataError) as caught:
        solve(data, constraints)
    return {fault.path: fault.message for fault in caught.value.faults}


def task(**fields: Any) -> dict[str, Any]:
    return {"id": "t", "cpuRequired": 10, "memoryRequired": 10, **fields}


def node(name: str = "n", **fields: Any) -> dict[str, Any]:
    return {"id": name, "cpuLoad": 0, "memoryLoad": 0, **fields}


def chosen(one: dict[str, Any], nodes: list[dict[str, Any]], strategy: str = "least-loaded") -> str | None:
    name: str | None = solve({"task": one, "nodes": nodes}, {"strategy": strategy}).result["nodeId"]
    return name


@pytest.mark.parametrize(
    ("strategy", "name", "score"),
    [
        # After the task: a 60/30, b 30/30, c 70/60 percent.
        ("least-loaded", "b", 0.70),
        ("most-packed", "c", 0.65),
        # a goes from a distance of 30 to 30, b from 0 to 0, c from 10 to 10: 0.75 everywhere, the smallest id.
        ("balanced", "a", 0.75),
    ],
)
def test_strategies_against_numbers_by_hand(strategy: str, name: str, score: float) -> None:
    nodes = [
        node("c", cpuLoad=60, memoryLoad=50),
        node("b", cpuLoad=20, memoryLoad=20),
        node("a", cpuLoad=50, memoryLoad=20),
    ]
    answer = solve({"task": task(), "nodes": nodes}, {"strategy": strategy})
    assert answer.result["nodeId"] == name
    assert answer.score == pytest.approx(score)


def test_balanced_brings_cpu_and_memory_in_step() -> None:
    # 0.5 + (0.5 + (1 - 0/2) - (1 - 0.2/2)) / 2 = 0.8 on b, where the task closes the distance of 20.
    answer = solve(
        {
            "task": task(cpuRequired=20, memoryRequired=0),
            "nodes": [node("a"), node("b", memoryLoad=20)],
        },
        {"strategy": "balanced"},
    )
    assert answer.result["nodeId"] == "b"
    assert answer.score == pytest.approx(0.8)


def test_amounts_are_in_the_unit_of_capacity() -> None:
    nodes = [node("n", cpuLoad="500m", memoryLoad="1Gi", capacity={"cpu": 2, "memory": "4Gi"})]
    answer = solve({"task": task(cpuRequired="1.5", memoryRequired="1Gi"), "nodes": nodes})
    assert answer.result == {"nodeId": "n", "estimatedLoadAfter": {"cpu": 2, "memory": 2 * 2**30}}
    refused = solve({"task": task(cpuRequired="1501m", memoryRequired="1Gi"), "nodes": nodes})
    assert refused.result == {"nodeId": None, "reason": "0/1 nodes are available: 1 Insufficient cpu."}


def test_three_thirds_fill_a_node() -> None:
    tasks = [task(id=f"t{i}", cpuRequired=100 / 3, memoryRequired=0.1) for i in range(3)]
    assert solve({"tasks": tasks, "nodes": [node()]}).result["placedCount"] == 3


def test_why_no_node_will_do() -> None:
    nodes = [
        node("a", cpuLoad=95),
        node("b", cpuLoad=95, memoryLoad=95),
        node("c", taints=[{"key": "gpu", "effect": "NoSchedule"}]),
        node("d", unschedulable=True),
        node("e", cpuLoad=99),
    ]
    answer = solve({"task": task(), "nodes": nodes})
    counts = (
        "0/5 nodes are available: 1 Insufficient memory, 1 node(s) had untolerated taint(s), "
        "1 node(s) were unschedulable, 3 Insufficient cpu."
    )
    assert answer.reason is Reason.UNPLACEABLE
    assert answer.score == 0
    assert answer.result == {"nodeId": None, "reason": counts}
    assert answer.message == (
        f"task t: {counts} a: Insufficient cpu; b: Insufficient cpu, Insufficient memory; "
        "c: node(s) had untolerated taint(s); d: node(s) were unschedulable; e: Insufficient cpu"
    )


def test_message_names_a_bounded_number_of_nodes() -> None:
    answer = solve({"task": task(cpuRequired=101), "nodes": [node(f"n{i:02}") for i in range(30)]})
    assert "n09: Insufficient cpu; and 20 more nodes" in answer.message
    assert "n10" not in answer.message


def test_extended_resources_and_pods() -> None:
    capacity = {"cpu": 100, "memory": 100, "resources": {"nvidia.com/gpu": 2}, "pods": 3}
    nodes = [node(capacity=capacity, podCount=1, resourceLoads={"nvidia.com/gpu": 1})]
    tasks = [
        task(id="gpu1", resourcesRequired={"nvidia.com/gpu": 1}),
        task(id="gpu2", resourcesRequired={"nvidia.com/gpu": 1}),
        task(id="x"),
        task(id="y"),
    ]
    placements = solve({"tasks": tasks, "nodes": nodes}).result["placements"]
    assert [item.get("nodeId") for item in placements] == ["n", None, "n", None]
    assert placements[1]["reason"] == "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    assert placements[3]["reason"] == "0/1 nodes are available: 1 Too many pods."


def test_overcommitted_node_takes_only_what_asks_for_nothing_of_it() -> None:
    nodes = [node("n", cpuLoad=120)]
    assert chosen(task(), nodes) is None
    assert chosen(task(cpuRequired=0), nodes) == "n"


def test_ties_go_to_the_smallest_id() -> None:
    assert chosen(task(), [node("b"), node("a"), node("c")]) == "a"


@pytest.mark.parametrize(
    ("toleration", "taint", "expected"),
    [
        ({"operator": "Exists"}, ("a", "x", "NoSchedule"), True),
        ({"operator": "Exists", "effect": "NoExecute"}, ("a", "x", "NoSchedule"), False),
        ({"key": "a", "operator": "Exists"}, ("a", "x", "NoExecute"), True),
        ({"key": "b", "operator": "Exists"}, ("a", "x", "NoExecute"), False),
        ({"key": "a", "value": "x"}, ("a", "x", "NoSchedule"), True),
        ({"key": "a", "value": "y"}, ("a", "x", "NoSchedule"), False),
        ({"key": "a"}, ("a", "", "NoSchedule"), True),
    ],
)
def test_tolerations(toleration: dict[str, str], taint: tuple[str, str, str], expected: bool) -> None:
    assert Toleration.model_validate(toleration).tolerates(*taint) is expected


def test_cordoned_node_takes_what_tolerates_the_cordon() -> None:
    nodes = [node("n", unschedulable=True)]
    cordon = {"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule"}
    assert chosen(task(), nodes) is None
    assert chosen(task(tolerations=[cordon]), nodes) == "n"


def test_prefer_no_schedule_is_avoided_where_possible() -> None:
    tainted = node("a", taints=[{"key": "k", "effect": "PreferNoSchedule"}])
    assert chosen(task(), [tainted, node("b", cpuLoad=80)]) == "b"
    assert chosen(task(), [tainted, node("b", cpuLoad=99)]) == "a"
    assert chosen(task(tolerations=[{"key": "k", "operator": "Exists"}]), [tainted, node("b", cpuLoad=80)]) == "a"


def test_preferred_node_affinity() -> None:
    term = {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}
    affinity = {"nodeAffinity": {PREFERRED: [{"weight": 10, "preference": term}]}}
    nodes = [node("a"), node("b", cpuLoad=80, labels={"disk": "ssd"})]
    assert chosen(task(affinity=affinity), nodes) == "b"
    assert chosen(task(), nodes) == "a"


def test_match_fields_choose_by_id() -> None:
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["b"]}]}
    affinity = {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [term]}}}
    assert chosen(task(affinity=affinity), [node("a"), node("b", cpuLoad=80)]) == "b"


@pytest.mark.parametrize(("side", "expected"), [("podAffinity", "a"), ("podAntiAffinity", "b")])
def test_preferred_company_of_its_own_and_of_placed_tasks(side: str, expected: str) -> None:
    term = {"topologyKey": "host", "labelSelector": {"matchLabels": {"app": "x"}}}
    affinity = {side: {PREFERRED: [{"weight": 100, "podAffinityTerm": term}]}}
    nodes = [node("a", labels={"host": "a"}), node("b", labels={"host": "b"}, cpuLoad=5, memoryLoad=5)]
    plain, wishing = {"labels": {"app": "x"}}, {"labels": {"app": "x"}, "affinity": affinity}
    for first, second in ((plain, wishing), (wishing, plain)):
        tasks = [task(id="1", **first), task(id="2", **second)]
        placements = solve(
            {"tasks": tasks, "nodes": nodes}, {"strategy": "most-packed" if expected == "b" else "least-loaded"}
        ).result["placements"]
        went = [item["nodeId"] for item in placements]
        assert (went[0] == went[1]) is (side == "podAffinity")


def test_soft_spread_evens_out_where_the_strategy_would_not() -> None:
    constraint = {
        "maxSkew": 1,
        "topologyKey": "zone",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"app": "x"}},
    }
    nodes = [node(f"n{i}", labels={"zone": f"z{i}"}, cpuLoad=20 * i, memoryLoad=20 * i) for i in range(3)]
    tasks = [task(id=f"t{i}", labels={"app": "x"}, topologySpreadConstraints=[constraint]) for i in range(3)]
    placements = solve({"tasks": tasks, "nodes": nodes}).result["placements"]
    assert sorted(item["nodeId"] for item in placements) == ["n0", "n1", "n2"]


def test_match_label_keys_count_one_revision_only() -> None:
    constraint = {
        "maxSkew": 1,
        "topologyKey": "zone",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "x"}},
        "matchLabelKeys": ["rev"],
    }
    nodes = [node("a", labels={"zone": "a"}), node("b", labels={"zone": "b"}, cpuLoad=50)]
    tasks = [
        task(id=f"{rev}", labels={"app": "x", "rev": rev}, topologySpreadConstraints=[constraint]) for rev in "123"
    ]
    assert {item["nodeId"] for item in solve({"tasks": tasks, "nodes": nodes}).result["placements"]} == {"a"}


def test_priority_goes_first() -> None:
    tasks = [task(id="low", cpuRequired=60), task(id="high", cpuRequired=60, priority=5)]
    placements = solve({"tasks": tasks, "nodes": [node()]}).result["placements"]
    assert [item["taskId"] for item in placements] == ["high", "low"]
    assert "reason" in placements[1]


def test_search_places_what_the_first_pass_left_over() -> None:
    # Least-loaded spreads the small tasks over both nodes; the large one then fits neither.
    tasks = [task(id="a", cpuRequired=30), task(id="b", cpuRequired=30), task(id="large", cpuRequired=90)]
    data = {"tasks": tasks, "nodes": [node("n1"), node("n2")]}
    assert solve(data).result["unplacedCount"] == 1
    better = solve(data, steps=5)
    assert better.reason is Reason.SOLVED
    assert better.result["placedCount"] == 3


def test_search_never_trades_a_high_priority_for_two_low_ones() -> None:
    tasks = [task(id="a", cpuRequired=50), task(id="b", cpuRequired=50), task(id="high", cpuRequired=90, priority=1)]
    placements = solve({"tasks": tasks, "nodes": [node()]}, steps=20).result["placements"]
    assert [item["taskId"] for item in placements if "nodeId" in item] == ["high"]


def test_each_report_is_better() -> None:
    seen: list[int] = []
    tasks = [task(id="a", cpuRequired=30), task(id="b", cpuRequired=30), task(id="large", cpuRequired=90)]
    SchedulingSolver().solve(
        {"tasks": tasks, "nodes": [node("n1"), node("n2")]},
        {},
        Budget.of(60.0, max_steps=5),
        lambda build: seen.append(build().result["placedCount"]),
    )
    assert seen == [2, 3]


def test_explain_one_task_has_a_row_for_each_node() -> None:
    data = {"task": task(), "nodes": [node("b", cpuLoad=95), node("a", cpuLoad=50)]}
    explanation = SchedulingSolver().explain(data, {}, solve(data).result)
    assert [tuple(row) for row in explanation.rows] == [
        ("a*", "yes", "least-loaded 0.650", "60%", "10%"),
        ("b", "no", "Insufficient cpu", "-", "-"),
    ]


@pytest.mark.parametrize(
    ("result", "path"),
    [
        ({}, "result.placements"),
        ({"placements": []}, "result.placements"),
        ({"placements": [{"taskId": "t", "nodeId": "x"}]}, "result.placements[0].nodeId"),
        ({"placements": [{"taskId": "u", "nodeId": "n"}]}, "result.placements[0].taskId"),
    ],
)
def test_explain_refuses_a_result_of_something_else(result: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidDataError) as caught:
        SchedulingSolver().explain({"tasks": [task()], "nodes": [node()]}, {}, result)
    assert caught.value.faults[0].path == path


BAD_SPREAD = {"maxSkew": 0, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
CAPACITY = {"cpu": 1, "memory": 1}


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({"nodes": [node()]}, "data"),
        ({"task": task(), "tasks": [task()], "nodes": [node()]}, "data"),
        ({"task": task()}, "data.nodes"),
        ({"task": task(), "nodes": []}, "data.nodes"),
        ({"tasks": [], "nodes": [node()]}, "data.tasks"),
        ({"task": task(), "nodes": [node()], "more": 1}, "data.more"),
        ({"task": task(colour=1), "nodes": [node()]}, "data.task.colour"),
        ({"task": task(id=""), "nodes": [node()]}, "data.task.id"),
        ({"tasks": [task(), task()], "nodes": [node()]}, "data.tasks[1].id"),
        ({"task": task(), "nodes": [node(), node()]}, "data.nodes[1].id"),
        ({"task": task(cpuRequired=math.nan), "nodes": [node()]}, "data.task.cpuRequired"),
        ({"task": task(cpuRequired=-1), "nodes": [node()]}, "data.task.cpuRequired"),
        ({"task": task(cpuRequired=1001), "nodes": [node()]}, "data.task.cpuRequired"),
        ({"task": task(cpuRequired="500m"), "nodes": [node()]}, "data.task.cpuRequired"),
        ({"task": task(cpuRequired="x"), "nodes": [node()]}, "data.task.cpuRequired"),
        ({"task": task(), "nodes": [node(memoryLoad=2000)]}, "data.nodes[0].memoryLoad"),
        ({"task": task(), "nodes": [node("a", capacity=CAPACITY), node("b")]}, "data.nodes[1].capacity"),
        ({"task": task(), "nodes": [node(capacity={"cpu": 0, "memory": 1})]}, "data.nodes[0].capacity.cpu"),
        ({"task": task(), "nodes": [node(capacity={"cpu": 1, "memory": 1e18})]}, "data.nodes[0].capacity.memory"),
        ({"task": task(cpuRequired=1e14), "nodes": [node(capacity=CAPACITY)]}, "data.task.cpuRequired"),
        ({"task": task(resourcesRequired={"x": 1}), "nodes": [node()]}, "data.task.resourcesRequired"),
        (
            {"task": task(resourcesRequired={"cpu": 1}), "nodes": [node(capacity=CAPACITY)]},
            "data.task.resourcesRequired.cpu",
        ),
        ({"task": task(tolerations=[{"key": ""}]), "nodes": [node()]}, "data.task.tolerations[0]"),
        ({"task": task(labels={"a": 1}), "nodes": [node()]}, "data.task.labels.a"),
        (
            {"task": task(), "nodes": [node(taints=[{"key": "a", "effect": "Never"}])]},
            "data.nodes[0].taints[0].effect",
        ),
        (
            {"task": task(topologySpreadConstraints=[BAD_SPREAD]), "nodes": [node()]},
            "data.task.topologySpreadConstraints[0].maxSkew",
        ),
    ],
)  # fmt: skip
def test_bad_data_is_named_by_path(data: dict[str, Any], path: str) -> None:
    assert list(faults(data)) == [path]


@pytest.mark.parametrize(
    ("expression", "ending"),
    [
        ({"key": "a", "operator": "Near", "values": ["1"]}, ".operator"),
        ({"key": "a", "operator": "In"}, ""),
        ({"key": "a", "operator": "Exists", "values": ["1"]}, ""),
        ({"key": "a", "operator": "Gt", "values": ["many"]}, ""),
    ],
)
def test_bad_expressions_are_named_by_path(expression: dict[str, Any], ending: str) -> None:
    affinity = {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}}
    path = f"data.task.affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms[0].matchExpressions[0]{ending}"
    assert list(faults({"task": task(affinity=affinity), "nodes": [node()]})) == [path]


def test_every_fault_is_named_at_once() -> None:
    found = faults({"task": task(cpuRequired=-1), "nodes": [node(cpuLoad="?")]}, {"strategy": "best", "x": 1})
    assert set(found) == {"data.task.cpuRequired", "data.nodes[0].cpuLoad", "constraints.strategy", "constraints.x"}
    assert found["constraints.x"] == "unknown field"


def test_terms_about_namespaces_need_a_cluster() -> None:
    term = {"topologyKey": "host", "namespaces": ["a"]}
    other = {"topologyKey": "host", "namespaceSelector": {}}
    affinity = {
        "podAffinity": {REQUIRED: [term]},
        "podAntiAffinity": {PREFERRED: [{"weight": 1, "podAffinityTerm": other}]},
    }
    found = faults({"task": task(affinity=affinity), "nodes": [node()]})
    assert set(found) == {
        f"data.task.affinity.podAffinity.{REQUIRED}[0].namespaces",
        f"data.task.affinity.podAntiAffinity.{PREFERRED}[0].podAffinityTerm.namespaceSelector",
    }


def test_explain_a_task_and_a_node_of_inline_data() -> None:
    tasks = [task(id="a"), task(id="b", cpuRequired=95)]
    data = {"tasks": tasks, "nodes": [node("n", cpuLoad=10), node("m", cpuLoad=50)]}
    result = solve(data).result
    solver = SchedulingSolver()
    assert [row[0] for row in solver.explain_task(data, {}, result, "a").rows] == ["n*", "m"]
    unplaced = solver.explain_task(data, {}, result, "b")
    assert unplaced.rows == [("Insufficient cpu", "2", "0", "m, n")]
    here = solver.explain_node(data, {}, result, "n")
    assert [row[0] for row in here.rows] == ["taken before", "new: a", "free", "allocatable"]
    assert here.notes == ["For b it lacks: Insufficient cpu (95% asked for, 80% free)."]
    single = {"task": tasks[0], "nodes": data["nodes"]}
    assert solver.explain_task(single, {}, solve(single).result, "a").rows[0][0] == "n*"
