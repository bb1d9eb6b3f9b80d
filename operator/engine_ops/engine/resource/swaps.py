"""Exchanges between one node and the items that are on none."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from engine_ops.engine.resource.packing import Node, Packing, used
from engine_ops.engine.resource.problem import FloatArray, IntArray, Problem

_MAX_LEFT = 12  # Groups left out that one step looks at; their pairs are looked at too.
_MAX_ON_NODE = 24  # Groups on one node whose pairs are looked at.
_CELLS = 120_000  # Exchanges compared in one step: about a millisecond.
_TENURE = 6  # Steps for which a node that was changed is left alone, and up to as many again.


class Sets(NamedTuple):
    """Nothing, single items, and pairs.

    Parameters
    ----------
    first, second
        (n,) groups, -1 for none.
    demand
        (n, D) of the set together.
    weight
        (n,) of the set together.
    """

    first: IntArray
    second: IntArray
    demand: IntArray
    weight: FloatArray


def sets_of(problem: Problem, groups: IntArray, counts: IntArray, weight: FloatArray) -> Sets:
    """Return every set of at most two items; two of one group where there are two."""
    number = len(groups)
    one, other = np.triu_indices(number)
    possible = (one != other) | (counts[one] > 1)
    one, other = one[possible], other[possible]
    nothing = np.array([-1], dtype=np.int64)
    first = np.concatenate([nothing, groups, groups[one]])
    second = np.concatenate([np.full(number + 1, -1, dtype=np.int64), groups[other]])
    demand = np.concatenate([problem.demand[first[: number + 1]], problem.demand[first[number + 1 :]]])
    demand[0] = 0
    demand[number + 1 :] += problem.demand[second[number + 1 :]]
    weights = weight[first]
    weights[0] = 0.0
    weights[number + 1 :] += weight[second[number + 1 :]]
    return Sets(first, second, demand, weights)


class Exchange:
    """A packing in change: items move between one node and the outside, so that what is outside weighs less.

    A tabu search in the manner of Buljubasic and Vasquez (Consistent neighborhood search for one-dimensional bin
    packing and two-dimensional vector packing, Computers & Operations Research 76, 2016): at most two items leave a
    node and at most two enter it; the best exchange is made even where it is for the worse, and the node then rests
    for some steps. Of many nodes, a random sample is looked at.

    Parameters
    ----------
    problem
        The question.
    packing
        Where to begin.
    weight
        (G,) of one item outside, above 0.
    random
        Of every choice.
    """

    def __init__(self, problem: Problem, packing: Packing, weight: FloatArray, random: np.random.Generator) -> None:
        self.problem = problem
        self.nodes: list[Node] = list(packing.nodes)
        self.left = packing.left.copy()
        self._weight = weight
        self._random = random
        self._free = np.array(
            [problem.capacity[node.type] - used(problem, node) for node in self.nodes], dtype=np.int64
        ).reshape(len(self.nodes), problem.demand.shape[1])
        self._sets: list[Sets | None] = [None] * len(self.nodes)
        self._rests_until = np.zeros(len(self.nodes), dtype=np.int64)
        self._step = 0

    @property
    def packing(self) -> Packing:
        """The packing as it is now."""
        return Packing(list(self.nodes), self.left.copy())

    def step(self) -> bool:
        """Make the best exchange.

        Returns
        -------
        bool
            False where there is none at all, or nothing left to place.
        """
        self._step += 1
        outside = np.flatnonzero(self.left)
        if not len(outside) or not self.nodes:
            return False
        if len(outside) > _MAX_LEFT:
            outside = np.sort(self._random.choice(outside, _MAX_LEFT, replace=False))
        entering = sets_of(self.problem, outside, self.left[outside], self._weight)
        numbers, leaving = self._leaving(len(entering.weight))
        if not len(numbers):
            return False
        room = leaving.demand + self._free[numbers]
        feasible = np.ones((len(numbers), len(entering.weight)), dtype=np.bool_)
        for place in range(room.shape[1]):
            feasible &= room[:, place, None] >= entering.demand[None, :, place]
        # That nothing enters is no exchange.
        feasible[:, 0] = False
        gain = entering.weight[None, :] - leaving.weight[:, None]
        gain[~feasible] = -np.inf
        best = int(gain.argmax())
        row, column = divmod(best, gain.shape[1])
        if not np.isfinite(gain[row, column]):
            return True
        self._apply(int(numbers[row]), _members(leaving, row), _members(entering, column))
        return True

    def _leaving(self, width: int) -> tuple[IntArray, Sets]:
        """Return sets on nodes of a random sample that may be changed, with the number of each set's node."""
        awake = np.flatnonzero(self._rests_until < self._step)
        wanted = max(1, _CELLS // width)
        numbers: list[int] = []
        parts: list[Sets] = []
        rows = 0
        for number in self._random.permutation(awake).tolist():
            found = self._sets[number]
            if found is None:
                node = self.nodes[number]
                groups, counts = node.groups, node.counts
                if len(groups) > _MAX_ON_NODE:
                    some = np.sort(self._random.choice(len(groups), _MAX_ON_NODE, replace=False))
                    groups, counts = groups[some], counts[some]
                found = self._sets[number] = sets_of(self.problem, groups, counts, self._weight)
            numbers.append(number)
            parts.append(found)
            rows += len(found.weight)
            if rows >= wanted:
                break
        if not parts:
            self._rests_until[:] = 0
            return np.empty(0, dtype=np.int64), sets_of(self.problem, awake[:0], awake[:0], self._weight)
        of_node = np.repeat(np.array(numbers, dtype=np.int64), [len(part.weight) for part in parts])
        columns = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return of_node, Sets(*columns)

    def _apply(self, number: int, leaving: list[int], entering: list[int]) -> None:
        node = self.nodes[number]
        amounts = dict(zip(node.groups.tolist(), node.counts.tolist(), strict=True))
        for group in leaving:
            amounts[group] -= 1
            self.left[group] += 1
            self._free[number] += self.problem.demand[group]
        for group in entering:
            amounts[group] = amounts.get(group, 0) + 1
            self.left[group] -= 1
            self._free[number] -= self.problem.demand[group]
        kept = sorted(group for group, amount in amounts.items() if amount)
        self.nodes[number] = Node(
            node.type, np.array(kept, dtype=np.int64), np.array([amounts[group] for group in kept], dtype=np.int64)
        )
        self._sets[number] = None
        tenure = min(_TENURE, len(self.nodes) // 3)
        self._rests_until[number] = self._step + int(self._random.integers(0, tenure + 1)) + tenure


def _members(sets: Sets, place: int) -> list[int]:
    return [int(group) for group in (sets.first[place], sets.second[place]) if group >= 0]
