"""Seeded random small clusters as real v1 objects, with everything that kube-scheduler's filters look at.

The same seed gives the same cluster. Its pods come from a few templates, as those of ReplicaSets do, so that they have
to do with each other; some run (where they are need not be legal: rules and taints may have come later), others wait.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import random
from typing import Any, Final

from lib import random_resources, random_rules
from lib.random_rules import HASH, HOST, ZONE, Document, chance

_CREATED: Final = "2026-01-01T{hour:02}:{minute:02}:00Z"
_DAEMON_TOLERATIONS: Final = [
    {"key": f"node.kubernetes.io/{name}", "operator": "Exists", "effect": effect}
    for name, effect in (
        ("not-ready", "NoExecute"),
        ("unreachable", "NoExecute"),
        ("disk-pressure", "NoSchedule"),
        ("memory-pressure", "NoSchedule"),
        ("pid-pressure", "NoSchedule"),
        ("unschedulable", "NoSchedule"),
    )
]
_DEFAULT_TOLERATIONS: Final = [
    {"key": f"node.kubernetes.io/{name}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
    for name in ("not-ready", "unreachable")
]


@dataclasses.dataclass(frozen=True, slots=True)
class Cluster:
    """Objects of a cluster.

    Parameters
    ----------
    nodes, pods, namespaces
        As ``kubectl get -o json`` shows them; pods without ``spec.nodeName`` are pending.
    """

    nodes: list[Document]
    pods: list[Document]
    namespaces: list[Document]

    def to_json(self) -> str:
        """Return the cluster as ``kubectl get nodes,pods,namespaces -A -o json`` prints it."""
        items = [*self.nodes, *self.pods, *self.namespaces]
        return json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=1)


def pod_id(pod: Document) -> str:
    """Return ``namespace/name``."""
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


def is_pending(pod: Document) -> bool:
    """Whether the scheduler still has to find a node for the pod."""
    finished = pod["status"].get("phase") in {"Succeeded", "Failed"}
    return not (finished or "nodeName" in pod["spec"] or "deletionTimestamp" in pod["metadata"])


def make_cluster(seed: int, *, nodes: int = 8, pods: int = 40) -> Cluster:
    """Make a cluster.

    Parameters
    ----------
    seed
        Of every choice.
    nodes, pods
        About how many: half as many to half as many more.
    """
    draw = random.Random(seed)
    node_list = [_node(draw, f"node-{number}") for number in range(_about(draw, nodes))]
    names = [node["metadata"]["name"] for node in node_list]
    pod_list = _daemon_pods(draw, node_list) if chance(draw, 0.5) else []
    target = _about(draw, pods)
    number = 0
    while len(pod_list) < target:
        template = _template(draw, f"app-{number}", names)
        count = draw.choice((1, 2, 3, 5, 8, 12))
        pod_list += [_pod(draw, template, f"app-{number}-{index}", names) for index in range(count)]
        number += 1
    namespaces = [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name, **labels}},
        }
        for name, labels in random_rules.NAMESPACES.items()
    ]
    return Cluster(node_list, pod_list, namespaces)


def _about(draw: random.Random, count: int) -> int:
    return max(1, draw.randint(count // 2, count + count // 2))


def _node(draw: random.Random, name: str) -> Document:
    labels = {key: draw.choice(values) for key, values in random_rules.NODE_LABELS.items() if chance(draw, 0.75)}
    if ZONE not in labels and chance(draw, 0.6):
        labels[ZONE] = draw.choice(random_rules.NODE_LABELS[ZONE])
    if chance(draw, 0.96):
        # It is the node's name nearly everywhere, and nothing says that it must be.
        labels[HOST] = name if chance(draw, 0.95) else "elsewhere"
    spec: Document = {}
    taints = []
    if chance(draw, 0.25):
        keys = draw.sample(list(random_rules.TAINTS), draw.choice((1, 1, 2)))
        taints = [_taint(draw, key) for key in keys]
    if chance(draw, 0.1):
        spec["unschedulable"] = True
        if chance(draw, 0.8):  # the node lifecycle controller needs a moment
            taints.append({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"})
    if taints:
        spec["taints"] = taints
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": spec,
        "status": {"allocatable": _allocatable(draw)},
    }


def _taint(draw: random.Random, key: str) -> Document:
    taint: Document = {"key": key, "effect": draw.choice(random_rules.EFFECTS)}
    value = draw.choice(random_rules.TAINTS[key])
    return taint | ({"value": value} if value else {})


def _allocatable(draw: random.Random) -> Document:
    if chance(draw, 0.015):
        return {}
    allocatable: Document = {
        "cpu": draw.choice(("4", "7920m", "8", "12", "16")),
        "memory": draw.choice(("8Gi", "15900Mi", "16777215Ki", "32e9")),
        "pods": draw.choice(("4", "6", "9", "12", "110")),
    }
    if chance(draw, 0.85):
        allocatable["ephemeral-storage"] = draw.choice(("3Gi", "10Gi", "5000000000"))
    if chance(draw, 0.45):
        allocatable[random_resources.GPU] = draw.choice(("0", "1", "2", "4"))
    if chance(draw, 0.3):
        allocatable["hugepages-2Mi"] = draw.choice(("0", "4Mi", "8Mi"))
    if chance(draw, 0.02):
        del allocatable[draw.choice(("cpu", "memory", "pods"))]
    return allocatable


def _daemon_pods(draw: random.Random, nodes: list[Document]) -> list[Document]:
    spec = random_resources.containers(draw) | {
        "tolerations": copy.deepcopy(_DAEMON_TOLERATIONS),
        "priority": draw.choice((0, 2_000_001_000)),
    }
    labels = {"app": "agent"}
    template = {"namespace": draw.choice(("default", "lab")), "labels": labels, "spec": spec}
    pods = []
    for node in nodes:
        name = node["metadata"]["name"]
        if chance(draw, 0.15):
            continue
        pod = _object(draw, template, f"agent-{name}", owner="DaemonSet", owner_name="agent")
        fields = [{"key": "metadata.name", "operator": "In", "values": [name]}]
        required = {"nodeSelectorTerms": [{"matchFields": fields}]}
        pod["spec"]["affinity"] = {"nodeAffinity": {random_rules.REQUIRED: required}}
        if chance(draw, 0.8):
            _run(draw, pod, name)
        pods.append(pod)
    return pods


def _template(draw: random.Random, name: str, nodes: list[str]) -> Document:
    labels = {"app": draw.choice(random_rules.APPS)}
    if chance(draw, 0.6):
        labels["tier"] = draw.choice(random_rules.TIERS)
    if chance(draw, 0.6):
        labels[HASH] = draw.choice(("5d8", "77f"))
    spec = random_resources.containers(draw)
    spec["priority"] = draw.choice((0, 0, 0, 100, 1000, -10))
    spec["tolerations"] = copy.deepcopy(_DEFAULT_TOLERATIONS)
    if chance(draw, 0.35):
        spec["tolerations"] = random_rules.tolerations(draw) + spec["tolerations"]
    if chance(draw, 0.2):
        spec["nodeSelector"] = random_rules.node_selector(draw)
    affinity: Document = {}
    if chance(draw, 0.25):
        affinity["nodeAffinity"] = random_rules.node_affinity(draw, nodes)
    if chance(draw, 0.22):
        affinity["podAffinity"] = random_rules.pod_affinity(draw, labels, anti=False)
    if chance(draw, 0.25):
        affinity["podAntiAffinity"] = random_rules.pod_affinity(draw, labels, anti=True)
    if affinity:
        spec["affinity"] = affinity
    if chance(draw, 0.3):
        spec["topologySpreadConstraints"] = random_rules.topology_spread(draw, labels)
    if chance(draw, 0.05):
        spec["volumes"] = [_volume(draw)]
    if chance(draw, 0.02):
        spec["schedulingGates"] = [{"name": "example.com/wait"}]
    namespace = draw.choice(("default", "default", "team-a", "team-b", "lab"))
    return {"namespace": namespace, "labels": labels, "spec": spec, "name": name}


def _volume(draw: random.Random) -> Document:
    return draw.choice(
        (
            {"name": "scratch", "emptyDir": {}},
            {"name": "settings", "configMap": {"name": "settings"}},
            {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
        )
    )


def _pod(draw: random.Random, template: Document, name: str, nodes: list[str]) -> Document:
    pod = _object(draw, template, name, owner="ReplicaSet", owner_name=template["name"])
    if chance(draw, 0.5):
        _run(draw, pod, draw.choice(nodes))
        # A gate is gone before a pod gets a node.
        pod["spec"].pop("schedulingGates", None)
        if chance(draw, 0.1):
            pod["status"] = random_resources.resized(draw, pod["spec"])
        elif chance(draw, 0.04):
            pod["status"]["phase"] = draw.choice(("Succeeded", "Failed"))
        elif chance(draw, 0.02):
            pod["spec"]["nodeName"] = "gone"
        elif chance(draw, 0.02):
            _make_static(pod)
    if chance(draw, 0.06):
        pod["metadata"] |= {"deletionTimestamp": "2026-01-02T00:00:00Z", "deletionGracePeriodSeconds": 30}
    return pod


def _object(draw: random.Random, template: Document, name: str, *, owner: str, owner_name: str) -> Document:
    reference = {"apiVersion": "apps/v1", "kind": owner, "name": owner_name, "uid": owner_name, "controller": True}
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": template["namespace"],
        "uid": f"uid-{name}",
        "labels": dict(template["labels"]),
        "creationTimestamp": _CREATED.format(hour=draw.randrange(24), minute=draw.randrange(60)),
        "ownerReferences": [reference],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": copy.deepcopy(template["spec"]),
        "status": {"phase": "Pending"},
    }


def _run(draw: random.Random, pod: Document, node: str) -> None:
    pod["spec"]["nodeName"] = node
    pod["status"]["phase"] = "Running" if chance(draw, 0.9) else "Pending"


def _make_static(pod: Document) -> None:
    node = pod["spec"]["nodeName"]
    pod["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "0123"}
    owner = {"apiVersion": "v1", "kind": "Node", "name": node, "uid": node, "controller": True}
    pod["metadata"]["ownerReferences"] = [owner]
