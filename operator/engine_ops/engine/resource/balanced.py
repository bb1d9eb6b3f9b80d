"""A greedy that fills node by node and keeps what is left of the node in proportion to what is still to be placed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from engine_ops.engine.resource.packing import Node, Packing
from engine_ops.engine.resource.problem import FloatArray, IntArray, Problem

_WIDE = 768  # Groups looked at for one node; above it, the largest and a changing sample of the others.
_KINDS_TRIED = 6  # Node types filled for comparison before one is opened.


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """The demand as shares of a node type's capacity.

    Parameters
    ----------
    share
        (G, D); resources that the type lacks have share 0, no item that fits asks for them.
    inverse_norm
        (G,) one over the Euclidean length of each share.
    unit
        (D,) one over the capacity, 0 where there is none.
    """

    share: FloatArray
    inverse_norm: FloatArray
    unit: FloatArray


def shapes_of(problem: Problem) -> list[Shape]:
    """Return the `Shape` for each node type."""
    shapes = []
    for capacity in problem.capacity:
        unit = np.where(capacity > 0, 1.0 / np.maximum(capacity, 1), 0.0)
        share: FloatArray = problem.demand.astype(np.float64) * unit
        norm = np.sqrt((share * share).sum(axis=1))
        shapes.append(Shape(share, 1.0 / np.maximum(norm, 1e-300), unit))
    return shapes


def fill(
    problem: Problem,
    shape: Shape,
    left: IntArray,
    candidates: IntArray,
    free: IntArray,
    attraction: FloatArray,
) -> tuple[IntArray, IntArray, int]:
    """Fill one node.

    Again and again, the group that maximises ``cos(item, free) * attraction`` gives half of what would fit.

    Parameters
    ----------
    left
        (G,) items still to be placed.
    candidates
        (n,) groups to choose from, ascending.
    free
        (D,) what the node has free.
    attraction
        (n,) for each candidate, larger for what should go first.

    Returns
    -------
    groups, counts, steps
        What goes on the node, (k,) each, with the groups ascending; and how many choices were made.
    """
    demand = problem.demand[candidates]
    remaining = left[candidates]
    pull = shape.share[candidates] * (shape.inverse_norm[candidates] * attraction)[:, None]
    free = free.copy()
    alive = candidates
    chosen: dict[int, int] = {}
    steps = 0
    while True:
        fits = (demand <= free).all(axis=1)
        fits &= remaining > 0
        if not fits.all():
            demand, remaining, pull, alive = demand[fits], remaining[fits], pull[fits], alive[fits]
        if not len(alive):
            break
        best = int((pull @ (free * shape.unit)).argmax())
        wanted = demand[best]
        room = min(have // need for have, need in zip(free.tolist(), wanted.tolist(), strict=True) if need)
        several = min(int(remaining[best]), -(-room // 2))
        free -= several * wanted
        remaining[best] -= several
        group = int(alive[best])
        chosen[group] = chosen.get(group, 0) + several
        steps += 1
    groups = np.array(sorted(chosen), dtype=np.int64)
    return groups, np.array([chosen[group] for group in groups.tolist()], dtype=np.int64), steps


def balanced(
    problem: Problem,
    counts: IntArray,
    *,
    sharpness: float,
    kinds: Sequence[int] | None = None,
    prices: FloatArray | None = None,
) -> tuple[Packing, int]:
    """Pack items, node by node.

    An item's attraction is its size to the power ``1 / sharpness``, a resource weighing in a size what all items
    together still ask of it: the scarcest counts most. Of several node types, the one whose filling is worth most
    for its cost is opened. A filling is repeated while at least half of its items stay for other fillings.

    Parameters
    ----------
    counts
        (G,) what is to be packed.
    sharpness
        Small values prefer large items, large values prefer items shaped like the free space; 4 to 16 are good.
    kinds
        The node types that may be used; all where None.
    prices
        (D,) the worth of one unit of each resource, for comparing types; by scarcity where None.

    Returns
    -------
    packing, steps
        What maxima leave out is in ``packing.left``; ``steps`` counts the choices made, a measure of the work.
    """
    shapes = shapes_of(problem)
    usable = list(range(len(problem.cost))) if kinds is None else list(kinds)
    available = list(problem.limit)
    left = counts.copy()
    nodes: list[Node] = []
    worth = _prices(problem, counts) if prices is None else prices
    usable.sort(key=lambda kind: problem.cost[kind] / max(float(problem.capacity[kind] @ worth), 1e-300))
    steps = turn = 0
    while len(nodes) < problem.max_nodes and left.any():
        everything = np.flatnonzero(left)
        active = _sample(problem, everything, worth, turn)
        sampled = len(active) < len(everything)
        remaining: FloatArray = left[active].astype(np.float64) @ problem.demand[active].astype(np.float64)
        best: tuple[float, int, IntArray, IntArray] | None = None
        tried = 0
        for kind in usable:
            if available[kind] <= 0:
                continue
            candidates = active[problem.fits[active, kind]]
            if not len(candidates):
                continue
            groups, amounts, more = fill(
                problem,
                shapes[kind],
                left,
                candidates,
                problem.capacity[kind],
                attraction(shapes[kind], candidates, remaining, sharpness),
            )
            steps += more
            if sampled:
                groups, amounts = _complete(problem, left, groups, amounts, kind)
            value = float((amounts @ problem.demand[groups]) @ worth) / max(problem.cost[kind], 1e-9)
            if best is None or value > best[0]:
                best = value, kind, groups, amounts
            tried += 1
            if tried >= _KINDS_TRIED:
                break
        if best is None and sampled:
            # What the sample holds is out of reach; others may not be.
            best = _any(problem, left, available, usable)
        if best is None:
            break
        _, kind, groups, amounts = best
        times = max(1, int((left[groups] // amounts).min()) // 2)
        times = min(times, available[kind], problem.max_nodes - len(nodes))
        left[groups] -= times * amounts
        available[kind] -= times
        nodes += [Node(kind, groups, amounts)] * times
        turn += 1
    return Packing(nodes, left), steps


def attraction(shape: Shape, candidates: IntArray, remaining: FloatArray, sharpness: float) -> FloatArray:
    """Return the attraction (n,) of the candidates: their size, by scarcity, to the power ``1 / sharpness``.

    Parameters
    ----------
    remaining
        (D,) the sum of what is still to be placed, in the problem's units.
    """
    scarcity = remaining * shape.unit
    size = shape.share[candidates] @ (scarcity / max(float(scarcity.sum()), 1e-300))
    result: FloatArray = np.maximum(size, 1e-12) ** (1.0 / sharpness)
    return result


def _prices(problem: Problem, counts: IntArray) -> FloatArray:
    """Price a resource by how many of the largest nodes all items together need of it."""
    largest = np.maximum(problem.capacity.max(axis=0), 1).astype(np.float64)
    need = (counts @ problem.demand.astype(np.float64)) / largest
    result: FloatArray = need / max(float(need.sum()), 1e-300) / largest
    return result


def _sample(problem: Problem, active: IntArray, worth: FloatArray, turn: int) -> IntArray:
    if len(active) <= _WIDE:
        return active
    size = problem.demand[active] @ worth
    order = active[np.argsort(-size, kind="stable")]
    head = _WIDE // 8
    stride = -(-(len(order) - head) // (_WIDE - head))
    return np.sort(np.concatenate([order[:head], order[head + turn % stride :: stride]]))


def _complete(
    problem: Problem, left: IntArray, groups: IntArray, amounts: IntArray, kind: int
) -> tuple[IntArray, IntArray]:
    """Use what a filling from a sample left free for any other item, the largest first."""
    free = problem.capacity[kind] - amounts @ problem.demand[groups]
    counts = left.copy()
    counts[groups] -= amounts
    filled = np.zeros_like(left)
    filled[groups] = amounts
    fits = np.flatnonzero((problem.demand <= free).all(axis=1) & (counts > 0))
    while len(fits):
        best = int(fits[np.argmax((problem.demand[fits] / np.maximum(problem.capacity[kind], 1)).max(axis=1))])
        filled[best] += 1
        counts[best] -= 1
        free = free - problem.demand[best]
        fits = fits[(problem.demand[fits] <= free).all(axis=1) & (counts[fits] > 0)]
    found = np.flatnonzero(filled)
    return found, filled[found]


def _any(
    problem: Problem, left: IntArray, available: Sequence[int], usable: Sequence[int]
) -> tuple[float, int, IntArray, IntArray] | None:
    for kind in usable:
        groups = np.flatnonzero((left > 0) & problem.fits[:, kind])
        if available[kind] > 0 and len(groups):
            none = np.empty(0, dtype=np.int64)
            return 0.0, kind, *_complete(problem, left, none, none, kind)
    return None
