"""From the API server's JSON to records, straight from the bytes."""

from __future__ import annotations

import functools
from typing import Any, Final

import msgspec

from engine_ops.engine.cluster.apiobjects import (
    Container,
    Namespace,
    Node,
    ObjectMeta,
    Pod,
    PodSpec,
    PodStatus,
    is_filled,
    is_set,
)
from engine_ops.engine.cluster.interning import Interner
from engine_ops.engine.cluster.records import HostPort, NodeRecord, PodKind, PodRecord, TaintRecord
from engine_ops.engine.cluster.requests import allocatable_units, effective_requests, resize_is_infeasible

Buffer = bytes | bytearray | memoryview | msgspec.Raw

FINISHED: Final = frozenset({"Succeeded", "Failed"})
"""Phases of pods that take nothing any more: kube-scheduler does not even watch them."""

_NODE: Final = msgspec.json.Decoder(Node)
_POD: Final = msgspec.json.Decoder(Pod)
_NAMESPACE: Final = msgspec.json.Decoder(Namespace)
_SELECTOR: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder(dict[str, str | None] | None)
_OBJECT: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder(dict[str, Any] | None)
_LIST: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder(list[dict[str, Any]] | None)
_EMPTY_SPEC: Final = PodSpec()
_DEVICE_CLASS: Final = "deviceclass.resource.kubernetes.io/"
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)


class UndecodableObjectError(ValueError):
    """Bytes that are not the object that they should be.

    Parameters
    ----------
    kind
        What was expected: Node, Pod or Namespace.
    name
        ``namespace/name`` or ``name`` as far as it could be read, else empty.
    fault
        What is wrong, with the path where it is known.
    """

    def __init__(self, kind: str, name: str, fault: str) -> None:
        self.kind = kind
        self.name = name
        self.fault = fault
        super().__init__(f"{kind} {name or '(unknown name)'}: {fault}")


class RecordDecoder:
    """Makes records of API objects. What equal objects share is kept once for each decoder; for one thread."""

    def __init__(self) -> None:
        self._interner = Interner()

    @property
    def kind_count(self) -> int:
        """How many distinct kinds of pods are in use."""
        return len(self._interner)

    def node(self, raw: Buffer) -> NodeRecord:
        """Return the record of a v1.Node.

        Parameters
        ----------
        raw
            Its JSON.

        Raises
        ------
        UndecodableObjectError
            If it is none. A node that is only odd (no status, absurd amounts) is none of these.
        """
        try:
            node = _NODE.decode(raw)
            allocatable, clamped = allocatable_units(bytes(node.status.allocatable) if node.status else b"")
        except _UNREADABLE as error:
            raise _undecodable("Node", raw, error) from error
        text = self._interner.text
        spec = node.spec
        taints = spec.taints if spec is not None and spec.taints else ()
        return NodeRecord(
            name=text(node.metadata.name),
            labels=self._interner.mapping(node.metadata.labels),
            allocatable={text(resource): units for resource, units in allocatable.items()},
            taints=tuple(TaintRecord(text(taint.key), text(taint.value or ""), text(taint.effect)) for taint in taints),
            unschedulable=bool(spec is not None and spec.unschedulable),
            clamped=tuple(map(text, clamped)),
        )

    def pod(self, raw: Buffer) -> PodRecord | None:
        """Return the record of a v1.Pod; None for one that is finished.

        Parameters
        ----------
        raw
            Its JSON.

        Raises
        ------
        UndecodableObjectError
            If it is none.
        """
        try:
            pod = _POD.decode(raw)
            if pod.status is not None and pod.status.phase in FINISHED:
                return None
            kind = self._kind(pod)
        except _UNREADABLE as error:
            raise _undecodable("Pod", raw, error) from error
        metadata = pod.metadata
        text = self._interner.text
        return PodRecord(
            name=metadata.name,
            uid=metadata.uid or "",
            node=text(pod.spec.node_name) if pod.spec is not None and pod.spec.node_name else "",
            kind=kind,
            terminating=metadata.deletion_timestamp is not None,
            created=text(metadata.creation_timestamp) if metadata.creation_timestamp else "",
        )

    def namespace(self, raw: Buffer) -> tuple[str, dict[str, str]]:
        """Return the name and the labels of a v1.Namespace.

        Parameters
        ----------
        raw
            Its JSON.

        Raises
        ------
        UndecodableObjectError
            If it is none.
        """
        try:
            metadata = _NAMESPACE.decode(raw).metadata
        except _UNREADABLE as error:
            raise _undecodable("Namespace", raw, error) from error
        return self._interner.text(metadata.name), self._interner.mapping(metadata.labels)

    def _kind(self, pod: Pod) -> PodKind:
        spec = pod.spec or _EMPTY_SPEC
        metadata = pod.metadata
        text = self._interner.text
        owner_kind, owner_name = _controller(metadata)
        static = metadata.annotations is not None and metadata.annotations.mirror is not None
        requests, sound = effective_requests(spec, pod.status)
        pinned = owner_kind == "DaemonSet" and bool(spec.node_name)
        return self._interner.kind(
            PodKind(
                namespace=text(metadata.namespace or ""),
                labels=self._interner.mapping(metadata.labels),
                requests={text(resource): requests[resource] for resource in sorted(requests)},
                rules=_rules_of(spec, pinned=pinned),
                host_ports=_host_ports(spec),
                priority=spec.priority or 0,
                owner_kind=text(owner_kind),
                owner_name=text(owner_name),
                static=static,
                not_modelled=_not_modelled(spec, pod.status, requests, sound=sound),
            )
        )


def _controller(metadata: ObjectMeta) -> tuple[str, str]:
    for owner in metadata.owner_references or ():
        if owner.controller:
            return owner.kind, owner.name
    return "", ""


def _host_ports(spec: PodSpec) -> tuple[HostPort, ...]:
    """Return the ports that the pod takes while it runs, as the scheduler's ``GetHostPorts`` does."""
    ports: list[HostPort] = []
    for container in spec.init_containers or ():
        if container.sidecar:
            _append_ports(ports, container, host_network=bool(spec.host_network))
    for container in spec.containers or ():
        _append_ports(ports, container, host_network=bool(spec.host_network))
    return tuple(dict.fromkeys(ports))


def _append_ports(ports: list[HostPort], container: Container, *, host_network: bool) -> None:
    for port in container.ports or ():
        # The API server writes this default into pods, though not into templates.
        number = port.host_port or (port.container_port if host_network else None) or 0
        if number > 0:
            ports.append(HostPort(port.host_ip or "0.0.0.0", port.protocol or "TCP", number))  # noqa: S104


def _not_modelled(spec: PodSpec, status: PodStatus | None, requests: dict[str, int], *, sound: bool) -> tuple[str, ...]:
    features = []
    if resize_is_infeasible(status):
        # On its node it takes what it was granted; anywhere else it would ask for more than is counted here.
        features.append("infeasibleResize")
    if _declared_features(spec):
        features.append("nodeDeclaredFeatures")
    by_class = any(resource.startswith(_DEVICE_CLASS) for resource in requests)
    by_status = status is not None and is_set(status.extended_resource_claim_status)
    if is_filled(spec.resource_claims) or by_class or by_status:
        features.append("resourceClaims")
    if not sound:
        features.append("resources")
    if is_filled(spec.scheduling_gates):
        features.append("schedulingGates")
    if is_set(spec.scheduling_group) or is_set(spec.workload_ref):
        features.append("schedulingGroup")
    if spec.volumes and any(volume.matters for volume in spec.volumes):
        features.append("volumes")
    return tuple(features)


def _declared_features(spec: PodSpec) -> bool:
    """Whether the pod needs something that a node must declare in ``status.declaredFeatures``."""
    if spec.host_network and spec.host_users is False:
        return True
    for containers in (spec.containers, spec.init_containers):
        for container in containers or ():
            for rule in container.restart_policy_rules or ():
                if rule.action == "RestartAllContainers":
                    return True
    return False


def _rules_of(spec: PodSpec, *, pinned: bool) -> str:
    return _rules(
        bytes(spec.node_selector),
        bytes(spec.affinity),
        bytes(spec.tolerations),
        bytes(spec.topology_spread_constraints),
        pinned=pinned,
    )


# Cached by their bytes: as many distinct ones as there are workloads.
@functools.lru_cache(maxsize=1024)
def _rules(node_selector: bytes, affinity: bytes, tolerations: bytes, spread: bytes, *, pinned: bool) -> str:
    """Return the canonical JSON of the rules; empty for none.

    ``pinned`` is for the pods of a DaemonSet that are on their nodes: their node affinity names the node, is of no
    use any more, and would make each of them a kind of its own.
    """
    rules: dict[str, Any] = {}
    if selector := _parsed(_SELECTOR, node_selector):
        rules["nodeSelector"] = selector
    if parts := _parsed(_OBJECT, affinity):
        parts = {key: part for key, part in parts.items() if part and not (pinned and key == "nodeAffinity")}
        if parts:
            rules["affinity"] = parts
    if borne := _parsed(_LIST, tolerations):
        distinct = {
            msgspec.json.encode({key: item[key] for key in item if key != "tolerationSeconds"}, order="sorted")
            for item in borne
        }
        rules["tolerations"] = [msgspec.Raw(item) for item in sorted(distinct)]
    if constraints := _parsed(_LIST, spread):
        rules["topologySpreadConstraints"] = constraints
    return msgspec.json.encode(rules, order="sorted").decode() if rules else ""


def _parsed(decoder: msgspec.json.Decoder[Any], raw: bytes) -> Any:
    return _without_nulls(decoder.decode(raw)) if raw else None


def _without_nulls(value: Any) -> Any:
    # Nulls only: an empty selector is not the same as an absent one.
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


class _Meta(msgspec.Struct, gc=False):
    name: Any = None
    namespace: Any = None


class _Named(msgspec.Struct, gc=False):
    metadata: _Meta | None = None


def _undecodable(kind: str, raw: Buffer, error: Exception) -> UndecodableObjectError:
    name = ""
    try:
        metadata = msgspec.json.decode(raw, type=_Named).metadata
    except _UNREADABLE:
        metadata = None
    if metadata is not None:
        name = "/".join(part for part in (metadata.namespace, metadata.name) if isinstance(part, str))
    return UndecodableObjectError(kind, name, str(error))
