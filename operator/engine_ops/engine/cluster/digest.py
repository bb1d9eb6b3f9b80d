"""What of a cluster matters to the answer of a question, as one hash.

A standing request is answered again only when this changes. Left out is what no answer depends on: uids, the order of
arrival, names and ages of pods that only take room, and labels that no rule looks at.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from engine_ops.api.faults import InvalidDataError
from engine_ops.engine.cluster.records import ClusterSnapshot, NodeRecord, PodKind, PodRow
from engine_ops.engine.cluster.selecting import PodFilter, check_selection, namespace_labels, selected_nodes
from engine_ops.engine.cluster.selection import ClusterSelection

_VERSION: Final = 1
"""Counted up when answers may come to depend on something else."""

_ENCODER: Final = msgspec.msgpack.Encoder(order="deterministic")


@dataclasses.dataclass(slots=True)
class UsedKeys:
    """Label keys that rules look at."""

    node: set[str] = dataclasses.field(default_factory=set)
    pod: set[str] = dataclasses.field(default_factory=set)
    namespace: set[str] = dataclasses.field(default_factory=set)

    def add(self, other: UsedKeys) -> None:
        """Take over the keys of another."""
        self.node |= other.node
        self.pod |= other.pod
        self.namespace |= other.namespace


def digest(
    snapshot: ClusterSnapshot,
    selection: ClusterSelection,
    request_type: str,
    data: Mapping[str, Any] | None = None,
) -> str:
    """Return a hash over what matters to the answer, and nothing else.

    Parameters
    ----------
    snapshot
        The cluster.
    selection
        Which nodes and pods the question is about.
    request_type
        ``scheduling`` or ``resource``.
    data
        The request's own data: tasks in it take the place of pending pods, and their rules look at labels too.

    Returns
    -------
    str
        32 hexadecimal digits. Equal for equal input in any order, and across processes.
    """
    selected = _Selected(snapshot, selection)
    given = bool(data) or selection.workload is not None
    repacking = request_type == "resource"
    waiting = [] if given or repacking else _queue(snapshot, selected)

    there = {node.name for node in snapshot.nodes}
    # A pod on a node that is not there is in nobody's way.
    taken = Counter(
        (pod.node, pod.kind, pod.terminating, pod.name if repacking and selected.chooses(pod) else "")
        for pod in snapshot.pods
        if pod.node in there
    )

    numbers = {number for _, number, _, _ in taken} | {pod.kind for pod in waiting}
    used = UsedKeys()
    for rules in {snapshot.kinds[number].rules for number in numbers}:
        used.add(_used_by(rules))
    for written in (data or {}, selection.workload.pod if selection.workload is not None else {}):
        _collect(written, used)

    kind_of = {number: _kind(snapshot.kinds[number], used) for number in numbers}
    # Kinds that differ in nothing that matters are one: their pods are counted together.
    counts: Counter[tuple[str, bytes, bool, str]] = Counter()
    for (node, number, terminating, name), count in taken.items():
        counts[node, kind_of[number], terminating, name] += count
    parts = (
        _VERSION,
        request_type,
        selection.to_manifest(),
        [
            _node(node, used, usable)
            for node, usable in sorted(zip(snapshot.nodes, selected.nodes, strict=True), key=lambda pair: pair[0].name)
        ],
        sorted((*key, count) for key, count in counts.items()),
        [(snapshot.pod_id(pod), kind_of[pod.kind]) for pod in waiting],
        _namespaces(snapshot, selection, numbers, used),
        data or {},
    )
    return hashlib.blake2b(_ENCODER.encode(parts), digest_size=16).hexdigest()


class _Selected:
    """What a selection chooses; everything where it cannot be read, which the solver will say."""

    def __init__(self, snapshot: ClusterSnapshot, selection: ClusterSelection) -> None:
        self.nodes: Sequence[bool] = [True] * len(snapshot.nodes)
        self._filter: PodFilter | None = None
        try:
            check_selection(selection)
        except InvalidDataError:
            return
        self.nodes = selected_nodes(snapshot, selection.nodes)
        self._filter = PodFilter(snapshot, selection.pods)

    def chooses(self, pod: PodRow) -> bool:
        return self._filter is None or self._filter.chooses(pod)


def _queue(snapshot: ClusterSnapshot, selected: _Selected) -> list[PodRow]:
    """Return the selected pending pods in the order of kube-scheduler's queue: by priority, then by age."""
    pending = [pod for pod in snapshot.pods if not pod.node and not pod.terminating and selected.chooses(pod)]
    return sorted(pending, key=lambda pod: (-snapshot.kinds[pod.kind].priority, pod.created, snapshot.pod_id(pod)))


def _node(node: NodeRecord, used: UsedKeys, usable: bool) -> tuple[Any, ...]:
    taints = sorted((taint.key, taint.value, taint.effect) for taint in node.taints)
    return (node.name, _of(node.labels, used.node), node.allocatable, taints, node.unschedulable, usable)


def _kind(kind: PodKind, used: UsedKeys) -> bytes:
    ports = sorted((port.ip, port.protocol, port.port) for port in kind.host_ports)
    return _ENCODER.encode(
        (
            kind.namespace,
            _of(kind.labels, used.pod),
            kind.requests,
            kind.rules,
            ports,
            kind.priority,
            kind.daemon,
            kind.static,
            kind.not_modelled,
        )
    )


def _namespaces(
    snapshot: ClusterSnapshot, selection: ClusterSelection, numbers: Iterable[int], used: UsedKeys
) -> dict[str, dict[str, str]]:
    if not used.namespace:
        return {}
    names = {snapshot.kinds[number].namespace for number in numbers}
    if selection.workload is not None:
        names.add(selection.workload.name.partition("/")[0])
    known = namespace_labels(snapshot)
    return {name: _of(known.get(name, {}), used.namespace) for name in names}


def _of(labels: Mapping[str, str], keys: set[str]) -> dict[str, str]:
    if len(labels) < len(keys):
        return {key: value for key, value in labels.items() if key in keys}
    return {key: labels[key] for key in keys if key in labels}


@functools.lru_cache(maxsize=4096)
def _used_by(rules: str) -> UsedKeys:
    used = UsedKeys()
    if rules:
        _collect(msgspec.json.decode(rules), used)
    return used


def _collect(value: Any, used: UsedKeys) -> None:
    """Find every label key in pods' rules, wherever they stand: in a pod's spec, a task, or a list of tasks."""
    if isinstance(value, list | tuple):
        for item in value:
            _collect(item, used)
        return
    if not isinstance(value, Mapping):
        return
    for name, item in value.items():
        if name == "nodeSelector" and isinstance(item, Mapping):
            used.node.update(item)
        elif name == "nodeAffinity":
            used.node.update(_expression_keys(item))
        elif name == "topologyKey":
            used.node.add(str(item))
        elif name == "labelSelector":
            used.pod.update(_selector_keys(item))
        elif name == "namespaceSelector":
            used.namespace.update(_selector_keys(item))
        elif name in {"matchLabelKeys", "mismatchLabelKeys"}:
            used.pod.update(map(str, item or ()))
        else:
            _collect(item, used)


def _selector_keys(selector: Any) -> Iterable[str]:
    if not isinstance(selector, Mapping):
        return ()
    return {*map(str, selector.get("matchLabels") or ()), *_expression_keys(selector.get("matchExpressions"))}


def _expression_keys(value: Any) -> set[str]:
    """Return the values of every ``key`` below."""
    if isinstance(value, Mapping):
        keys = {value["key"]} if isinstance(value.get("key"), str) else set()
        return keys.union(*map(_expression_keys, value.values()))
    if isinstance(value, list | tuple):
        return set().union(*map(_expression_keys, value))
    return set()
