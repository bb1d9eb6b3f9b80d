"""The pods that a workload would have beyond those that are on nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pydantic

from engine_ops.api.faults import Fault, InvalidDataError, faults_of
from engine_ops.engine.cluster.records import ClusterSnapshot
from engine_ops.engine.cluster.selection import WorkloadPods
from engine_ops.engine.scheduling.rules import LabelSelector
from engine_ops.engine.scheduling.selectors import matches, normalise

_PATH = "spec.dataFrom.cluster.workload"
_SIZE_FIELDS = {"Job": "parallelism"}


def missing_pods(workload: Mapping[str, Any], snapshot: ClusterSnapshot, replicas: int | None) -> WorkloadPods:
    """Return the pods that a workload lacks on nodes.

    Parameters
    ----------
    workload
        A Deployment, ReplicaSet, StatefulSet or Job, as the API server shows it.
    snapshot
        The cluster. Pods of the workload are those that its selector chooses in its namespace; the ones on their way
        out do not count.
    replicas
        How many it is to have; None for as many as its spec asks for (``parallelism`` of a Job).

    Raises
    ------
    InvalidDataError
        If it has no pod template or no selector.
    """
    kind = str(workload.get("kind", ""))
    metadata, spec = workload.get("metadata") or {}, workload.get("spec") or {}
    namespace, name = str(metadata.get("namespace", "default")), str(metadata.get("name", ""))
    template = spec.get("template")
    if not isinstance(template, Mapping) or not isinstance(template.get("spec"), Mapping):
        raise InvalidDataError([Fault(_PATH, f"{kind} {namespace}/{name} has no pod template")])
    selector = _selector(spec, kind, f"{namespace}/{name}")
    if replicas is None:
        replicas = int(spec.get(_SIZE_FIELDS.get(kind, "replicas"), 1))
    chosen = [kind.namespace == namespace and matches(selector, kind.labels) for kind in snapshot.kinds]
    there = sum(chosen[pod.kind] and bool(pod.node) and not pod.terminating for pod in snapshot.pods)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**(template.get("metadata") or {}), "namespace": namespace, "name": name},
        "spec": template["spec"],
    }
    return WorkloadPods(name=f"{namespace}/{name}", count=max(0, replicas - there), pod=pod)


def _selector(spec: Mapping[str, Any], kind: str, name: str) -> Any:
    written = spec.get("selector")
    if not isinstance(written, Mapping):
        raise InvalidDataError([Fault(_PATH, f"{kind} {name} has no selector")])
    try:
        return normalise(LabelSelector.model_validate(written))
    except pydantic.ValidationError as error:
        raise InvalidDataError(faults_of(error, root=_PATH)) from error
