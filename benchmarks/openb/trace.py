"""The recorded cluster: Alibaba cluster-trace-gpu-v2023, as its files have it."""

from __future__ import annotations

import csv
import dataclasses
import gzip
from pathlib import Path

NODE_FILE = "openb_node_list_gpu_node.csv"
PREFIX = "openb-"
"""Of every name; left out."""
GPU_MILLI = 1000
"""Thousandths of one GPU."""


@dataclasses.dataclass(frozen=True, slots=True)
class TraceNode:
    """One node; all of it is free."""

    name: str
    cpu_milli: int
    memory_mib: int
    gpus: int
    model: str


@dataclasses.dataclass(frozen=True, slots=True)
class TracePod:
    """One pod.

    Parameters
    ----------
    name
        Unique.
    cpu_milli, memory_mib
        What it asks for.
    gpus
        On how many GPUs it runs.
    gpu_milli
        Thousandths that it asks for of each of them.
    models
        GPU models that it may run on; empty for any.
    """

    name: str
    cpu_milli: int
    memory_mib: int
    gpus: int
    gpu_milli: int
    models: frozenset[str]

    @property
    def gpu_milli_total(self) -> int:
        """Thousandths of a GPU in all."""
        return self.gpus * self.gpu_milli


def read_nodes(directory: Path) -> list[TraceNode]:
    """Return the nodes with GPUs, in the file's order."""
    with (directory / NODE_FILE).open(newline="") as file:
        return [
            TraceNode(
                row["sn"].removeprefix(PREFIX),
                int(row["cpu_milli"]),
                int(row["memory_mib"]),
                int(row["gpu"]),
                row["model"],
            )
            for row in csv.DictReader(file)
        ]


def pod_file(directory: Path, pod_list: str) -> Path:
    """Return the path of a pod list, such as ``default``."""
    return directory / f"openb_pod_list_{pod_list}.csv.gz"


def read_pods(directory: Path, pod_list: str) -> list[TracePod]:
    """Return the pods of a list, in the file's order, which is that of their arrival."""
    with gzip.open(pod_file(directory, pod_list), "rt", newline="") as file:
        return [
            TracePod(
                name=row["name"].removeprefix(PREFIX),
                cpu_milli=int(row["cpu_milli"]),
                memory_mib=int(row["memory_mib"]),
                gpus=int(row["num_gpu"]),
                gpu_milli=int(row["gpu_milli"] or 0),
                models=frozenset(model for model in row["gpu_spec"].split("|") if model),
            )
            for row in csv.DictReader(file)
        ]
