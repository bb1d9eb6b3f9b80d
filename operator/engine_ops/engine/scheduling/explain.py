"""Why a placement is as it is, as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from engine_ops.api.faults import Fault, InvalidDataError
from engine_ops.api.quantity import format_bytes, format_cpu
from engine_ops.engine.contract import Explanation
from engine_ops.engine.scheduling.model import Strategy
from engine_ops.engine.scheduling.preferences import preference_points
from engine_ops.engine.scheduling.problem import Problem
from engine_ops.engine.scheduling.state import State
from engine_ops.engine.scheduling.wording import count_list, reasons_by_node, removed_counts

_NONE = "-"


def explain_one(state: State, strategy: Strategy, result: Mapping[str, Any]) -> Explanation:
    """Return a row for each node: can it hold the task, how does it score, what would its load be.

    Raises
    ------
    InvalidDataError
        If the result names a node that is not in the data.
    """
    problem = state.problem
    task_class, task = problem.classes[0], problem.tasks[0]
    chosen = _node_of(problem, result, "result")
    feasible = state.feasible(task_class)
    reasons = reasons_by_node(state, task_class)
    rule = state.rule_of(task_class)
    points = np.zeros(len(problem.nodes))
    if rule.has_preferences and feasible.any():
        points = preference_points(rule, feasible)
    rows = []
    for i, node in enumerate(problem.nodes):
        mark = "*" if i == chosen else ""
        if not feasible[i]:
            rows.append((node.id + mark, "no", ", ".join(reasons[i]), _NONE, _NONE))
            continue
        why = f"{strategy} {state.score(task_class, i, strategy):.3f}"
        if rule.has_preferences:
            why += f" + preferences {points[i]:.3f}"
        after = [problem.capacity[r, i] - state.free[r][i] + task_class.requests[r] for r in (0, 1)]
        rows.append((node.id + mark, "yes", why, *_amounts(problem, after)))
    notes = [f"{int(feasible.sum())} of {len(rows)} nodes can hold the task."]
    if chosen is not None:
        notes.append("* is the answer. Of equal scores the smallest node id wins.")
        if not feasible[chosen]:
            notes.append(f"The answer's node {problem.nodes[chosen].id} cannot hold the task.")
    return Explanation(
        title=f"task {task.id}: {strategy}, node {result.get('nodeId') or _NONE}",
        headers=("NODE", "FEASIBLE", "WHY", "CPU-AFTER", "MEMORY-AFTER"),
        rows=rows,
        notes=notes,
    )


def explain_many(state: State, strategy: Strategy, result: Mapping[str, Any]) -> Explanation:
    """Return a row for each task, in the order of placement: its node, the score there and what the filters removed.

    Raises
    ------
    InvalidDataError
        If the result and the data do not name the same tasks, or it names a node that is not in the data.
    """
    problem = state.problem
    placements = result.get("placements")
    if not isinstance(placements, Sequence) or isinstance(placements, str):
        raise InvalidDataError([Fault("result.placements", "required, but absent")])
    index = {task.id: i for i, task in enumerate(problem.tasks)}
    rows = []
    misplaced = 0
    removed: dict[int, tuple[int, str]] = {}
    for i, item in enumerate(placements):
        path = f"result.placements[{i}]"
        task = index.pop(item.get("taskId"), None)
        if task is None:
            raise InvalidDataError([Fault(f"{path}.taskId", "names no task of data.tasks, or one named before")])
        node = _node_of(problem, item, path)
        number = problem.class_of[task]
        task_class = problem.classes[number]
        known = removed.get(number)
        if known is None or known[0] != state.placed:
            known = removed[number] = (state.placed, count_list(removed_counts(state, task_class)) or _NONE)
        if node is None:
            rows.append((problem.tasks[task].id, _NONE, _NONE, known[1]))
            continue
        fits = bool(state.feasible(task_class)[node])
        misplaced += not fits
        score = f"{state.score(task_class, node, strategy):.3f}" if fits else "cannot hold it"
        rows.append((problem.tasks[task].id, problem.nodes[node].id, score, known[1]))
        state.place(task_class, node)
    if index:
        missing = next(iter(index))
        raise InvalidDataError([Fault("result.placements", f"{len(index)} tasks are not in it, such as {missing!r}")])
    placed = sum(row[1] != _NONE for row in rows)
    notes = [
        f"{placed} of {len(rows)} tasks are placed.",
        "Scores and removed nodes are those at each task's turn; rows are in the order of placement.",
    ]
    if misplaced:
        notes.append(f"{misplaced} placements break a filter.")
    return Explanation(
        title=f"{len(rows)} tasks on {len(problem.nodes)} nodes: {strategy}",
        headers=("TASK", "NODE", "SCORE", "FILTERED"),
        rows=rows,
        notes=notes,
    )


def _node_of(problem: Problem, item: Mapping[str, Any], path: str) -> int | None:
    name = item.get("nodeId")
    if name is None:
        return None
    for i, node in enumerate(problem.nodes):
        if node.id == name:
            return i
    raise InvalidDataError([Fault(f"{path}.nodeId", f"{name!r} is no node of data.nodes")])


def _amounts(problem: Problem, units: Sequence[int]) -> tuple[str, str]:
    if problem.percent:
        return (f"{problem.amount(0, int(units[0])):g}%", f"{problem.amount(1, int(units[1])):g}%")
    return (format_cpu(problem.amount(0, int(units[0]))), format_bytes(problem.amount(1, int(units[1]))))
