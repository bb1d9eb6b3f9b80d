"""Dual feasible functions: they make items larger without letting more of them fit, and so raise bounds.

All functions here are maximal dual feasible functions on whole numbers: not decreasing and superadditive on
``0..capacity``. If items fit a node of capacity ``c``, their images fit the image of ``c``, also for ``c`` below
the capacity that the function was made for: one function serves node types of different sizes.

References
----------
S. Fekete, J. Schepers: New classes of fast lower bounds for bin packing problems. Mathematical Programming 91, 2001.
F. Clautiaux, C. Alves, J. Valerio de Carvalho: A survey of dual-feasible and superadditive functions.
Annals of Operations Research 179, 2010.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from engine_ops.engine.resource.problem import FloatArray, IntArray

Function = Callable[[IntArray], IntArray]
"""Maps sizes from 0 to the capacity, of any shape, to whole numbers below 2**62."""

MAX_PARAMETERS = 64
"""Of each family, so many members are tried."""

_WORK = 100_000  # Sizes times parameters evaluated for one family: keeps 10,000 distinct sizes in milliseconds.


def rounding(sizes: IntArray, capacity: int, parameter: IntArray) -> IntArray:
    """u^(k) of Fekete and Schepers: round to k-ths unless that is exact; the capacity maps to ``k * capacity``.

    Parameters
    ----------
    sizes, parameter
        Broadcast against each other; ``parameter`` from 1 to 255.
    capacity
        Below 2**53.
    """
    scaled = sizes * (parameter + 1)
    whole = scaled // capacity
    result: IntArray = np.where(whole * capacity == scaled, sizes * parameter, whole * capacity)
    return result


def cutting(sizes: IntArray, capacity: int, parameter: IntArray) -> IntArray:
    """U^(eps) of Martello and Toth: drop sizes below eps, and what could share a node with them only fills it.

    ``parameter`` is eps, from 1 to ``capacity / 2``; the capacity maps to itself.
    """
    result: IntArray = np.where(sizes > capacity - parameter, capacity, np.where(sizes < parameter, 0, sizes))
    return result


def counting(sizes: IntArray, capacity: int, parameter: IntArray) -> IntArray:
    """f_CCM of Carlier, Clautiaux and Moukrim: count how many of size eps fit.

    ``parameter`` is eps, from 1 to ``capacity / 2``; the capacity maps to ``2 * (capacity // eps)``.
    """
    most = capacity // parameter
    large = 2 * (most - (capacity - sizes) // parameter)
    result: IntArray = np.where(
        2 * sizes > capacity, large, np.where(2 * sizes == capacity, most, 2 * (sizes // parameter))
    )
    return result


def best_functions(sizes: IntArray, counts: IntArray, capacity: int) -> Iterator[tuple[str, Function]]:
    """Yield the most promising member of each family for items of one dimension.

    Parameters
    ----------
    sizes
        (n,) from 0 to ``capacity``.
    counts
        (n,) items of each size.
    capacity
        Of the largest node, at least 1.
    """
    distinct, place = np.unique(sizes, return_inverse=True)
    weights = np.bincount(place.ravel(), weights=counts, minlength=len(distinct))
    tried = max(8, min(MAX_PARAMETERS, _WORK // max(1, len(distinct))))
    small = distinct[(distinct > 0) & (2 * distinct <= capacity)]
    # Just above a size is where cutting drops that size.
    steps = np.unique(np.concatenate([small, small[2 * small < capacity - 1] + 1]))
    parts = np.unique(capacity // np.arange(2, 2 + tried, dtype=np.int64))
    eps = np.unique(np.concatenate([_spread(steps, tried), parts[parts > 0]])) if capacity >= 2 else steps[:0]
    for family, parameters in (
        (rounding, np.arange(1, 1 + tried, dtype=np.int64)),
        (cutting, eps),
        (counting, eps),
    ):
        parameters = parameters[(parameters >= 1) & ((2 * parameters <= capacity) | (family is rounding))]  # noqa: PLW2901
        if not len(parameters):
            continue
        image = family(distinct[:, None], capacity, parameters[None, :]).astype(np.float64)
        whole = family(np.array([[capacity]], dtype=np.int64), capacity, parameters[None, :])[0].astype(np.float64)
        sums: FloatArray = weights @ image / np.maximum(whole, 1.0)
        best = parameters[int(np.argmax(sums))]
        yield f"{family.__name__} at {best}", _bind(family, capacity, best)


def _bind(family: Callable[[IntArray, int, IntArray], IntArray], capacity: int, parameter: np.int64) -> Function:
    return lambda sizes: family(sizes, capacity, np.asarray(parameter))


def _spread(values: IntArray, most: int) -> IntArray:
    if len(values) <= most:
        return values
    return values[np.unique(np.linspace(0, len(values) - 1, most).astype(np.int64))]
