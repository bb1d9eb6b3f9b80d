"""Checking answers against the recorded nodes and pods, with whole numbers and none of the engine's code."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from openb.convert import shape_id, type_name
from openb.trace import GPU_MILLI, TraceNode, TracePod


@dataclasses.dataclass(frozen=True, slots=True)
class Checked:
    """What an answer places, counted anew.

    Parameters
    ----------
    placed, unplaced
        Pods.
    nodes_used
        Nodes with at least one pod.
    gpu_milli
        Thousandths of a GPU that the placed pods ask for.
    faults
        What is wrong with the answer, in sentences; empty if nothing is.
    """

    placed: int
    unplaced: int
    nodes_used: int
    gpu_milli: int
    faults: tuple[str, ...]


class _Use:
    """What the pods on one node ask for together."""

    def __init__(self) -> None:
        self.cpu_milli = self.memory_mib = self.gpu_milli = 0

    def add(self, pod: TracePod, count: int = 1) -> None:
        self.cpu_milli += pod.cpu_milli * count
        self.memory_mib += pod.memory_mib * count
        self.gpu_milli += pod.gpu_milli_total * count

    def faults(self, name: str, node: TraceNode) -> list[str]:
        limits = (
            ("CPU", self.cpu_milli, node.cpu_milli),
            ("memory", self.memory_mib, node.memory_mib),
            ("GPU", self.gpu_milli, node.gpus * GPU_MILLI),
        )
        return [f"{name}: {used} of {limit} {what}" for what, used, limit in limits if used > limit]


def check_packing(result: Mapping[str, Any], nodes: Sequence[TraceNode], pods: Sequence[TracePod]) -> Checked:
    """Check a ``resource`` result: no node over its capacity, no type beyond its number, every pod accounted for once.

    Parameters
    ----------
    result
        The whole result, not its summary.
    nodes, pods
        What the request was made of.
    """
    faults: list[str] = []
    examples = {shape_id(pod): pod for pod in pods}
    kinds = {type_name(node): node for node in nodes}
    have = collections.Counter(type_name(node) for node in nodes)
    placed: collections.Counter[str] = collections.Counter()
    used_types: collections.Counter[str] = collections.Counter()
    gpu_milli = 0
    for entry in result["nodes"]:
        if entry["type"] not in kinds:
            faults.append(f"{entry['id']}: there is no type {entry['type']}")
            continue
        used_types[entry["type"]] += 1
        use = _Use()
        for item in entry["items"]:
            use.add(examples[item["id"]], item["count"])
            placed[item["id"]] += item["count"]
        gpu_milli += use.gpu_milli
        faults += use.faults(entry["id"], kinds[entry["type"]])
    faults += [f"{count} of {have[name]} nodes {name}" for name, count in used_types.items() if count > have[name]]
    unplaced = collections.Counter({entry["id"]: entry["count"] for entry in result["unplacedItems"]})
    for name, count in collections.Counter(shape_id(pod) for pod in pods).items():
        if placed[name] + unplaced[name] != count:
            faults.append(f"{name}: {placed[name]} placed and {unplaced[name]} not, of {count}")
    return Checked(placed.total(), unplaced.total(), used_types.total(), gpu_milli, tuple(faults))


def check_scheduling(result: Mapping[str, Any], nodes: Sequence[TraceNode], pods: Sequence[TracePod]) -> Checked:
    """Check a ``scheduling`` result: no node over its capacity, only allowed GPU models, every pod told of once.

    Parameters
    ----------
    result
        The whole result, not its summary.
    nodes, pods
        What the request was made of.
    """
    faults: list[str] = []
    by_name = {node.name: node for node in nodes}
    waiting = {pod.name: pod for pod in pods}
    uses: collections.defaultdict[str, _Use] = collections.defaultdict(_Use)
    unplaced = 0
    for entry in result["placements"]:
        pod = waiting.pop(entry["taskId"], None)
        node = by_name.get(entry.get("nodeId") or "")
        if pod is None:
            faults.append(f"{entry['taskId']}: unknown, or told of twice")
        elif node is None:
            unplaced += 1
            if not entry.get("reason"):
                faults.append(f"{pod.name}: neither a node nor a reason")
        else:
            uses[node.name].add(pod)
            if pod.models and node.model not in pod.models:
                faults.append(f"{pod.name}: on {node.name} with {node.model}, allowed {sorted(pod.models)}")
    faults += [f"{name}: no placement" for name in waiting]
    for name, use in uses.items():
        faults += use.faults(name, by_name[name])
    gpu_milli = sum(use.gpu_milli for use in uses.values())
    placed = len(pods) - len(waiting) - unplaced
    return Checked(placed, unplaced, len(uses), gpu_milli, tuple(faults))
