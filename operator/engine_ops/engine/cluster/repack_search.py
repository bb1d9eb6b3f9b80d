"""Empty a node by letting a few others be packed anew with what is on it."""

from __future__ import annotations

import numpy as np

from engine_ops.engine.cluster.repack_arrangement import NOWHERE, Arrangement
from engine_ops.engine.cluster.repack_emptying import empty_node
from engine_ops.engine.scheduling.problem import FloatArray

_NOISE = 0.3
"""By so much, up or down, a node may seem to have more free than it has."""
_MOST_HELPERS = 5
_PATIENCE = 40
"""Attempts at one node without anything leaving it."""
_HOMEWARD = 0.5
"""How often a task goes home where it could, so that fewer move in the end."""
_MOST_TRADED = 3
_TRADES = 0.1
"""The share of steps that open an empty node in place of a smaller one."""


class Emptying:
    """A search that takes on one node after the other, those with little on them first.

    Ruin and recreate in the manner of Schrimpf et al. (Record breaking optimization results using the ruin and
    recreate principle, Journal of Computational Physics 159, 2000): all tasks of the node and of a few helpers are
    lifted and placed again, large ones first, with the node itself for what finds no other place, as long as that is
    not more than was on it. Now and then an empty node is opened in place of others that are worth less.

    Parameters
    ----------
    arrangement
        Is changed; it never has more nodes in use than before.
    random
        Of all choices.
    worth
        (nodes,) what each node offers for pods; an empty node is opened in place of others that are worth less.
    """

    def __init__(self, arrangement: Arrangement, random: np.random.Generator, worth: FloatArray) -> None:
        self._arrangement = arrangement
        self._random = random
        self._node = NOWHERE
        self._waited = 0
        self._worth = worth

    def step(self) -> bool:
        """Make one attempt; return whether fewer nodes are in use. False too where there is nothing to attempt."""
        arrangement = self._arrangement
        if self._random.random() < _TRADES:
            return self._trade()
        if self._node == NOWHERE or self._waited > _PATIENCE or not arrangement.used[self._node]:
            self._node = self._choose()
            self._waited = 0
        node = self._node
        if node == NOWHERE:
            return False
        before = arrangement.content[node]
        if self._attempt(node):
            after = arrangement.content[node]
            self._waited = 0 if after < before - 1e-12 else self._waited + 1
            if not arrangement.used[node]:
                self._node = NOWHERE
                return True
        else:
            self._waited += 1
        return False

    def _choose(self) -> int:
        """Return a node to be emptied: most likely one of those with the least on them."""
        arrangement = self._arrangement
        candidates = (arrangement.used & ~arrangement.question.held).nonzero()[0]
        if len(candidates) == 0 or arrangement.count < 2:
            return NOWHERE
        content = np.array(arrangement.content)[candidates]
        order = candidates[np.argsort(content, kind="stable")]
        return int(order[int(len(order) * self._random.random() ** 3)])

    def _trade(self) -> bool:
        """Open an empty node in place of one or more that are smaller; return whether fewer nodes are in use."""
        arrangement, room = self._arrangement, self._worth
        small = (arrangement.used & ~arrangement.question.held).nonzero()[0]
        empty = (~arrangement.used).nonzero()[0]
        if not len(small) or not len(empty):
            return False
        # Those that are worth it most are drawn most often: the smallest in use, the largest of the others.
        small = small[np.argsort(room[small], kind="stable")]
        empty = empty[np.argsort(-room[empty], kind="stable")]
        opened = int(empty[int(len(empty) * self._random.random() ** 3)])
        targets = arrangement.used.copy()
        targets[opened] = True
        before = arrangement.count
        for start in {int(len(small) * self._random.random() ** 3) for _ in range(_MOST_TRADED)}:
            node = int(small[start])
            if room[node] >= room[opened] or not arrangement.used[node]:
                continue
            targets[node] = False
            if not empty_node(arrangement, node, targets):
                targets[node] = True
        return arrangement.count < before

    def _attempt(self, node: int) -> bool:
        arrangement, random = self._arrangement, self._random
        own = sorted(arrangement.tasks_on[node])
        drawn = own[int(random.integers(len(own)))]
        rule = arrangement.state.rule_of(arrangement.question.problem.classes[arrangement.class_of[drawn]])
        others = arrangement.used & rule.static
        others[node] = False
        candidates = others.nonzero()[0]
        number = min(len(candidates), int(random.integers(1, _MOST_HELPERS + 1)))
        helpers = random.choice(candidates, number, replace=False).tolist() if number else []
        targets = arrangement.used.copy()
        targets[node] = False
        tasks = [task for place in (node, *helpers) for task in sorted(arrangement.tasks_on[place])]
        keys = np.array([arrangement.sizes[arrangement.class_of[task]] for task in tasks])
        keys *= random.uniform(1 - _NOISE, 1 + _NOISE, len(tasks))
        spare = arrangement.content[node] + 1e-9
        moved = arrangement.lift_all(tasks)
        noise = random.uniform(1 - _NOISE, 1 + _NOISE, len(arrangement.used))
        for place in np.argsort(-keys, kind="stable").tolist():
            task = tasks[place]
            feasible = arrangement.feasible(task)
            home = arrangement.home[task]
            homeward = targets[home] and feasible[home] and random.random() < _HOMEWARD
            chosen = home if homeward else arrangement.best(feasible & targets, noise)
            if chosen == NOWHERE:
                spare -= arrangement.sizes[arrangement.class_of[task]]
                if spare < 0 or not (feasible[node] or arrangement.may_stay_home(task, node)):
                    arrangement.take_back(moved)
                    return False
                chosen = node
            arrangement.put(task, chosen)
        return True
