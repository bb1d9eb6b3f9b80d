"""Which nodes and pods of a cluster a question is about."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from engine_ops.api.base import ApiModel
from engine_ops.engine.scheduling.rules import LabelSelector

FieldSelector = Annotated[str, Field(max_length=1024)]


class NodeSelection(ApiModel):
    """Nodes that may be used; all of them unless something is said. The others stay as they are."""

    label_selector: LabelSelector | None = None
    """By label; absent means all."""
    field_selector: FieldSelector = ""
    """As kubectl has it: ``metadata.name`` and ``spec.unschedulable`` with ``=``, ``==`` or ``!=``, comma-separated."""


class PodSelection(ApiModel):
    """Pods that are placed or may be moved; all of them unless something is said. The others stay where they are."""

    namespaces: tuple[str, ...] = ()
    """By the namespace's name; empty means any."""
    namespace_selector: LabelSelector | None = None
    """By the namespace's labels; absent means any."""
    label_selector: LabelSelector | None = None
    """By label; absent means all."""
    field_selector: FieldSelector = ""
    """As kubectl has it: ``metadata.name``, ``metadata.namespace`` and ``spec.nodeName``."""


class WorkloadPods(ApiModel):
    """Pods that a workload is to have beyond those that are on nodes."""

    name: str
    """``namespace/name`` of the workload; new pods are called ``namespace/name-new-1`` and so on."""
    count: Annotated[int, Field(ge=0, le=100_000)]
    """How many are to be placed."""
    pod: dict[str, Any]
    """A v1.Pod made from the workload's template, as the API server would show it."""


class ClusterSelection(ApiModel):
    """The part of a question that says which part of the cluster it is about."""

    namespace: str = "default"
    """Of the request: where tasks count that it gives itself."""
    nodes: NodeSelection = Field(default_factory=NodeSelection)
    """Which nodes may be used."""
    pods: PodSelection = Field(default_factory=PodSelection)
    """Which pods are placed (type scheduling: of the pending ones) or may be moved (type resource)."""
    workload: WorkloadPods | None = None
    """For type scheduling, in place of pending pods."""
