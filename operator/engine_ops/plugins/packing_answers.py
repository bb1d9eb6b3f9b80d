"""A plugin's answer to a ``resource`` request, held against the problem that the built-in packs."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from engine_ops.engine.contract import Answer
from engine_ops.engine.resource.answer import amount_text, build_answer, node_ids, why_too_big
from engine_ops.engine.resource.data import parse
from engine_ops.engine.resource.packing import Packing, node_from_counts, value_of
from engine_ops.engine.resource.problem import Problem, build_problem
from engine_ops.engine.units import base_amount
from engine_ops.plugins.checked import Checked
from engine_ops.plugins.fields import entries, is_whole, text
from engine_ops.plugins.json_values import RefusedError, quoted

_NO_ROOM = "no room on the nodes that maxNodes and the types' max allow"
_LEFT_OUT = "the plugin placed it on no node"


@dataclasses.dataclass(frozen=True, slots=True)
class _Node:
    """One node of the answer: its type, the items on it by index, and what they leave free, (D,)."""

    id: str
    type: int
    items: Mapping[int, int]
    free: Sequence[int]


class PackingChecker:
    """Holds packings against the problem that the built-in packs.

    Parameters
    ----------
    problem
        The question.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._item = {name: number for number, name in enumerate(problem.item_ids)}
        self._kind = {name: number for number, name in enumerate(problem.type_names) if name}
        self._demand: list[list[int]] = problem.item_demand.tolist()
        self._capacity: list[list[int]] = problem.capacity.tolist()

    @classmethod
    def of(cls, data: Mapping[str, Any], constraints: Mapping[str, Any]) -> PackingChecker:
        """Return the checker of a request.

        Raises
        ------
        InvalidDataError
            If the data or a constraint is wrong.
        """
        return cls(build_problem(*parse(data, constraints)))

    def check(self, result: Mapping[str, Any], algorithm: str) -> Checked:
        """Check ``{nodes: [{id?, type?, items: [{id, count?}]}]}``.

        What is on no node is unplaced. What the result says beyond the nodes and their items (free amounts, counts,
        bounds) is derived anew and so not read. Nodes keep their ids; without any they are named as the built-in does.

        Parameters
        ----------
        result
            JSON values.
        algorithm
            The name of what made it, for the answer.

        Raises
        ------
        RefusedError
            If it is infeasible, or not in this shape.
        """
        problem = self.problem
        nodes = self._nodes(result)
        left = problem.item_count.tolist()
        for node in nodes:
            for item, count in node.items.items():
                left[item] -= count
        packing = self._packing(nodes)
        answer = build_answer(problem, packing, algorithm)
        unplaced = self._unplaced(left)
        written = {**answer.result, "nodes": [self._written(node) for node in nodes], "unplacedItems": unplaced}
        message = answer.message
        if unplaced:
            # Which of several identical items are left is the plugin's choice: the engine's sentence names its own.
            message = f"packed {problem.total - sum(left)} of {problem.total} items onto {len(nodes)} nodes; "
            message += f"not placed: {unplaced[0]['id']} ({unplaced[0]['reason']})"
            message += f" and {len(unplaced) - 1} more" if len(unplaced) > 1 else ""
        return Checked(
            dataclasses.replace(answer, result=written, message=message),
            value_of(problem, packing),
        )

    def _nodes(self, result: Mapping[str, Any]) -> list[_Node]:
        problem = self.problem
        missing = problem.item_count.tolist()
        spare = list(problem.limit)
        seen: dict[str, str] = {}
        given = entries(result, "nodes", "result")
        if len(given) > problem.max_nodes:
            raise RefusedError("result.nodes", f"{len(given)} nodes, but at most {problem.max_nodes} can be used")
        named = any("id" in entry for _, entry in given)
        nodes = []
        for path, entry in given:
            kind = self._type(entry, path)
            spare[kind] -= 1
            if spare[kind] < 0:
                which = problem.type_names[kind] or "this kind"
                raise RefusedError(path, f"one more node of {which} than the {problem.limit[kind]} there are")
            items = self._items(entry, path, missing)
            free = self._free(kind, items, path)
            name = text(entry, "id", path) if named else ""
            if named and seen.setdefault(name, path) != path:
                raise RefusedError(f"{path}.id", f"{quoted(name)} is the id of {seen[name]} already")
            nodes.append(_Node(name, kind, items, free))
        if not named:
            names = node_ids(problem, [node.type for node in nodes])
            nodes = [dataclasses.replace(node, id=name) for node, name in zip(nodes, names, strict=True)]
        return nodes

    def _type(self, entry: Mapping[str, Any], path: str) -> int:
        if not self._kind:
            if entry.get("type") is not None:
                raise RefusedError(f"{path}.type", "data has nodeCapacity, so that nodes have no types")
            return 0
        name = text(entry, "type", path)
        if name not in self._kind:
            raise RefusedError(f"{path}.type", f"{quoted(name)} is no name of data.nodeTypes")
        return self._kind[name]

    def _items(self, entry: Mapping[str, Any], path: str, missing: list[int]) -> Mapping[int, int]:
        problem = self.problem
        items: Counter[int] = Counter()
        for where, item in entries(entry, "items", path):
            name = text(item, "id", where)
            number = self._item.get(name)
            if number is None:
                raise RefusedError(f"{where}.id", f"{quoted(name)} is no id of data.items")
            count = item.get("count", 1)
            if not is_whole(count) or count < 1:
                raise RefusedError(f"{where}.count", f"must be a whole number of at least 1, not {quoted(count)}")
            if problem.group_of_item[number] < 0:
                raise RefusedError(f"{where}.id", f"{quoted(name)} fits no node: {why_too_big(problem, number)}")
            if count > missing[number]:
                asked = int(problem.item_count[number])
                raise RefusedError(
                    f"{where}.count", f"more of {quoted(name)} are placed than the {asked} in data.items"
                )
            missing[number] -= count
            items[number] += count
        if not items:
            raise RefusedError(f"{path}.items", "must not be empty: leave out a node that holds nothing")
        return dict(sorted(items.items()))

    def _free(self, kind: int, items: Mapping[int, int], path: str) -> list[int]:
        # Python's own numbers: an infeasible sum may exceed 64 bits.
        free = []
        for place, offered in enumerate(self._capacity[kind]):
            asked = sum(self._demand[item][place] * count for item, count in items.items())
            if asked > offered:
                name = self.problem.resources[place]
                have, want = amount_text(name, offered), amount_text(name, asked)
                raise RefusedError(f"{path}.items", f"they ask for {name} {want}, but the node has {have}")
            free.append(offered - asked)
        return free

    def _packing(self, nodes: Sequence[_Node]) -> Packing:
        problem = self.problem
        left = problem.count.copy()
        packed = []
        for node in nodes:
            counts = np.zeros_like(problem.count)
            for item, count in node.items.items():
                counts[problem.group_of_item[item]] += count
            left -= counts
            packed.append(node_from_counts(node.type, counts))
        return Packing(packed, left)

    def _written(self, node: _Node) -> dict[str, Any]:
        entry: dict[str, Any] = {"id": node.id}
        if self._kind:
            entry["type"] = self.problem.type_names[node.type]
        entry["cpuAvailable"] = base_amount("cpu", node.free[0])
        entry["memoryAvailable"] = base_amount("memory", node.free[1])
        entry["items"] = [{"id": self.problem.item_ids[item], "count": count} for item, count in node.items.items()]
        return entry

    def _unplaced(self, left: Sequence[int]) -> list[dict[str, Any]]:
        problem = self.problem
        unplaced = []
        for item, count in enumerate(left):
            if not count:
                continue
            if problem.group_of_item[item] < 0:
                reason = why_too_big(problem, item)
            else:
                # Where nothing limits the nodes there is room: then it is the plugin's doing.
                reason = _NO_ROOM if problem.limited else _LEFT_OUT
            unplaced.append({"id": problem.item_ids[item], "count": count, "reason": reason})
        return unplaced


def packing_answer(problem: Problem, packing: Packing, algorithm: str) -> Checked:
    """Return a packing that the engine made as a checked answer."""
    answer: Answer = build_answer(problem, packing, algorithm)
    return Checked(answer, value_of(problem, packing))
