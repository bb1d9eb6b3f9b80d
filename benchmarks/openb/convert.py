"""From the recorded cluster to the data of requests.

Whole-node sums of GPU thousandths stand for single GPUs: a relaxation. Two pods of 600 thousandths fit a node of two
GPUs with 800 left, and a third pod of 600 would fit the sum and no GPU. An answer may therefore place more than the
cluster could run; its lower bound holds for both.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from typing import Any

from openb.trace import GPU_MILLI, TraceNode, TracePod

# Short on purpose: 8,000 tasks and 1,200 nodes have to fit the 1 MiB of a ConfigMap.
GPU_RESOURCE = "gpu-milli"
MODEL_LABEL = "gpu"


def shape_id(pod: TracePod) -> str:
    """Return the name of all pods that ask for the same."""
    return f"c{pod.cpu_milli}-m{pod.memory_mib}-g{pod.gpus}x{pod.gpu_milli}"


def type_name(node: TraceNode) -> str:
    """Return the name of all nodes that offer the same."""
    return f"{node.model}x{node.gpus}-c{node.cpu_milli}-m{node.memory_mib}"


def packing(nodes: Sequence[TraceNode], pods: Sequence[TracePod]) -> dict[str, Any]:
    """Return the data of a ``resource`` request: identical pods grouped, identical nodes one type with its number.

    Allowed GPU models are left out: items of a packing have no affinity.
    """
    shapes = collections.Counter(shape_id(pod) for pod in pods)
    examples = {shape_id(pod): pod for pod in pods}
    types = collections.Counter(type_name(node) for node in nodes)
    kinds = {type_name(node): node for node in nodes}
    return {
        "items": [
            {"id": name, **_amounts(examples[name], "cpu", "memory", "resources"), "count": count}
            for name, count in shapes.items()
        ],
        "nodeTypes": [{"name": name, **_capacity(kinds[name]), "max": count} for name, count in types.items()],
    }


def scheduling(nodes: Sequence[TraceNode], pods: Sequence[TracePod]) -> dict[str, Any]:
    """Return the data of a ``scheduling`` request: every pod a task in the order of arrival, every node as it is.

    Models become a node selector or, where there are several, a node affinity, and are labels of the nodes only where a
    pod asks for one.
    """
    labelled = any(pod.models for pod in pods)
    return {
        "tasks": [
            {
                "id": pod.name,
                **_amounts(pod, "cpuRequired", "memoryRequired", "resourcesRequired"),
                **_models(pod),
            }
            for pod in pods
        ],
        "nodes": [
            {
                "id": node.name,
                "cpuLoad": 0,
                "memoryLoad": 0,
                "capacity": _capacity(node),
                **({"labels": {MODEL_LABEL: node.model}} if labelled else {}),
            }
            for node in nodes
        ],
    }


def _amounts(pod: TracePod, cpu: str, memory: str, resources: str) -> dict[str, Any]:
    amounts: dict[str, Any] = {cpu: _cores(pod.cpu_milli), memory: _memory(pod.memory_mib)}
    if pod.gpu_milli_total:
        amounts[resources] = {GPU_RESOURCE: pod.gpu_milli_total}
    return amounts


def _capacity(node: TraceNode) -> dict[str, Any]:
    resources = {GPU_RESOURCE: node.gpus * GPU_MILLI}
    return {"cpu": _cores(node.cpu_milli), "memory": _memory(node.memory_mib), "resources": resources}


def _cores(cpu_milli: int) -> int | str:
    return f"{cpu_milli}m" if cpu_milli % 1000 else cpu_milli // 1000


def _memory(memory_mib: int) -> str:
    return f"{memory_mib}Mi" if memory_mib % 1024 else f"{memory_mib // 1024}Gi"


def _models(pod: TracePod) -> Mapping[str, Any]:
    if not pod.models:
        return {}
    if len(pod.models) == 1:
        return {"nodeSelector": {MODEL_LABEL: min(pod.models)}}
    expression = {"key": MODEL_LABEL, "operator": "In", "values": sorted(pod.models)}
    terms = [{"matchExpressions": [expression]}]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    return {"affinity": {"nodeAffinity": required}}
