"""Live clusters against the naive oracle: namespaces, host ports, pods that are there, pods on their way out."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scheduling_oracle import AFFINITY, Oracle

from engine_ops.engine.cluster.placement import ClusterPlacementSolver
from engine_ops.engine.cluster.problem import ClusterProblem, placement_problem, repacking_problem
from engine_ops.engine.cluster.records import (
    ClusterSnapshot,
    HostPort,
    NodeRecord,
    PodKind,
    PodRecord,
    TaintRecord,
    snapshot_of,
)
from engine_ops.engine.cluster.selection import ClusterSelection
from engine_ops.engine.contract import Budget, ignore_report
from engine_ops.engine.scheduling.preferences import preference_points
from engine_ops.engine.scheduling.rulebook import Rulebook
from engine_ops.engine.scheduling.state import State

NAMESPACES = {"red": {"team": "x"}, "blue": {"team": "y"}, "green": {}}
KEYS = ("zone", "host")
APPS = ("web", "db")
ANY_ADDRESS = "0.0.0.0"  # noqa: S104
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"

selectors = st.sampled_from(
    (
        {"matchLabels": {"app": "web"}},
        {"matchLabels": {"app": "db"}},
        {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]},
        {"matchExpressions": [{"key": "app", "operator": "Exists"}]},
        {},
        None,
    )
)
namespace_selectors = st.sampled_from(
    (
        {},
        {"matchLabels": {"team": "x"}},
        {"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]},
        {"matchLabels": {"team": "nobody"}},
    )
)
where = st.sampled_from(
    (
        {},
        {},
        {"namespaces": ["red"]},
        {"namespaces": ["blue", "absent"]},
        {"namespaceSelector": {}},
        {"namespaceSelector": {"matchLabels": {"team": "x"}}},
        {"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}},
        {"namespaces": ["green"], "namespaceSelector": {"matchLabels": {"team": "y"}}},
    )
)
label_keys = st.sampled_from(({}, {}, {"matchLabelKeys": ["version"]}, {"mismatchLabelKeys": ["version"]}))


@st.composite
def terms(draw: st.DrawFn) -> dict[str, Any]:
    """One term of (anti-)affinity."""
    term = {"topologyKey": draw(st.sampled_from(KEYS)), **draw(where), **draw(label_keys)}
    selector = draw(selectors)
    return term if selector is None else {**term, "labelSelector": selector}


@st.composite
def spread(draw: st.DrawFn) -> dict[str, Any]:
    constraint = {
        "maxSkew": draw(st.integers(1, 2)),
        "topologyKey": draw(st.sampled_from(KEYS)),
        "whenUnsatisfiable": "DoNotSchedule",
        **draw(st.sampled_from(({}, {"minDomains": 2}))),
    }
    selector = draw(selectors)
    return constraint if selector is None else {**constraint, "labelSelector": selector}


rules = st.one_of(
    st.just({}),
    st.lists(spread(), min_size=1, max_size=2).map(lambda items: {"topologySpreadConstraints": items}),
    terms().map(lambda item: {"affinity": {"podAntiAffinity": {AFFINITY: [item]}}}),
    st.lists(terms(), min_size=1, max_size=2).map(lambda items: {"affinity": {"podAffinity": {AFFINITY: items}}}),
    terms().map(lambda item: {"affinity": {"podAntiAffinity": {PREFERRED: [{"weight": 7, "podAffinityTerm": item}]}}}),
    st.sampled_from(({"nodeSelector": {"zone": "a"}}, {"tolerations": [{"operator": "Exists"}]})),
)
ports = st.lists(
    st.tuples(st.sampled_from((ANY_ADDRESS, "10.0.0.1", "10.0.0.2")), st.sampled_from(("TCP", "UDP")), st.just(80)),
    max_size=2,
    unique=True,
)


@st.composite
def kinds(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "namespace": draw(st.sampled_from(tuple(NAMESPACES))),
        "labels": {
            "app": draw(st.sampled_from(APPS)),
            **draw(st.sampled_from(({}, {"version": "1"}, {"version": "2"}))),
        },
        "cpuRequired": draw(st.sampled_from((1, 1, 0, 5))),
        "memoryRequired": 1,
        "hostPorts": draw(st.one_of(st.just([]), st.just([]), ports)),
        **draw(rules),
    }


@st.composite
def clusters(draw: st.DrawFn) -> dict[str, Any]:
    rarely = st.sampled_from((False,) * 7 + (True,))
    nodes = [
        {
            "id": f"n{i}",
            "cpuLoad": 0,
            "memoryLoad": 0,
            "labels": {"host": f"n{i}"} | ({} if draw(rarely) else {"zone": draw(st.sampled_from("ab"))}),
            "capacity": {
                "cpu": draw(st.sampled_from((20, 20, 5, 0))),
                "memory": 30,
                "pods": draw(st.sampled_from((50, 3))),
            },
            "taints": [{"key": "k", "value": "", "effect": "NoSchedule"}] if draw(rarely) else [],
            "unschedulable": draw(rarely),
            "closed": draw(rarely),
        }
        for i in range(draw(st.integers(2, 4)))
    ]
    pool = draw(st.lists(kinds(), min_size=2, max_size=3))
    going = st.sampled_from((False, False, True))
    fixed = [
        {**draw(st.sampled_from(pool)), "terminating": draw(going), "node": draw(st.sampled_from(nodes))}
        for _ in range(draw(st.integers(0, 5)))
    ]
    pending = [
        {**draw(st.sampled_from(pool)), "priority": draw(st.integers(0, 1)), "created": str(draw(st.integers(0, 1)))}
        for _ in range(draw(st.integers(1, 6)))
    ]
    for i, pod in enumerate([*fixed, *pending]):
        pod["name"] = f"p{i}"
    return {"nodes": nodes, "fixed": fixed, "pending": pending}


RULES = ("nodeSelector", "affinity", "tolerations", "topologySpreadConstraints")


def kind_of(pod: dict[str, Any]) -> PodKind:
    written = {name: pod[name] for name in RULES if name in pod}
    requests = {"cpu": pod["cpuRequired"] * 1000, "memory": pod["memoryRequired"]}
    return PodKind(
        namespace=pod["namespace"],
        labels=pod["labels"],
        requests={name: units for name, units in requests.items() if units},
        rules=json.dumps(written, sort_keys=True) if written else "",
        host_ports=tuple(HostPort(*port) for port in pod["hostPorts"]),
        priority=pod.get("priority", 0),
    )


def snapshot(cluster: dict[str, Any]) -> ClusterSnapshot:
    nodes = [
        NodeRecord(
            node["id"],
            node["labels"] | {"open": "no" if node["closed"] else "yes"},
            {
                "cpu": node["capacity"]["cpu"] * 1000,
                "memory": node["capacity"]["memory"],
                "pods": node["capacity"]["pods"],
            },
            tuple(TaintRecord(taint["key"], taint["value"], taint["effect"]) for taint in node["taints"]),
            node["unschedulable"],
        )
        for node in cluster["nodes"]
    ]
    pods = [PodRecord(pod["name"], "", pod["node"]["id"], kind_of(pod), pod["terminating"]) for pod in cluster["fixed"]]
    pods += [PodRecord(pod["name"], "", "", kind_of(pod), created=pod["created"]) for pod in cluster["pending"]]
    return snapshot_of(nodes, pods, NAMESPACES)


SELECTION = ClusterSelection.model_validate({"nodes": {"labelSelector": {"matchLabels": {"open": "yes"}}}})


@settings(max_examples=400)
@given(clusters())
def test_placement_agrees_with_oracle(cluster: dict[str, Any]) -> None:
    answer = ClusterPlacementSolver(snapshot(cluster), SELECTION).solve({}, {}, Budget.of(0), ignore_report)
    oracle = Oracle(cluster["nodes"], NAMESPACES)
    for pod in cluster["fixed"]:
        oracle.place(pod, pod["node"])
    nodes = {node["id"]: node for node in cluster["nodes"]}
    queue = sorted(
        cluster["pending"], key=lambda pod: (-pod["priority"], pod["created"], pod["namespace"], pod["name"])
    )
    placements = {item["taskId"]: item for item in answer.result["placements"]}
    order = list(placements)
    turns = [f"{pod['namespace']}/{pod['name']}" for pod in queue]
    assert sorted(order) == sorted(turns)
    late = []
    for name, pod in zip(turns, queue, strict=True):
        item = placements[name]
        if order[0] != name:
            # Tried again, after all others: there was no node at its turn.
            assert all(oracle.reasons(pod, node) for node in oracle.nodes)
            late.append(name)
            continue
        order.pop(0)
        if "reason" in item:
            assert item["reason"] == oracle.message(pod)
            assert all(oracle.reasons(pod, node) for node in oracle.nodes)
        else:
            assert oracle.reasons(pod, nodes[item["nodeId"]]) == []
            oracle.place(pod, nodes[item["nodeId"]])
    assert sorted(order) == sorted(late)
    pods = dict(zip(turns, queue, strict=True))
    for name in order:
        node = nodes[placements[name]["nodeId"]]
        assert oracle.reasons(pods[name], node) == []
        oracle.place(pods[name], node)
    # Nothing is left out that would fit in the end.
    for name, pod in pods.items():
        if "reason" in placements[name]:
            assert all(oracle.reasons(pod, node) for node in oracle.nodes)


def masks(state: State, found: ClusterProblem) -> list[bytes]:
    told = []
    for number in sorted(set(found.problem.class_of)):
        task_class = found.problem.classes[number]
        feasible = state.feasible(task_class)
        told.append(feasible.tobytes())
        told += [nodes.tobytes() for _, nodes in state.obstacles(task_class)]
        if feasible.any():
            told.append(preference_points(state.rule_of(task_class), feasible).tobytes())
    told += [np.asarray(row).tobytes() for row in state.free]
    told.append(state.places.tobytes())
    return told


@settings(max_examples=300)
@given(clusters(), st.data())
def test_remove_is_as_if_never_placed(cluster: dict[str, Any], data: st.DataObject) -> None:
    found = (placement_problem if data.draw(st.booleans()) else repacking_problem)(snapshot(cluster), SELECTION)
    problem = found.problem
    if not problem.class_of:
        return
    state = State(problem, Rulebook(problem))
    untouched = masks(state, found)
    there: list[tuple[int, int]] = []
    for _ in range(data.draw(st.integers(1, 12))):
        if there and data.draw(st.booleans()):
            number, node = there.pop(data.draw(st.integers(0, len(there) - 1)))
            state.remove(problem.classes[number], node)
        else:
            number = data.draw(st.sampled_from(problem.class_of))
            node = data.draw(st.integers(0, len(problem.nodes) - 1))
            state.place(problem.classes[number], node)
            there.append((number, node))
            if data.draw(st.booleans()):
                # What is kept between two choices must follow a removal too.
                state.choose(problem.classes[number], "least-loaded")
        fresh = State(problem, Rulebook(problem))
        for number, node in there:
            fresh.place(problem.classes[number], node)
        assert masks(state, found) == masks(fresh, found)
        for number in set(problem.class_of):
            task_class = problem.classes[number]
            assert state.choose(task_class, "least-loaded") == fresh.choose(task_class, "least-loaded")
    state.reset()
    assert masks(state, found) == untouched
