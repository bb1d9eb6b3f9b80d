"""Pods that may move as groups of alike ones, and what each node has for them: what bounds are made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence

import numpy as np

from engine_ops.engine.cluster.repack_question import RepackQuestion
from engine_ops.engine.scheduling.company import Presence
from engine_ops.engine.scheduling.problem import BoolArray, IntArray
from engine_ops.engine.scheduling.state import State

_MAX_EXCLUSIONS = 24
"""Exclusions looked at, those of most tasks first: each is a row of the bound."""


@dataclasses.dataclass(frozen=True, slots=True)
class Exclusion:
    """Classes of tasks of which a node takes one at most: a host port, or anti-affinity to each other on the node.

    Parameters
    ----------
    classes
        Indices of classes.
    presence
        Of all tasks that keep them away.
    """

    classes: frozenset[int]
    presence: Presence


@dataclasses.dataclass(frozen=True, slots=True)
class Groups:
    """G groups of tasks, D dimensions: the resources, the exclusions and, last, the number of tasks.

    Parameters
    ----------
    names
        Of the D dimensions.
    demand
        (G, D) of one task.
    count
        (G,) tasks in each.
    mask
        (G,) the row of ``masks`` that says which nodes may take a task of the group, room aside.
    masks
        (masks, N).
    """

    names: tuple[str, ...]
    demand: IntArray
    count: IntArray
    mask: IntArray
    masks: BoolArray


def exclusions(question: RepackQuestion, state: State) -> list[Exclusion]:
    """Find what only one task on a node can have, for classes of at least two tasks that may move."""
    problem = question.problem
    counts = np.bincount(np.asarray(problem.class_of, np.int64), minlength=len(problem.classes))
    members: dict[int, tuple[Presence, set[int]]] = {}
    for number, task_class in enumerate(problem.classes):
        if not counts[number]:
            continue
        rule = state.rule_of(task_class)
        told = {id(tally) for tally, _ in rule.tallies}
        for presence in (*rule.avoided, *rule.ports):
            if id(presence) in told and _is_of_nodes(presence):
                members.setdefault(id(presence), (presence, set()))[1].add(number)
    found = [Exclusion(frozenset(classes), presence) for presence, classes in members.values()]
    total = [int(counts[list(exclusion.classes)].sum()) for exclusion in found]
    order = sorted(range(len(found)), key=lambda place: (-total[place], min(found[place].classes)))
    return [found[place] for place in order[:_MAX_EXCLUSIONS] if total[place] > 1]


def _is_of_nodes(presence: Presence) -> bool:
    """Whether each node is a domain of its own."""
    domains = presence._topology  # noqa: SLF001 - the one thing that a presence does not tell
    return bool(domains.has_key.all()) and len(domains.members) == len(domains.has_key)


def group_tasks(question: RepackQuestion, state: State, excluded: Sequence[Exclusion]) -> Groups:
    """Group tasks that are alike in requests, in the nodes that may take them, and in exclusions.

    A task may also stay where it is against the filters. Tasks of one group are taken to be able to go wherever one
    of them can: a relaxation, where filters are broken; else the truth.

    Parameters
    ----------
    question, state
        The state is asked about rules only.
    excluded
        The exclusions.
    """
    problem = question.problem
    static: dict[bytes, int] = {}
    masks: list[BoolArray] = []
    of_rule: dict[int, int] = {}
    keys: dict[Hashable, int] = {}
    demand: list[tuple[int, ...]] = []
    mask: list[int] = []
    broken: dict[int, int] = {}
    marks = [tuple(int(number in e.classes) for e in excluded) for number in range(len(problem.classes))]
    receivers = question.receivers()
    of_task: list[int] = []
    for task, number in enumerate(problem.class_of):
        task_class = problem.classes[number]
        row = of_rule.get(task_class.rules)
        if row is None:
            nodes = state.rule_of(task_class).static & receivers
            row = static.setdefault(nodes.tobytes(), len(masks))
            if row == len(masks):
                masks.append(nodes)
            of_rule[task_class.rules] = row
        home = question.home[task]
        if not masks[row][home]:
            original = row
            row = broken.get(original, -1)
            if row < 0:
                row = broken[original] = len(masks)
                masks.append(masks[original].copy())
            # Its own home is not in the original mask, and so not in this one unless another such task lives there.
            masks[row][home] = True
        key = (task_class.requests, row, marks[number])
        group = keys.setdefault(key, len(demand))
        if group == len(demand):
            demand.append((*task_class.requests, *marks[number], 1))
            mask.append(row)
        of_task.append(group)
    width = len(problem.resources) + len(excluded) + 1
    return Groups(
        names=(*problem.resources, *(f"exclusion {place + 1}" for place in range(len(excluded))), "pods"),
        demand=np.array(demand, np.int64).reshape(-1, width),
        count=np.bincount(np.array(of_task, np.int64), minlength=len(demand)),
        mask=np.array(mask, np.int64),
        masks=np.array(masks, bool).reshape(-1, len(problem.nodes)),
    )
