"""Answers about the live cluster, repeated through kube-scheduler's own filters and, for single GPUs, counted anew."""

from __future__ import annotations

import collections
import copy
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from engine_ops.api.quantity import parse_quantity
from lib.scheduler_oracle import SchedulerOracle
from openb.live_objects import GPU_RESOURCE
from openb.trace import GPU_MILLI

Document = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class LiveObjects:
    """The cluster as the API server shows it.

    Parameters
    ----------
    nodes
        v1.Nodes.
    pods
        v1.Pods by ``namespace/name``, with and without a node.
    """

    nodes: Sequence[Document]
    pods: Mapping[str, Document]

    @classmethod
    def of(cls, nodes: Sequence[Document], pods: Iterable[Document]) -> LiveObjects:
        """Return them for the items of two lists."""
        return cls(nodes, {f"{pod['metadata']['namespace']}/{pod['metadata']['name']}": pod for pod in pods})

    @property
    def bound(self) -> dict[str, str]:
        """The node of each pod that has one."""
        return {name: pod["spec"]["nodeName"] for name, pod in self.pods.items() if pod["spec"].get("nodeName")}


@dataclasses.dataclass(frozen=True, slots=True)
class Verdicts:
    """What kube-scheduler's filters say of an answer.

    Parameters
    ----------
    asked, accepted
        Placements.
    refused
        In sentences.
    missed
        Pods that were left without a node though, when the answer is complete, a node would do; in sentences.
    """

    asked: int
    accepted: int
    refused: list[str]
    missed: list[str]


def check_placements(oracle: SchedulerOracle, live: LiveObjects, result: Mapping[str, Any]) -> Verdicts:
    """Place the pending pods of a ``scheduling`` result in its order, asking each time whether the node is feasible."""
    oracle.load(live.nodes, live.pods.values())
    refused, unplaced, asked = [], [], 0
    for placement in result["placements"]:
        name, node = placement["taskId"], placement.get("nodeId")
        if node is None:
            unplaced.append(placement)
            continue
        asked += 1
        verdict = oracle.place(live.pods[name], node, nodes=[node])
        if not verdict.accepted:
            refused.append(f"{name} on {node}: {verdict.statuses.get(node)}")
    missed = []
    for placement in unplaced:
        feasible = oracle.ask(live.pods[placement["taskId"]]).feasible
        if feasible:
            some = ", ".join(feasible[:3])
            missed.append(f"{placement['taskId']} ({placement['reason']}): {len(feasible)} nodes, such as {some}")
    return Verdicts(asked, asked - len(refused), refused, missed)


def final_nodes(result: Mapping[str, Any]) -> dict[str, str]:
    """Return the node of each running pod after the moves of a ``resource`` result."""
    return {item["id"]: node["id"] for node in result["nodes"] for item in node["items"]}


def check_repacking(oracle: SchedulerOracle, live: LiveObjects, after: Mapping[str, str]) -> Verdicts:
    """Ask for each running pod whether its node after all moves is feasible, all others being where they end."""
    moved = []
    for name, node in after.items():
        pod = copy.deepcopy(dict(live.pods[name]))
        pod["spec"]["nodeName"] = node
        moved.append(pod)
    oracle.load(live.nodes, moved)
    refused = []
    for name, node in after.items():
        verdict = oracle.check(name)
        if not verdict.accepted:
            refused.append(f"{name} on {node}: {verdict.statuses.get(node)}")
    return Verdicts(len(after), len(after) - len(refused), refused, [])


def split_gpus(live: LiveObjects, nodes: Mapping[str, str]) -> list[str]:
    """Return the nodes whose pods cannot be shared out to single GPUs, each GPU being 1,000 thousandths.

    Parameters
    ----------
    live
        The cluster.
    nodes
        The node of each pod.
    """
    asked: collections.defaultdict[str, list[int]] = collections.defaultdict(list)
    for name, node in nodes.items():
        asked[node].append(_gpu_milli(live.pods[name]))
    gpus = {
        node["metadata"]["name"]: int(parse_quantity(node["status"]["allocatable"].get(GPU_RESOURCE, 0))) // GPU_MILLI
        for node in live.nodes
    }
    return sorted(node for node, shares in asked.items() if not _fits(shares, gpus[node]))


def _gpu_milli(pod: Document) -> int:
    requests: Iterable[Mapping[str, str]] = (
        container["resources"].get("requests", {}) for container in pod["spec"]["containers"]
    )
    return sum(int(parse_quantity(request.get(GPU_RESOURCE, 0))) for request in requests)


def _fits(shares: Sequence[int], gpus: int) -> bool:
    """Whether shares can be put on single GPUs, by trying every distinct way; whole GPUs first."""
    whole = sum(share // GPU_MILLI for share in shares if share >= GPU_MILLI)
    parts = sorted((share for share in shares if 0 < share < GPU_MILLI), reverse=True)
    return whole <= gpus and _share_out(parts, [GPU_MILLI] * (gpus - whole))


def _share_out(parts: Sequence[int], free: list[int]) -> bool:
    if not parts:
        return True
    if sum(parts) > sum(free):
        return False
    for room in sorted(set(free)):
        if room >= parts[0]:
            rest = list(free)
            rest[rest.index(room)] -= parts[0]
            if _share_out(parts[1:], rest):
                return True
    return False
