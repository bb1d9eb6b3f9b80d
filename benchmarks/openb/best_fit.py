"""The published BestFit, written anew from its description: the peer that shows that the experiment is the same.

A pod goes to the node that is left with least: the mean of free CPU and free GPU thousandths after it, each as a part
of the largest node's (128 cores, 8 GPUs). The score is cut to whole hundredths and stretched to 0 to 100 over the nodes
that fit, as published; of equal nodes the smallest name wins, of GPUs the fullest that fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from openb.trace import GPU_MILLI, TraceNode, TracePod

_LARGEST_CPU_MILLI = 128_000
_LARGEST_GPU_MILLI = 8_000


def place(nodes: Sequence[TraceNode], stream: Sequence[TracePod]) -> dict[str, Any]:
    """Place pods one at a time; return the answer as of a ``scheduling`` request, with ``devices``."""
    nodes = sorted(nodes, key=lambda node: node.name)
    cpu = np.array([node.cpu_milli for node in nodes])
    memory = np.array([node.memory_mib for node in nodes])
    gpu = np.zeros((len(nodes), max(node.gpus for node in nodes)), np.int64)
    for i, node in enumerate(nodes):
        gpu[i, : node.gpus] = GPU_MILLI
    models = np.array([node.model for node in nodes])
    placements: list[dict[str, Any]] = []
    for pod in stream:
        fits = (cpu >= pod.cpu_milli) & (memory >= pod.memory_mib)
        if pod.gpus:
            fits &= (gpu >= pod.gpu_milli).sum(axis=1) >= pod.gpus
            if pod.models:
                fits &= np.isin(models, list(pod.models))
        if not fits.any():
            placements.append({"taskId": pod.name, "reason": "no node fits"})
            continue
        best = int(np.where(fits, _scores(cpu, gpu.sum(axis=1), pod, fits), -1).argmax())
        devices = _devices(gpu[best], pod)
        cpu[best] -= pod.cpu_milli
        memory[best] -= pod.memory_mib
        gpu[best, devices] -= pod.gpu_milli
        placements.append({"taskId": pod.name, "nodeId": nodes[best].name, "devices": devices})
    return {"placements": placements}


def _scores(cpu: Any, gpu: Any, pod: TracePod, fits: Any) -> Any:
    left = (cpu - pod.cpu_milli) / _LARGEST_CPU_MILLI + (gpu - pod.gpu_milli_total) / _LARGEST_GPU_MILLI
    scores = np.trunc((1.0 - left / 2) * 100)
    lowest, highest = scores[fits].min(), scores[fits].max()
    return np.trunc((scores - lowest) * 100 / (highest - lowest)) if highest > lowest else np.zeros(len(scores))


def _devices(free: Any, pod: TracePod) -> list[int]:
    holding = [device for device in range(len(free)) if pod.gpus and free[device] >= pod.gpu_milli]
    return sorted(sorted(holding, key=lambda device: int(free[device]))[: pod.gpus])
