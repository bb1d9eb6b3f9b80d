"""Why no node can hold a task, in kube-scheduler's words."""

from __future__ import annotations

from collections.abc import Mapping

from engine_ops.engine.scheduling.problem import TaskClass
from engine_ops.engine.scheduling.state import State


def removed_counts(state: State, task_class: TaskClass) -> dict[str, int]:
    """Return how many nodes each reason removed for a task of a class; reasons that removed none are left out."""
    counts: dict[str, int] = {}
    for reason, nodes in state.obstacles(task_class):
        removed = int(nodes.sum())
        if removed:
            counts[reason] = counts.get(reason, 0) + removed
    return counts


def count_list(counts: Mapping[str, int]) -> str:
    """Write counts as kube-scheduler does, sorted as texts.

    >>> count_list({"Insufficient cpu": 3, "node(s) had untolerated taint(s)": 2})
    '2 node(s) had untolerated taint(s), 3 Insufficient cpu'
    """
    return ", ".join(sorted(f"{count} {reason}" for reason, count in counts.items()))


def unavailable(state: State, task_class: TaskClass) -> str:
    """Return kube-scheduler's sentence for a task of a class that no node can hold."""
    counts = removed_counts(state, task_class)
    return f"0/{len(state.problem.nodes)} nodes are available: {count_list(counts)}."


def reasons_by_node(state: State, task_class: TaskClass) -> list[list[str]]:
    """Return for each node why it cannot hold a task of a class; nothing where it can."""
    reasons: list[list[str]] = [[] for _ in state.problem.nodes]
    for reason, nodes in state.obstacles(task_class):
        for node in nodes.nonzero()[0].tolist():
            reasons[node].append(reason)
    return reasons
