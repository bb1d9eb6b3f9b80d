"""Node objects for kwok."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def node_object(
    name: str, *, cpu: str, memory: str, pods: int, labels: Mapping[str, str], resources: Mapping[str, str]
) -> dict[str, Any]:
    """Make the object of a simulated node.

    Parameters
    ----------
    name : str
        The node's name.
    cpu, memory : str
        Kubernetes quantities, for capacity and allocatable alike.
    pods : int
        How many pods it takes.
    labels : mapping
        In addition to host name, architecture and operating system.
    resources : mapping
        Further resources, such as ``{"nvidia.com/gpu": "8"}``.

    Returns
    -------
    dict
        The v1 Node.
    """
    amounts = {"cpu": cpu, "memory": memory, "pods": str(pods), **resources}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake", "node.alpha.kubernetes.io/ttl": "0"},
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/arch": "amd64",
                "kubernetes.io/os": "linux",
                **labels,
            },
        },
        "status": {"capacity": amounts, "allocatable": amounts},
    }
