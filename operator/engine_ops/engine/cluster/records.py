"""Nodes and pods with only what a placement depends on: small enough to keep tens of thousands, and to send whole.

Amounts are whole numbers in the units of `engine_ops.engine.units`. The records are typed msgspec structs in array
form: one definition serves the cache, the frames to workers and dumps of a cluster.
"""

from __future__ import annotations

import msgspec


class TaintRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A taint; the effect is NoSchedule, PreferNoSchedule or NoExecute."""

    key: str
    value: str
    effect: str


class HostPort(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A port that a pod takes on its node. ``ip`` is ``0.0.0.0`` for all addresses."""

    ip: str
    protocol: str
    port: int


class NodeRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A node.

    Parameters
    ----------
    name
        Its name.
    labels
        All of them.
    allocatable
        Units by resource, ``pods`` among them (a plain count); what is absent is not there. Never negative.
    taints
        In the order of the object.
    unschedulable
        Cordoned.
    clamped
        Resources whose amount was negative, unreadable or beyond `engine_ops.engine.units.MAX_UNITS`, and was brought
        into range; sorted.
    """

    name: str
    labels: dict[str, str]
    allocatable: dict[str, int]
    taints: tuple[TaintRecord, ...] = ()
    unschedulable: bool = False
    clamped: tuple[str, ...] = ()


class PodKind(msgspec.Struct, frozen=True, array_like=True, weakref=True):
    """What many pods share: those of one ReplicaSet are all of one kind.

    Parameters
    ----------
    namespace
        Where they live.
    labels
        All of them.
    requests
        Effective requests in units by resource, as kube-scheduler counts them, overhead included; no zeros.
    rules
        JSON of an object with those of ``nodeSelector``, ``affinity``, ``tolerations`` and
        ``topologySpreadConstraints`` that the pod's spec has, in its own shapes, keys sorted, without nulls and
        ``tolerationSeconds``; empty for none. For a DaemonSet's pod that is on its node ``nodeAffinity`` is left out:
        it names the node, and would make each of them a kind of its own.
    host_ports
        Ports taken on the node, distinct.
    priority
        ``spec.priority``.
    owner_kind, owner_name
        The controller, such as ReplicaSet or DaemonSet; empty for none.
    static
        A mirror pod: the kubelet runs it from a file, it cannot run elsewhere.
    not_modelled
        What of it the engine does not model; sorted. ``volumes`` (claims, and what the scheduler's volume plugins
        check), ``resourceClaims``, ``schedulingGates``, ``schedulingGroup``, ``nodeDeclaredFeatures``, and
        ``resources`` for amounts that are unreadable, negative or beyond `engine_ops.engine.units.MAX_UNITS`.
    """

    namespace: str
    labels: dict[str, str]
    requests: dict[str, int]
    rules: str = ""
    host_ports: tuple[HostPort, ...] = ()
    priority: int = 0
    owner_kind: str = ""
    owner_name: str = ""
    static: bool = False
    not_modelled: tuple[str, ...] = ()

    @property
    def daemon(self) -> bool:
        """Whether a DaemonSet owns it: it belongs to its node."""
        return self.owner_kind == "DaemonSet"


class PodRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A pod that is not finished.

    Parameters
    ----------
    name
        Its name.
    uid
        Its uid.
    node
        The name of the node it is bound to; empty while it is pending.
    kind
        What it shares with others.
    terminating
        On its way out: it holds its resources, but topology spread no longer counts it.
    created
        ``metadata.creationTimestamp``, as text.
    """

    name: str
    uid: str
    node: str
    kind: PodKind
    terminating: bool = False
    created: str = ""

    @property
    def id(self) -> str:
        """``namespace/name``, as results name it."""
        return f"{self.kind.namespace}/{self.name}"


class PodRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A pod in a snapshot: its kind by number, its node by name."""

    name: str
    node: str
    kind: int
    terminating: bool = False
    created: str = ""


class ClusterSnapshot(msgspec.Struct, frozen=True, array_like=True):
    """All nodes and pods at one moment, in a form to be sent.

    Parameters
    ----------
    nodes
        Sorted by name.
    kinds
        The distinct kinds of pods.
    pods
        Not finished ones, sorted by namespace and name.
    namespaces
        The labels of each namespace.
    """

    nodes: list[NodeRecord]
    kinds: list[PodKind]
    pods: list[PodRow]
    namespaces: dict[str, dict[str, str]] = {}

    def pod_id(self, row: PodRow) -> str:
        """Return ``namespace/name``, as results name a pod."""
        return f"{self.kinds[row.kind].namespace}/{row.name}"


def snapshot_of(
    nodes: list[NodeRecord], pods: list[PodRecord], namespaces: dict[str, dict[str, str]]
) -> ClusterSnapshot:
    """Return the snapshot of records. Kinds that are one object are one kind; equal ones need not be.

    Parameters
    ----------
    nodes, pods
        In any order.
    namespaces
        The labels of each namespace.
    """
    numbers: dict[int, int] = {}
    kinds: list[PodKind] = []
    rows = []
    for pod in sorted(pods, key=lambda pod: (pod.kind.namespace, pod.name)):
        number = numbers.setdefault(id(pod.kind), len(kinds))
        if number == len(kinds):
            kinds.append(pod.kind)
        rows.append(PodRow(pod.name, pod.node, number, pod.terminating, pod.created))
    return ClusterSnapshot(sorted(nodes, key=lambda node: node.name), kinds, rows, namespaces)
