"""The published allocation experiment: in which order pods arrive, and how much of the GPUs they get.

From 'Beware of Fragmentation' (Weng et al., USENIX ATC'23): the pods are shuffled, then pods drawn from them follow
until all that arrive ask for 1.3 times the cluster's GPUs. They arrive one at a time and never leave; one that does not
fit is dropped. What counts is the share of the GPUs that is allocated when the pods that have arrived ask for all of
them.
"""

from __future__ import annotations

import csv
import dataclasses
import random
from collections.abc import Sequence
from pathlib import Path

from openb.trace import GPU_MILLI, TraceNode, TracePod

LOAD = 1.3
"""What all pods ask for, in parts of the cluster's GPUs."""
PUBLISHED_FILE = "published_allocation.csv"


@dataclasses.dataclass(frozen=True, slots=True)
class Allocation:
    """Percent of all GPUs allocated.

    Parameters
    ----------
    at_100
        When the pods that have arrived ask for all GPUs.
    at_end
        When all have arrived.
    """

    at_100: float
    at_end: float


@dataclasses.dataclass(frozen=True, slots=True)
class Published:
    """What was published of one scheduler: percent of all GPUs, mean and standard deviation over 10 seeds."""

    at_100: float
    at_100_sd: float
    at_end: float


def gpu_milli_of(nodes: Sequence[TraceNode]) -> int:
    """Return the thousandths of GPUs that the nodes have."""
    return sum(node.gpus for node in nodes) * GPU_MILLI


def arrivals(nodes: Sequence[TraceNode], pods: Sequence[TracePod], seed: int, load: float = LOAD) -> list[TracePod]:
    """Return the pods in the order in which they arrive, under new and unique names.

    Parameters
    ----------
    nodes, pods
        The cluster, and the pod list.
    seed
        Of the shuffle and of the draws.
    load
        Where to stop, in parts of the nodes' GPUs; the whole list is there in any case.
    """
    draw = random.Random(seed)
    stream = sorted(pods, key=lambda pod: pod.name)
    draw.shuffle(stream)
    asked = sum(pod.gpu_milli_total for pod in stream)
    end = load * gpu_milli_of(nodes)
    known = sorted(pods, key=lambda pod: pod.name)
    while asked < end and any(pod.gpu_milli_total for pod in known):
        pod = draw.choice(known)
        if asked + pod.gpu_milli_total > end:
            break
        asked += pod.gpu_milli_total
        stream.append(pod)
    return [dataclasses.replace(pod, name=f"{i:05}") for i, pod in enumerate(stream)]


def allocation(nodes: Sequence[TraceNode], stream: Sequence[TracePod], placed: Sequence[bool]) -> Allocation:
    """Return how much is allocated.

    Parameters
    ----------
    nodes
        The cluster.
    stream
        The pods as they arrived.
    placed
        Whether each found a node.
    """
    everything = gpu_milli_of(nodes)
    arrived = allocated = 0
    at_100: int | None = None
    for pod, has_node in zip(stream, placed, strict=True):
        arrived += pod.gpu_milli_total
        allocated += pod.gpu_milli_total * has_node
        if at_100 is None and arrived >= everything:
            at_100 = allocated
    at_end = 100 * allocated / everything
    return Allocation(at_end if at_100 is None else 100 * at_100 / everything, at_end)


def read_published(directory: Path) -> dict[str, dict[str, Published]]:
    """Return what was published, by pod list and scheduler."""
    found: dict[str, dict[str, Published]] = {}
    with (directory / PUBLISHED_FILE).open(newline="") as file:
        rows = csv.reader(file)
        next(rows)
        for workload, policy, _, at_100, sd, at_end, *_ in rows:
            of_list = found.setdefault(workload.removeprefix("openb_pod_list_"), {})
            of_list[policy.partition("-")[2]] = Published(float(at_100), float(sd), float(at_end))
    return found
