"""One pass over the tasks: each goes to the best node that can hold it at its turn."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence

from engine_ops.engine.scheduling.devices import Devices
from engine_ops.engine.scheduling.model import Strategy
from engine_ops.engine.scheduling.problem import Problem
from engine_ops.engine.scheduling.state import State
from engine_ops.engine.scheduling.wording import unavailable

_TASKS_A_LOOK_AT_THE_CLOCK = 256


@dataclasses.dataclass(frozen=True, slots=True)
class Placement:
    """Where the tasks went.

    Parameters
    ----------
    order
        Indices of tasks, as they were placed.
    nodes
        The node of each task, by the task's index; -1 for none.
    scores
        The strategy's score of each placement when it was made, by the task's index.
    reasons
        Why a task has no node, by the task's index.
    devices
        The devices that a task takes of its node, by the task's index, for those that take any.
    """

    order: Sequence[int]
    nodes: Sequence[int]
    scores: Sequence[float]
    reasons: dict[int, str]
    devices: Mapping[int, Devices] = dataclasses.field(default_factory=dict)

    @property
    def placed_count(self) -> int:
        """How many tasks have a node."""
        return len(self.nodes) - len(self.reasons)

    def placed_by_priority(self, problem: Problem) -> tuple[int, ...]:
        """Return how many tasks of each priority have a node, the highest priority first: more is better."""
        levels = sorted({task.priority for task in problem.tasks}, reverse=True)
        counts = dict.fromkeys(levels, 0)
        for task, node in zip(problem.tasks, self.nodes, strict=True):
            counts[task.priority] += node >= 0
        return tuple(counts.values())

    def score(self) -> float:
        """Return the share of tasks placed times the mean score of the placements: the sum over all tasks' number."""
        return round(sum(self.scores) / len(self.scores), 9)


def place_all(
    state: State,
    order: Sequence[int],
    *,
    strategy: Strategy,
    packing: Strategy | None = None,
    until: float | None = None,
) -> Placement | None:
    """Place every task in an order, from an empty state.

    Parameters
    ----------
    state
        Is reset first.
    order
        Indices of tasks.
    strategy
        What the scores are reported for, and what chooses.
    packing
        What chooses instead of ``strategy``.
    until
        When to give up, on the clock of `time.monotonic`; None for never.

    Returns
    -------
    Placement or None
        None if time was up.
    """
    problem = state.problem
    state.reset()
    nodes = [-1] * len(problem.tasks)
    scores = [0.0] * len(problem.tasks)
    reasons: dict[int, str] = {}
    devices: dict[int, Devices] = {}
    told: dict[int, tuple[int, str]] = {}
    chooser = packing or strategy
    for turn, task in enumerate(order):
        if until is not None and turn % _TASKS_A_LOOK_AT_THE_CLOCK == 0 and time.monotonic() > until:
            return None
        number = problem.class_of[task]
        task_class = problem.classes[number]
        # Nothing has changed since a task just like it found no node: neither has the reason.
        last = told.get(number)
        if last is not None and last[0] == state.placed:
            reasons[task] = last[1]
            continue
        node = state.choose(task_class, chooser)
        if node < 0:
            reasons[task] = unavailable(state, task_class)
            told[number] = (state.placed, reasons[task])
            continue
        nodes[task] = node
        scores[task] = state.score(task_class, node, strategy)
        taken = state.place(task_class, node, state.devices_for(task_class, node, chooser))
        if taken:
            devices[task] = taken
    return Placement(order, nodes, scores, reasons, devices)
