"""A made-up cluster in the likeness of real ones: zones, pools, deployments with rules, DaemonSets; all of it runs.

Objects have the size that they have in real clusters: a node with conditions, images and what a cloud labels it with, a
pod with probes, volumes that need no storage, and the status that a kubelet writes. Deterministic.
"""

from __future__ import annotations

import copy
import dataclasses
import random
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

ZONES = ("europe-1a", "europe-1b", "europe-1c")
ZONE, HOST, POOL = "topology.kubernetes.io/zone", "kubernetes.io/hostname", "example.com/pool"
DEDICATED = {"key": "dedicated", "value": "batch", "effect": "NoSchedule"}
NAMESPACES = tuple(f"team-{number}" for number in range(20))
NODE_CPU_MILLI, NODE_MEMORY_MIB, NODE_PODS = 16_000, 64 * 1024, 110
DAEMON_SETS = 2
MAX_REPLICAS = 60
MOST_PODS_A_NODE = 20
STARTED = "2025-11-03T08:00:00Z"


@dataclasses.dataclass(frozen=True, slots=True)
class Deployment:
    """Some identical pods and what is asked of their nodes.

    Parameters
    ----------
    name, namespace, replicas
        As the object has them.
    cpu_milli, memory_mib
        Of one pod.
    rule
        ``none``, ``spread`` over zones, ``apart`` (one a node), ``pool``, ``zones`` (two of three) or ``dedicated``.
    """

    name: str
    namespace: str
    replicas: int
    cpu_milli: int
    memory_mib: int
    rule: str


@dataclasses.dataclass(slots=True)
class Node:
    """A node and what is left of it."""

    name: str
    zone: str
    pool: str
    dedicated: bool
    cordoned: bool
    cpu_milli: int = NODE_CPU_MILLI
    memory_mib: int = NODE_MEMORY_MIB
    pods: int = NODE_PODS

    def takes(self, deployment: Deployment) -> bool:
        """Whether a pod of the deployment may be put here."""
        return (
            not self.cordoned
            and self.dedicated == (deployment.rule == "dedicated")
            and (deployment.rule != "pool" or self.pool == "compute")
            and (deployment.rule != "zones" or self.zone in ZONES[:2])
            and self.has_room(deployment)
        )

    def has_room(self, deployment: Deployment) -> bool:
        """Whether a pod of the deployment fits."""
        return self.cpu_milli >= deployment.cpu_milli and self.memory_mib >= deployment.memory_mib and self.pods > 0

    def put(self, deployment: Deployment) -> None:
        """Take the room of one pod."""
        self.cpu_milli -= deployment.cpu_milli
        self.memory_mib -= deployment.memory_mib
        self.pods -= 1


class RealisticCluster:
    """The objects of the cluster.

    Parameters
    ----------
    nodes, pods
        How many nodes, and pods that run.
    pending
        How many pods have no node; they are of deployments of their own.

    Raises
    ------
    ValueError
        If the nodes are too few for the pods.
    """

    def __init__(self, nodes: int = 1000, pods: int = 10_000, pending: int = 50) -> None:
        if pods > MOST_PODS_A_NODE * nodes:
            raise ValueError(f"{nodes} nodes are made for at most {MOST_PODS_A_NODE * nodes} pods, not {pods}")
        self._random = random.Random(4)
        self._nodes = [self._node(number) for number in range(nodes)]
        self._running = pods
        self._pending = pending

    def nodes(self) -> Iterator[tuple[str, bytes, bytes]]:
        """Yield name, JSON, and the merge patch that takes away what admission adds to a new node's taints."""
        for node in self._nodes:
            body = _node_body(node)
            taints = body["spec"].get("taints")
            yield node.name, msgspec.json.encode(body), msgspec.json.encode({"spec": {"taints": taints}})

    def running(self) -> Iterator[tuple[str, bytes, bytes]]:
        """Yield the path of the collection, JSON, and the merge patch of the status, of each pod that has a node."""
        left = self._running
        for number in range(DAEMON_SETS):
            daemon = Deployment(f"agent-{number}", "kube-agents", len(self._nodes), 100, 128, "none")
            for node in self._nodes[:left]:
                node.put(daemon)
                yield _written(daemon, f"{daemon.name}-{node.name}", node.name, "DaemonSet")
            left -= min(left, len(self._nodes))
        number = 0
        while left > 0:
            deployment = self._deployment(f"app-{number}", left)
            for index, node in enumerate(self._placed(deployment)):
                yield _written(deployment, f"{deployment.name}-{index:03d}", node.name, "ReplicaSet")
                left -= 1
            number += 1

    def pending(self) -> Iterator[tuple[str, bytes]]:
        """Yield the path of the collection and JSON of each pod without a node."""
        left, number = self._pending, 0
        while left > 0:
            deployment = self._deployment(f"new-{number}", min(left, 10))
            for index in range(deployment.replicas):
                path, body, _ = _written(deployment, f"{deployment.name}-{index:03d}", None, "ReplicaSet")
                yield path, body
            left -= deployment.replicas
            number += 1

    def _node(self, number: int) -> Node:
        pool = "compute" if number % 4 == 3 else "general"
        return Node(
            f"node-{number:04d}", ZONES[number % 3], pool, dedicated=number % 10 == 7, cordoned=number % 50 == 29
        )

    def _deployment(self, name: str, most: int) -> Deployment:
        pick = self._random
        rule = pick.choices(("none", "spread", "apart", "pool", "zones", "dedicated"), weights=(30, 30, 15, 10, 10, 5))[
            0
        ]
        replicas = min(most, MAX_REPLICAS, max(1, round(pick.paretovariate(0.8))))
        cpu_milli = pick.choice((50, 100, 250, 250, 500, 500, 1000, 2000))
        return Deployment(
            name, pick.choice(NAMESPACES), replicas, cpu_milli, max(64, cpu_milli * pick.choice((1, 2, 4, 6))), rule
        )

    def _placed(self, deployment: Deployment) -> list[Node]:
        """Return a node for each replica, zone after zone, and take the room."""
        chosen: list[Node] = []
        for index in range(deployment.replicas):
            sample = self._random.sample(self._nodes, min(len(self._nodes), 60))
            allowed = [node for node in sample if node.takes(deployment)]
            if deployment.rule == "apart":
                allowed = [node for node in allowed if node not in chosen]
            if deployment.rule == "spread":
                allowed = [node for node in allowed if node.zone == ZONES[index % len(ZONES)]]
            if not allowed:
                break
            node = max(allowed, key=lambda node: node.cpu_milli)
            node.put(deployment)
            chosen.append(node)
        return chosen


def _node_body(node: Node) -> dict[str, Any]:
    amounts = {
        "cpu": f"{NODE_CPU_MILLI}m",
        "memory": f"{NODE_MEMORY_MIB}Mi",
        "pods": str(NODE_PODS),
        "ephemeral-storage": "200Gi",
        "hugepages-1Gi": "0",
        "hugepages-2Mi": "0",
    }
    condition = {"lastHeartbeatTime": STARTED, "lastTransitionTime": STARTED, "message": "kubelet has no complaint"}
    conditions = [
        {"type": name, "status": status, "reason": f"Kubelet{name}", **condition}
        for name, status in (
            ("MemoryPressure", "False"),
            ("DiskPressure", "False"),
            ("PIDPressure", "False"),
            ("Ready", "True"),
        )
    ]
    images = [
        {
            "names": [
                f"registry.example.com/team/service-{number}@sha256:{number:064x}",
                f"registry.example.com/team/service-{number}:v1.{number}.0",
            ],
            "sizeBytes": 100_000_000 + number,
        }
        for number in range(30)
    ]
    spec: dict[str, Any] = {"podCIDR": "10.0.0.0/24", "providerID": f"cloud:///{node.zone}/{node.name}"}
    if node.dedicated:
        spec["taints"] = [DEDICATED]
    if node.cordoned:
        spec["unschedulable"] = True
        spec.setdefault("taints", []).append({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"})
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": node.name,
            "annotations": {
                "node.alpha.kubernetes.io/ttl": "0",
                "volumes.kubernetes.io/controller-managed-attach-detach": "true",
            },
            "labels": {
                HOST: node.name,
                ZONE: node.zone,
                "topology.kubernetes.io/region": "europe-1",
                POOL: node.pool,
                "kubernetes.io/arch": "amd64",
                "kubernetes.io/os": "linux",
                "node.kubernetes.io/instance-type": "standard-16",
                "node.example.com/image": "linux-2025.11",
                "node.example.com/kernel": "6.12",
                "node.example.com/serial": f"{node.name}-serial",
            },
        },
        "spec": spec,
        "status": {
            "capacity": amounts,
            "allocatable": amounts,
            "conditions": conditions,
            "images": images,
            "addresses": [{"type": "Hostname", "address": node.name}],
            "nodeInfo": dict.fromkeys(
                (
                    "architecture",
                    "bootID",
                    "containerRuntimeVersion",
                    "kernelVersion",
                    "kubeProxyVersion",
                    "kubeletVersion",
                    "machineID",
                    "operatingSystem",
                    "osImage",
                    "systemUUID",
                ),
                "made-up",
            ),
        },
    }


def _written(deployment: Deployment, name: str, node: str | None, owner: str) -> tuple[str, bytes, bytes]:
    body = _pod_body(deployment, name, owner)
    if node is not None:
        body["spec"]["nodeName"] = node
    collection = f"/api/v1/namespaces/{deployment.namespace}/pods"
    return collection, msgspec.json.encode(body), msgspec.json.encode({"status": _status(name)})


def _pod_body(deployment: Deployment, name: str, owner: str) -> dict[str, Any]:
    labels = {"app": deployment.name, "pod-template-hash": f"{hash_of(deployment.name):08x}", "team": "made-up"}
    probe = {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 10, "failureThreshold": 3}
    requests = {"cpu": f"{deployment.cpu_milli}m", "memory": f"{deployment.memory_mib}Mi"}
    container = {
        "name": "main",
        "image": f"registry.example.com/team/{deployment.name}:v1.2.3",
        "ports": [{"containerPort": 8080, "name": "http"}],
        "env": [{"name": f"SETTING_{number}", "value": f"value of setting {number}"} for number in range(8)],
        "resources": {"requests": requests, "limits": {"memory": requests["memory"]}},
        "livenessProbe": probe,
        "readinessProbe": probe,
        "volumeMounts": [{"name": "config", "mountPath": "/etc/config"}, {"name": "cache", "mountPath": "/cache"}],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spec: dict[str, Any] = {
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": deployment.name}}, {"name": "cache", "emptyDir": {}}],
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    }
    spec |= copy.deepcopy(_rules(deployment))
    kind = {"apiVersion": "apps/v1", "kind": owner, "name": f"{deployment.name}-set"}
    reference = {**kind, "uid": f"00000000-0000-4000-8000-{hash_of(deployment.name):012x}", "controller": True}
    metadata = {
        "name": name,
        "namespace": deployment.namespace,
        "labels": labels,
        "annotations": {"example.com/config-hash": f"{hash_of(name):064x}"},
        "ownerReferences": [reference],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _rules(deployment: Deployment) -> Mapping[str, Any]:
    selector = {"matchLabels": {"app": deployment.name}}
    if deployment.rule == "spread":
        constraint = {
            "maxSkew": 1,
            "topologyKey": ZONE,
            "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": selector,
        }
        return {"topologySpreadConstraints": [constraint]}
    if deployment.rule == "apart":
        term = {"labelSelector": selector, "topologyKey": HOST}
        return {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}
    if deployment.rule == "pool":
        return {"nodeSelector": {POOL: "compute"}}
    if deployment.rule == "zones":
        expression = {"key": ZONE, "operator": "In", "values": list(ZONES[:2])}
        required = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
        return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}}
    if deployment.rule == "dedicated":
        toleration = {"key": "dedicated", "operator": "Equal", "value": "batch", "effect": "NoSchedule"}
        return {"tolerations": [toleration]}
    return {}


def _status(name: str) -> dict[str, Any]:
    conditions = [
        {"type": kind, "status": "True", "lastTransitionTime": STARTED}
        for kind in ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    ]
    container = {
        "name": "main",
        "image": "registry.example.com/team/service:v1.2.3",
        "imageID": f"registry.example.com/team/service@sha256:{hash_of(name):064x}",
        "containerID": f"containerd://{hash_of(name):064x}",
        "ready": True,
        "started": True,
        "restartCount": 0,
        "state": {"running": {"startedAt": STARTED}},
    }
    return {
        "phase": "Running",
        "startTime": STARTED,
        "conditions": conditions,
        "containerStatuses": [container],
        "hostIP": "192.0.2.1",
        "podIP": "198.51.100.1",
        "podIPs": [{"ip": "198.51.100.1"}],
        "qosClass": "Burstable",
    }


def hash_of(text: str) -> int:
    """Return a number below 2 to the 32 that is the same in every process."""
    number = 2166136261
    for byte in text.encode():
        number = (number ^ byte) * 16777619 % 2**32
    return number
