"""The parts of v1.Node, v1.Pod and v1.Namespace that a placement depends on, as msgspec structs.

Everything is optional and may be null, as Go's JSON has it; unknown fields are skipped without being built. What is
the same in thousands of pods (resources, affinity, ...) stays as the bytes that were received: it is looked up by them
instead of being parsed again.
"""

from __future__ import annotations

from typing import Final

import msgspec

ABSENT: Final = msgspec.Raw(b"")
"""The default of parts that are kept as bytes."""

_NOTHING: Final = frozenset({b"", b"null", b"[]", b"{}"})


def is_set(part: msgspec.Raw) -> bool:
    """Whether a part is there and not null; an empty object counts."""
    return bytes(part) not in {b"", b"null"}


def is_filled(part: msgspec.Raw) -> bool:
    """Whether a list or an object is there and has something in it."""
    return b"".join(bytes(part).split()) not in _NOTHING


class OwnerReference(msgspec.Struct, gc=False):
    """``metadata.ownerReferences[]``."""

    kind: str = ""
    name: str = ""
    controller: bool | None = None


class Annotations(msgspec.Struct, gc=False):
    """The one annotation that counts: the kubelet's mark on the mirror of a static pod."""

    mirror: str | None = msgspec.field(default=None, name="kubernetes.io/config.mirror")


class ObjectMeta(msgspec.Struct, rename="camel", gc=False):
    """``metadata``."""

    name: str
    namespace: str | None = None
    uid: str | None = None
    labels: dict[str, str] | None = None
    annotations: Annotations | None = None
    owner_references: list[OwnerReference] | None = None
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None


class Taint(msgspec.Struct, gc=False):
    """``spec.taints[]`` of a node."""

    key: str = ""
    value: str | None = None
    effect: str = ""


class NodeSpec(msgspec.Struct, gc=False):
    """``spec`` of a node."""

    taints: list[Taint] | None = None
    unschedulable: bool | None = None


class NodeStatus(msgspec.Struct, gc=False):
    """``status`` of a node."""

    allocatable: msgspec.Raw = ABSENT


class Node(msgspec.Struct, gc=False):
    """A v1.Node."""

    metadata: ObjectMeta
    spec: NodeSpec | None = None
    status: NodeStatus | None = None


class Namespace(msgspec.Struct, gc=False):
    """A v1.Namespace."""

    metadata: ObjectMeta


class ContainerPort(msgspec.Struct, rename="camel", gc=False):
    """``ports[]`` of a container."""

    container_port: int | None = None
    host_port: int | None = None
    protocol: str | None = None
    host_ip: str | None = msgspec.field(default=None, name="hostIP")


class RestartRule(msgspec.Struct, gc=False):
    """``restartPolicyRules[]`` of a container."""

    action: str | None = None


class Container(msgspec.Struct, rename="camel", gc=False):
    """``spec.containers[]`` and ``spec.initContainers[]``."""

    name: str = ""
    resources: msgspec.Raw = ABSENT
    ports: list[ContainerPort] | None = None
    restart_policy: str | None = None
    restart_policy_rules: list[RestartRule] | None = None

    @property
    def sidecar(self) -> bool:
        """For an init container: whether it goes on running beside the others."""
        return self.restart_policy == "Always"


class Volume(msgspec.Struct, rename="camel", gc=False):
    """``spec.volumes[]``: the sources for which kube-scheduler checks topology, limits or exclusive use."""

    persistent_volume_claim: msgspec.Raw = ABSENT
    ephemeral: msgspec.Raw = ABSENT
    # VolumeRestrictions: one user at a time.
    gce_persistent_disk: msgspec.Raw = ABSENT
    aws_elastic_block_store: msgspec.Raw = ABSENT
    iscsi: msgspec.Raw = ABSENT
    rbd: msgspec.Raw = ABSENT
    # NodeVolumeLimits: counted against the limit of the CSI driver that they are migrated to.
    azure_disk: msgspec.Raw = ABSENT
    azure_file: msgspec.Raw = ABSENT
    cinder: msgspec.Raw = ABSENT
    vsphere_volume: msgspec.Raw = ABSENT
    portworx_volume: msgspec.Raw = ABSENT

    @property
    def matters(self) -> bool:
        """Whether the volume plugins of kube-scheduler have a say about it."""
        return any(is_set(getattr(self, source)) for source in self.__struct_fields__)


class PodSpec(msgspec.Struct, rename="camel", gc=False):
    """``spec`` of a pod."""

    containers: list[Container] | None = None
    init_containers: list[Container] | None = None
    volumes: list[Volume] | None = None
    node_name: str | None = None
    node_selector: msgspec.Raw = ABSENT
    affinity: msgspec.Raw = ABSENT
    tolerations: msgspec.Raw = ABSENT
    topology_spread_constraints: msgspec.Raw = ABSENT
    overhead: msgspec.Raw = ABSENT
    resources: msgspec.Raw = ABSENT
    priority: int | None = None
    host_network: bool | None = None
    host_users: bool | None = None
    resource_claims: msgspec.Raw = ABSENT
    scheduling_gates: msgspec.Raw = ABSENT
    scheduling_group: msgspec.Raw = ABSENT
    workload_ref: msgspec.Raw = ABSENT


class ContainerStatus(msgspec.Struct, rename="camel", gc=False):
    """``status.containerStatuses[]`` and ``status.initContainerStatuses[]``."""

    name: str = ""
    resources: msgspec.Raw = ABSENT
    allocated_resources: msgspec.Raw = ABSENT


class PodCondition(msgspec.Struct, gc=False):
    """``status.conditions[]``."""

    type: str = ""
    reason: str | None = None


class PodStatus(msgspec.Struct, rename="camel", gc=False):
    """``status`` of a pod."""

    phase: str | None = None
    conditions: msgspec.Raw = ABSENT
    container_statuses: list[ContainerStatus] | None = None
    init_container_statuses: list[ContainerStatus] | None = None
    resources: msgspec.Raw = ABSENT
    allocated_resources: msgspec.Raw = ABSENT
    extended_resource_claim_status: msgspec.Raw = ABSENT


class Pod(msgspec.Struct, gc=False):
    """A v1.Pod."""

    metadata: ObjectMeta
    spec: PodSpec | None = None
    status: PodStatus | None = None
