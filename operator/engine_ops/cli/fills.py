"""How full nodes are, and with what: what the pictures in the terminal and in files are made of."""

from __future__ import annotations

import collections
import dataclasses
import enum
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from engine_ops.api.quantity import format_bytes, format_cpu
from engine_ops.engine.cluster.records import ClusterSnapshot, NodeRecord
from engine_ops.engine.units import base_amount

INSTANCE_TYPE: Final = "node.kubernetes.io/instance-type"
PODS: Final = "pods"

Amounts = Mapping[str, int]
"""Units by resource, see `engine_ops.engine.units`; ``pods`` is a plain count."""


class Lot(enum.Enum):
    """What becomes of a pod in an answer."""

    PINNED = "pinned"
    """It belongs to its node: a DaemonSet's, or a static one."""
    STAYS = "stays"
    """It was there before, and is not touched."""
    ARRIVED = "arrived"
    """The answer puts it here."""


@dataclasses.dataclass(frozen=True, slots=True)
class PodShare:
    """One pod's part of a node.

    Parameters
    ----------
    pod
        ``namespace/name``.
    share
        Of the node's fullest resource, 0 to 1.
    lot
        What becomes of it.
    """

    pod: str
    share: float
    lot: Lot


@dataclasses.dataclass(frozen=True, slots=True)
class NodeFill:
    """One node, filled with pods.

    Parameters
    ----------
    name, type
        The node's; the type is its instance type, or its size where it has no such label.
    pods
        Pinned ones first, then those that stay, then those that arrived; large ones before small ones.
    resource
        The resource that the shares are of: the one that is fullest here. Empty on an empty node.
    in_use
        Whether it has a pod that does not belong to it.
    """

    name: str
    type: str
    pods: tuple[PodShare, ...]
    resource: str
    in_use: bool

    @property
    def fill(self) -> float:
        """How full it is, 0 to 1; above 1 where running pods ask for more than there is."""
        return sum(pod.share for pod in self.pods)


@dataclasses.dataclass(frozen=True, slots=True)
class Picture:
    """Nodes before and after an answer.

    Parameters
    ----------
    headline
        One line with the numbers.
    before, after
        The same nodes in the same order: by type, the fullest first.
    arrived
        What is said of pods that arrived: ``placed here`` or ``moved here``.
    """

    headline: str
    before: tuple[NodeFill, ...]
    after: tuple[NodeFill, ...]
    arrived: str

    def called(self, name: str) -> Picture:
        """Return the picture with a name before its headline."""
        return dataclasses.replace(self, headline=f"{name}: {self.headline}")


def picture_of(snapshot: ClusterSnapshot, result: Mapping[str, Any], new_pods: Mapping[str, Amounts]) -> Picture:
    """Return the picture of an answer about a cluster.

    Parameters
    ----------
    snapshot
        The cluster.
    result
        Of type scheduling or resource. Nodes and pods that the snapshot does not have are left out.
    new_pods
        What the pods ask for that the snapshot does not have, by the names that the result gives them.
    """
    requests, where, pinned = _running(snapshot, new_pods)
    moves = "currentNodeCount" in result
    asked = _placements(result, new_pods)
    then = {**where, **(_moved(result) if moves else {pod: node for pod, node in asked.items() if node})}
    before = _fills(snapshot.nodes, requests, where, where, pinned)
    after = _fills(snapshot.nodes, requests, then, where, pinned)
    order = sorted(range(len(before)), key=lambda at: (before[at].type, -before[at].fill, before[at].name))
    shown_before, shown_after = tuple(before[at] for at in order), tuple(after[at] for at in order)
    headline = _repacked(result, len(order)) if moves else _filled(asked, shown_before, shown_after)
    return Picture(headline, shown_before, shown_after, "moved here" if moves else "placed here")


def count_in_use(nodes: Iterable[NodeFill]) -> int:
    """Return how many of the nodes have a pod that does not belong to its node."""
    return sum(node.in_use for node in nodes)


def describe(nodes: Sequence[NodeFill]) -> str:
    """Say how many nodes there are and are in use, as in ``1,213 nodes, 942 in use``."""
    return f"{len(nodes):,} node{'' if len(nodes) == 1 else 's'}, {count_in_use(nodes):,} in use"


def _running(
    snapshot: ClusterSnapshot, new_pods: Mapping[str, Amounts]
) -> tuple[dict[str, Amounts], dict[str, str], set[str]]:
    """Return what each pod asks for, the node of each that has one, and those that belong to their nodes."""
    requests: dict[str, Amounts] = dict(new_pods)
    where: dict[str, str] = {}
    pinned: set[str] = set()
    for row in snapshot.pods:
        kind, pod = snapshot.kinds[row.kind], snapshot.pod_id(row)
        requests[pod] = kind.requests
        if row.node:
            where[pod] = row.node
        if kind.daemon or kind.static:
            pinned.add(pod)
    return requests, where, pinned


def _placements(result: Mapping[str, Any], new_pods: Mapping[str, Amounts]) -> dict[str, str]:
    """Return the node of each pod that was to be placed; empty for none."""
    if "nodeId" in result:  # the answer for a single task does not say its name
        return dict.fromkeys(new_pods, str(result["nodeId"]))
    return {item["taskId"]: item.get("nodeId") or "" for item in result.get("placements", ())}


def _moved(result: Mapping[str, Any]) -> dict[str, str]:
    return {item["id"]: node["id"] for node in result.get("nodes", ()) for item in node["items"]}


def _fills(
    nodes: Sequence[NodeRecord],
    requests: Mapping[str, Amounts],
    where: Mapping[str, str],
    before: Mapping[str, str],
    pinned: set[str],
) -> list[NodeFill]:
    pods_on: dict[str, list[str]] = collections.defaultdict(list)
    for pod, name in where.items():
        pods_on[name].append(pod)
    fills = []
    for node in nodes:
        pods = [pod for pod in pods_on[node.name] if pod in requests]
        resource = _fullest(node.allocatable, [requests[pod] for pod in pods])
        offered = node.allocatable.get(resource, 0)
        shares = []
        for pod in pods:
            lot = Lot.PINNED if pod in pinned else Lot.STAYS if before.get(pod) == node.name else Lot.ARRIVED
            asked = _asked(requests[pod], resource)
            shares.append(PodShare(pod, asked / offered if offered else 0.0, lot))
        shares.sort(key=lambda share: (_LOTS.index(share.lot), -share.share, share.pod))
        in_use = any(share.lot is not Lot.PINNED for share in shares)
        fills.append(NodeFill(node.name, _type(node), tuple(shares), resource if shares else "", in_use))
    return fills


_LOTS: Final = tuple(Lot)


def _fullest(offered: Amounts, asked: Sequence[Amounts]) -> str:
    """Return the resource of which the largest part is asked for; of several, the first by name."""
    totals: collections.Counter[str] = collections.Counter()
    for amounts in asked:
        totals.update(amounts)
    totals[PODS] = len(asked)
    shares = {name: totals[name] / offered[name] for name in sorted(totals) if offered.get(name, 0) > 0}
    return max(shares, key=shares.__getitem__, default="")


def _asked(amounts: Amounts, resource: str) -> int:
    return 1 if resource == PODS else amounts.get(resource, 0)


def _type(node: NodeRecord) -> str:
    named = node.labels.get(INSTANCE_TYPE)
    if named:
        return named
    offered = node.allocatable
    cpu, memory = (base_amount(name, offered.get(name, 0)) for name in ("cpu", "memory"))
    size = f"{format_cpu(cpu)} cpu, {format_bytes(memory)}"
    others = [
        f"{base_amount(name, offered[name]):g} {name.rpartition('/')[2]}"
        for name in sorted(offered)
        if _is_device(name, offered)
    ]
    return ", ".join((size, *others))


def _is_device(name: str, offered: Amounts) -> bool:
    known = name in {"cpu", "memory", "ephemeral-storage", PODS} or name.startswith("hugepages-")
    return not known and offered[name] > 0


def _repacked(result: Mapping[str, Any], nodes: int) -> str:
    now, then, bound = result["currentNodeCount"], result["nodeCount"], result.get("lowerBound")
    text = f"{nodes:,} nodes, {now:,} in use now, {then:,} after repacking"
    return text if bound is None else f"{text}; at least {bound:,} are needed"


def _filled(asked: Mapping[str, str], before: Sequence[NodeFill], after: Sequence[NodeFill]) -> str:
    placed = sum(1 for node in asked.values() if node)
    used = f"{count_in_use(before):,} of {len(before):,} nodes in use now, {count_in_use(after):,} then"
    return f"{placed:,} of {len(asked):,} placed; {used}"
