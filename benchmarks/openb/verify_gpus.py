"""Checking placements GPU by GPU, with whole numbers and none of the engine's code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from openb.trace import GPU_MILLI, TraceNode, TracePod


def check_gpus(result: Mapping[str, Any], nodes: Sequence[TraceNode], stream: Sequence[TracePod]) -> list[str]:
    """Return what is wrong with an answer in sentences; nothing if all holds.

    Each pod is told of once, has the GPUs that it asks for on one node of a model that it may use, and no GPU, CPU or
    memory is given out twice.

    Parameters
    ----------
    result
        ``{placements: [{taskId, nodeId, devices} or {taskId, reason}]}``.
    nodes, stream
        The cluster, and the pods.
    """
    faults: list[str] = []
    by_name = {node.name: node for node in nodes}
    free = {node.name: [node.cpu_milli, node.memory_mib] for node in nodes}
    gpus = {node.name: [GPU_MILLI] * node.gpus for node in nodes}
    waiting = {pod.name: pod for pod in stream}
    for entry in result["placements"]:
        pod = waiting.pop(entry["taskId"], None)
        if pod is None:
            faults.append(f"{entry['taskId']}: unknown, or told of twice")
            continue
        name = entry.get("nodeId")
        if name is None:
            if not entry.get("reason"):
                faults.append(f"{pod.name}: neither a node nor a reason")
            continue
        if name not in by_name:
            faults.append(f"{pod.name}: there is no node {name}")
            continue
        if pod.models and by_name[name].model not in pod.models:
            faults.append(f"{pod.name}: on {name} with {by_name[name].model}, allowed {sorted(pod.models)}")
        devices = entry.get("devices", [])
        if len(set(devices)) != pod.gpus or len(devices) != pod.gpus:
            faults.append(f"{pod.name}: has GPUs {devices} on {name}, asks for {pod.gpus}")
        for device in devices:
            if not 0 <= device < len(gpus[name]):
                faults.append(f"{pod.name}: {name} has no GPU {device}")
                continue
            gpus[name][device] -= pod.gpu_milli
            if gpus[name][device] < 0:
                faults.append(f"{pod.name}: GPU {device} of {name} is {-gpus[name][device]} thousandths over")
        for amount, (what, asked) in enumerate((("CPU", pod.cpu_milli), ("memory", pod.memory_mib))):
            free[name][amount] -= asked
            if free[name][amount] < 0:
                faults.append(f"{pod.name}: {name} is {-free[name][amount]} over its {what}")
    return faults + [f"{name}: no placement" for name in waiting]
