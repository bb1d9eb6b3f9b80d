"""A packing in the user's words and numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from engine_ops.api.quantity import format_bytes, format_cpu
from engine_ops.api.reasons import Reason
from engine_ops.engine.contract import Answer
from engine_ops.engine.resource.bounds import lower_bound
from engine_ops.engine.resource.packing import Packing, cost_of, used
from engine_ops.engine.resource.problem import PODS, Problem
from engine_ops.engine.units import base_amount, scale_of


def build_answer(problem: Problem, packing: Packing, algorithm: str, bound: int | None = None) -> Answer:
    """Write a packing as the answer to a request.

    ``cpuAvailable`` and ``memoryAvailable`` are what a node has free beside its items, in cores and bytes.

    Parameters
    ----------
    packing
        Of the problem.
    algorithm
        The name of what made it.
    bound
        The lower bound, in the unit of ``problem.cost``, for all items that fit a node; it is derived anew for the
        items placed where some are left, or where it is None.
    """
    placed = int((problem.count - packing.left).sum())
    too_big = int(problem.item_count[problem.group_of_item < 0].sum())
    left_out = int(packing.left.sum())
    cost = cost_of(problem, packing)
    if bound is None or left_out:
        bound = lower_bound(problem, problem.count - packing.left, enough=cost).cost
    objective, lower = _in_money(problem, cost), _in_money(problem, bound)
    gap = None if left_out or not placed else _gap(cost, bound)
    share = placed / problem.total
    score = share * (1.0 if cost == bound else bound / cost) if placed else 0.0
    nodes, left_of_item = _nodes(problem, packing)
    unplaced = _unplaced(problem, left_of_item)
    result: dict[str, Any] = {
        "nodes": nodes,
        "unplacedItems": unplaced,
        "nodeCount": len(nodes),
        "lowerBound": lower,
        "gap": gap,
        "algorithm": algorithm,
    }
    summary = {key: result[key] for key in ("nodeCount", "lowerBound", "gap", "algorithm")}
    summary["unplacedCount"] = too_big + left_out
    if problem.money is not None:
        result["totalCost"] = summary["totalCost"] = objective
    return Answer(
        result=result,
        algorithm=algorithm,
        message=_message(problem, placed, len(nodes), objective, lower, gap, unplaced),
        reason=Reason.UNPLACEABLE if unplaced else Reason.SOLVED,
        score=score,
        summary=summary,
        objective=float(objective),
        lower_bound=float(lower),
        gap=gap,
    )


def amount_text(resource: str, units: int) -> str:
    """Write an amount in the problem's units as a Kubernetes quantity."""
    if resource == "cpu":
        return format_cpu(units / 1000)
    if resource == PODS:
        return str(units)
    if scale_of(resource) == 1:
        return format_bytes(units)
    return f"{base_amount(resource, units):g}"


def node_ids(problem: Problem, types: Sequence[int]) -> list[str]:
    """Name the nodes: node-1, node-2, ... or by their type: small-1, large-1, ...; unique as types' names are."""
    seen: Counter[int] = Counter()
    names = []
    for kind in types:
        seen[kind] += 1
        names.append(f"{problem.type_names[kind] or 'node'}-{seen[kind]}")
    return names


def why_too_big(problem: Problem, item: int) -> str:
    """Say what keeps an item from every empty node."""
    demand = problem.item_demand[item]
    largest = problem.capacity.max(axis=0)
    over = np.flatnonzero(demand > largest)
    if len(over):
        parts = []
        for place in over.tolist():
            name = problem.resources[place]
            wanted, offered = (amount_text(name, int(amount[place])) for amount in (demand, largest))
            parts.append(f"{name} {wanted} exceeds the largest node's {offered}")
        return "; ".join(parts)
    wanted = ", ".join(
        f"{name} {amount_text(name, int(amount))}"
        for name, amount in zip(problem.resources, demand, strict=True)
        if amount and name != PODS
    )
    return f"no node type offers {wanted} together"


def _nodes(problem: Problem, packing: Packing) -> tuple[list[dict[str, Any]], list[int]]:
    """Deal the groups' items out to the nodes in the order of the request; return the nodes and what each has left."""
    members: list[list[int]] = [[] for _ in problem.count]
    for item, group in enumerate(problem.group_of_item.tolist()):
        if group >= 0:
            members[group].append(item)
    left_of_item = problem.item_count.tolist()
    ids = node_ids(problem, [node.type for node in packing.nodes])
    typed = bool(problem.type_names[0])
    at = [0] * len(members)
    nodes = []
    for name, node in zip(ids, packing.nodes, strict=True):
        here: list[tuple[int, int]] = []
        for group, count in zip(node.groups.tolist(), node.counts.tolist(), strict=True):
            missing = count
            while missing:
                item = members[group][at[group]]
                taken = min(missing, left_of_item[item])
                here.append((item, taken))
                left_of_item[item] -= taken
                missing -= taken
                if not left_of_item[item]:
                    at[group] += 1
        here.sort()
        free = (problem.capacity[node.type] - used(problem, node)).tolist()
        entry: dict[str, Any] = {"id": name}
        if typed:
            entry["type"] = problem.type_names[node.type]
        entry["cpuAvailable"] = base_amount("cpu", free[0])
        entry["memoryAvailable"] = base_amount("memory", free[1])
        entry["items"] = [{"id": problem.item_ids[item], "count": count} for item, count in here]
        nodes.append(entry)
    return nodes, left_of_item


def _unplaced(problem: Problem, left_of_item: Sequence[int]) -> list[dict[str, Any]]:
    unplaced = []
    for item, left in enumerate(left_of_item):
        if not left:
            continue
        reason = (
            why_too_big(problem, item)
            if problem.group_of_item[item] < 0
            else "no room on the nodes that maxNodes and the types' max allow"
        )
        unplaced.append({"id": problem.item_ids[item], "count": left, "reason": reason})
    return unplaced


def _message(
    problem: Problem,
    placed: int,
    nodes: int,
    objective: float,
    lower: float,
    gap: float | None,
    unplaced: Sequence[Mapping[str, Any]],
) -> str:
    items = f"{placed} of {problem.total} items" if unplaced else _plural(problem.total, "item")
    text = f"packed {items} onto {_plural(nodes, 'node')}"
    if problem.money is not None:
        text += f" at a cost of {objective:g}"
    if gap == 0:
        text += f"; proven optimal: the lower bound is {lower:g}"
    elif placed:
        text += f"; lower bound {lower:g}" + (f", gap {100 * gap:.1f} %" if gap is not None else "")
    if unplaced:
        first = unplaced[0]
        text += f"; not placed: {first['id']} ({first['reason']})"
        if len(unplaced) > 1:
            text += f" and {len(unplaced) - 1} more"
    return text


def _plural(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _gap(cost: int, bound: int) -> float | None:
    if cost == bound:
        return 0.0
    return (cost - bound) / bound if bound else None


def _in_money(problem: Problem, cost: int) -> int | float:
    if problem.money is None:
        return cost
    value = cost * problem.money
    return int(value) if value.denominator == 1 else float(value)
