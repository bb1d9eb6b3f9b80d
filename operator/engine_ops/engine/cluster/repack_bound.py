"""How few nodes would do at best: a lower bound that holds under all filters, proven in whole numbers.

Every row maps tasks and nodes to one whole number each, such that the tasks that a node can hold have a sum of at most
the node's number. Whatever company rules demand beyond that only removes answers. For multipliers ``y`` of the rows,

    nodes in use >= held + ceil( sum_r y_r demand_r  -  sum_n max(0, sum_r y_r capacity_rn - [n is not held]) )

(weak duality of the linear program that opens fractions of nodes; a node that is held is open and costs nothing).
The multipliers are found in floating point; what they prove is computed exactly, node by node.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np

from engine_ops.engine.cluster.repack_groups import Exclusion, Groups, exclusions, group_tasks
from engine_ops.engine.cluster.repack_question import RepackQuestion
from engine_ops.engine.cluster.repack_wording import plural
from engine_ops.engine.resource.dff import best_functions
from engine_ops.engine.resource.linear_program import maximise
from engine_ops.engine.scheduling.problem import BoolArray, FloatArray, IntArray
from engine_ops.engine.scheduling.state import State

_BITS = 96
_MAX_SUBSETS = 12
_MAX_KINDS = 64
"""Kinds of nodes in the linear program that suggests multipliers; the proof is over all nodes."""
_GRID = 2**20


@dataclasses.dataclass(frozen=True, slots=True)
class RepackBound:
    """A proven lower bound.

    Parameters
    ----------
    nodes
        No repacking leaves fewer nodes in use.
    basis
        What proves it, for people.
    worth
        (nodes,) what each node offers for pods that may move, at the prices that prove most: it is worth opening where
        this is above 1.
    """

    nodes: int
    basis: str
    worth: FloatArray


@dataclasses.dataclass(frozen=True, slots=True)
class _Row:
    name: str
    demand: int
    capacity: IntArray


def lower_bound(question: RepackQuestion, state: State) -> RepackBound:
    """Bound the number of nodes in use after any repacking.

    Parameters
    ----------
    state
        Of the question's problem; it is reset.
    """
    held = int(question.held.sum())
    if not question.problem.tasks:
        return RepackBound(held, _HELD, np.zeros(len(question.held)))
    state.reset()
    excluded = exclusions(question, state)
    groups = group_tasks(question, state, excluded)
    room = room_of(question, state, excluded)
    allowed = _allowed(groups, room)
    best, basis = held, _HELD
    if bool((~allowed[:, question.held].any(axis=1)).any()):
        best, basis = held + 1, f"{_HELD} and one for pods that they cannot hold" if held else "one node for all"
    rows = list(_rows(groups, room, allowed))
    for row in rows:
        more = held + _alone(row, question.held)
        if more > best:
            best, basis = more, row.name
    multipliers = _multipliers(rows, question.held)
    more = held + _proven(rows, multipliers, question.held)
    if more > best:
        strong = [row.name for row, value in zip(rows, multipliers, strict=True) if value > 1e-6 * max(multipliers)]
        best, basis = more, " and ".join(dict.fromkeys(strong))
    worth: FloatArray = np.zeros(len(question.held))
    for row, value in zip(rows, multipliers, strict=True):
        worth += row.capacity * (value / row.demand)
    return RepackBound(best, basis, worth)


_HELD = "the nodes with pods that stay"


def room_of(question: RepackQuestion, state: State, excluded: Sequence[Exclusion]) -> IntArray:
    """Return (N, D) what tasks that may move can ask of each node together, in any repacking.

    A node that takes a new task does not exceed what it has for any resource that this task asks for; a node that
    takes none holds at most the tasks that it has now, and these may be more than the filters would allow.

    Parameters
    ----------
    state
        With the fixed tasks alone.
    """
    problem = question.problem
    nodes, resources = len(problem.nodes), len(problem.resources)
    now = np.zeros((nodes, resources + len(excluded) + 1), np.int64)
    requests = np.array([c.requests for c in problem.classes], np.int64).reshape(-1, resources)
    marks = np.array([[number in e.classes for e in excluded] for number in range(len(problem.classes))], np.int64)
    marks = marks.reshape(len(problem.classes), len(excluded))
    per_class = np.hstack([requests, marks, np.ones((len(problem.classes), 1), np.int64)])
    np.add.at(now, np.asarray(question.home, np.int64), per_class[np.asarray(problem.class_of, np.int64)])
    has = np.empty_like(now)
    has[:, :resources] = np.stack(state.free, axis=1)
    for place, exclusion in enumerate(excluded):
        has[:, resources + place] = ~exclusion.presence.nodes if exclusion.presence.any else 1
    has[:, -1] = state.places
    return np.maximum(np.maximum(has, now), 0)


def _allowed(groups: Groups, room: IntArray) -> BoolArray:
    """Return (G, N) which nodes may hold a task of each group."""
    allowed = groups.masks[groups.mask]
    for place in range(room.shape[1]):
        allowed &= groups.demand[:, place, None] <= room[None, :, place]
    return allowed


def _rows(groups: Groups, room: IntArray, allowed: BoolArray) -> Iterator[_Row]:
    """Yield sums of each dimension over all tasks and over those that only some nodes can take, and functions."""
    kinds, place = np.unique(np.packbits(allowed, axis=1), axis=0, return_inverse=True)
    place = place.ravel()
    weight = np.bincount(place, weights=groups.count, minlength=len(kinds))
    largest = np.argsort(-weight, kind="stable")[:_MAX_SUBSETS].tolist()
    first = {int(kind): int(np.flatnonzero(place == kind)[0]) for kind in largest}
    subsets: list[tuple[str, BoolArray, BoolArray]] = [
        ("", np.ones(len(allowed), bool), np.asarray(allowed.any(axis=0)))
    ]
    for kind in largest:
        nodes = allowed[first[kind]]
        inside = ~(allowed & ~nodes).any(axis=1)
        if not inside.all():
            where = f" of pods that only {plural(int(nodes.sum()), 'node')} can take"
            subsets.append((where, inside, nodes))
    for where, chosen, nodes in subsets:
        demand, count = groups.demand[chosen], groups.count[chosen]
        usable = np.where(nodes[:, None], room, 0)
        for dimension, name in enumerate(groups.names):
            divisor = int(np.gcd.reduce(demand[:, dimension]))
            if divisor == 0:
                continue
            # No sum of multiples of the divisor reaches into the rest of the capacity.
            sizes = demand[:, dimension] // divisor
            capacity = usable[:, dimension] // divisor
            label = f"the sum of {name}" if name != "pods" else "the number of pods a node"
            if name.startswith("exclusion"):
                label = "pods that keep each other off their node (anti-affinity or host ports)"
            yield _Row(label + where, _exact_sum(sizes, count), capacity)
        yield from _functions(groups.names, demand, count, usable, where)


def _functions(names: Sequence[str], demand: IntArray, count: IntArray, usable: IntArray, where: str) -> Iterator[_Row]:
    """Yield dual feasible functions of each resource, and of their sum in shares of the largest node."""
    dimensions = [
        place
        for place, name in enumerate(names[:-1])
        if not name.startswith("exclusion") and bool(demand[:, place].any()) and bool(usable[:, place].any())
    ]
    lines = [(names[place], demand[:, place], usable[:, place]) for place in dimensions]
    if len(dimensions) > 1:
        # floor(amount / largest * grid) is superadditive, and so is a sum of such.
        scaled = [(_shares(d, int(u.max())), _shares(u, int(u.max()))) for _, d, u in lines]
        sizes: IntArray = np.stack([d for d, _ in scaled]).sum(axis=0)
        capacities: IntArray = np.stack([u for _, u in scaled]).sum(axis=0)
        lines.append(("all resources", sizes, capacities))
    for name, amounts, capacity in lines:
        for label, function in best_functions(amounts, count, int(capacity.max())):
            total = _exact_sum(function(amounts), count)
            if total > 0:
                yield _Row(f"a dual feasible function ({label}) of {name}{where}", total, function(capacity))


def _shares(amounts: IntArray, largest: int) -> IntArray:
    shift = max(0, largest.bit_length() - 42)
    return np.asarray((amounts >> shift) * _GRID // max(1, largest >> shift))


def _exact_sum(values: IntArray, counts: IntArray) -> int:
    return sum(value * count for value, count in zip(values.tolist(), counts.tolist(), strict=True))


def _alone(row: _Row, held: BoolArray) -> int:
    """Return how many nodes one row asks for beside those that are held: the largest ones first."""
    missing = row.demand - sum(row.capacity[held].tolist())
    nodes = 0
    for offered in sorted(row.capacity[~held].tolist(), reverse=True):
        if missing <= 0 or offered <= 0:
            break
        missing -= offered
        nodes += 1
    return nodes


def _multipliers(rows: Sequence[_Row], held: BoolArray) -> list[float]:
    """Solve the dual over kinds of nodes, each row scaled to a demand of 1.

    Nodes that are held take what they can from the demand; what remains is for the others.
    """
    if not rows or bool(held.all()):
        return [0.0] * len(rows)
    matrix = np.array([[amount / row.demand for amount in row.capacity.tolist()] for row in rows]).T
    objective = 1.0 - matrix[held].sum(axis=0)
    kinds, limit = _kinds(matrix[~held])
    slack = -np.eye(len(kinds))
    point = maximise(
        np.concatenate([objective, -limit]), np.hstack([kinds, slack]), np.ones(len(kinds), dtype=np.float64)
    )
    values = point[: len(rows)]
    return [float(value) if math.isfinite(value) and value > 0 else 0.0 for value in values]


def _kinds(matrix: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Merge nodes (N, R) that are alike into at most `_MAX_KINDS`; return their means and how many there are."""
    digits = 6
    while True:
        _, place, limit = np.unique(
            np.round(matrix / max(float(matrix.max()), 1e-300), digits), axis=0, return_inverse=True, return_counts=True
        )
        if len(limit) <= _MAX_KINDS or digits == 0:
            break
        digits -= 1
    sums = np.zeros((len(limit), matrix.shape[1]))
    np.add.at(sums, place.ravel(), matrix)
    return sums / limit[:, None], limit.astype(np.float64)


def _proven(rows: Sequence[_Row], multipliers: Sequence[float], held: BoolArray) -> int:
    """Return how many nodes the multipliers prove beside those that are held, exactly."""
    steps = [
        (row, int(value * 2**64) * (1 << (_BITS - 64)) // row.demand)
        for row, value in zip(rows, multipliers, strict=True)
    ]
    steps = [(row, step) for row, step in steps if step > 0]
    if not steps:
        return 0
    one = 1 << _BITS
    columns = [[step * amount for amount in row.capacity.tolist()] for row, step in steps]
    worth = [sum(amounts) for amounts in zip(*columns, strict=True)]
    excess = sum(max(0, value - (0 if stays else one)) for value, stays in zip(worth, held.tolist(), strict=True))
    total: int = sum(step * row.demand for row, step in steps) - excess
    return max(0, -(-total // one))
