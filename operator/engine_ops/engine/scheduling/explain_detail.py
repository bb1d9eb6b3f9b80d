"""What became of one task, and what is on one node, as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from engine_ops.api.faults import Fault, InvalidDataError
from engine_ops.api.quantity import format_bytes, format_cpu
from engine_ops.engine.contract import Explanation
from engine_ops.engine.scheduling.explain import NONE, place_again, replay
from engine_ops.engine.scheduling.model import Strategy
from engine_ops.engine.scheduling.preferences import preference_parts
from engine_ops.engine.scheduling.problem import Problem, TaskClass
from engine_ops.engine.scheduling.state import State
from engine_ops.engine.units import scale_of

_BEST = 5
_EXAMPLES = 3
_MAX_UNPLACED_KINDS = 20


class Held(NamedTuple):
    """What a node holds before anything is placed, as one row of its explanation.

    Parameters
    ----------
    name
        Whose it is.
    tasks
        How many tasks.
    requests
        Units of each resource, all of them together.
    """

    name: str
    tasks: int
    requests: Sequence[int]


def explain_task(
    state: State, strategy: Strategy, result: Mapping[str, Any], task_id: str, left_out: Mapping[str, str] | None = None
) -> Explanation:
    """Explain a task at its turn: the tasks before it are placed as the answer says.

    The table has the best nodes with the parts of their scores, and the notes what the filters removed; where no node
    is left, the table has the filters.

    Raises
    ------
    InvalidDataError
        If the answer does not belong to the problem, or has no such task.
    """
    problem = state.problem
    for name, task, node, devices in replay(problem, result, left_out):
        if name == task_id:
            if task is None:
                return Explanation(f"task {name}: no node", ("TASK", "REASON"), [(name, (left_out or {})[name])])
            return _explain_turn(state, strategy, task, node)
        if task is not None and node is not None:
            place_again(state, task, node, devices)
    raise InvalidDataError([Fault("task", f"{task_id!r} is no task of the answer")])


def _explain_turn(state: State, strategy: Strategy, task: int, node: int | None) -> Explanation:
    problem = state.problem
    task_class = problem.classes[problem.class_of[task]]
    title = f"task {problem.tasks[task].id}: {strategy}, node {NONE if node is None else problem.nodes[node].id}"
    filters = _filters(state, task_class)
    total = len(problem.nodes)
    feasible = state.feasible(task_class)
    if not feasible.any():
        return Explanation(
            title=title,
            headers=("FILTER", "REMOVED", "LEFT", "EXAMPLES"),
            rows=[(reason, str(removed), str(left), examples) for reason, removed, left, examples in filters],
            notes=[f"None of {total} nodes can hold it.", _asked(problem, task_class)],
        )
    able = feasible.nonzero()[0].tolist()
    own = np.zeros(total)
    own[able] = [state.score(task_class, i, strategy) for i in able]
    parts = list(preference_parts(state.rule_of(task_class), feasible))
    sums = own + sum(weight * values for _, weight, values in parts)
    best = sorted(able, key=lambda i: (-round(float(sums[i]), 9), i))
    shown = best[:_BEST]
    if node is not None and node not in shown:
        shown.append(node)
    rows = []
    for i in shown:
        mark = "*" if i == node else ""
        if not feasible[i]:
            rows.append((problem.nodes[i].id + mark, "cannot hold it", *[NONE] * (1 + len(parts))))
            continue
        cells = [f"{float(values[i]):.3f}" for _, _, values in parts]
        rows.append((problem.nodes[i].id + mark, f"{float(sums[i]):.3f}", f"{float(own[i]):.3f}", *cells))
    notes = [
        f"{len(able)} of {total} nodes can hold it; the best {min(_BEST, len(able))} have a row.",
        *(f"{reason}: removed {removed}, {left} left" for reason, removed, left, _ in filters),
        _asked(problem, task_class),
    ]
    if node is not None:
        notes.append("* is the answer. Of equal scores the first node by name wins.")
    return Explanation(
        title=title,
        headers=("NODE", "SCORE", strategy.upper(), *(f"{weight:g} x {name.upper()}" for name, weight, _ in parts)),
        rows=rows,
        notes=notes,
    )


def _filters(state: State, task_class: TaskClass) -> list[tuple[str, int, int, str]]:
    """Return each filter that removes nodes: its words, how many it removes, how many are left, and some of them."""
    nodes = state.problem.nodes
    left = np.ones(len(nodes), bool)
    found = []
    for reason, failed in state.obstacles(task_class):
        removed = failed.nonzero()[0].tolist()
        if not removed:
            continue
        left &= ~failed
        more = ", ..." if len(removed) > _EXAMPLES else ""
        examples = ", ".join(nodes[i].id for i in removed[:_EXAMPLES]) + more
        found.append((reason, len(removed), int(left.sum()), examples))
    return found


def explain_node(
    state: State,
    result: Mapping[str, Any],
    node_id: str,
    held: Iterable[Held] | None = None,
    left_out: Mapping[str, str] | None = None,
) -> Explanation:
    """Explain a node when everything is placed as the answer says.

    The table has what is on the node, what is free and what there is; the notes what the node lacks for each kind of
    task that has no node.

    Parameters
    ----------
    state
        Nothing is placed but what is fixed.
    result
        The answer.
    node_id
        The node's id.
    held
        What is on the node already; None to show what is taken as one row.
    left_out
        See `engine_ops.engine.scheduling.explain.replay`.

    Raises
    ------
    InvalidDataError
        If the answer does not belong to the problem, or there is no such node.
    """
    problem = state.problem
    here = next((i for i, node in enumerate(problem.nodes) if node.id == node_id), None)
    if here is None:
        raise InvalidDataError([Fault("node", f"{node_id!r} is no node of the question")])
    before = [int(problem.capacity[r, here]) - int(state.free[r][here]) for r in range(len(problem.resources))]
    placed: dict[int, list[str]] = {}
    unplaced: dict[int, list[str]] = {}
    for name, task, node, devices in replay(problem, result, left_out):
        if task is None:
            continue
        number = problem.class_of[task]
        if node is None:
            unplaced.setdefault(number, []).append(name)
            continue
        place_again(state, task, node, devices)
        if node == here:
            placed.setdefault(number, []).append(name)
    shown = [r for r in range(len(problem.resources)) if r < 2 or problem.capacity[r, here] > 0 or before[r] > 0]

    def cells(units: Sequence[int]) -> list[str]:
        return [_amount(problem, r, int(units[r])) for r in shown]

    rows = []
    if held is None:
        rows.append(("taken before", NONE, *cells(before)))
    rows += [(item.name, str(item.tasks), *cells(item.requests)) for item in held or ()]
    for number, names in placed.items():
        one = problem.classes[number].requests
        label = f"new: {names[0]}" + (f" and {len(names) - 1} more like it" if len(names) > 1 else "")
        rows.append((label, str(len(names)), *cells([units * len(names) for units in one])))
    free = [int(state.free[r][here]) for r in range(len(problem.resources))]
    limit = int(state.places[here])
    unlimited = limit > 2**60
    rows.append(("free", NONE if unlimited else str(limit), *cells(free)))
    rows.append(("allocatable", NONE, *cells([int(units) for units in problem.capacity[:, here]])))
    notes = []
    for number, names in list(unplaced.items())[:_MAX_UNPLACED_KINDS]:
        more = f" and {len(names) - 1} more like it" if len(names) > 1 else ""
        lacks = ", ".join(_lacks(state, problem.classes[number], here)) or "nothing: it has become free since its turn"
        notes.append(f"For {names[0]}{more} it lacks: {lacks}.")
    if len(unplaced) > _MAX_UNPLACED_KINDS:
        notes.append(f"{len(unplaced) - _MAX_UNPLACED_KINDS} more kinds of tasks have no node.")
    if not unplaced:
        notes.append("Every task of the question has a node.")
    return Explanation(
        title=f"node {node_id}",
        headers=("WHAT", "TASKS", *(problem.resources[r].upper() for r in shown)),
        rows=rows,
        notes=notes,
    )


def _lacks(state: State, task_class: TaskClass, node: int) -> list[str]:
    """Return why a node cannot hold a task, with the amounts where it is an amount."""
    problem = state.problem
    asked = {f"Insufficient {problem.resources[r]}": (r, units) for r, units in task_class.needs}
    found = []
    for reason, nodes in state.obstacles(task_class):
        if not nodes[node]:
            continue
        if reason in asked:
            resource, units = asked[reason]
            free = _amount(problem, resource, int(state.free[resource][node]))
            found.append(f"{reason} ({_amount(problem, resource, units)} asked for, {free} free)")
        else:
            found.append(reason)
    return found


def _asked(problem: Problem, task_class: TaskClass) -> str:
    parts = [f"{problem.resources[r]} {_amount(problem, r, units)}" for r, units in task_class.needs]
    return f"It asks for {', '.join(parts)}." if parts else "It asks for no resource."


def _amount(problem: Problem, resource: int, units: int) -> str:
    amount = problem.amount(resource, units)
    if problem.percent:
        return f"{amount:g}%"
    name = problem.resources[resource]
    if name == "cpu":
        return format_cpu(amount)
    return format_bytes(amount) if scale_of(name) == 1 else f"{amount:g}"
