"""A question about a live cluster in the words of one that names its tasks and nodes itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine_ops.engine.cluster.placement import PlacementQuestion
from engine_ops.engine.cluster.records import ClusterSnapshot
from engine_ops.engine.scheduling.problem import Problem
from engine_ops.engine.scheduling.subjects import Rules


def describe(question: PlacementQuestion, snapshot: ClusterSnapshot) -> dict[str, Any]:
    """Return ``{tasks, nodes}`` in the shapes of type ``scheduling``, or ``{task, nodes}`` for one that was given.

    Loads are what the pods on a node ask for. What such data cannot say is not in it: the pods themselves, whose
    company affinity and spread look at, and ports. Nodes that the request leaves out are not in it either.

    Parameters
    ----------
    question
        Made of the snapshot.
    snapshot
        The cluster.

    Returns
    -------
    dict
        JSON values. The lists may be empty.
    """
    problem = question.found.problem
    rules = [_rules(found) for found in problem.rules]
    tasks = []
    for number, task in enumerate(problem.tasks):
        task_class = problem.classes[problem.class_of[number]]
        written: dict[str, Any] = {"id": task.id, **_amounts(problem, task_class.requests, "Required")}
        if task.priority:
            written["priority"] = task.priority
        row = question.found.task_rows[number]
        labels = snapshot.kinds[snapshot.pods[row].kind].labels if row >= 0 else problem.rules[task_class.rules].labels
        if labels:
            written["labels"] = labels
        tasks.append(written | rules[task_class.rules])
    return {**({"task": tasks[0]} if question.single else {"tasks": tasks}), "nodes": _nodes(problem)}


def _nodes(problem: Problem) -> list[dict[str, Any]]:
    load = problem.load.copy()
    pods = np.zeros(len(problem.nodes), np.int64)
    for number, node in problem.fixed:
        load[:, node] += problem.classes[number].requests
        pods[node] += 1
    nodes = []
    for number, ref in enumerate(problem.nodes):
        if problem.closed is not None and problem.closed[number]:
            continue
        offered = problem.capacity[:, number].tolist()
        capacity: dict[str, Any] = {
            name: problem.amount(place, offered[place]) for place, name in enumerate(("cpu", "memory"))
        }
        capacity["pods"] = int(problem.places[number])
        further = {
            name: problem.amount(place, offered[place])
            for place, name in enumerate(problem.resources)
            if place > 1 and offered[place]
        }
        written: dict[str, Any] = {
            "id": ref.id,
            **_amounts(problem, load[:, number].tolist(), "Load"),
            "podCount": int(pods[number]),
            "capacity": {
                **capacity,
                "pods": int(problem.places[number]),
                **({"resources": further} if further else {}),
            },
        }
        if ref.labels:
            written["labels"] = dict(ref.labels)
        if ref.taints:
            written["taints"] = [{"key": t.key, "value": t.value, "effect": t.effect} for t in ref.taints]
        if ref.unschedulable:
            written["unschedulable"] = True
        nodes.append(written)
    return nodes


def _amounts(problem: Problem, units: Any, suffix: str) -> dict[str, Any]:
    """Write amounts as ``cpuRequired``, ``memoryRequired`` and ``resourcesRequired``, or with another suffix."""
    amounts: dict[str, Any] = {
        f"{name}{suffix}": problem.amount(place, int(units[place])) for place, name in enumerate(("cpu", "memory"))
    }
    further = {
        name: problem.amount(place, int(units[place]))
        for place, name in enumerate(problem.resources)
        if place > 1 and units[place]
    }
    if further:
        amounts["resourceLoads" if suffix == "Load" else f"resources{suffix}"] = further
    return amounts


def _rules(rules: Rules) -> dict[str, Any]:
    written = {
        "nodeSelector": dict(rules.node_selector),
        "affinity": None if rules.affinity is None else rules.affinity.to_manifest(),
        "tolerations": [toleration.to_manifest() for toleration in rules.tolerations],
        "topologySpreadConstraints": [constraint.to_manifest() for constraint in rules.topology_spread_constraints],
    }
    return {name: value for name, value in written.items() if value}
