"""The question in whole numbers, with identical items grouped."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import reduce

import numpy as np
import numpy.typing as npt

from engine_ops.engine.resource.data import Item, NodeCapacity, NodeType, ResourceConstraints, ResourceData
from engine_ops.engine.unit_arrays import request_units_array
from engine_ops.engine.units import capacity_units, request_units

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

PODS = "pods"
"""The dimension that counts items."""

_FEW_ITEMS = 16  # For so many, plain numbers are faster than arrays.


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """G groups of identical items, T node types, D dimensions.

    Parameters
    ----------
    item_ids
        As the user wrote them, in their order.
    item_count
        (items,) how many of each.
    group_of_item
        (items,) the group of each item, -1 for items too big for every type.
    item_demand
        (items, D) what one of each asks for.
    resources
        The names of the D dimensions: cpu, memory, further ones by name, and pods last.
    demand
        (G, D) what one item asks for, in the units of `engine_ops.engine.units`; 1 in dimension pods.
    count
        (G,) items in each group, at least 1.
    priority
        (G,) of each group; all 0 where nothing limits the nodes, as everything is placed then.
    fits
        (G, T) whether an item fits an empty node; every row has a True.
    type_names
        (T,) empty names where there is one kind of node.
    capacity
        (T, D) what a node offers.
    cost
        (T,) in whole multiples of `money`, all 1 where types have no cost.
    money
        The unit of `cost` in the user's money; None where types have no cost.
    limit
        (T,) how many nodes of a type there are, `max_nodes` at most.
    max_nodes
        Over all types.
    limited
        Whether `limit` or `max_nodes` can leave items out.
    """

    item_ids: Sequence[str]
    item_count: IntArray
    group_of_item: IntArray
    item_demand: IntArray
    resources: tuple[str, ...]
    demand: IntArray
    count: IntArray
    priority: IntArray
    fits: BoolArray
    type_names: tuple[str, ...]
    capacity: IntArray
    cost: tuple[int, ...]
    money: Fraction | None
    limit: tuple[int, ...]
    max_nodes: int
    limited: bool

    @property
    def total(self) -> int:
        """How many items are asked for, those that fit nowhere included."""
        return int(self.item_count.sum())


def build_problem(data: ResourceData, constraints: ResourceConstraints) -> Problem:
    """Scale the amounts, set items aside that fit nowhere, and group the others.

    Items are identical where their demand is, and their priority if that matters.
    """
    items = data.items
    kinds: Sequence[NodeCapacity] = data.node_types if data.node_types is not None else _one(data.node_capacity)
    extra = sorted(
        {name for item in items if item.resources for name in item.resources}
        | {name for kind in kinds for name in kind.resources}
    )
    names = ("cpu", "memory", *extra)
    item_count = np.array([item.count for item in items], dtype=np.int64)
    total = int(item_count.sum())
    item_demand = _demand(items, extra)
    capacity = np.array(
        [
            [capacity_units(name, amount) for name, amount in _amounts(kind, extra)] + [min(kind.pods or total, total)]
            for kind in kinds
        ],
        dtype=np.int64,
    )
    max_nodes = total if constraints.max_nodes is None else min(total, constraints.max_nodes)
    limit = tuple(min(max_nodes, _max_of(kind)) for kind in kinds)
    limited = constraints.max_nodes is not None or any(_max_of(kind) < total for kind in kinds)
    demand, priority, of_item = _group(item_demand.tolist(), [item.priority if limited else 0 for item in items])
    fits = _fits(demand, capacity)
    placeable = fits.any(axis=1)
    count = np.bincount(of_item, weights=item_count, minlength=len(demand)).astype(np.int64)
    if not placeable.all():
        of_item = np.where(placeable, np.cumsum(placeable) - 1, -1)[of_item]
        demand, priority, count, fits = demand[placeable], priority[placeable], count[placeable], fits[placeable]
    cost, money = _costs(kinds)
    return Problem(
        item_ids=[item.id for item in items],
        item_count=item_count,
        group_of_item=of_item,
        item_demand=item_demand,
        resources=(*names, PODS),
        demand=demand,
        count=count,
        priority=priority,
        fits=fits,
        type_names=tuple(kind.name if isinstance(kind, NodeType) else "" for kind in kinds),
        capacity=capacity,
        cost=cost,
        money=money,
        limit=limit,
        max_nodes=max_nodes,
        limited=limited,
    )


def _group(item_demand: list[list[int]], item_priority: list[int]) -> tuple[IntArray, IntArray, IntArray]:
    """Return the groups' demand (G, D) and priority (G,), in ascending order, and the group (items,) of each item."""
    keys = list(zip(map(tuple, item_demand), item_priority, strict=True))
    distinct = sorted(set(keys))
    number = {key: place for place, key in enumerate(distinct)}
    return (
        np.array([amounts for amounts, _ in distinct], dtype=np.int64),
        np.array([priority for _, priority in distinct], dtype=np.int64),
        np.array([number[key] for key in keys], dtype=np.int64),
    )


def _fits(demand: IntArray, capacity: IntArray) -> BoolArray:
    # One dimension at a time: groups x types x dimensions at once can be gigabytes.
    fits = np.ones((len(demand), len(capacity)), dtype=np.bool_)
    for place in range(demand.shape[1]):
        fits &= demand[:, place, None] <= capacity[None, :, place]
    return fits


def _one(capacity: NodeCapacity | None) -> Sequence[NodeCapacity]:
    if capacity is None:
        raise ValueError("neither nodeCapacity nor nodeTypes: the data has not been through parse()")
    return [capacity]


def _max_of(kind: NodeCapacity) -> int:
    """Return how many of a type there are; a number that never binds where that is not limited."""
    return kind.max if isinstance(kind, NodeType) and kind.max is not None else 2**62


def _amounts(kind: NodeCapacity, extra: Sequence[str]) -> list[tuple[str, float]]:
    return [("cpu", kind.cpu), ("memory", kind.memory), *((name, kind.resources.get(name, 0.0)) for name in extra)]


def _demand(items: Sequence[Item], extra: Sequence[str]) -> IntArray:
    amounts = [
        ("cpu", [item.cpu for item in items]),
        ("memory", [item.memory for item in items]),
        *((name, [item.resources.get(name, 0.0) for item in items]) for name in extra),
    ]
    demand = np.ones((len(items), len(amounts) + 1), dtype=np.int64)
    for place, (name, column) in enumerate(amounts):
        demand[:, place] = (
            request_units_array(name, column)
            if len(column) > _FEW_ITEMS
            else [request_units(name, amount) for amount in column]
        )
    return demand


def _costs(kinds: Sequence[NodeCapacity]) -> tuple[tuple[int, ...], Fraction | None]:
    """Return whole-number costs and their unit, so that sums of money are exact and bounds can be rounded up to it."""
    # The shortest decimal of a float is what the user wrote: 0.1 is a tenth, not its binary neighbour.
    costs = [Fraction(repr(kind.cost)) for kind in kinds if isinstance(kind, NodeType) and kind.cost is not None]
    if not costs:
        return (1,) * len(kinds), None
    denominator = math.lcm(*(cost.denominator for cost in costs))
    unit = Fraction(reduce(math.gcd, (int(cost * denominator) for cost in costs)), denominator)
    if unit == 0:
        return (0,) * len(costs), Fraction(1)
    return tuple(int(cost / unit) for cost in costs), unit


def resource_totals(problem: Problem, counts: IntArray) -> Mapping[str, int]:
    """Return the exact sum of what ``counts`` (G,) items of each group ask for, by dimension."""
    chosen = counts.tolist()
    return {
        name: sum(amount * number for amount, number in zip(problem.demand[:, place].tolist(), chosen, strict=True))
        for place, name in enumerate(problem.resources)
    }
