"""A repacking in the user's words and numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from engine_ops.api.quantity import format_bytes, format_cpu
from engine_ops.engine.cluster.problem import ClusterProblem
from engine_ops.engine.cluster.records import ClusterSnapshot
from engine_ops.engine.cluster.repack_bound import RepackBound
from engine_ops.engine.cluster.repack_devices import devices_there
from engine_ops.engine.cluster.repack_question import RepackQuestion
from engine_ops.engine.cluster.repack_wording import plural
from engine_ops.engine.contract import Answer
from engine_ops.engine.scheduling.devices import Devices
from engine_ops.engine.scheduling.problem import IntArray
from engine_ops.engine.units import base_amount

INSTANCE_TYPE = "node.kubernetes.io/instance-type"
"""The label that names a node's type."""


@dataclasses.dataclass(frozen=True, slots=True)
class RepackContext:
    """A question, and what its numbers stand for.

    Parameters
    ----------
    snapshot
        The cluster.
    cluster
        The problem of the snapshot's pods.
    question
        The question.
    """

    snapshot: ClusterSnapshot
    cluster: ClusterProblem
    question: RepackQuestion

    def pods_on(self, node_of: Sequence[int]) -> list[list[int]]:
        """Return for each node the pods on it, indices of ``snapshot.pods``, when each task is on the given node.

        Parameters
        ----------
        node_of
            The node of each task.
        """
        pods: list[list[int]] = [[] for _ in self.cluster.problem.nodes]
        for row, node in zip(self.cluster.task_rows, node_of, strict=True):
            pods[node].append(row)
        for row, (_, node) in zip(self.cluster.fixed_rows, self.cluster.problem.fixed, strict=True):
            pods[node].append(row)
        for rows in pods:
            rows.sort()
        return pods

    def free(self, node_of: Sequence[int]) -> IntArray:
        """Return (resources, nodes) what each node has free when each task is on the given node; negative if short."""
        problem = self.cluster.problem
        free = problem.capacity - problem.load
        requests = np.array([c.requests for c in problem.classes], np.int64).reshape(-1, len(problem.resources))
        numbers = [*problem.class_of, *(number for number, _ in problem.fixed)]
        nodes = [*node_of, *(node for _, node in problem.fixed)]
        if nodes:
            np.subtract.at(free.T, np.array(nodes, np.int64), requests[np.array(numbers, np.int64)])
        return free

    def type_of(self, node: int) -> str:
        """Return a node's instance type, or its size where it has no such label."""
        record = self.snapshot.nodes[node]
        named = record.labels.get(INSTANCE_TYPE)
        if named:
            return named
        cpu, memory = (base_amount(name, record.allocatable.get(name, 0)) for name in ("cpu", "memory"))
        return f"{format_cpu(cpu)} cpu, {format_bytes(memory)}"


def build_answer(
    context: RepackContext, node_of: Sequence[int], devices: Sequence[Devices], bound: RepackBound, algorithm: str
) -> Answer:
    """Write a repacking as the answer to a request.

    Parameters
    ----------
    node_of
        The node of each task.
    devices
        The devices of each task.
    bound
        Proven for the question.
    algorithm
        The name of what made it.
    """
    question, cluster = context.question, context.cluster
    now, after = question.in_use(question.home), question.in_use(node_of)
    names = cluster.node_names
    count, current = int(after.sum()), int(now.sum())
    moves = sum(node != home for node, home in zip(node_of, question.home, strict=True))
    empty = [names[node] for node in (now & ~after).nonzero()[0].tolist()]
    gap = 0.0 if count == bound.nodes else (count - bound.nodes) / bound.nodes if bound.nodes else None
    counts = {
        "nodeCount": count,
        "currentNodeCount": current,
        "lowerBound": bound.nodes,
        "gap": gap,
        "moves": moves,
        "algorithm": algorithm,
    }
    result: dict[str, Any] = {
        "nodes": _nodes(context, node_of, devices, after.nonzero()[0].tolist()),
        "unplacedItems": [],
        "emptyNodes": empty,
        **counts,
        "notModelled": list(cluster.not_modelled),
        "cluster": dict(cluster.cluster),
    }
    idle = cluster.usable_nodes - current - int((after & ~now).sum())
    message = _message(counts, len(empty), idle, len(node_of))
    if cluster.cluster["nodes"] and not cluster.usable_nodes:
        message = f"spec.dataFrom.cluster.nodes selects none of the {plural(cluster.cluster['nodes'], 'node')}"
    return Answer(
        result=result,
        algorithm=algorithm,
        message=message,
        score=1.0 if count == bound.nodes else bound.nodes / count,
        summary={**counts, "emptyNodeCount": len(empty)},
        objective=float(count),
        lower_bound=float(bound.nodes),
        gap=gap,
    )


def _nodes(
    context: RepackContext, node_of: Sequence[int], devices: Sequence[Devices], used: Sequence[int]
) -> list[dict[str, Any]]:
    snapshot = context.snapshot
    pods, free = context.pods_on(node_of), context.free(node_of)
    cpu, memory = free[0].tolist(), free[1].tolist()
    named = _named_devices(context, node_of, devices)
    return [
        {
            "id": snapshot.nodes[node].name,
            "type": context.type_of(node),
            "cpuAvailable": base_amount("cpu", cpu[node]),
            "memoryAvailable": base_amount("memory", memory[node]),
            "items": [
                {"id": snapshot.pod_id(snapshot.pods[row]), "count": 1, **named.get(row, {})} for row in pods[node]
            ],
        }
        for node in used
    ]


def _named_devices(
    context: RepackContext, node_of: Sequence[int], devices: Sequence[Devices]
) -> dict[int, dict[str, list[int]]]:
    """Return what items say of devices, by pod."""
    cluster, problem = context.cluster, context.cluster.problem
    if not problem.devices:
        return {}
    tasks = zip(cluster.task_rows, problem.class_of, node_of, devices, strict=True)
    fixed = (
        (row, number, node, own)
        for row, (number, node), own in zip(
            cluster.fixed_rows, problem.fixed, context.question.devices.of_fixed, strict=True
        )
    )
    return {
        row: {"devices": devices_there(problem, problem.classes[number], node, own)}
        for row, number, node, own in (*tasks, *fixed)
        if own
    }


def _message(counts: Mapping[str, Any], emptied: int, idle: int, tasks: int) -> str:
    count, current, gap = counts["nodeCount"], counts["currentNodeCount"], counts["gap"]
    if not current:
        return "no node is in use by pods other than those of DaemonSets"
    if count == current:
        text = f"{plural(current, 'node')} in use, and no fewer were found to do"
        if gap == 0:
            text = f"{plural(current, 'node')} in use, and no fewer would do"
    else:
        text = f"{count:,} of {plural(current, 'node')} in use would do"
    text += f" (lower bound {counts['lowerBound']:,}"
    text += ": proven optimal)" if gap == 0 else f", gap {100 * gap:.1f} %)" if gap is not None else ")"
    if emptied:
        text += f"; {emptied:,} would be empty; {counts['moves']:,} of {plural(tasks, 'pod')} move"
    if idle:
        text += f"; {plural(idle, 'more node')} {'is' if idle == 1 else 'are'} empty already"
    return text
