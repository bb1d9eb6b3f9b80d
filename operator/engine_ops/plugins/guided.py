"""The built-in algorithms, led by a plugin's advice."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from engine_ops.engine.resource.first_fit_decreasing import first_fit, sizes
from engine_ops.engine.resource.packing import Packing
from engine_ops.engine.resource.problem import BoolArray, FloatArray, IntArray, Problem
from engine_ops.engine.scheduling.devices import Devices
from engine_ops.engine.scheduling.model import FRAGMENTATION_AWARE, Strategy
from engine_ops.engine.scheduling.placer import Placement
from engine_ops.engine.scheduling.problem import TaskClass
from engine_ops.engine.scheduling.state import State
from engine_ops.engine.scheduling.strategies import STRATEGIES
from engine_ops.engine.scheduling.wording import unavailable
from engine_ops.plugins.advice import Advice
from engine_ops.plugins.checked import Checked, Checker
from engine_ops.plugins.packing_answers import PackingChecker, packing_answer
from engine_ops.plugins.placement_answers import PlacementChecker

PACKING_ALGORITHM = "first-fit-advised"
PLACEMENT_ALGORITHM = "filter-and-advice"


def guided_answer(advice: Advice, checker: Checker) -> Checked | None:
    """Answer a request as advised.

    Advice has no say in what is feasible: items and tasks ask for what the request says, whatever
    ``recommended_resources`` are.

    Parameters
    ----------
    advice
        On the checker's request.
    checker
        Of the request.

    Returns
    -------
    Checked or None
        None where nothing in the advice can be followed; it is then told beside the built-in's answer.
    """
    if not advice.guides:
        return None
    if isinstance(checker, PackingChecker):
        return packing_answer(checker.problem, guided_packing(checker.problem, advice), PACKING_ALGORITHM)
    if isinstance(checker, PlacementChecker):
        placement = guided_placement(checker.state, checker.strategy, advice)
        return checker.answer(placement, PLACEMENT_ALGORITHM)
    return None


def guided_packing(problem: Problem, advice: Advice) -> Packing:
    """Pack first-fit in the advised order, onto nodes of the types with the highest score.

    Items that are identical go together, at the place of the first of them. A higher priority goes first where nodes
    are limited; what is not named follows, the largest first. Where the best types for an item have run out, the others
    hold it. Scores for single items are not used: nodes hold many.

    Parameters
    ----------
    problem
        The question.
    advice
        Ids of items in ``order``, names of node types in ``node_scores``.
    """
    turn = np.full(len(problem.count), np.inf)
    item = {name: number for number, name in enumerate(problem.item_ids)}
    for place, name in enumerate(advice.order):
        group = int(problem.group_of_item[item[name]])
        if group >= 0:
            turn[group] = min(turn[group], place)
    order: IntArray = np.lexsort((-sizes(problem), turn, -problem.priority))
    if not advice.node_scores:
        return first_fit(problem, order)
    scores = np.array([advice.node_scores.get(name, -np.inf) for name in problem.type_names])
    best = np.where(problem.fits, scores, -np.inf).max(axis=1, keepdims=True)
    preferred = dataclasses.replace(problem, fits=problem.fits & (scores >= best))
    packing = first_fit(preferred, order)
    return first_fit(problem, order, packing) if packing.left.any() else packing


def guided_placement(state: State, strategy: Strategy, advice: Advice) -> Placement:
    """Place tasks in the advised order, each on the node with the highest score of those that can hold it.

    A higher priority goes first whatever the order; what is not named follows as given. Of nodes with equal scores the
    strategy chooses, or most-packed where the strategy is about devices; then the smaller id. Nodes without a score
    come last.

    Parameters
    ----------
    state
        The problem's state; has the placement in it afterwards.
    strategy
        What scores are reported for, and what chooses where the advice does not.
    advice
        Ids of tasks in ``order``, of nodes in ``node_scores`` and ``node_scores_by_task``.
    """
    problem = state.problem
    turn = {name: place for place, name in enumerate(advice.order)}
    order = sorted(
        range(len(problem.tasks)),
        key=lambda task: (-problem.tasks[task].priority, turn.get(problem.tasks[task].id, len(turn))),
    )
    shared = _scores(state, advice.node_scores)
    state.reset()
    nodes = [-1] * len(problem.tasks)
    scores = [0.0] * len(problem.tasks)
    reasons: dict[int, str] = {}
    devices: dict[int, Devices] = {}
    for task in order:
        task_class = problem.classes[problem.class_of[task]]
        own = advice.node_scores_by_task.get(problem.tasks[task].id)
        advised = shared if own is None else _scores(state, own)
        node = state.choose(task_class, strategy) if advised is None else _choose(state, task_class, strategy, advised)
        if node < 0:
            reasons[task] = unavailable(state, task_class)
            continue
        nodes[task] = node
        scores[task] = state.score(task_class, node, strategy)
        taken = state.place(task_class, node, state.devices_for(task_class, node, strategy))
        if taken:
            devices[task] = taken
    return Placement(order, nodes, scores, reasons, devices)


def _scores(state: State, scores: Mapping[str, float]) -> FloatArray | None:
    """Return the score of each node, (nodes,); None where there are none."""
    if not scores:
        return None
    return np.array([scores.get(node.id, -np.inf) for node in state.problem.nodes])


def _choose(state: State, task_class: TaskClass, strategy: Strategy, advised: FloatArray) -> int:
    feasible = state.feasible(task_class)
    if not feasible.any():
        return -1
    best: BoolArray = feasible & (advised == advised[feasible].max())
    candidates = best.nonzero()[0]
    if len(candidates) == 1:
        return int(candidates[0])
    capacity = np.maximum(state.problem.capacity[:2, candidates], 1)
    free = np.stack([state.free[resource][candidates] for resource in (0, 1)]).clip(min=0) / capacity
    asked = np.array(task_class.requests[:2])[:, None] / capacity
    points = STRATEGIES["most-packed" if strategy == FRAGMENTATION_AWARE else strategy](*free, *asked)
    # In billionths, as the engine compares: what differs by less is equal.
    return int(candidates[np.rint(np.asarray(points) * 1e9).argmax()])
