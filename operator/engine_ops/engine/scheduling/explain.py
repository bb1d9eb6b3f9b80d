"""Why a placement is as it is, as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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

NONE = "-"
"""In a cell that has nothing to say."""
MAX_ROWS = 500
"""Of so many tasks each has a row."""
_FIRST = 50
"""So many tasks with a node have a row where not all have one."""


def explain_one(state: State, strategy: Strategy, result: Mapping[str, Any]) -> Explanation:
    """Return a row for each node: can it hold the task, how does it score, what would its load be.

    Raises
    ------
    InvalidDataError
        If the result names a node that is not in the data.
    """
    problem = state.problem
    task_class, task = problem.classes[0], problem.tasks[0]
    chosen = _node_of({node.id: i for i, node in enumerate(problem.nodes)}, result, "result")
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
            rows.append((node.id + mark, "no", ", ".join(reasons[i]), NONE, NONE))
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
        title=f"task {task.id}: {strategy}, node {result.get('nodeId') or NONE}",
        headers=("NODE", "FEASIBLE", "WHY", "CPU-AFTER", "MEMORY-AFTER"),
        rows=rows,
        notes=notes,
    )


def explain_many(
    state: State, strategy: Strategy, result: Mapping[str, Any], left_out: Mapping[str, str] | None = None
) -> Explanation:
    """Return a row for each task, in the order of placement: its node, the score there and what the filters removed.

    Of more than `MAX_ROWS` tasks those without a node have a row, and the first of the others.

    Parameters
    ----------
    state
        Nothing is placed but what is fixed.
    strategy
        What the scores are of.
    result
        The answer.
    left_out
        Why tasks of the answer that the problem does not have are not placed, by id.

    Raises
    ------
    InvalidDataError
        If the result and the data do not name the same tasks, or it names a node that is not in the data.
    """
    problem = state.problem
    rows = []
    misplaced = placed = total = shown = 0
    removed: dict[int, tuple[int, str]] = {}
    steps = list(replay(problem, result, left_out))
    brief = len(steps) > MAX_ROWS
    for name, task, node, devices in steps:
        total += 1
        if task is None:
            rows.append((name, NONE, NONE, (left_out or {})[name]))
            continue
        number = problem.class_of[task]
        task_class = problem.classes[number]
        placed += node is not None
        fits = node is None or bool(state.feasible(task_class)[node])
        misplaced += not fits
        if not brief or not fits or (node is None and len(rows) < MAX_ROWS) or (node is not None and shown < _FIRST):
            known = removed.get(number)
            if known is None or known[0] != state.placed:
                known = removed[number] = (state.placed, count_list(removed_counts(state, task_class)) or NONE)
            if node is None:
                rows.append((name, NONE, NONE, known[1]))
            else:
                shown += 1
                score = f"{state.score(task_class, node, strategy):.3f}" if fits else "cannot hold it"
                rows.append((name, problem.nodes[node].id, score, known[1]))
        if node is not None:
            place_again(state, task, node, devices)
    notes = [
        f"{placed} of {total} tasks are placed.",
        "Scores and removed nodes are those at each task's turn; rows are in the order of placement.",
    ]
    if brief:
        notes.append(f"{len(rows)} of {total} tasks have a row: those without a node, and the first of the others.")
    if misplaced:
        notes.append(f"{misplaced} placements break a filter.")
    return Explanation(
        title=f"{total} tasks on {len(problem.nodes)} nodes: {strategy}",
        headers=("TASK", "NODE", "SCORE", "FILTERED"),
        rows=rows,
        notes=notes,
    )


def replay(
    problem: Problem, result: Mapping[str, Any], left_out: Mapping[str, str] | None = None
) -> Iterator[tuple[str, int | None, int | None, Any]]:
    """Go through an answer in the order in which it was made.

    Yields
    ------
    tuple of str, int, int and devices
        The task's id; its index, None for one of ``left_out``; its node, None for none; its devices as the answer has
        them, for `place_again`.

    Raises
    ------
    InvalidDataError
        If the answer does not belong to the problem.
    """
    if problem.tasks and "placements" not in result and "nodeId" in result:
        result = {"placements": [{**result, "taskId": problem.tasks[0].id}]}
    placements = result.get("placements")
    if not isinstance(placements, Sequence) or isinstance(placements, str):
        raise InvalidDataError([Fault("result.placements", "required, but absent")])
    index = {task.id: i for i, task in enumerate(problem.tasks)}
    nodes = {node.id: i for i, node in enumerate(problem.nodes)}
    others = set(left_out or ())
    for i, item in enumerate(placements):
        path = f"result.placements[{i}]"
        name = item.get("taskId")
        task = index.pop(name, None)
        if task is None:
            if name not in others:
                raise InvalidDataError([Fault(f"{path}.taskId", "names no task of data.tasks, or one named before")])
            others.discard(name)
            yield name, None, None, None
            continue
        yield name, task, _node_of(nodes, item, path), item.get("devices")
    if index or others:
        missing = next(iter(index or others))
        count = len(index) + len(others)
        raise InvalidDataError([Fault("result.placements", f"{count} tasks are not in it, such as {missing!r}")])


def place_again(state: State, task: int, node: int, devices: Any) -> None:
    """Place a task as an answer says.

    Raises
    ------
    InvalidDataError
        If the devices are none that the task could have there.
    """
    problem = state.problem
    task_class = problem.classes[problem.class_of[task]]
    if devices is not None:
        counts = []
        for ledger in state.ledgers:
            counts += [int(ledger.pool.counts[node])] * ledger.pool.needed(task_class.requests[ledger.pool.resource])
        known = isinstance(devices, Sequence) and len(devices) == len(counts)
        if not known or not all(
            isinstance(device, int) and 0 <= device < count for device, count in zip(devices, counts, strict=True)
        ):
            where = f"task {problem.tasks[task].id!r} cannot have these devices on node {problem.nodes[node].id}"
            raise InvalidDataError([Fault("result.placements", where)])
    state.place(task_class, node, devices)


def _node_of(nodes: Mapping[str, int], item: Mapping[str, Any], path: str) -> int | None:
    name = item.get("nodeId")
    if name is None:
        return None
    if name not in nodes:
        raise InvalidDataError([Fault(f"{path}.nodeId", f"{name!r} is no node of data.nodes")])
    return nodes[name]


def _amounts(problem: Problem, units: Sequence[int]) -> tuple[str, str]:
    if problem.percent:
        return (f"{problem.amount(0, int(units[0])):g}%", f"{problem.amount(1, int(units[1])):g}%")
    return (format_cpu(problem.amount(0, int(units[0]))), format_bytes(problem.amount(1, int(units[1]))))
