"""Repacking a live cluster: what holds for every answer, and each special case."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine_ops.api.faults import InvalidDataError
from engine_ops.api.reasons import Reason
from engine_ops.engine.cluster.problem import ClusterProblem, repacking_problem
from engine_ops.engine.cluster.records import (
    ClusterSnapshot,
    HostPort,
    NodeRecord,
    PodKind,
    PodRecord,
    TaintRecord,
    snapshot_of,
)
from engine_ops.engine.cluster.repack_bound import lower_bound
from engine_ops.engine.cluster.repack_question import question_of
from engine_ops.engine.cluster.repacking import AS_IT_IS, RepackingSolver
from engine_ops.engine.cluster.selection import ClusterSelection
from engine_ops.engine.contract import Answer, Budget, Explanation, ignore_report
from engine_ops.engine.scheduling.rulebook import Rulebook
from engine_ops.engine.scheduling.state import State

GI = 2**30
HOSTNAME = "kubernetes.io/hostname"
ZONE = "topology.kubernetes.io/zone"


def node(name: str, *, cpu: int = 4000, pods: int = 110, zone: str = "a", **fields: Any) -> NodeRecord:
    labels = {HOSTNAME: name, ZONE: zone, **fields.pop("labels", {})}
    return NodeRecord(name, labels, {"cpu": cpu, "memory": 8 * GI, "pods": pods}, **fields)


def kind(*, cpu: int = 1000, app: str = "web", **fields: Any) -> PodKind:
    rules = fields.pop("rules", {})
    return PodKind(
        namespace=fields.pop("namespace", "shop"),
        labels={"app": app},
        requests={"cpu": cpu, "memory": GI} if cpu else {},
        rules=json.dumps(rules, sort_keys=True) if rules else "",
        **fields,
    )


def pod(name: str, on: str, of: PodKind | None = None, **fields: Any) -> PodRecord:
    return PodRecord(name, f"uid-{name}", on, kind() if of is None else of, **fields)


def apart(app: str, topology: str = HOSTNAME) -> dict[str, Any]:
    term = {"topologyKey": topology, "labelSelector": {"matchLabels": {"app": app}}}
    return {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}


def together(app: str, topology: str = HOSTNAME) -> dict[str, Any]:
    term = {"topologyKey": topology, "labelSelector": {"matchLabels": {"app": app}}}
    return {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}


def spread(app: str, topology: str = ZONE, skew: int = 1) -> dict[str, Any]:
    constraint = {
        "topologyKey": topology,
        "maxSkew": skew,
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": app}},
    }
    return {"topologySpreadConstraints": [constraint]}


def cluster(nodes: list[NodeRecord], pods: list[PodRecord]) -> ClusterSnapshot:
    return snapshot_of(nodes, pods, {"shop": {"team": "shop"}, "ops": {}})


def selection(**fields: Any) -> ClusterSelection:
    return ClusterSelection.model_validate(fields)


def solve(snapshot: ClusterSnapshot, chosen: ClusterSelection | None = None, *, steps: int = 300) -> Answer:
    budget = Budget.of(60.0 if steps else 0.0, max_steps=steps)
    return RepackingSolver(snapshot, chosen or ClusterSelection()).solve({}, {}, budget, ignore_report)


def where(answer: Answer) -> dict[str, str]:
    """The node of each pod on the nodes in use."""
    return {item["id"]: found["id"] for found in answer.result["nodes"] for item in found["items"]}


def homes(snapshot: ClusterSnapshot) -> dict[str, str]:
    return {snapshot.pod_id(row): row.node for row in snapshot.pods if row.node}


def movable(problem: ClusterProblem) -> list[str]:
    return [ref.id for ref in problem.problem.tasks]


def refused(found: ClusterProblem, node_of: list[int]) -> list[str]:
    """The moved tasks that may not be where they are, all others in place: for a filter, or because it is cordoned."""
    problem = found.problem
    state = State(problem, Rulebook(problem))
    for number, place in zip(problem.class_of, node_of, strict=True):
        state.place(problem.classes[number], place)
    wrong = []
    for task, (place, home) in enumerate(zip(node_of, found.current, strict=True)):
        if place == home:
            continue
        task_class = problem.classes[problem.class_of[task]]
        state.remove(task_class, place)
        if not state.feasible(task_class)[place] or problem.nodes[place].unschedulable:
            wrong.append(problem.tasks[task].id)
        state.place(task_class, place)
    return wrong


def check(snapshot: ClusterSnapshot, chosen: ClusterSelection, answer: Answer) -> None:
    """What holds for every answer."""
    found = repacking_problem(snapshot, chosen)
    index = {name: number for number, name in enumerate(found.node_names)}
    result, here, before = answer.result, where(answer), homes(snapshot)
    items = [item["id"] for entry in result["nodes"] for item in entry["items"]]
    assert len(items) == len(set(items))
    free = set(movable(found))
    assert free <= set(here)
    assert all(here[name] == before[name] for name in here if name not in free)
    node_of = [index[here[ref.id]] for ref in found.problem.tasks]
    assert refused(found, node_of) == []
    question = question_of(found, snapshot)
    used = question.in_use(node_of)
    now = question.in_use(found.current)
    assert [entry["id"] for entry in result["nodes"]] == [found.node_names[i] for i in np.flatnonzero(used)]
    assert result["nodeCount"] == answer.objective == used.sum() <= now.sum() == result["currentNodeCount"]
    assert result["emptyNodes"] == [found.node_names[i] for i in np.flatnonzero(now & ~used)]
    assert result["moves"] == sum(a != b for a, b in zip(node_of, found.current, strict=True))
    assert result["lowerBound"] == answer.lower_bound <= answer.objective
    assert answer.score == (answer.lower_bound / answer.objective if answer.objective else 1.0)
    assert (answer.gap == 0.0) == (answer.objective == answer.lower_bound)
    assert answer.reason is Reason.SOLVED
    assert answer.complete
    for record in snapshot.nodes:
        if record.unschedulable:
            newcomers = [name for name, there in here.items() if there == record.name and before[name] != there]
            assert newcomers == []
    if used.sum() == now.sum():
        assert result["moves"] == 0


APPS = ("web", "db")
RULES: list[dict[str, Any]] = [
    {},
    apart("web"),
    apart("db", ZONE),
    together("web"),
    together("db", ZONE),
    spread("web"),
    spread("db", HOSTNAME),
    spread("web", ZONE, 2),
    {"nodeSelector": {"disk": "ssd"}},
    {"tolerations": [{"operator": "Exists"}]},
]


@st.composite
def clusters(draw: st.DrawFn) -> tuple[ClusterSnapshot, ClusterSelection]:
    names = "abcd"[: draw(st.integers(2, 4))]
    nodes = [
        node(
            name,
            cpu=draw(st.sampled_from([1000, 2000, 3000, 4000])),
            pods=draw(st.sampled_from([2, 3, 110])),
            zone=draw(st.sampled_from("xy")),
            labels=draw(st.sampled_from([{}, {"disk": "ssd"}, {"pool": "new"}])),
            taints=draw(st.sampled_from([(), (), (TaintRecord("gpu", "", "NoSchedule"),)])),
            unschedulable=draw(st.sampled_from([False, False, False, True])),
        )
        for name in names
    ]
    kinds = [
        kind(
            cpu=draw(st.sampled_from([0, 500, 1000, 1500])),
            app=draw(st.sampled_from(APPS)),
            rules=draw(st.sampled_from(RULES)),
            namespace=draw(st.sampled_from(["shop", "shop", "ops"])),
            host_ports=draw(st.sampled_from([(), (), (HostPort("10.0.0.1", "TCP", 80),)])),
            owner_kind=draw(st.sampled_from(["ReplicaSet", "ReplicaSet", "ReplicaSet", "DaemonSet"])),
            static=draw(st.sampled_from([False, False, False, False, True])),
            not_modelled=draw(st.sampled_from([(), (), (), ("volumes",)])),
        )
        for _ in range(draw(st.integers(1, 3)))
    ]
    pods = [
        pod(
            f"p{number}",
            draw(st.sampled_from([*names, *names, ""])),
            draw(st.sampled_from(kinds)),
            terminating=draw(st.sampled_from([False, False, False, True])),
        )
        for number in range(draw(st.integers(0, 6)))
    ]
    chosen = draw(
        st.sampled_from(
            [
                selection(),
                selection(),
                selection(nodes={"labelSelector": {"matchExpressions": [{"key": "pool", "operator": "DoesNotExist"}]}}),
                selection(pods={"namespaces": ["shop"]}),
            ]
        )
    )
    return cluster(nodes, pods), chosen


@settings(max_examples=150)
@given(clusters(), st.integers(0, 3))
def test_what_holds_for_every_answer(question: tuple[ClusterSnapshot, ClusterSelection], seed: int) -> None:
    snapshot, chosen = question
    told: list[Answer] = []
    answer = RepackingSolver(snapshot, chosen).solve(
        {}, {}, Budget.of(60.0, max_steps=200, seed=seed), lambda build: told.append(build())
    )
    for reported in [*told, answer]:
        check(snapshot, chosen, reported)
    values = [(reported.objective, reported.result["moves"]) for reported in [*told, answer]]
    assert values == sorted(values, reverse=True)


@settings(max_examples=150)
@given(clusters())
def test_no_repacking_beats_the_bound(question: tuple[ClusterSnapshot, ClusterSelection]) -> None:
    snapshot, chosen = question
    found = repacking_problem(snapshot, chosen)
    repack = question_of(found, snapshot)
    bound = lower_bound(repack, State(found.problem, Rulebook(found.problem)))
    for node_of in itertools.product(range(len(snapshot.nodes)), repeat=len(found.problem.tasks)):
        if repack.in_use(node_of).sum() < bound.nodes:
            assert refused(found, list(node_of)), (bound, node_of)


def test_pods_go_where_there_is_room() -> None:
    snapshot = cluster([node(n) for n in "abc"], [pod("1", "a"), pod("2", "b"), pod("3", "c"), pod("4", "a")])
    answer = solve(snapshot)
    assert answer.objective == 1
    assert answer.result["emptyNodes"] == ["b", "c"]
    assert answer.result["moves"] == 2
    assert answer.result["nodes"][0] == {
        "id": "a",
        "type": "4 cpu, 8Gi",
        "cpuAvailable": 0,
        "memoryAvailable": 4 * GI,
        "items": [{"id": f"shop/{n}", "count": 1} for n in "1234"],
    }
    assert answer.message == (
        "1 of 3 nodes in use would do (lower bound 1: proven optimal); 2 would be empty; 2 of 4 pods move"
    )
    assert answer.summary == {
        "nodeCount": 1,
        "currentNodeCount": 3,
        "lowerBound": 1,
        "gap": 0.0,
        "moves": 2,
        "algorithm": answer.algorithm,
        "emptyNodeCount": 2,
    }


def test_where_nothing_can_be_emptied_nothing_moves() -> None:
    snapshot = cluster([node(n, cpu=1500) for n in "abcd"], [pod(n, n) for n in "abc"])
    answer = solve(snapshot)
    assert where(answer) == homes(snapshot)
    assert answer.algorithm == AS_IT_IS
    assert answer.message == (
        "3 nodes in use, and no fewer would do (lower bound 3: proven optimal); 1 more node is empty already"
    )


def test_a_larger_empty_node_is_opened_for_two_small_ones() -> None:
    """A search that only empties into nodes in use cannot see this; where it is not found, the gap is told."""
    snapshot = cluster([node("a", cpu=1500), node("b", cpu=1500), node("c")], [pod("1", "a"), pod("2", "b")])
    answer = solve(snapshot)
    assert answer.result["emptyNodes"] == ["a", "b"]
    assert set(where(answer).values()) == {"c"}


@pytest.mark.parametrize(
    ("of", "fields"),
    [
        (kind(not_modelled=("volumes",)), {}),
        (kind(), {"terminating": True}),
        (kind(namespace="ops"), {}),
    ],
    ids=["not modelled", "terminating", "not selected"],
)
def test_a_pod_that_stays_holds_its_node(of: PodKind, fields: dict[str, Any]) -> None:
    snapshot = cluster([node("a"), node("b")], [pod("1", "a"), pod("2", "b", of, **fields)])
    answer = solve(snapshot, selection(pods={"namespaces": ["shop"]}))
    assert answer.result["emptyNodes"] == ["a"]
    assert answer.gap == 0.0


@pytest.mark.parametrize("fields", [{"owner_kind": "DaemonSet"}, {"static": True}])
def test_a_pod_that_belongs_to_its_node_does_not_hold_it_but_takes_room(fields: dict[str, Any]) -> None:
    own = kind(cpu=3500, **fields)
    snapshot = cluster([node("a"), node("b"), node("c")], [pod("1", "a"), pod("2", "b"), pod("d", "a", own)])
    answer = solve(snapshot)
    assert answer.result["emptyNodes"] == ["a"]
    assert answer.result["nodeCount"] == 1


def test_nothing_comes_to_a_cordoned_node_but_its_own_may_stay() -> None:
    snapshot = cluster(
        [node("a", unschedulable=True), node("b", cpu=1500)], [pod("1", "a"), pod("2", "a"), pod("3", "b")]
    )
    answer = solve(snapshot)
    assert where(answer) == homes(snapshot)
    assert answer.result["nodeCount"] == 2


def test_nothing_comes_to_a_cordoned_node_though_it_tolerates_that() -> None:
    of = kind(rules={"tolerations": [{"operator": "Exists"}]})
    snapshot = cluster([node("a"), node("b", unschedulable=True)], [pod("1", "a", of), pod("2", "b", of)])
    answer = solve(snapshot)
    assert answer.result["emptyNodes"] == ["b"]
    found = RepackingSolver(snapshot, selection()).explain_task({}, {}, answer.result, "shop/1")
    assert ("b", "no", "no", "cordoned: tolerated, but nothing is moved there") in found.rows


def test_a_cordoned_node_is_emptied_where_it_can_be() -> None:
    snapshot = cluster([node("a", unschedulable=True), node("b")], [pod("1", "a"), pod("2", "a"), pod("3", "b")])
    assert solve(snapshot).result["emptyNodes"] == ["a"]


def test_nodes_that_are_left_out_do_not_count() -> None:
    snapshot = cluster([node("a"), node("b"), node("c", labels={"pool": "old"})], [pod(n, n) for n in "abc"])
    answer = solve(
        snapshot,
        selection(
            nodes={"labelSelector": {"matchExpressions": [{"key": "pool", "operator": "NotIn", "values": ["old"]}]}}
        ),
    )
    assert answer.result["currentNodeCount"] == 2
    assert answer.result["nodeCount"] == 1
    assert "c" not in answer.result["emptyNodes"]


def test_pods_that_keep_apart_need_a_node_each() -> None:
    of = kind(cpu=100, rules=apart("web"))
    snapshot = cluster([node(n) for n in "abcd"], [*(pod(n, n, of) for n in "abc"), pod("x", "d", kind(app="x"))])
    answer = solve(snapshot)
    assert answer.objective == answer.lower_bound == 3


def test_pods_that_keep_apart_may_stay_together_where_they_are() -> None:
    of = kind(cpu=100, rules=apart("web"))
    answer = solve(cluster([node("a"), node("b")], [pod("1", "a", of), pod("2", "a", of)]))
    assert answer.objective == answer.lower_bound == 1


def test_pods_of_one_host_port_need_a_node_each() -> None:
    of = kind(cpu=100, host_ports=(HostPort("10.0.0.1", "TCP", 80),))
    answer = solve(cluster([node(n) for n in "abc"], [pod(n, n, of) for n in "abc"]))
    assert answer.objective == answer.lower_bound == 3


def test_spread_holds_in_the_end() -> None:
    of = kind(cpu=100, rules=spread("web"))
    nodes = [node(f"{zone}{number}", zone=zone) for zone in "xyz" for number in range(3)]
    snapshot = cluster(nodes, [pod(record.name, record.name, of) for record in nodes])
    answer = solve(snapshot)
    assert answer.objective == 3
    assert {name[0] for name in where(answer).values()} == {"x", "y", "z"}
    check(snapshot, selection(), answer)


def test_company_moves_together() -> None:
    of = kind(cpu=100, rules=together("web"))
    snapshot = cluster([node("a"), node("b")], [pod("1", "a", of), pod("2", "a", of), pod("3", "b", kind(app="x"))])
    answer = solve(snapshot)
    assert answer.objective == 1
    check(snapshot, selection(), answer)


def test_an_overcommitted_node_keeps_what_it_has() -> None:
    snapshot = cluster([node("a", cpu=1000), node("b", cpu=1000)], [pod("1", "a"), pod("2", "a"), pod("3", "b")])
    answer = solve(snapshot)
    assert where(answer) == homes(snapshot)
    assert answer.gap == 0.0


def test_a_pod_against_its_selector_may_stay() -> None:
    of = kind(rules={"nodeSelector": {"disk": "ssd"}})
    snapshot = cluster([node("a"), node("b", cpu=1500, labels={"disk": "ssd"})], [pod("1", "a", of), pod("2", "a", of)])
    answer = solve(snapshot)
    assert where(answer) == homes(snapshot)
    assert answer.objective == answer.lower_bound == 1


def test_of_equal_answers_the_one_with_fewer_moves() -> None:
    """Twins change places by name only: nobody moves for it."""
    snapshot = cluster(
        [node("a"), node("b"), node("c")],
        [*(pod(f"a{i}", "a") for i in range(2)), *(pod(f"b{i}", "b") for i in range(3)), pod("c", "c")],
    )
    answer = solve(snapshot)
    assert answer.objective == 2
    assert answer.result["moves"] == 1


@pytest.mark.parametrize(
    "snapshot",
    [cluster([], []), cluster([node("a")], []), cluster([], [pod("1", "gone")]), cluster([node("a")], [pod("1", "")])],
    ids=["nothing", "no pods", "no nodes", "pending only"],
)
def test_nothing_to_repack(snapshot: ClusterSnapshot) -> None:
    answer = solve(snapshot)
    assert answer.result["nodes"] == []
    assert answer.objective == answer.lower_bound == 0
    assert answer.score == 1.0
    assert "no node is in use" in answer.message
    assert RepackingSolver(snapshot, selection()).explain({}, {}, answer.result).notes


def test_a_selector_that_matches_nothing_moves_nothing() -> None:
    snapshot = cluster([node("a"), node("b")], [pod("1", "a"), pod("2", "b")])
    answer = solve(snapshot, selection(pods={"namespaces": ["absent"]}))
    assert where(answer) == homes(snapshot)
    assert answer.objective == answer.lower_bound == 2
    nowhere = solve(snapshot, selection(nodes={"labelSelector": {"matchLabels": {"no": "such"}}}))
    assert nowhere.result["currentNodeCount"] == 0
    assert nowhere.message == "spec.dataFrom.cluster.nodes selects none of the 2 nodes"


@pytest.mark.parametrize(
    ("data", "constraints", "path"),
    [({"items": []}, {}, "data.items"), ({}, {"maxNodes": 3}, "constraints.maxNodes")],
)
def test_what_a_repacking_does_not_take(data: dict[str, Any], constraints: dict[str, Any], path: str) -> None:
    solver = RepackingSolver(cluster([node("a")], []), selection())
    with pytest.raises(InvalidDataError, match=path):
        solver.solve(data, constraints, Budget.of(0), ignore_report)


def test_a_bad_selector_is_named() -> None:
    with pytest.raises(InvalidDataError, match="fieldSelector"):
        solve(cluster([], []), selection(nodes={"fieldSelector": "status.phase=Running"}))


def test_the_same_steps_give_the_same_answer() -> None:
    pods = [pod(f"p{i}", f"n{i % 12:02}", kind(cpu=300 + 170 * (i % 7))) for i in range(40)]
    snapshot = cluster([node(f"n{i:02}", cpu=4000) for i in range(12)], pods)
    assert solve(snapshot).result == solve(snapshot).result


def explained(**wanted: str) -> Explanation:
    snapshot = cluster(
        [node("a"), node("b"), node("c", unschedulable=True)],
        [
            pod("1", "a"),
            pod("2", "b"),
            pod("3", "a"),
            pod("agent", "a", kind(cpu=100, owner_kind="DaemonSet")),
            pod("vol", "a", kind(cpu=100, not_modelled=("volumes",))),
        ],
    )
    solver = RepackingSolver(snapshot, selection())
    result = solve(snapshot).result
    if "node" in wanted:
        return solver.explain_node({}, {}, result, wanted["node"])
    if "task" in wanted:
        return solver.explain_task({}, {}, result, wanted["task"])
    return solver.explain({}, {}, result)


def test_explain_the_whole() -> None:
    found = explained()
    assert found.title == "repacking: 1 of 2 nodes in use would do"
    assert found.rows == [("4 cpu, 8Gi", "3", "2", "1", "80 %", "62 %", "cpu 80 %")]
    assert found.notes[-1] == "The answer has 1: no answer is better."


def test_explain_a_node() -> None:
    found = explained(node="a")
    rows = {row[0]: row[1:] for row in found.rows}
    assert rows["shop/2"] == ("-", "yes", "1", "1Gi", "comes from b")
    assert rows["shop/1"] == ("yes", "yes", "1", "1Gi", "stays, though it may move")
    assert rows["shop/agent"][-1] == "stays: a DaemonSet's pod belongs to its node"
    assert rows["shop/vol"][-1] == "stays: not modelled: volumes"
    assert "Free after: cpu 800m, memory 3Gi." in found.notes
    assert explained(node="b").title == "node b (4 cpu, 8Gi): in use before, empty after"
    with pytest.raises(InvalidDataError, match="no node 'z'"):
        explained(node="z")


def test_explain_a_pod() -> None:
    found = explained(task="shop/2")
    assert found.title == "pod shop/2: goes from node b to a"
    assert found.rows == [
        ("a*", "yes", "yes", "-"),
        ("b", "no", "yes", "it is there now"),
        ("c", "no", "no", "node(s) were unschedulable"),
    ]
    assert explained(task="shop/vol").rows == [("a", "stays: not modelled: volumes")]
    with pytest.raises(InvalidDataError, match="no pod 'shop/9'"):
        explained(task="shop/9")


def test_explain_refuses_what_is_not_its_result() -> None:
    snapshot = cluster([node("a")], [pod("1", "a")])
    solver = RepackingSolver(snapshot, selection())
    for result in ({}, {"nodes": []}, {"nodes": [{"id": "z", "items": []}]}):
        with pytest.raises(InvalidDataError, match="result"):
            solver.explain({}, {}, result)
