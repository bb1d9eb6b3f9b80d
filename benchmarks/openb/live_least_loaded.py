"""A plain placement that knows single GPUs: each pod to the node that is least loaded with it, in the order of arrival.

The score is that of kube-scheduler's LeastAllocated over cpu and memory; it is written anew here, without the engine.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from openb.live_objects import PODS_A_NODE
from openb.trace import GPU_MILLI, TraceNode, TracePod


@dataclasses.dataclass(slots=True)
class _Node:
    node: TraceNode
    cpu_milli: int
    memory_mib: int
    pods: int
    gpus: list[int]

    def chosen_gpus(self, pod: TracePod) -> list[int] | None:
        """Return the GPUs that the pod would get, the fullest that fit; None where it does not fit."""
        if self.pods == 0 or self.cpu_milli < pod.cpu_milli or self.memory_mib < pod.memory_mib:
            return None
        if pod.models and self.node.model not in pod.models:
            return None
        if pod.gpu_milli_total == 0:
            return []
        fitting = sorted((free, gpu) for gpu, free in enumerate(self.gpus) if free >= pod.gpu_milli)
        return [gpu for _, gpu in fitting[: pod.gpus]] if len(fitting) >= pod.gpus else None

    def free_share(self, pod: TracePod) -> float:
        """Return the mean share of cpu and memory that is left with the pod."""
        cpu = (self.cpu_milli - pod.cpu_milli) / self.node.cpu_milli
        return (cpu + (self.memory_mib - pod.memory_mib) / self.node.memory_mib) / 2


def least_loaded(nodes: Sequence[TraceNode], pods: Sequence[TracePod]) -> dict[str, str]:
    """Return the node of each pod that fits when its turn comes."""
    state = [_Node(node, node.cpu_milli, node.memory_mib, PODS_A_NODE, [GPU_MILLI] * node.gpus) for node in nodes]
    placed = {}
    for pod in pods:
        fitting = [node for node in state if node.chosen_gpus(pod) is not None]
        if not fitting:
            continue
        best = max(fitting, key=lambda node: node.free_share(pod))
        for gpu in best.chosen_gpus(pod) or ():
            best.gpus[gpu] -= pod.gpu_milli
        best.cpu_milli -= pod.cpu_milli
        best.memory_mib -= pod.memory_mib
        best.pods -= 1
        placed[pod.name] = best.node.name
    return placed
