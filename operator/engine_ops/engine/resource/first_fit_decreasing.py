"""First-fit decreasing: the classic, kept as the peer that no answer may be worse than."""

from __future__ import annotations

import numpy as np

from engine_ops.engine.resource.packing import Node, Packing, used
from engine_ops.engine.resource.problem import FloatArray, IntArray, Problem

_FEW = 64  # Items times types: below it, there are so few nodes to look at that plain numbers are faster than arrays.


def first_fit_decreasing(problem: Problem) -> Packing:
    """Place the largest items first, each on the first node that holds it; open a node where none does.

    An item's size is the sum of its shares of the largest node. Where nodes are limited, higher priorities go first.
    """
    return first_fit(problem, np.lexsort((-sizes(problem), -problem.priority)))


def first_fit(problem: Problem, order: IntArray, start: Packing | None = None) -> Packing:
    """Place items in the given order, each on the first node that holds it; open a node where none does.

    A new node is of the type that is cheapest for its size among those that hold the item. Identical items are placed
    together, with the same result as one by one.

    Parameters
    ----------
    order
        (G,) or fewer groups, each once.
    start
        Nodes to begin with, and what is to be placed; no nodes and everything where None.
    """
    if start is None:
        if int(problem.count.sum()) * len(problem.cost) <= _FEW:
            return first_fit_few(problem, order)
        start = Packing((), problem.count)
    worth = _cost_per_size(problem)
    kinds = [node.type for node in start.nodes]
    placed = [dict(zip(node.groups.tolist(), node.counts.tolist(), strict=True)) for node in start.nodes]
    free = np.empty((max(64, len(kinds)), problem.capacity.shape[1]), dtype=np.int64)
    for number, node in enumerate(start.nodes):
        free[number] = problem.capacity[node.type] - used(problem, node)
    left = start.left.copy()
    spare = np.array(problem.limit, dtype=np.int64)
    np.subtract.at(spare, kinds, 1)
    for group in order.tolist():
        demand = problem.demand[group]
        missing = int(left[group])
        asked = np.flatnonzero(demand)
        room = (free[: len(kinds), asked] // demand[asked]).min(axis=1)
        # One node holds all of a group at most: the sum over nodes stays small.
        room = np.minimum(room, missing)
        before = np.cumsum(room) - room
        taken = np.clip(missing - before, 0, room)
        for place in np.flatnonzero(taken).tolist():
            placed[place][group] = placed[place].get(group, 0) + int(taken[place])
        free[: len(kinds)] -= taken[:, None] * demand
        missing -= int(taken.sum())
        while missing and len(kinds) < problem.max_nodes:
            usable = np.flatnonzero(problem.fits[group] & (spare > 0))
            if not len(usable):
                break
            kind = int(usable[np.argmin(worth[usable])])
            several = min(missing, int((problem.capacity[kind, asked] // demand[asked]).min()))
            # As many nodes as this group fills alike are opened at once.
            alike = min(missing // several, int(spare[kind]), problem.max_nodes - len(kinds))
            opened = len(kinds) + alike
            if opened > len(free):
                free = np.concatenate([free, np.empty((max(opened, len(free)), free.shape[1]), dtype=np.int64)])
            free[len(kinds) : opened] = problem.capacity[kind] - several * demand
            kinds += [kind] * alike
            placed += [{group: several} for _ in range(alike)]
            spare[kind] -= alike
            missing -= alike * several
        left[group] = missing
    return Packing([_node(kind, entries) for kind, entries in zip(kinds, placed, strict=True)], left)


def first_fit_few(problem: Problem, order: IntArray) -> Packing:
    """Do what `first_fit` does, node by node in plain numbers: for a few nodes, arrays cost more than they save.

    Parameters
    ----------
    order
        (G,) or fewer groups, each once.
    """
    demand, capacity, fits = problem.demand.tolist(), problem.capacity.tolist(), problem.fits.tolist()
    worth = _cost_per_size(problem).tolist()
    left = problem.count.tolist()
    spare = list(problem.limit)
    kinds: list[int] = []
    placed: list[dict[int, int]] = []
    free: list[list[int]] = []
    for group in order.tolist():
        asked = [(place, amount) for place, amount in enumerate(demand[group]) if amount]
        missing = left[group]
        number = 0
        while missing:
            if number == len(free):
                usable = [kind for kind, fit in enumerate(fits[group]) if fit and spare[kind] > 0]
                if not usable or len(free) == problem.max_nodes:
                    break
                kind = min(usable, key=worth.__getitem__)
                spare[kind] -= 1
                kinds.append(kind)
                placed.append({})
                free.append(list(capacity[kind]))
            room = free[number]
            several = min(missing, *(room[place] // amount for place, amount in asked))
            if several:
                for place, amount in asked:
                    room[place] -= several * amount
                placed[number][group] = several
                missing -= several
            number += 1
        left[group] = missing
    nodes = [_node(kind, entries) for kind, entries in zip(kinds, placed, strict=True)]
    return Packing(nodes, np.array(left, dtype=np.int64))


def sizes(problem: Problem) -> FloatArray:
    """Return the size (G,) of one item of each group: the sum of its shares of the largest node, items a node aside."""
    largest = np.maximum(problem.capacity.max(axis=0), 1).astype(np.float64)
    shares: FloatArray = (problem.demand / largest)[:, :-1].sum(axis=1)
    return shares


def _cost_per_size(problem: Problem) -> FloatArray:
    """Return for each type (T,) its cost for the average share that it offers of the largest capacities."""
    largest = np.maximum(problem.capacity.max(axis=0), 1).astype(np.float64)
    size = (problem.capacity / largest)[:, :-1].mean(axis=1)
    result: FloatArray = np.array(problem.cost, dtype=np.float64) / np.maximum(size, 1e-12)
    return result


def _node(kind: int, amounts: dict[int, int]) -> Node:
    groups = sorted(amounts)
    return Node(kind, np.array(groups, dtype=np.int64), np.array([amounts[group] for group in groups], dtype=np.int64))
