"""Why a packing is as it is, from the request and its result alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from engine_ops.api.faults import Fault, InvalidDataError
from engine_ops.engine.contract import Explanation
from engine_ops.engine.resource.answer import amount_text
from engine_ops.engine.resource.bounds import lower_bound
from engine_ops.engine.resource.problem import PODS, IntArray, Problem

_NODES_SHOWN = 3


def explain(problem: Problem, result: Mapping[str, Any]) -> Explanation:
    """Tell for each item where it went and why, and for the whole which bound holds and how full the nodes are.

    Parameters
    ----------
    problem
        The request.
    result
        Its result, whole: not the summary of one that is stored elsewhere.

    Raises
    ------
    InvalidDataError
        If the result does not belong to the request.
    """
    index = {name: number for number, name in enumerate(problem.item_ids)}
    nodes_of: dict[int, list[tuple[str, int]]] = defaultdict(list)
    kinds: list[int] = []
    loads: list[IntArray] = []
    try:
        for place, node in enumerate(result["nodes"]):
            kinds.append(_type_of(problem, node, place))
            load = np.zeros(len(problem.resources), dtype=np.int64)
            for entry in node["items"]:
                item = _item_of(index, entry, f"result.nodes[{place}].items")
                nodes_of[item].append((str(node["id"]), int(entry["count"])))
                load += int(entry["count"]) * problem.item_demand[item]
            if bool((load > problem.capacity[kinds[-1]]).any()):
                raise _foreign(f"result.nodes[{place}]", "holds more than the request's node offers")
            loads.append(load)
        reasons = {
            _item_of(index, entry, "result.unplacedItems"): (int(entry["count"]), str(entry["reason"]))
            for entry in result["unplacedItems"]
        }
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, InvalidDataError):
            raise
        raise _foreign("result", "not the whole result of a resource request") from error
    counts = np.zeros_like(problem.count)
    rows = []
    for item, name in enumerate(problem.item_ids):
        placed = sum(count for _, count in nodes_of[item])
        left, reason = reasons.get(item, (0, ""))
        if placed + left != int(problem.item_count[item]):
            raise _foreign("result", f"accounts for {placed + left} of {int(problem.item_count[item])} items {name!r}")
        if placed:
            counts[problem.group_of_item[item]] += placed
        rows.append(_row(problem, item, nodes_of[item], left, reason))
    notes = [*_bound_notes(problem, counts, kinds), *_utilisation(problem, kinds, loads)]
    return Explanation(
        title=f"resource: {int(counts.sum())} of {problem.total} items on {len(kinds)} nodes",
        headers=("ITEM", "COUNT", "CPU", "MEMORY", "NODES", "WHY"),
        rows=rows,
        notes=notes,
    )


def _foreign(path: str, message: str) -> InvalidDataError:
    return InvalidDataError([Fault(path, f"{message}: the result does not belong to this request")])


def _item_of(index: Mapping[str, int], entry: Mapping[str, Any], path: str) -> int:
    if entry["id"] not in index:
        raise _foreign(path, f"item {entry['id']!r} is not in data.items")
    return index[entry["id"]]


def _type_of(problem: Problem, node: Mapping[str, Any], place: int) -> int:
    name = node.get("type", "")
    if name not in problem.type_names:
        raise _foreign(f"result.nodes[{place}].type", f"{name!r} is not in data.nodeTypes")
    return problem.type_names.index(name)


def _row(problem: Problem, item: int, nodes: list[tuple[str, int]], left: int, reason: str) -> tuple[str, ...]:
    demand = problem.item_demand[item]
    shown = ", ".join(f"{name} ({count})" for name, count in nodes[:_NODES_SHOWN])
    if len(nodes) > _NODES_SHOWN:
        shown += f" and {len(nodes) - _NODES_SHOWN} more"
    parts = []
    if nodes:
        share = demand / np.maximum(problem.capacity.max(axis=0), 1)
        place = int(np.argmax(share))
        parts.append(
            f"needs most of {problem.resources[place]}: {share[place]:.1%} of the largest node".replace("%", " %")
        )
    if left:
        parts.append(f"{left} not placed: {reason}")
    return (
        problem.item_ids[item],
        str(int(problem.item_count[item])),
        amount_text("cpu", int(demand[0])),
        amount_text("memory", int(demand[1])),
        shown or "-",
        "; ".join(parts),
    )


def _bound_notes(problem: Problem, counts: IntArray, kinds: list[int]) -> Iterator[str]:
    cost = sum(problem.cost[kind] for kind in kinds)
    bound = lower_bound(problem, counts, enough=cost)
    unit = 1 if problem.money is None else problem.money
    word = "nodes" if problem.money is None else "in cost"
    yield f"At least {float(bound.cost * unit):g} {word} for the items placed: {bound.basis}."
    if cost == bound.cost:
        yield f"The answer has {float(cost * unit):g} {word}: no answer for these items is better."
    else:
        yield f"The answer has {float(cost * unit):g} {word}: {float((cost - bound.cost) * unit):g} above the bound."


def _utilisation(problem: Problem, kinds: list[int], loads: list[IntArray]) -> Iterator[str]:
    if not kinds:
        return
    offered = problem.capacity[kinds].astype(np.float64).sum(axis=0)
    used = np.array(loads, dtype=np.float64).sum(axis=0)
    limited = {PODS: bool((problem.capacity[:, -1] < problem.total).any())}
    parts = [
        f"{name} {100 * used[place] / offered[place]:.1f} %"
        for place, name in enumerate(problem.resources)
        if offered[place] and limited.get(name, True)
    ]
    yield f"In use on the nodes: {', '.join(parts)}."
