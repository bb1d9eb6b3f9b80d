"""Better answers when tasks are left over: the same pass in other orders.

The first pass takes the tasks by priority and then as given, as kube-scheduler would. Where that leaves tasks out, the
next passes take small tasks first (many fit where few large ones would), then large ones (they no longer fit once the
small ones are spread), then those with few nodes to go to; after that the tasks that were left out move ahead of their
peers (squeaky wheel optimisation, Joslin and Clements, JAIR 10, 1999). A task of a lower priority never moves ahead of
one of a higher priority.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from engine_ops.engine.contract import Budget
from engine_ops.engine.scheduling.model import Strategy
from engine_ops.engine.scheduling.placer import Placement, place_all
from engine_ops.engine.scheduling.problem import Problem
from engine_ops.engine.scheduling.state import State


def given_order(problem: Problem) -> list[int]:
    """Return the tasks by priority, then as given."""
    return sorted(range(len(problem.tasks)), key=lambda task: -problem.tasks[task].priority)


def improve(
    state: State,
    first: Placement,
    strategy: Strategy,
    budget: Budget,
    found: Callable[[Placement], None],
) -> Placement:
    """Search for an answer with more tasks placed, by priority.

    Parameters
    ----------
    state
        The problem's state; left as the last pass left it.
    first
        The answer to beat.
    strategy
        What scores are reported for.
    budget
        One step is one pass.
    found
        Called with every better answer.

    Returns
    -------
    Placement
        The best answer. The search ends when only tasks are left out that not even the empty cluster could hold.
    """
    problem = state.problem
    best, best_count = first, first.placed_by_priority(problem)
    if not first.reasons or not budget.allows(0):
        return best
    choices = _choices(state)
    size = _sizes(problem)
    urgency = [0.0] * len(problem.tasks)
    step = 0
    while budget.allows(step) and any(choices[problem.class_of[task]] > 0 for task in best.reasons):
        order = _order(problem, step, urgency, size, choices)
        # Filling nodes up leaves room for the large ones; every other pass keeps to the user's strategy.
        packing: Strategy | None = "most-packed" if step % 2 else None
        placement = place_all(state, order, strategy=strategy, packing=packing, until=budget.search_until)
        if placement is None:
            break
        count = placement.placed_by_priority(problem)
        if count > best_count:
            best, best_count = placement, count
            found(best)
        for task in placement.reasons:
            urgency[task] += 1.0
        step += 1
    return best


def _choices(state: State) -> list[int]:
    """Count the nodes that could hold a task of each class if it were the only one, whatever company it needs."""
    state.reset()
    counts = []
    for task_class in state.problem.classes:
        rule = state.rule_of(task_class)
        nodes = rule.static & state.fits(task_class)
        for check in rule.spread:
            nodes &= check.has_key
        counts.append(int(nodes.sum()))
    return counts


def _sizes(problem: Problem) -> list[float]:
    """Return the largest share of the cluster that a task of each class asks for."""
    total = np.maximum(problem.capacity.sum(axis=1, dtype=np.float64), 1.0)
    return [float((np.array(item.requests) / total).max()) for item in problem.classes]


def _order(
    problem: Problem, step: int, urgency: Sequence[float], size: Sequence[float], choices: Sequence[int]
) -> list[int]:
    def smallest(task: int) -> tuple[float, ...]:
        number = problem.class_of[task]
        return (-problem.tasks[task].priority, size[number], choices[number])

    def largest(task: int) -> tuple[float, ...]:
        number = problem.class_of[task]
        return (-problem.tasks[task].priority, -size[number], choices[number])

    def by_choices(task: int) -> tuple[float, ...]:
        number = problem.class_of[task]
        return (-problem.tasks[task].priority, choices[number], -size[number])

    def by_urgency(task: int) -> tuple[float, ...]:
        number = problem.class_of[task]
        return (-problem.tasks[task].priority, -urgency[task], -size[number], choices[number])

    plans = (smallest, largest, by_choices)
    key = plans[step // 2] if step < 2 * len(plans) else by_urgency
    return sorted(range(len(problem.tasks)), key=key)
