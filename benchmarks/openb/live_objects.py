"""From the recorded cluster to nodes and pods of the API server.

kube-scheduler knows an extended resource as one sum a node. What a node has of GPUs is offered as thousandths of them;
which of its GPUs a pod gets is beyond kube-scheduler.
"""

from __future__ import annotations

from typing import Any

import msgspec

from engine_ops.devcluster.nodes import node_object
from openb.trace import GPU_MILLI, TraceNode, TracePod

NAMESPACE = "openb"
GPU_RESOURCE = "engineops.dev/gpu-milli"
MODEL_LABEL = "engineops.dev/gpu-model"
PODS_A_NODE = 110
PODS_PATH = f"/api/v1/namespaces/{NAMESPACE}/pods"
NODES_PATH = "/api/v1/nodes"
FITS_NOWHERE = TracePod("fits-nowhere", 8000, 65536, gpus=4, gpu_milli=GPU_MILLI, models=frozenset({"P100"}))
"""Four GPUs of a model that comes in ones and twos."""


def node_body(node: TraceNode) -> dict[str, Any]:
    """Return the v1.Node."""
    return node_object(
        node.name,
        cpu=f"{node.cpu_milli}m",
        memory=f"{node.memory_mib}Mi",
        pods=PODS_A_NODE,
        labels={MODEL_LABEL: node.model},
        resources={GPU_RESOURCE: str(node.gpus * GPU_MILLI)},
    )


def pod_body(pod: TracePod, node: str | None = None) -> dict[str, Any]:
    """Return the v1.Pod, on a node if one is given; allowed GPU models are its node affinity."""
    requests = {"cpu": f"{pod.cpu_milli}m", "memory": f"{pod.memory_mib}Mi"}
    limits = {}
    if pod.gpu_milli_total:
        # The API server takes an extended resource only where request and limit are one.
        limits = {GPU_RESOURCE: str(pod.gpu_milli_total)}
    container = {"name": "main", "image": "openb", "resources": {"requests": {**requests, **limits}, "limits": limits}}
    spec: dict[str, Any] = {"containers": [container], "terminationGracePeriodSeconds": 0}
    if node is not None:
        spec["nodeName"] = node
    if pod.models:
        expression = {"key": MODEL_LABEL, "operator": "In", "values": sorted(pod.models)}
        terms = [{"matchExpressions": [expression]}]
        required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
        spec["affinity"] = {"nodeAffinity": required}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod.name, "namespace": NAMESPACE}, "spec": spec}


def encode(body: dict[str, Any]) -> bytes:
    """Return the JSON of an object."""
    return msgspec.json.encode(body)
