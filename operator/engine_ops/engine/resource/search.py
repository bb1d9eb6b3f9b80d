"""Improve a packing: take something away that costs, and find a place for what was on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from engine_ops.engine.contract import Budget
from engine_ops.engine.resource.packing import (
    Node,
    Packing,
    cheapen,
    left_by_priority,
    node_from_counts,
    value_of,
)
from engine_ops.engine.resource.problem import FloatArray, IntArray, Problem
from engine_ops.engine.resource.proof import Proof
from engine_ops.engine.resource.swaps import Exchange

# Steps without a lighter outside before another part of the packing is ruined. With one type, removing one node or
# another is much the same and the exchanges matter; with several, what is removed and put in its place matters.
_PATIENCE = 400
_PATIENCE_WITH_TYPES = 100
_RANK_BASE = 64.0  # What one item of a priority outweighs of the next lower one.


def improve(
    problem: Problem, packing: Packing, proof: Proof, budget: Budget, found: Callable[[Packing], None]
) -> Packing:
    """Search for something better than ``packing`` while the budget allows.

    Where maxima leave items out, exchanges first bring in more of them. Once all are placed, one to three nodes are
    removed, cheaper ones are put in their place where there are types with costs, and exchanges (`Exchange`) look for
    a place for what was on them.

    Parameters
    ----------
    packing
        The incumbent.
    proof
        What it settles is optimal and ends the search.
    budget
        A step is one exchange.
    found
        Called with each better packing.

    Returns
    -------
    Packing
        The best one; ``packing`` where nothing better was found.
    """
    random = np.random.default_rng(budget.seed)
    size = _sizes(problem)
    best, value = packing, value_of(problem, packing)
    steps = _Steps(budget)
    settled = proof.settles(best)
    while not settled and best.nodes and steps.allowed:
        if value[0]:
            start, weight = best, _admission_weights(problem, size)
        else:
            start, weight = _ruin(problem, best, size, random), size
        for candidate in _attempt(problem, start, weight, steps, random):
            better = cheapen(problem, candidate)
            if (reached := value_of(problem, better)) < value:
                best, value = better, reached
                settled = proof.settles(best)
                found(best)
    return best


class _Steps:
    """Counts the steps of all attempts against one budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._taken = 0
        self.allowed = budget.allows(0)

    def next(self) -> bool:
        self.allowed = self._budget.allows(self._taken)
        self._taken += 1
        return self.allowed


def _attempt(
    problem: Problem, start: Packing, weight: FloatArray, steps: _Steps, random: np.random.Generator
) -> Iterator[Packing]:
    """Yield each packing with less left outside than any before it; of the complete ones, all."""
    exchange = Exchange(problem, start, weight, random)
    lightest = float(exchange.left @ weight)
    least = left_by_priority(problem, start.left)
    waited = 0
    patience = _PATIENCE if len(problem.cost) == 1 else _PATIENCE_WITH_TYPES
    while waited < patience and steps.next():
        if not exchange.step():
            # Every node rests, or nothing fits anywhere: only time changes the former.
            waited += patience // 20
        now = float(exchange.left @ weight)
        waited += 1
        if now < lightest:
            lightest, waited = now, 0
        if not exchange.left.any():
            yield exchange.packing
            return
        if problem.limited and (left := left_by_priority(problem, exchange.left)) < least:
            least = left
            yield exchange.packing


def _sizes(problem: Problem) -> FloatArray:
    """Return the size (G,) of one item: its shares of the largest node, weighted by scarcity."""
    share = problem.demand / np.maximum(problem.capacity.max(axis=0), 1)
    scarcity = problem.count @ share
    result: FloatArray = np.maximum(share @ (scarcity / max(float(scarcity.max()), 1e-300)), 1e-9)
    return result


def _admission_weights(problem: Problem, size: FloatArray) -> FloatArray:
    """Return weights (G,) by which one more item counts, most of all one of a high priority, and then its size."""
    _, rank = np.unique(problem.priority, return_inverse=True)
    # Beyond eight ranks, the lowest ones count alike: the answer itself is compared exactly.
    rank = np.maximum(rank.ravel() - max(0, int(rank.max()) - 8), 0)
    result: FloatArray = _RANK_BASE**rank + 1e-3 * size / size.max()
    return result


def _ruin(problem: Problem, packing: Packing, size: FloatArray, random: np.random.Generator) -> Packing:
    """Remove nodes, the emptiest most likely, and put at most cheaper ones in their place."""
    nodes = list(packing.nodes)
    contents = np.array([float(node.counts @ size[node.groups]) for node in nodes])
    cost = np.array(problem.cost, dtype=np.float64)[[node.type for node in nodes]]
    # Removing what costs nothing does not help, unless nodes themselves are counted.
    worth = np.where(cost > 0, contents / np.maximum(cost, 1e-12), np.inf)
    order = np.argsort(worth, kind="stable")
    types = len(problem.cost)
    several = int(random.integers(1, 4)) if types > 1 else 1
    # Squared, so that the emptiest are taken most often.
    places = {int(len(order) * random.random() ** 2) for _ in range(several)}
    removed = {int(order[place]) for place in places}
    left = packing.left.copy()
    for number in removed:
        left[nodes[number].groups] += nodes[number].counts
    kept = [node for number, node in enumerate(nodes) if number not in removed]
    kept += _replacements(problem, kept, sum(problem.cost[nodes[number].type] for number in removed), left, random)
    return Packing(kept, left)


def _replacements(
    problem: Problem, kept: list[Node], budget: int, left: IntArray, random: np.random.Generator
) -> list[Node]:
    """Return empty nodes of random types, together cheaper than ``budget``; none where there is one type."""
    if len(problem.cost) == 1:
        return []
    free = np.array(problem.limit, dtype=np.int64)
    np.subtract.at(free, [node.type for node in kept], 1)
    empty: list[Node] = []
    needed = set(np.flatnonzero(problem.fits[np.flatnonzero(left)].any(axis=0)).tolist())
    while len(kept) + len(empty) < problem.max_nodes and len(empty) < 4:
        usable = [
            kind for kind, price in enumerate(problem.cost) if price < budget and free[kind] > 0 and kind in needed
        ]
        if not usable or (empty and random.random() < 0.3):
            break
        kind = usable[int(random.integers(len(usable)))]
        free[kind] -= 1
        budget -= problem.cost[kind]
        empty.append(node_from_counts(kind, np.zeros_like(left)))
    return empty
