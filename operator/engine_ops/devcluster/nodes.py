"""Simulated nodes: their objects, and the wait until kwok has made them Ready."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from engine_ops.devcluster.client import ApiClient
from engine_ops.devcluster.errors import DevClusterError

_POLL_SECONDS = 0.05
_NOT_READY = "node.kubernetes.io/not-ready"


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


def create_nodes(
    client: ApiClient,
    names: Iterable[str],
    *,
    cpu: str,
    memory: str,
    pods: int,
    labels: Mapping[str, str],
    resources: Mapping[str, str],
) -> None:
    """Create simulated nodes. They are not Ready yet.

    Parameters
    ----------
    client : ApiClient
        Of somebody who may create nodes.
    names : iterable of str
        What they are called.
    cpu, memory, pods, labels, resources
        Of each, as for `node_object`.

    Raises
    ------
    DevClusterError
        If one of them exists.
    """
    for name in names:
        node = node_object(name, cpu=cpu, memory=memory, pods=pods, labels=labels, resources=resources)
        client.request("POST", "/api/v1/nodes", node)


def wait_until_nodes_ready(
    client: ApiClient, names: Iterable[str], *, timeout_seconds: float, taints_go: bool = False
) -> None:
    """Wait until nodes are Ready, and take pods.

    Parameters
    ----------
    client : ApiClient
        Of somebody who may list nodes.
    names : iterable of str
        What they are called.
    timeout_seconds : float
        How long to wait.
    taints_go : bool
        Whether there is a controller manager, which takes off the taint that the API server gave them, a moment after
        they have become Ready. Before that no pod fits on them.

    Raises
    ------
    DevClusterError
        If they do not become Ready in time.
    """
    waiting = set(names)
    count = len(waiting)
    deadline = time.monotonic() + timeout_seconds
    while waiting:
        for node in client.request("GET", "/api/v1/nodes")["items"]:
            if _is_ready(node) and not (taints_go and _is_kept_free(node)):
                waiting.discard(node["metadata"]["name"])
        if waiting and time.monotonic() > deadline:
            raise DevClusterError(
                f"{len(waiting)} of {count} nodes are not Ready after {timeout_seconds:.0f} s, "
                f"such as {min(waiting)}: is kwok running?"
            )
        # A list of a thousand nodes is two megabytes: asked for too often, it would slow down kwok itself.
        time.sleep(_POLL_SECONDS * (1 + count / 50))


def _is_ready(node: Mapping[str, Any]) -> bool:
    conditions = node["status"].get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _is_kept_free(node: Mapping[str, Any]) -> bool:
    return any(taint["key"] == _NOT_READY for taint in node["spec"].get("taints", []))
