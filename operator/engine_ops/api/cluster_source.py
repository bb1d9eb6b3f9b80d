"""The live cluster as the source of a question: which part of it the question is about."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from engine_ops.api.base import ResourceModel
from engine_ops.api.fields import ATOMIC_LIST, INTEGRAL, NamespaceName, ObjectName
from engine_ops.api.rules import Rule, RuledModel
from engine_ops.api.selectors import FieldSelector, LabelSelector

MAX_REPLICAS: Final = 100_000
"""Tasks that one question may place."""

WorkloadKind = Literal["Deployment", "ReplicaSet", "StatefulSet", "Job"]

_API_VERSIONS: Final = {"Deployment": "apps/v1", "ReplicaSet": "apps/v1", "StatefulSet": "apps/v1", "Job": "batch/v1"}


class NodeSelection(ResourceModel):
    """Nodes that may be used. The others stay as they are, and count where rules look at them."""

    label_selector: LabelSelector | None = None
    """By label; absent means all."""
    field_selector: FieldSelector | None = None
    """By metadata.name and spec.unschedulable, as kubectl get --field-selector has it; absent means all."""


class PodSelection(ResourceModel):
    """Pods that are placed (type scheduling, of the pending ones) or may be moved (type resource). The others stay."""

    namespaces: Annotated[tuple[NamespaceName, ...], Field(max_length=1000, json_schema_extra=ATOMIC_LIST)] | None = (
        None
    )
    """By the name of their namespace; absent means any."""
    namespace_selector: LabelSelector | None = None
    """By the labels of their namespace; absent means any."""
    label_selector: LabelSelector | None = None
    """By label; absent means all."""
    field_selector: FieldSelector | None = None
    """By metadata.name, metadata.namespace and spec.nodeName, as kubectl get --field-selector has it; absent means
    all."""


class WorkloadSource(RuledModel):
    """A workload in the request's own namespace whose missing pods are placed, as if it were scaled."""

    api_version: Literal["apps/v1", "batch/v1"]
    """apps/v1, or batch/v1 for a Job."""
    kind: WorkloadKind
    """Deployment, ReplicaSet, StatefulSet or Job."""
    name: ObjectName
    """The name of the workload."""
    replicas: Annotated[int, Field(strict=True, ge=0, le=MAX_REPLICAS), INTEGRAL] | None = None
    """How many pods it is to have; those of them that are not on nodes are placed. Absent means as many as its own
    spec asks for."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="(self.kind == 'Job') == (self.apiVersion == 'batch/v1')",
            holds=lambda source: _API_VERSIONS[source.kind] == source.api_version,
            message="apiVersion must be batch/v1 for a Job and apps/v1 for the other kinds",
            field="apiVersion",
        ),
    )


class ClusterSource(RuledModel):
    """Live nodes and pods, for namespaces that the operator's administrator allows to see the cluster."""

    nodes: NodeSelection | None = None
    """Which nodes may be used; absent means all."""
    pods: PodSelection | None = None
    """Which pods are placed or may be moved; absent means all."""
    workload: WorkloadSource | None = None
    """For type scheduling: a workload whose missing pods are placed, in place of pending pods."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!has(self.workload) || !has(self.pods)",
            holds=lambda source: source.workload is None or source.pods is None,
            message="pods must not be set together with workload: the workload says which pods are placed",
            field="pods",
            reason="FieldValueForbidden",
        ),
    )
