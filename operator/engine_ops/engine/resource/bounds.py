"""How cheap an answer can be at best.

Every bound is a row: a function that maps demand and capacity to one whole number each, such that what fits a node
also fits in its image. For nodes ``x`` of the types, ``sum(image(capacity_t) * x_t) >= sum(image(demand_i))`` then
holds for each row, and the cheapest ``x`` of that linear program bounds the cost from below. Any multipliers of the
rows prove a bound (weak duality): they are found in floating point and checked in fractions, so that no rounding
error, and no simplex that stops early, can put the bound above the truth.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np

from engine_ops.engine.resource.dff import best_functions
from engine_ops.engine.resource.linear_program import maximise
from engine_ops.engine.resource.problem import PODS, FloatArray, IntArray, Problem

_MULTIPLIER_BITS = 40
_GRID = 2**20  # Of surrogate sizes: a share of the largest capacity in millionths, about.
_MAX_WEIGHT = 100
_MAX_SUBSETS = 8


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One valid inequality.

    Parameters
    ----------
    name
        What is summed up, for people.
    demand
        The exact sum over all items, at least 1.
    capacity
        (T,) of one node of each type.
    dimension, divisor
        Of the plain sum of one resource: which one, and what its amounts are divided by.
    """

    name: str
    demand: int
    capacity: tuple[int, ...]
    dimension: int | None = None
    divisor: int = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Bound:
    """A proven lower bound.

    Parameters
    ----------
    cost
        In the unit of ``problem.cost``: no packing of these items costs less.
    basis
        The rows that prove it, for people.
    """

    cost: int
    basis: str


def lower_bound(problem: Problem, counts: IntArray, enough: float = math.inf) -> Bound:
    """Bound the cost of any packing of the given items.

    Parameters
    ----------
    counts
        (G,) how many items of each group are packed.
    enough
        Look for no better bound than this: the cost of a packing of these items, say, which no bound can exceed.
        Cheap bounds come first, so that most small problems never see the dear ones.
    """
    present = np.flatnonzero(counts)
    if not len(present):
        return Bound(0, "nothing is placed")
    best = _largest_item(problem, present)
    rows: list[Row] = []
    for more in (_sum_rows, _function_rows):
        if best.cost >= enough:
            return best
        for row in more(problem, present, counts[present]):
            rows.append(row)
            cost = _alone(problem, row)
            if cost > best.cost:
                best = Bound(cost, row.name)
                if cost >= enough:
                    return best
        # With one type, rows together prove no more than the best of them alone.
        if len(problem.cost) > 1:
            multipliers = _multipliers(problem, rows)
            cost = math.ceil(_proven(problem, rows, multipliers))
            if cost > best.cost:
                best = Bound(cost, _basis(rows, multipliers))
    return best


def resource_prices(problem: Problem, counts: IntArray) -> FloatArray:
    """Price resources as the cheapest fractional nodes for the items would: the dual of the sums' linear program.

    Parameters
    ----------
    counts
        (G,) how many items of each group are to be packed, not all 0.

    Returns
    -------
    FloatArray
        (D,) cost of one unit of each resource; 0 where there is plenty of it.
    """
    present = np.flatnonzero(counts)
    rows = list(_sum_rows(problem, present, counts[present]))
    prices = np.zeros(len(problem.resources))
    for row, multiplier in zip(rows, _multipliers(problem, rows).tolist(), strict=True):
        if row.dimension is not None:
            prices[row.dimension] += multiplier / row.demand / row.divisor
    return prices


def _largest_item(problem: Problem, present: IntArray) -> Bound:
    """Every item needs a node of a type that it fits."""
    if len(problem.cost) == 1:
        cheapest = {problem.cost[0]}
    else:
        cost = np.array(problem.cost, dtype=object)
        cheapest = {int(min(cost[fits])) for fits in np.unique(problem.fits[present], axis=0)}
    return Bound(max(cheapest), "one node for the most demanding item")


def _sum_rows(problem: Problem, present: IntArray, counts: IntArray) -> Iterator[Row]:
    """Yield a row for each dimension, over all items and over those that only some types can hold."""
    everything = np.ones(len(present), dtype=np.bool_)
    subsets = [(everything, np.ones(len(problem.cost), dtype=np.bool_))]
    if len(problem.cost) > 1:
        # Items confined to some of the types need nodes of these types.
        fits = problem.fits[present]
        subsets += [
            (~(fits & ~types).any(axis=1), types) for types in np.unique(fits, axis=0)[:_MAX_SUBSETS] if not types.all()
        ]
    for chosen, types in subsets:
        columns = problem.demand[present[chosen]].T.tolist()
        offered = np.where(types[:, None], problem.capacity, 0).T.tolist()
        numbers = counts[chosen].tolist()
        for place, name in enumerate(problem.resources):
            divisor = math.gcd(*columns[place])
            if divisor == 0:
                continue
            demand = sum(size * number for size, number in zip(columns[place], numbers, strict=True)) // divisor
            # No sum of multiples of the divisor reaches into the rest of the capacity.
            capacity = tuple(amount // divisor for amount in offered[place])
            label = f"the sum of {name}" if name != PODS else "the number of items a node"
            yield Row(label, demand, capacity, place, divisor)


def _function_rows(problem: Problem, present: IntArray, counts: IntArray) -> Iterator[Row]:
    """Yield rows of dual feasible functions, for each dimension and for weighted sums of them (surrogates)."""
    demand, capacity = problem.demand[present], problem.capacity
    dimensions = [place for place, name in enumerate(problem.resources) if name != PODS and demand[:, place].any()]
    lines = [(problem.resources[place], demand[:, place], capacity[:, place]) for place in dimensions]
    if len(dimensions) > 1:
        shares_of_items = np.column_stack([_shares(demand[:, p], int(capacity[:, p].max())) for p in dimensions])
        shares_of_types = np.column_stack([_shares(capacity[:, p], int(capacity[:, p].max())) for p in dimensions])
        load = counts @ shares_of_items.astype(np.float64)
        for label, weights in (("equal weights", np.ones(len(dimensions))), ("weights by demand", load)):
            if not weights.any():
                continue
            whole = np.rint(weights / weights.max() * _MAX_WEIGHT).astype(np.int64)
            name = f"all resources with {label}"
            lines.append((name, shares_of_items @ whole, shares_of_types @ whole))
    for name, sizes, capacities in lines:
        largest = int(capacities.max())
        if largest < 1:
            continue
        for label, function in best_functions(sizes, counts, largest):
            total = _exact_sum(function(sizes), counts)
            if total > 0:
                yield Row(f"a dual feasible function ({label}) of {name}", total, tuple(function(capacities).tolist()))


def _shares(amounts: IntArray, largest: int) -> IntArray:
    """Return floor(amount / largest * grid), which is superadditive; of amounts above 2**42 the leading bits only."""
    shift = max(0, largest.bit_length() - 42)
    return np.asarray((amounts >> shift) * _GRID // max(1, largest >> shift))


def _exact_sum(values: IntArray, counts: IntArray) -> int:
    return sum(value * count for value, count in zip(values.tolist(), counts.tolist(), strict=True))


def _multipliers(problem: Problem, rows: Sequence[Row]) -> FloatArray:
    """Solve the dual: maximise demand @ y - limit @ w - max_nodes * v where capacity @ y - w - v <= cost."""
    scale = float(max(1, *problem.cost))
    # Python divides whole numbers of any size exactly; each row is scaled to a demand of 1.
    matrix = np.array([[row.capacity[kind] / row.demand for row in rows] for kind in range(len(problem.cost))])
    # For exact fractions w and v are derived anew, so only those that can matter are given to the simplex.
    bounded = [kind for kind, limit in enumerate(problem.limit) if problem.limited and limit < problem.max_nodes]
    slack = np.zeros((len(problem.cost), len(bounded)))
    slack[bounded, range(len(bounded))] = -1.0
    overall = -np.ones((len(problem.cost), 1))
    objective = np.concatenate(
        [np.ones(len(rows)), [-float(problem.limit[kind]) for kind in bounded], [-float(problem.max_nodes)]]
    )
    point = maximise(objective, np.hstack([matrix, slack, overall]), np.array(problem.cost, dtype=np.float64) / scale)
    return point[: len(rows)] * scale


def _alone(problem: Problem, row: Row) -> int:
    """Return the cost that one row proves by itself, in whole numbers: the simplest proof, immune to any simplex."""
    return min(
        (-(-cost * row.demand // held) for cost, held in zip(problem.cost, row.capacity, strict=True) if held),
        default=0,
    )


def _proven(problem: Problem, rows: Sequence[Row], multipliers: FloatArray) -> Fraction:
    """Return what the multipliers prove, exactly.

    Weak duality: for any y >= 0 and v >= 0, with w = max(0, capacity @ y - cost - v), the cost of a packing is at
    least demand @ y - limit @ w - max_nodes * v, since it uses at most ``limit`` nodes of each type.
    """
    # In units of 2**-bits and with the rows scaled to a demand of 1, as in _multipliers.
    steps = [
        (row, Fraction(int(max(0.0, value) * 2**_MULTIPLIER_BITS), 2**_MULTIPLIER_BITS) / row.demand)
        for row, value in zip(rows, multipliers.tolist(), strict=False)
        if value > 0.0 and math.isfinite(value)
    ]
    excess = [
        sum((step * row.capacity[kind] for row, step in steps), Fraction(0)) - cost
        for kind, cost in enumerate(problem.cost)
    ]
    total = sum((step * row.demand for row, step in steps), Fraction(0))
    # The best v is 0 or one of the excesses; all are tried where there are few types.
    candidates = [*sorted({value for value in excess if value > 0}, reverse=True)[:16], Fraction(0)]
    proven = max(
        total
        - problem.max_nodes * overall
        - sum(limit * (value - overall) for value, limit in zip(excess, problem.limit, strict=True) if value > overall)
        for overall in candidates
    )
    # Or shrink the multipliers until no type has an excess.
    loads = [value + cost for value, cost in zip(excess, problem.cost, strict=True)]
    factors = [Fraction(cost) / load for load, cost in zip(loads, problem.cost, strict=True) if load > cost]
    return max(proven, total * min(factors, default=Fraction(1)), Fraction(0))


def _basis(rows: Sequence[Row], multipliers: FloatArray) -> str:
    chosen = [
        row.name for row, value in zip(rows, multipliers.tolist(), strict=False) if value > 1e-9 * multipliers.max()
    ]
    return " and ".join(dict.fromkeys(chosen))
