"""Tasks that had no node at their turn are tried again once others are there, as kube-scheduler's queue does.

A task that needs company may come before those that it needs; one that must be spread may find its domain too full
until other domains have filled up. For everything else a task that is placed only takes away.
"""

from __future__ import annotations

import dataclasses

from engine_ops.engine.scheduling.model import Strategy
from engine_ops.engine.scheduling.placer import Placement
from engine_ops.engine.scheduling.state import State


def try_again(state: State, placement: Placement, strategy: Strategy) -> Placement:
    """Return the placement with those tasks placed for which there is a node by now.

    Parameters
    ----------
    state
        The problem's state; left with the returned placement in it.
    placement
        Whose reasons are those at each task's turn.
    strategy
        What chooses.

    Returns
    -------
    Placement
        Tasks that got a node come last in its order, after those that were placed before them. The reasons of the
        others are as they were.
    """
    problem = state.problem
    waiting = [task for task in placement.order if task in placement.reasons and _may_come_to_fit(state, task)]
    if not waiting:
        return placement
    state.reset()
    for task in placement.order:
        if placement.nodes[task] >= 0:
            task_class = problem.classes[problem.class_of[task]]
            state.place(task_class, placement.nodes[task], placement.devices.get(task))
    nodes, scores, devices = list(placement.nodes), list(placement.scores), dict(placement.devices)
    late: list[int] = []
    refused: dict[int, int] = {}
    placed_before = -1
    while placed_before != len(late):
        placed_before = len(late)
        left: list[int] = []
        for task in waiting:
            number = problem.class_of[task]
            # Nothing has changed since a task just like it found no node.
            if refused.get(number) == state.placed:
                left.append(task)
                continue
            task_class = problem.classes[number]
            node = state.choose(task_class, strategy)
            if node < 0:
                refused[number] = state.placed
                left.append(task)
                continue
            nodes[task], scores[task] = node, state.score(task_class, node, strategy)
            taken = state.place(task_class, node, state.devices_for(task_class, node, strategy))
            if taken:
                devices[task] = taken
            late.append(task)
        waiting = left
    if not late:
        return placement
    moved = set(late)
    return dataclasses.replace(
        placement,
        order=[*(task for task in placement.order if task not in moved), *late],
        nodes=nodes,
        scores=scores,
        reasons={task: reason for task, reason in placement.reasons.items() if task not in moved},
        devices=devices,
    )


def _may_come_to_fit(state: State, task: int) -> bool:
    rule = state.rule_of(state.problem.classes[state.problem.class_of[task]])
    return rule.companions is not None or bool(rule.spread)
