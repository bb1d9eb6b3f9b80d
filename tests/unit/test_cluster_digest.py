from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_ops.engine.cluster.decode import RecordDecoder
from engine_ops.engine.cluster.digest import digest
from engine_ops.engine.cluster.records import ClusterSnapshot, snapshot_of
from engine_ops.engine.cluster.selection import ClusterSelection

Json = dict[str, Any]
TYPES = ("scheduling", "resource")

ANTI = {
    "podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [
            {
                "topologyKey": "rack",
                "labelSelector": {"matchExpressions": [{"key": "tier", "operator": "Exists"}]},
                "namespaceSelector": {"matchLabels": {"team": "a"}},
            }
        ]
    },
    "nodeAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 1, "preference": {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}}
        ]
    },
}


def node(name: str) -> Json:
    labels = {"zone": "a", "rack": "r1", "disk": "ssd", "unused": "x", "arch": "amd64"}
    return {
        "metadata": {"name": name, "labels": labels, "uid": name},
        "spec": {"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]},
        "status": {"allocatable": {"cpu": "8", "memory": "16Gi", "pods": "10"}},
    }


def pod(name: str, on: str = "", **spec: Any) -> Json:
    return {
        "metadata": {
            "name": name,
            "namespace": "ns",
            "uid": name,
            "labels": {"app": "a", "tier": "web", "hash": "1"},
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {
            "nodeName": on,
            "containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}],
            "nodeSelector": {"arch": "amd64"},
            "affinity": ANTI,
            **spec,
        },
    }


def cluster() -> Json:
    return {
        "nodes": [node("n1"), node("n2")],
        "pods": [pod("r1", "n1"), pod("r2", "n1"), pod("r3", "n2"), pod("p1"), pod("p2")],
        "namespaces": {"ns": {"team": "a", "idle": "x"}, "empty": {"team": "b"}},
    }


def snapshot(content: Json) -> ClusterSnapshot:
    decoder = RecordDecoder()
    nodes = [decoder.node(msgspec.json.encode(item)) for item in content["nodes"]]
    pods = [decoder.pod(msgspec.json.encode(item)) for item in content["pods"]]
    return snapshot_of(nodes, [item for item in pods if item is not None], content["namespaces"])


def hashed(content: Json, type_: str = "scheduling", data: Json | None = None, **selection: Any) -> str:
    return digest(snapshot(content), ClusterSelection.model_validate(selection), type_, data)


def changed(change: Callable[[Json], object]) -> Json:
    content = copy.deepcopy(cluster())
    change(content)
    assert content != cluster()
    return content


def at(*path: Any) -> Callable[[Any], Any]:
    def go(value: Any) -> Any:
        for part in path:
            value = value[part]
        return value

    return go


def put(*path: Any, to: Any) -> Callable[[Json], None]:
    def change(content: Json) -> None:
        at(*path[:-1])(content)[path[-1]] = to

    return change


META = ("pods", 0, "metadata")
PENDING = ("pods", 3)

UNIMPORTANT = {
    "a label of a node that no rule looks at": put("nodes", 0, "metadata", "labels", "unused", to="y"),
    "another such label": put("nodes", 0, "metadata", "labels", "new", to="y"),
    "a label of a pod that no rule looks at": put(*META, "labels", "hash", to="2"),
    "the uid of a pod": put(*META, "uid", to="other"),
    "the age of a running pod": put(*META, "creationTimestamp", to="2025-01-01T00:00:00Z"),
    "the owner of a pod": put(*META, "ownerReferences", to=[{"kind": "ReplicaSet", "name": "x", "controller": True}]),
    "an annotation": put(*META, "annotations", to={"a": "b"}),
    "a label of a namespace that no rule looks at": put("namespaces", "ns", "idle", to="y"),
    "a namespace without pods": put("namespaces", "empty", "team", to="a"),
    "a pod on a node that is not there": lambda c: c["pods"].append(pod("r9", "n9")),
    "a finished pod": lambda c: c["pods"].append(pod("r9", "n1") | {"status": {"phase": "Failed"}}),
    "a zero request": put(*PENDING, "spec", "containers", 0, "resources", "requests", to={"cpu": "1", "memory": "0"}),
}

IMPORTANT = {
    "allocatable": put("nodes", 0, "status", "allocatable", "cpu", to="9"),
    "a taint": put("nodes", 0, "spec", "taints", 0, "value", to="w"),
    "a cordon": put("nodes", 0, "spec", "unschedulable", to=True),
    "a node more": lambda c: c["nodes"].append(node("n3")),
    "a node less": lambda c: c["nodes"].pop(),
    "a node's name": put("nodes", 1, "metadata", "name", to="n3"),
    "a label for a node selector": put("nodes", 0, "metadata", "labels", "arch", to="arm64"),
    "a label for node affinity": put("nodes", 0, "metadata", "labels", "disk", to="hdd"),
    "a label that is a topology": put("nodes", 0, "metadata", "labels", "rack", to="r2"),
    "such a label gone": lambda c: c["nodes"][0]["metadata"]["labels"].pop("rack"),
    "a request of a running pod": put("pods", 0, "spec", "containers", 0, "resources", "requests", "cpu", to="2"),
    "where a pod runs": put("pods", 0, "spec", "nodeName", to="n2"),
    "a running pod more": lambda c: c["pods"].append(pod("r9", "n1")),
    "a running pod less": lambda c: c["pods"].pop(0),
    "a running pod on its way out": put(*META, "deletionTimestamp", to="2026-01-01T00:00:00Z"),
    "a label of a running pod that a rule looks at": put(*META, "labels", "tier", to="db"),
    "a host port": put("pods", 0, "spec", "containers", 0, "ports", to=[{"hostPort": 1}]),
    "a rule of a running pod": put("pods", 0, "spec", "tolerations", to=[{"operator": "Exists"}]),
    "a label of a namespace that a rule looks at": put("namespaces", "ns", "team", to="b"),
    "a volume": put("pods", 0, "spec", "volumes", to=[{"persistentVolumeClaim": {}}]),
}

PENDING_CHANGES = {
    "a pending pod more": lambda c: c["pods"].append(pod("p9")),
    "a pending pod less": lambda c: c["pods"].pop(),
    "a request of a pending pod": put(*PENDING, "spec", "containers", 0, "resources", "requests", "cpu", to="2"),
    "a rule of a pending pod": put(*PENDING, "spec", "tolerations", to=[{"operator": "Exists"}]),
    "the name of a pending pod": put(*PENDING, "metadata", "name", to="p0"),
    "the order of the queue by age": put(*PENDING, "metadata", "creationTimestamp", to="2027-01-01T00:00:00Z"),
    "the order of the queue by priority": put("pods", 4, "spec", "priority", to=5),
    "a pending pod on its way out": put(*PENDING, "metadata", "deletionTimestamp", to="2026-01-01T00:00:00Z"),
}


@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("change", UNIMPORTANT.values(), ids=UNIMPORTANT.keys())
def test_unimportant_changes(change: Callable[[Json], object], type_: str) -> None:
    assert hashed(changed(change), type_) == hashed(cluster(), type_)


@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("change", IMPORTANT.values(), ids=IMPORTANT.keys())
def test_important_changes(change: Callable[[Json], object], type_: str) -> None:
    assert hashed(changed(change), type_) != hashed(cluster(), type_)


@pytest.mark.parametrize("change", PENDING_CHANGES.values(), ids=PENDING_CHANGES.keys())
def test_pending_pods_matter_where_they_are_placed(change: Callable[[Json], object]) -> None:
    after = changed(change)
    assert hashed(after) != hashed(cluster())
    assert hashed(after, "resource") == hashed(cluster(), "resource")
    others = {"pods": {"namespaces": ["other"]}}
    assert hashed(after, **others) == hashed(cluster(), **others)
    tasks = {"tasks": [{"id": "t", "cpuRequired": 1, "memoryRequired": 0}]}
    assert hashed(after, data=tasks) == hashed(cluster(), data=tasks)
    workload = {"workload": {"name": "ns/w", "count": 1, "pod": pod("w")}}
    assert hashed(after, **workload) == hashed(cluster(), **workload)


def test_names_of_running_pods_matter_where_they_are_moved() -> None:
    after = changed(put(*META, "name", to="r0"))
    assert hashed(after) == hashed(cluster())
    assert hashed(after, "resource") != hashed(cluster(), "resource")
    others = {"pods": {"fieldSelector": "metadata.namespace!=ns"}}
    assert hashed(after, "resource", **others) == hashed(cluster(), "resource", **others)


@pytest.mark.parametrize(
    ("selection", "data"),
    [
        ({"nodes": {"labelSelector": {"matchLabels": {"unused": "x"}}}}, None),
        ({"workload": {"name": "ns/w", "count": 1, "pod": pod("w", nodeSelector={"unused": "x"})}}, None),
        ({}, {"task": {"id": "t", "nodeSelector": {"unused": "x"}}}),
        ({}, {"tasks": [{"id": "t", "topologySpreadConstraints": [{"topologyKey": "unused"}]}]}),
    ],
)
def test_labels_that_the_question_itself_looks_at(selection: Json, data: Json | None) -> None:
    after = changed(put("nodes", 0, "metadata", "labels", "unused", to="y"))
    assert hashed(after, data=data, **selection) != hashed(cluster(), data=data, **selection)


def test_labels_by_which_pods_are_selected() -> None:
    selection = {"pods": {"labelSelector": {"matchLabels": {"hash": "1"}}}}
    after = changed(put(*PENDING, "metadata", "labels", "hash", to="2"))
    assert hashed(after, **selection) != hashed(cluster(), **selection)
    selection = {"pods": {"namespaceSelector": {"matchLabels": {"idle": "x"}}}}
    after = changed(put("namespaces", "ns", "idle", to="y"))
    assert hashed(after, **selection) != hashed(cluster(), **selection)
    assert hashed(after, "resource", **selection) != hashed(cluster(), "resource", **selection)


def test_the_question_matters() -> None:
    assert hashed(cluster()) != hashed(cluster(), "resource")
    assert hashed(cluster()) != hashed(cluster(), pods={"labelSelector": {"matchLabels": {"app": "a"}}})
    assert hashed(cluster(), data={"tasks": [1]}) != hashed(cluster(), data={"tasks": [2]})


def test_a_selection_that_cannot_be_read_has_a_digest() -> None:
    """It is for the solver to say what is wrong with it."""
    assert hashed(cluster(), nodes={"fieldSelector": "status.phase"}) != hashed(cluster())


def test_it_is_short_and_the_same_in_every_process() -> None:
    empty = digest(ClusterSnapshot([], [], []), ClusterSelection(), "scheduling")
    assert empty == digest(ClusterSnapshot([], [], []), ClusterSelection(), "scheduling")
    assert len(empty) == 32
    assert int(empty, 16) >= 0


@given(st.data())
def test_order_makes_no_difference(draw: st.DataObject) -> None:
    content = cluster()
    for key in ("nodes", "pods"):
        content[key] = draw.draw(st.permutations(content[key]))
    shuffled = snapshot(content)
    numbers = draw.draw(st.permutations(range(len(shuffled.kinds))))
    # The kinds in another order, too, and each pod a kind of its own.
    apart = ClusterSnapshot(
        shuffled.nodes,
        [shuffled.kinds[number] for number in numbers] + [shuffled.kinds[row.kind] for row in shuffled.pods],
        [
            msgspec.structs.replace(
                row, kind=len(numbers) + place if draw.draw(st.booleans()) else numbers.index(row.kind)
            )
            for place, row in enumerate(shuffled.pods)
        ],
        dict(reversed(shuffled.namespaces.items())),
    )
    for type_ in TYPES:
        assert digest(apart, ClusterSelection(), type_) == hashed(cluster(), type_)


@given(st.sampled_from(["zone", "rack", "disk", "unused", "arch", "other"]), st.integers(0, 1))
def test_a_label_matters_exactly_when_a_rule_looks_at_it(key: str, number: int) -> None:
    after = changed(put("nodes", number, "metadata", "labels", key, to="another"))
    for type_ in TYPES:
        assert (hashed(after, type_) != hashed(cluster(), type_)) == (key in {"rack", "disk", "arch"})
