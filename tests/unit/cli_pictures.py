"""Clusters and answers for the tests of pictures."""

from __future__ import annotations

from typing import Any

from engine_ops.engine.cluster.records import ClusterSnapshot, NodeRecord, PodKind, PodRecord, snapshot_of

TYPE = "node.kubernetes.io/instance-type"


def node(name: str, cpu: int = 4000, kind: str = "m5", **allocatable: int) -> NodeRecord:
    amounts = {"cpu": cpu, "memory": 16 * 2**30, "pods": 110, **allocatable}
    return NodeRecord(name, {TYPE: kind} if kind else {}, amounts)


def kind(cpu: int, owner: str = "ReplicaSet", **requests: int) -> PodKind:
    return PodKind("shop", {}, {"cpu": cpu, **requests}, owner_kind=owner)


def pod(name: str, at: str, of: PodKind) -> PodRecord:
    return PodRecord(name, f"uid-{name}", at, of)


def small() -> ClusterSnapshot:
    """Three nodes, a DaemonSet on two of them, two running pods and a pending one."""
    agent, web = kind(400, "DaemonSet"), kind(1000)
    pods = [pod(f"agent-{at}", at, agent) for at in "ab"]
    pods += [pod("web-1", "a", web), pod("web-2", "b", web), pod("web-3", "", web)]
    return snapshot_of([node("a"), node("b"), node("c", kind="c5")], pods, {"shop": {}})


def placed(**nodes: str) -> dict[str, Any]:
    """A result of type scheduling; underscores stand for hyphens."""
    placements = [{"taskId": f"shop/{name.replace('_', '-')}", "nodeId": at} for name, at in nodes.items()]
    return {"placements": placements, "placedCount": len(placements), "unplacedCount": 0}


def repacked(**nodes: list[str]) -> dict[str, Any]:
    """A result of type resource."""
    filled = [
        {"id": name, "items": [{"id": f"shop/{item}", "count": 1} for item in items]} for name, items in nodes.items()
    ]
    return {"nodes": filled, "nodeCount": len(filled), "currentNodeCount": 2, "lowerBound": 1}


def large(count: int) -> tuple[ClusterSnapshot, dict[str, Any]]:
    """Nodes of two types, each with one pod of a quarter, and an answer with four of these on each node in use."""
    quarter = kind(1000)
    names = [f"node-{number:04}" for number in range(count)]
    snapshot = snapshot_of(
        [node(name, kind="m5" if at % 2 else "c5") for at, name in enumerate(names)],
        [pod(f"p-{at}", name, quarter) for at, name in enumerate(names)],
        {},
    )
    packed = {names[at]: [f"p-{at + more}" for more in range(4) if at + more < count] for at in range(0, count, 4)}
    return snapshot, {**repacked(**packed), "currentNodeCount": count}
