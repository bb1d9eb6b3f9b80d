"""An answer in whole numbers, and which of two is the better one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from engine_ops.engine.resource.problem import IntArray, Problem

Value = tuple[tuple[int, ...], int, int]
"""Items left out for each priority, highest first; cost; nodes. Smaller is better, compared in this order."""


class Node(NamedTuple):
    """A node in use. Never changed: packings share them."""

    type: int
    """Which node type."""
    groups: IntArray
    """(n,) the groups on it, each once, ascending."""
    counts: IntArray
    """(n,) how many of each, at least 1."""


@dataclasses.dataclass(frozen=True, slots=True)
class Packing:
    """Nodes and what is left.

    Parameters
    ----------
    nodes
        In the order in which they were opened.
    left
        (G,) items of each group that are not on a node.
    """

    nodes: Sequence[Node]
    left: IntArray


def used(problem: Problem, node: Node) -> IntArray:
    """Return what the items on a node ask for together, (D,)."""
    total: IntArray = node.counts @ problem.demand[node.groups]
    return total


def cost_of(problem: Problem, packing: Packing) -> int:
    """Return the cost of the nodes, in the unit of ``problem.cost``."""
    return sum(problem.cost[node.type] for node in packing.nodes)


def left_by_priority(problem: Problem, left: IntArray) -> tuple[int, ...]:
    """Return how many items are left for each priority, highest first."""
    if not problem.limited or not left.any():
        # All zeros compare like this whatever their number: () would be smaller than any other tuple, as it must be.
        return () if not left.any() else (int(left.sum()),)
    priorities, place = np.unique(problem.priority, return_inverse=True)
    sums = np.zeros(len(priorities), dtype=np.int64)
    np.add.at(sums, place.ravel(), left)
    return tuple(sums[::-1].tolist())


def value_of(problem: Problem, packing: Packing) -> Value:
    """Return the value of a packing; the smaller of two belongs to the better one."""
    return left_by_priority(problem, packing.left), cost_of(problem, packing), len(packing.nodes)


def node_from_counts(node_type: int, counts: IntArray) -> Node:
    """Return a node that holds ``counts`` (G,) items of each group."""
    groups = np.flatnonzero(counts)
    return Node(node_type, groups, counts[groups])


def cheapen(problem: Problem, packing: Packing) -> Packing:
    """Give each node the cheapest type that is free and holds what is on it, the fullest nodes first.

    Parameters
    ----------
    packing
        Any packing.

    Returns
    -------
    Packing
        The same items on the same number of nodes, at most as expensive.
    """
    types = len(problem.cost)
    if types == 1 or not packing.nodes:
        return packing
    cost = np.array(problem.cost, dtype=np.float64)
    order_of_types = np.argsort(cost, kind="stable")
    free = np.array(problem.limit, dtype=np.int64)
    np.subtract.at(free, [node.type for node in packing.nodes], 1)
    loads = np.array([used(problem, node) for node in packing.nodes])
    nodes = list(packing.nodes)
    for number in np.argsort(-cost[[node.type for node in nodes]], kind="stable").tolist():
        node = nodes[number]
        for kind in order_of_types.tolist():
            if problem.cost[kind] >= problem.cost[node.type]:
                break
            if free[kind] > 0 and bool((loads[number] <= problem.capacity[kind]).all()):
                free[kind] -= 1
                free[node.type] += 1
                nodes[number] = node._replace(type=kind)
                break
    return Packing(nodes, packing.left)
