"""Minimum bin slack for problems in which one resource alone is scarce."""

from __future__ import annotations

import numpy as np

from engine_ops.engine.resource.packing import Node, Packing
from engine_ops.engine.resource.problem import Problem, resource_totals

_MAX_CAPACITY = 100_000  # In multiples of the sizes' greatest common divisor: the bits of one number.
_MAX_WORK = 30_000_000  # Bits touched, about 0.3 s.


def scarce_resource(problem: Problem) -> int | None:
    """Return the only dimension that can keep items from sharing a node; None where there are several, or types."""
    if len(problem.cost) != 1:
        return None
    totals = resource_totals(problem, problem.count)
    scarce = [place for place, name in enumerate(problem.resources) if totals[name] > int(problem.capacity[0, place])]
    return scarce[0] if len(scarce) == 1 else None


def minimum_bin_slack(problem: Problem) -> Packing | None:
    """Fill node after node as fully as possible, each around the largest item that is left.

    The heuristic MBS' of Fleszar and Hindi (New heuristics for one-dimensional bin-packing, Computers & Operations
    Research 29, 2002), with an exact dynamic programme in place of the search for the fullest node: the sums that can
    be reached are the bits of a number. Of equally full fillings, the one with the larger items is taken.

    Returns
    -------
    Packing or None
        None where several resources are scarce, or the numbers are too large for this.
    """
    place = scarce_resource(problem)
    if place is None or not len(problem.count):
        return None
    sizes = problem.demand[:, place]
    divisor = int(np.gcd.reduce(sizes))
    capacity = int(problem.capacity[0, place]) // divisor
    work = capacity / 64 * min(int(problem.count.sum()), len(sizes) * 8) * _nodes(problem, place)
    if capacity > _MAX_CAPACITY or work > _MAX_WORK:
        return None
    order = np.argsort(-sizes, kind="stable").tolist()
    size_of = (sizes // divisor).tolist()
    left = problem.count.tolist()
    nodes: list[Node] = []
    most = min(problem.max_nodes, problem.limit[0])
    while len(nodes) < most:
        open_groups = [group for group in order if left[group]]
        if not open_groups:
            break
        filling = _fullest(open_groups, size_of, left, capacity)
        times = min(most - len(nodes), max(1, min(left[g] // n for g, n in filling.items()) // 2))
        groups = sorted(filling)
        node = Node(0, np.array(groups, dtype=np.int64), np.array([filling[g] for g in groups], dtype=np.int64))
        nodes += [node] * times
        for group, number in filling.items():
            left[group] -= number * times
    return Packing(nodes, np.array(left, dtype=np.int64))


def _nodes(problem: Problem, place: int) -> float:
    return float(problem.count @ problem.demand[:, place].astype(np.float64)) / max(1, int(problem.capacity[0, place]))


def _fullest(groups: list[int], size_of: list[int], left: list[int], capacity: int) -> dict[int, int]:
    """Return the fullest filling with one item of the first group; groups are ordered from large to small."""
    first = groups[0]
    room = capacity - size_of[first]
    mask = (1 << (room + 1)) - 1
    reached = 1
    # Binary splitting: 1, 2, 4, ... copies make every number of copies out of few parts.
    history: list[tuple[int, int, int]] = []
    full = 1 << room
    for group in groups:
        size = size_of[group]
        if size == 0:
            continue
        copies = min(left[group] - (group == first), room // size)
        part = 1
        while copies > 0:
            several = min(part, copies)
            history.append((group, several, reached))
            reached |= (reached << (several * size)) & mask
            copies -= several
            part *= 2
        if reached & full:
            break
    filling = {first: 1}
    total = reached.bit_length() - 1
    for group, several, before in reversed(history):
        if not before >> total & 1:
            filling[group] = filling.get(group, 0) + several
            total -= several * size_of[group]
    for group in groups:
        if size_of[group] == 0:
            filling[group] = left[group]
    return filling
