"""Which items to place where maxima keep some out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from engine_ops.engine.resource.balanced import balanced
from engine_ops.engine.resource.first_fit_decreasing import first_fit, first_fit_decreasing, sizes
from engine_ops.engine.resource.packing import Packing
from engine_ops.engine.resource.problem import IntArray, Problem

_SHARPNESS = 8.0
_PRECISION = 64  # The number of admitted items is searched down to one part in so many.


def admissions(problem: Problem) -> Iterator[Packing]:
    """Yield packings that leave few items out, those of high priority last of all.

    The number of items counts, not their size: of one priority, small ones go first. Money is no concern here, so
    nodes are opened by what they hold.

    Parameters
    ----------
    problem
        One for which other algorithms found no complete packing.
    """
    free_of_charge = dataclasses.replace(problem, cost=(1,) * len(problem.cost))
    order = np.lexsort((sizes(problem), -problem.priority))
    # That nothing has to stay out is still possible: nodes chosen for their price may have been the wrong ones.
    yield first_fit_decreasing(free_of_charge)
    yield first_fit(free_of_charge, order, balanced(free_of_charge, problem.count, sharpness=_SHARPNESS)[0])
    yield first_fit(free_of_charge, order)
    yield first_fit(free_of_charge, order, _longest_prefix(free_of_charge, order))


def _longest_prefix(problem: Problem, order: IntArray) -> Packing:
    """Pack as many items from the beginning of the order as a bisection finds room for; the others are left."""
    total = int(problem.count.sum())
    best = Packing((), problem.count)
    fits, too_many = 0, total + 1
    while too_many - fits > max(1, total // _PRECISION):
        middle = (fits + too_many) // 2
        counts = _first(problem, order, middle)
        packing, _ = balanced(problem, counts, sharpness=_SHARPNESS)
        if packing.left.any():
            too_many = middle
        else:
            fits, best = middle, Packing(packing.nodes, problem.count - counts)
    return best


def _first(problem: Problem, order: IntArray, number: int) -> IntArray:
    """Return how many items of each group (G,) are among the first ``number`` of the order."""
    in_order = problem.count[order]
    before = np.cumsum(in_order) - in_order
    counts = np.zeros_like(problem.count)
    counts[order] = np.clip(number - before, 0, in_order)
    return counts
