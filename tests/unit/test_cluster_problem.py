"""From snapshots to problems: what is placed, what stays, what is not modelled, and what is selected."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine_ops.api.faults import InvalidDataError
from engine_ops.engine.cluster.live_rules import read_rules
from engine_ops.engine.cluster.problem import ClusterProblem, placement_problem, repacking_problem
from engine_ops.engine.cluster.records import ClusterSnapshot, HostPort, NodeRecord, PodKind, PodRecord, snapshot_of
from engine_ops.engine.cluster.selecting import parse_field_selector
from engine_ops.engine.cluster.selection import ClusterSelection
from engine_ops.engine.scheduling.rulebook import Rulebook
from engine_ops.engine.scheduling.subjects import Port

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def kind(namespace: str = "ns", **fields: Any) -> PodKind:
    return PodKind(namespace, fields.pop("labels", {}), fields.pop("requests", {"cpu": 100}), **fields)


def node(name: str, **fields: Any) -> NodeRecord:
    return NodeRecord(name, fields.pop("labels", {}), {"cpu": 1000, "memory": 2**30, "pods": 10}, **fields)


def pod(name: str, where: str = "", of: PodKind | None = None, **fields: Any) -> PodRecord:
    return PodRecord(name, "", where, of if of is not None else kind(), **fields)


def snapshot(pods: list[PodRecord], nodes: list[NodeRecord] | None = None, **namespaces: Any) -> ClusterSnapshot:
    return snapshot_of(nodes if nodes is not None else [node("a"), node("b")], pods, namespaces)


def select(**fields: Any) -> ClusterSelection:
    return ClusterSelection.model_validate(fields)


def names(found: ClusterProblem) -> list[str]:
    return [task.id for task in found.problem.tasks]


def test_pending_pods_queue_by_priority_then_age_then_name() -> None:
    urgent = kind(priority=5)
    pods = [
        pod("late", created="2026-01-02"),
        pod("b", created="2026-01-01"),
        pod("a", created="2026-01-01"),
        pod("urgent", of=urgent, created="2026-01-03"),
    ]
    found = placement_problem(snapshot(pods), select())
    assert names(found) == ["ns/urgent", "ns/a", "ns/b", "ns/late"]
    assert [task.priority for task in found.problem.tasks] == [5, 0, 0, 0]


def test_pods_on_nodes_are_fixed_and_their_rows_told() -> None:
    found = placement_problem(snapshot([pod("x"), pod("y", "b"), pod("z", "a")]), select())
    assert names(found) == ["ns/x"]
    assert [node for _, node in found.problem.fixed] == [1, 0]
    assert list(found.fixed_rows) == [1, 2]
    assert found.cluster == {"nodes": 2, "pods": 3, "pending": 1}
    assert found.problem.places.tolist() == [10, 10]


def test_pods_on_nodes_that_are_gone_and_pending_ones_on_their_way_out_are_left_out() -> None:
    found = placement_problem(snapshot([pod("x", "gone"), pod("y", terminating=True)]), select())
    assert names(found) == []
    assert found.problem.fixed == []


def test_repacking_moves_only_what_may_move() -> None:
    pods = [
        pod("app", "a"),
        pod("daemon", "a", kind(owner_kind="DaemonSet", owner_name="d")),
        pod("static", "a", kind(static=True)),
        pod("volume", "a", kind(not_modelled=("volumes",))),
        pod("going", "a", terminating=True),
        pod("other", "a", kind("elsewhere")),
        pod("closed", "b"),
        pod("pending"),
    ]
    selection = select(pods={"namespaces": ["ns"]}, nodes={"fieldSelector": "metadata.name!=b"})
    found = repacking_problem(snapshot(pods), selection)
    assert names(found) == ["ns/app"]
    assert list(found.current) == [0]
    assert len(found.problem.fixed) == 6
    assert found.problem.closed is not None
    assert found.problem.closed.tolist() == [False, True]
    assert found.not_modelled == [{"feature": "volumes", "pods": 1, "example": "ns/volume"}]


def test_pods_of_kinds_alike_are_one_class() -> None:
    # Labels that no selector looks at, such as those a StatefulSet gives each pod, make no difference.
    pods = [pod(f"p{i}", "a", kind(labels={"pod-name": str(i)})) for i in range(20)]
    found = repacking_problem(snapshot(pods), select())
    assert len(found.problem.classes) == 1
    term = {"topologyKey": "host", "labelSelector": {"matchLabels": {"pod-name": "3"}}}
    rules = json.dumps({"affinity": {"podAntiAffinity": {REQUIRED: [term]}}})
    found = repacking_problem(snapshot([*pods, pod("hermit", "b", kind(rules=rules))]), select())
    assert len(found.problem.classes) == 21


def test_terminating_pods_are_a_kind_of_their_own() -> None:
    found = placement_problem(snapshot([pod("x", "a"), pod("y", "a", terminating=True)]), select())
    assert [found.problem.rules[found.problem.classes[n].rules].terminating for n, _ in found.problem.fixed] == [
        False,
        True,
    ]


def test_what_a_node_does_not_offer_is_zero() -> None:
    gpu = kind(requests={"cpu": 100, "example.com/gpu": 1000})
    bare = NodeRecord("bare", {}, {})
    found = placement_problem(snapshot([pod("x", of=gpu)], [node("a"), bare]), select())
    assert found.problem.resources == ("cpu", "memory", "example.com/gpu")
    assert found.problem.capacity.tolist() == [[1000, 0], [2**30, 0], [0, 0]]
    assert found.problem.places.tolist() == [10, 0]


def test_not_modelled_pending_pods_are_left_out_by_name() -> None:
    pods = [
        pod("v", of=kind(not_modelled=("resourceClaims", "volumes"))),
        pod("w", "a", kind(not_modelled=("volumes",))),
    ]
    found = placement_problem(snapshot(pods), select())
    assert names(found) == []
    assert [(item.id, item.reason) for item in found.unmodelled] == [("ns/v", "not modelled: resourceClaims, volumes")]
    assert [(item["feature"], item["pods"]) for item in found.not_modelled] == [("resourceClaims", 1), ("volumes", 2)]


def test_rules_that_cannot_be_read_make_a_pod_not_modelled() -> None:
    odd = kind(rules=json.dumps({"affinity": {"podAffinity": {REQUIRED: 7}}, "nodeSelector": {"disk": "ssd"}}))
    found = placement_problem(snapshot([pod("odd", of=odd)]), select())
    assert [item.reason for item in found.unmodelled] == ["not modelled: affinity"]
    assert read_rules(odd.rules).node_selector == {"disk": "ssd"}


def test_parts_of_an_affinity_are_read_by_themselves() -> None:
    anti = {REQUIRED: [{"topologyKey": "host"}]}
    prefer = [{"weight": 1, "preference": {"matchExpressions": [{"key": "k", "operator": "Gt", "values": ["x"]}]}}]
    written = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": prefer}, "podAntiAffinity": anti}
    rules = read_rules(json.dumps({"affinity": written}))
    assert rules.unread == ("affinity",)
    assert rules.affinity is not None
    assert rules.affinity.pod_anti_affinity is not None
    for odd in (7, {"nodeAffinity": 7}, {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [7]}}}):
        assert read_rules(json.dumps({"affinity": odd})).unread == ("affinity",)


def test_terms_that_kube_scheduler_cannot_parse_choose_no_node() -> None:
    def placed_by(*terms: dict[str, Any]) -> list[bool]:
        alternatives = [{"matchExpressions": [term]} for term in terms]
        written = {"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": alternatives}}}}
        there = [node("a", labels={"n": "5"}), node("b")]
        found = placement_problem(snapshot([pod("x", of=kind(rules=json.dumps(written)))], there), select())
        assert found.unmodelled == []
        admitted: list[bool] = Rulebook(found.problem).rules[0].static.tolist()
        return admitted

    no_number = {"key": "n", "operator": "Lt", "values": ["x"]}
    no_label = {"key": "n", "operator": "NotIn", "values": ["in valid"]}
    assert placed_by(no_number) == [False, False]
    assert placed_by(no_label) == [False, False]
    assert placed_by(no_number, {"key": "n", "operator": "Gt", "values": ["4"]}) == [True, False]


def test_fields_of_a_newer_api_are_left_out_at_any_depth() -> None:
    term = {"topologyKey": "host", "labelSelector": {"matchLabels": {"a": "b"}, "newer": {"x": 1}}, "newest": 2}
    written = {
        "affinity": {"podAntiAffinity": {REQUIRED: [term]}, "futureAffinity": {}},
        "tolerations": [{"operator": "Exists", "later": True}, {"key": "k", "value": None}],
    }
    rules = read_rules(json.dumps(written))
    assert rules.unread == ()
    assert rules.affinity is not None
    assert rules.affinity.pod_anti_affinity is not None
    read = rules.affinity.pod_anti_affinity.required_during_scheduling_ignored_during_execution[0]
    assert read.label_selector is not None
    assert read.label_selector.match_labels == {"a": "b"}
    assert [toleration.operator for toleration in rules.tolerations] == ["Exists", "Equal"]


def test_host_ports_reach_the_rules() -> None:
    found = placement_problem(snapshot([pod("x", of=kind(host_ports=(HostPort("10.0.0.1", "UDP", 53),)))]), select())
    assert found.problem.rules[0].ports == [Port("10.0.0.1", "UDP", 53)]


@pytest.mark.parametrize(
    ("pods", "chosen"),
    [
        ({"namespaces": ["red"]}, ["red/x"]),
        ({"namespaceSelector": {"matchLabels": {"team": "t"}}}, ["blue/x"]),
        # The snapshot does not describe red, but every namespace has this label.
        ({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "red"}}}, ["red/x"]),
        ({"labelSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}}, ["blue/x"]),
        ({"fieldSelector": "metadata.name=y"}, ["green/y"]),
        ({"fieldSelector": "metadata.namespace!=red,metadata.name==x"}, ["blue/x"]),
        ({"fieldSelector": "spec.nodeName="}, ["blue/x", "green/y", "red/x"]),
        ({"fieldSelector": "spec.nodeName=a"}, []),
        ({"namespaces": ["nobody"]}, []),
        ({}, ["blue/x", "green/y", "red/x"]),
    ],
)
def test_selected_pods(pods: dict[str, Any], chosen: list[str]) -> None:
    there = [pod("x", of=kind("red")), pod("x", of=kind("blue", labels={"app": "a"})), pod("y", of=kind("green"))]
    known = {"blue": {"team": "t"}, "green": {}}
    assert names(placement_problem(snapshot(there, **known), select(pods=pods))) == chosen


@pytest.mark.parametrize(
    ("nodes", "usable"),
    [
        ({"labelSelector": {"matchLabels": {"disk": "ssd"}}}, [True, False]),
        ({"fieldSelector": "spec.unschedulable=false"}, [True, False]),
        ({"fieldSelector": "metadata.name!=a"}, [False, True]),
        ({"fieldSelector": "metadata.name=c"}, [False, False]),
    ],
)
def test_selected_nodes(nodes: dict[str, Any], usable: list[bool]) -> None:
    there = [node("a", labels={"disk": "ssd"}), node("b", unschedulable=True)]
    found = placement_problem(snapshot([], there), select(nodes=nodes))
    assert found.problem.closed is not None
    assert (~found.problem.closed).tolist() == usable
    assert found.usable_nodes == sum(usable)


@pytest.mark.parametrize(
    ("nodes", "pods", "paths"),
    [
        ("status.phase=Running", "", {"nodes"}),
        ("metadata.name", "", {"nodes"}),
        ("", "metadata.name=a=b", {"pods"}),
        ("metadata.labels=x", r"metadata.name=\x", {"nodes", "pods"}),
    ],
)
def test_bad_field_selectors_are_named(nodes: str, pods: str, paths: set[str]) -> None:
    with pytest.raises(InvalidDataError) as caught:
        placement_problem(snapshot([]), select(nodes={"fieldSelector": nodes}, pods={"fieldSelector": pods}))
    assert {fault.path for fault in caught.value.faults} == {
        f"spec.dataFrom.cluster.{name}.fieldSelector" for name in paths
    }


def test_field_selectors_take_literals() -> None:
    assert parse_field_selector(r"metadata.name=a\,b\=c\\,metadata.name!=d,", ("metadata.name",)) == (
        ("metadata.name", True, "a,b=c\\"),
        ("metadata.name", False, "d"),
    )
