"""The cluster of `make demo`: its six nodes, and what its manifest runs in it, spread over the nodes in turn."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from engine_ops.api.optimizationrequest import OptimizationRequestSpec
from engine_ops.controllers.cluster_input import ClusterInput, selection_of
from engine_ops.engine.cluster.decode import RecordDecoder
from engine_ops.engine.cluster.records import ClusterSnapshot, PodRecord, snapshot_of
from engine_ops.engine.cluster.selection import ClusterSelection
from engine_ops.engine.cluster.workload import missing_pods

_MANIFEST = Path(__file__).parents[2] / "examples" / "demo-workloads.yaml"
_OBJECTS: list[dict[str, Any]] = list(yaml.safe_load_all(_MANIFEST.read_text(encoding="utf-8")))
_NODES = [f"node-{zone}-{number}" for number in range(2) for zone in "abc"]


def _pods() -> Iterator[dict[str, Any]]:
    # The zones take turns, so that the spread of `web` holds.
    places = itertools.cycle(_NODES)
    for item in _OBJECTS:
        metadata = {"namespace": "default", **item["metadata"]}
        if item["kind"] == "Pod":
            yield {**item, "metadata": metadata}
            continue
        template = item["spec"]["template"]
        for number in range(item["spec"]["replicas"]):
            labels = template["metadata"]["labels"]
            named = {"namespace": "default", "name": f"{metadata['name']}-{number}", "labels": labels}
            yield {"kind": "Pod", "metadata": named, "spec": {**template["spec"], "nodeName": next(places)}}


def demo_snapshot() -> ClusterSnapshot:
    """Return the cluster."""
    decoder = RecordDecoder()
    amounts = {"cpu": "4", "memory": "16Gi", "pods": "110"}
    nodes = [
        decoder.node(
            json.dumps(
                {
                    "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": name.split("-")[1]}},
                    "status": {"allocatable": amounts},
                }
            ).encode()
        )
        for name in _NODES
    ]
    pods = [decoder.pod(json.dumps(pod).encode()) for pod in _pods()]
    return snapshot_of(nodes, [pod for pod in pods if isinstance(pod, PodRecord)], {"default": {}})


def demo_selection(spec: OptimizationRequestSpec) -> ClusterSelection:
    """Return which part of the cluster a request is about."""
    source = spec.cluster
    assert source is not None
    if source.workload is None:
        return selection_of(source, "default")
    (body,) = (item for item in _OBJECTS if item["metadata"]["name"] == source.workload.name)
    namespaced = {**body, "metadata": {"namespace": "default", **body["metadata"]}}
    return selection_of(source, "default", missing_pods(namespaced, demo_snapshot(), source.workload.replicas))


def demo_input(spec: OptimizationRequestSpec) -> ClusterInput:
    """Return the cluster as a worker takes it for a request."""
    return ClusterInput.of(demo_snapshot(), demo_selection(spec), spec.type.value)
