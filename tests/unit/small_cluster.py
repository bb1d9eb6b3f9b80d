"""A cluster of two nodes for documented questions about the live cluster: a pod of ``web`` on each, and one pending."""

from __future__ import annotations

from typing import Any

from engine_ops.api.optimizationrequest import OptimizationRequestSpec
from engine_ops.controllers.cluster_input import ClusterInput, selection_of
from engine_ops.engine.cluster.records import NodeRecord, PodKind, PodRecord, snapshot_of
from engine_ops.engine.cluster.workload import missing_pods

_KIND = PodKind("default", {"app": "web"}, {"cpu": 500})
_NODES = [NodeRecord(node, {}, {"cpu": 8000, "memory": 2**35, "pods": 20}) for node in ("a", "b")]
_PODS = [PodRecord(f"web-{node}", node, node, _KIND) for node in ("a", "b", "")]
_DEPLOYMENT: dict[str, Any] = {
    "kind": "Deployment",
    "metadata": {"namespace": "default", "name": "web"},
    "spec": {
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web"}]}},
    },
}


def small_cluster(spec: OptimizationRequestSpec) -> ClusterInput:
    """Return the cluster as a worker would take it for a request."""
    source = spec.cluster
    assert source is not None
    snapshot = snapshot_of(_NODES, _PODS, {"default": {}})
    workload = missing_pods(_DEPLOYMENT, snapshot, source.workload.replicas) if source.workload is not None else None
    return ClusterInput.of(snapshot, selection_of(source, workload), spec.type.value)
