"""What the real API server makes of nodes and pods of every sort, decoded; and summed as kubectl sums it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from engine_ops.devcluster import DevCluster, DevClusterError
from engine_ops.engine.cluster.decode import RecordDecoder
from engine_ops.engine.cluster.dump import read_dump
from engine_ops.engine.cluster.records import HostPort, PodKind, PodRecord, TaintRecord

MI = 2**20
GI = 2**30
ANY = "0.0.0.0"  # noqa: S104 - that is what it means

DISK = "https://account.blob.core.windows.net/container/disk.vhd"

Json = dict[str, Any]


def container(name: str = "main", requests: Any = None, limits: Any = None, **more: Any) -> Json:
    return {"name": name, "image": "any", "resources": {"requests": requests, "limits": limits}, **more}


def sidecar(name: str, requests: Any) -> Json:
    return container(name, requests, restartPolicy="Always")


def claim(**more: Any) -> Json:
    return {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, **more}


# name: (spec, requests, host ports, what is not modelled)
PODS: dict[str, tuple[Json, dict[str, int], tuple[HostPort, ...], tuple[str, ...]]] = {
    "nothing": ({"containers": [container()]}, {}, (), ()),
    "limits": (
        {"containers": [container(limits={"cpu": "1", "memory": "1Gi"}), container("b", {"cpu": "1500u"})]},
        {"cpu": 1002, "memory": GI},
        (),
        (),
    ),
    "every-resource": (
        {
            "containers": [
                container(
                    requests={"cpu": "100m", "memory": "1500m", "ephemeral-storage": "1Mi"},
                    limits={"hugepages-2Mi": "4Mi", "nvidia.com/gpu": "2", "memory": "2", "ephemeral-storage": "2Mi"},
                )
            ]
        },
        {"cpu": 100, "memory": 2, "ephemeral-storage": MI, "hugepages-2Mi": 4 * MI, "nvidia.com/gpu": 2000},
        (),
        (),
    ),
    "init-and-sidecars": (
        {
            "containers": [container(requests={"cpu": "1"})],
            "initContainers": [
                sidecar("s", {"cpu": "2", "memory": "1Mi"}),
                container("i", {"cpu": "5"}),
                sidecar("t", {"cpu": "1"}),
            ],
        },
        {"cpu": 7000, "memory": MI},
        (),
        (),
    ),
    "pod-level": (
        {
            "containers": [container(requests={"cpu": "100m", "memory": "1Mi"}), container("b")],
            "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "3", "memory": "1Gi"}},
        },
        {"cpu": 2000, "memory": MI},
        (),
        (),
    ),
    "pod-level-limits": (
        {"containers": [container(requests={"cpu": "1"})], "resources": {"limits": {"cpu": "2", "memory": "1Gi"}}},
        {"cpu": 1000, "memory": GI},
        (),
        (),
    ),
    "host-ports": (
        {
            "containers": [
                container(ports=[{"containerPort": 80}, {"containerPort": 81, "hostPort": 8081, "protocol": "UDP"}])
            ],
            "initContainers": [container("i", ports=[{"containerPort": 82, "hostPort": 8082, "hostIP": "10.0.0.1"}])],
        },
        {},
        (HostPort(ANY, "UDP", 8081),),
        (),
    ),
    "host-network": (
        {"hostNetwork": True, "containers": [container(ports=[{"containerPort": 8083}])]},
        {},
        (HostPort(ANY, "TCP", 8083),),
        (),
    ),
    "harmless-volumes": (
        {
            "containers": [container()],
            "volumes": [
                {"name": "a", "emptyDir": {}},
                {"name": "b", "configMap": {"name": "x"}},
                {"name": "c", "csi": {"driver": "x.example.com"}},
                {"name": "d", "nfs": {"server": "x", "path": "/"}},
                {"name": "e", "image": {"reference": "x"}},
            ],
        },
        {},
        (),
        (),
    ),
    "claim": (
        {"containers": [container()], "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "x"}}]},
        {},
        (),
        ("volumes",),
    ),
    "ephemeral-claim": (
        {
            "containers": [container()],
            "volumes": [{"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": claim()}}}],
        },
        {},
        (),
        ("volumes",),
    ),
    "disk": (
        {"containers": [container()], "volumes": [{"name": "v", "azureDisk": {"diskName": "x", "diskURI": DISK}}]},
        {},
        (),
        ("volumes",),
    ),
    "resource-claim": (
        {"containers": [container()], "resourceClaims": [{"name": "x", "resourceClaimName": "y"}]},
        {},
        (),
        ("resourceClaims",),
    ),
    "gated": ({"containers": [container()], "schedulingGates": [{"name": "x"}]}, {}, (), ("schedulingGates",)),
    "restart-all": (
        {
            "containers": [
                container(
                    restartPolicy="Never",
                    restartPolicyRules=[
                        {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [1]}}
                    ],
                )
            ]
        },
        {},
        (),
        ("nodeDeclaredFeatures",),
    ),
    "absurd": ({"containers": [container(requests={"memory": "8Ei"})]}, {"memory": 2**53 - 1}, (), ("resources",)),
}


def pod_object(name: str, spec: Json, *, nowhere: bool = True) -> Json:
    pinned = {"nodeSelector": {"no-such-label": "x"}} if nowhere else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 0, **pinned, **spec},
    }


def state(name: str, actual: Json, allocated: Json) -> Json:
    """What a kubelet tells of a container."""
    told = {"resources": {"requests": actual}, "allocatedResources": allocated}
    return {"name": name, "image": "any", "imageID": "", "ready": True, "restartCount": 0, **told}


class Objects:
    """Makes objects in the test's namespace and reads them back."""

    def __init__(self, cluster: DevCluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.decoder = RecordDecoder()

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        return self.cluster.kubectl("-n", self.namespace, *arguments, stdin=stdin).stdout

    def create(self, *objects: Json) -> None:
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        self.run("create", "--validate=strict", "-f", "-", stdin=text)

    def create_when_known(self, made: Json) -> None:
        """Create a pod of a PriorityClass that is new: admission looks for it in a cache."""
        deadline = time.monotonic() + 60
        while True:
            try:
                return self.create(made)
            except DevClusterError as error:
                if "no PriorityClass with name" not in str(error) or time.monotonic() > deadline:
                    raise

    def patch_status(self, what: str, status: Json) -> None:
        self.run("patch", what, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))

    def resize(self, name: str, resources: Json) -> None:
        patch = {"spec": {"containers": [{"name": "main", "resources": resources}]}}
        self.run("patch", "pod", name, "--subresource=resize", "-p", json.dumps(patch))

    def pod(self, name: str) -> PodRecord | None:
        return self.decoder.pod(self.run("get", "pod", name, "-o", "json").encode())

    def kind(self, name: str) -> PodKind:
        record = self.pod(name)
        assert record is not None
        return record.kind


@pytest.fixture
def objects(cluster: DevCluster, namespace: str) -> Objects:
    return Objects(cluster, namespace)


@pytest.fixture
def node(cluster: DevCluster, namespace: str) -> Iterator[str]:
    (name,) = cluster.add_nodes(
        1, cpu="32", memory="64Gi", prefix=namespace, resources={"nvidia.com/gpu": "8", "hugepages-2Mi": "1Gi"}
    )
    yield name
    cluster.kubectl("delete", "node", name, "--wait=false")


def test_pods_of_every_sort(objects: Objects) -> None:
    written = {name: pod_object(name, spec) for name, (spec, *_) in PODS.items()}
    objects.create(*written.values())
    listed = json.loads(objects.run("get", "pods", "-o", "json"))["items"]
    assert {item["metadata"]["name"] for item in listed} == set(PODS)
    for item in listed:
        name = item["metadata"]["name"]
        _, requests, ports, not_modelled = PODS[name]
        record = objects.decoder.pod(json.dumps(item).encode())
        assert record is not None
        assert (record.name, record.node, record.terminating) == (name, "", False)
        assert record.uid == item["metadata"]["uid"]
        assert record.created == item["metadata"]["creationTimestamp"]
        kind = record.kind
        assert (kind.namespace, kind.labels) == (objects.namespace, {"app": name})
        assert (name, kind.requests, kind.host_ports, kind.not_modelled) == (name, requests, ports, not_modelled)
        # A workload's template lacks the API server's defaults: it must come to the same.
        template = objects.decoder.pod(json.dumps(written[name]).encode())
        assert template is not None
        assert (name, template.kind.requests) == (name, kind.requests)
        assert (name, template.kind.host_ports) == (name, kind.host_ports)
        assert (name, template.kind.not_modelled) == (name, kind.not_modelled)


def test_rules(objects: Objects) -> None:
    term = {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "rules"}}, "namespaceSelector": {}}
    spec = {
        "containers": [container()],
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}, "podAffinity": {}},
        "tolerations": [{"key": "x", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}],
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "zone",
                "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": {"app": "rules"}},
            }
        ],
    }
    objects.create(pod_object("rules", spec))
    rules = json.loads(objects.kind("rules").rules)
    assert rules["nodeSelector"] == {"no-such-label": "x"}
    assert rules["affinity"] == {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    assert rules["topologySpreadConstraints"] == spec["topologySpreadConstraints"]
    assert {"effect": "NoExecute", "key": "x", "operator": "Exists"} in rules["tolerations"]
    assert not any("tolerationSeconds" in toleration for toleration in rules["tolerations"])


def test_overhead_and_priority_come_from_admission(objects: Objects, cluster: DevCluster) -> None:
    name = objects.namespace
    classes = [
        {
            "apiVersion": "node.k8s.io/v1",
            "kind": "RuntimeClass",
            "metadata": {"name": name},
            "handler": "x",
            "overhead": {"podFixed": {"cpu": "250m", "memory": "1Mi"}},
        },
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": 77,
        },
    ]
    objects.create(*classes)
    try:
        spec = {"containers": [container(requests={"cpu": "1"})], "runtimeClassName": name, "priorityClassName": name}
        objects.create_when_known(pod_object("over", spec))
        kind = objects.kind("over")
    finally:
        cluster.kubectl("delete", f"runtimeclass/{name}", f"priorityclass/{name}")
    assert (kind.requests, kind.priority) == ({"cpu": 1250, "memory": MI}, 77)


def test_sums_are_those_of_kubectl(objects: Objects, cluster: DevCluster, node: str) -> None:
    """``kubectl describe node`` counts with the same Go package as kube-scheduler (though not resizes)."""
    names = [name for name in PODS if name not in {"gated", "absurd", "resource-claim", "restart-all"}]
    spec_of = {name: PODS[name][0] | {"nodeName": node} for name in names}
    objects.create(*(pod_object(name, spec_of[name], nowhere=False) for name in names))
    total: dict[str, int] = {}
    for name in names:
        kind = objects.kind(name)
        for resource, units in kind.requests.items():
            total[resource] = total.get(resource, 0) + units
    described = cluster.kubectl("describe", "node", node).stdout.partition("Allocated resources:")[2]
    told = dict(re.findall(r"^  (\S+)\s+(\S+) ", described, re.MULTILINE))
    counted = RecordDecoder().node(
        json.dumps({"metadata": {"name": "x"}, "status": {"allocatable": {key: told[key] for key in total}}}).encode()
    )
    assert counted.allocatable == total


def test_a_resize_that_the_node_has_not_made_yet(objects: Objects, node: str) -> None:
    for name in ("limits", "pod-level"):
        objects.create(pod_object(name, PODS[name][0] | {"nodeName": node}, nowhere=False))
        objects.run("wait", f"pod/{name}", "--for=condition=Ready", "--timeout=30s")
    # Growing in one resource, shrinking in another.
    actual, allocated = {"cpu": "1", "memory": "3Gi"}, {"cpu": "2", "memory": "1Gi"}
    objects.patch_status("pod/limits", {"containerStatuses": [state("main", actual, allocated), state("b", {}, {})]})
    objects.resize("limits", {"requests": {"cpu": "4"}, "limits": {"cpu": "4"}})
    objects.patch_status(
        "pod/pod-level", {"resources": {"requests": {"cpu": "3", "memory": "5Mi"}}, "allocatedResources": {"cpu": "1"}}
    )
    assert objects.kind("limits").requests == {"cpu": 4002, "memory": 3 * GI}
    assert objects.kind("pod-level").requests == {"cpu": 3000, "memory": 5 * MI}


def test_a_resize_that_the_node_refuses_does_not_count(objects: Objects, node: str) -> None:
    objects.create(
        pod_object("grow", {"nodeName": node, "containers": [container(requests={"cpu": "1"})]}, nowhere=False)
    )
    objects.run("wait", "pod/grow", "--for=condition=Ready", "--timeout=30s")
    # The API server takes a resize only where the kubelet has told that it can do it.
    states = [state("main", {"cpu": "1"}, {"cpu": "1"})]
    objects.patch_status("pod/grow", {"containerStatuses": states})
    objects.resize("grow", {"requests": {"cpu": "30"}})
    assert objects.kind("grow").requests == {"cpu": 30000}
    condition = {"type": "PodResizePending", "status": "True", "reason": "Infeasible"}
    objects.patch_status("pod/grow", {"containerStatuses": states, "conditions": [condition]})
    assert objects.kind("grow").requests == {"cpu": 1000}


def test_static_terminating_and_finished_pods(objects: Objects, node: str) -> None:
    mirror = pod_object("mirror", {"nodeName": node, "containers": [container()]}, nowhere=False)
    mirror["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
    going = pod_object("going", {"containers": [container()]})
    going["metadata"]["finalizers"] = ["engineops.dev/test"]
    objects.create(mirror, going, pod_object("done", {"containers": [container()]}))
    try:
        # As the answer has it: a moment later the controller manager may have said that it has ended.
        path = f"/api/v1/namespaces/{objects.namespace}/pods/going"
        terminating = objects.decoder.pod(objects.run("delete", "--raw", path).encode())
        objects.patch_status("pod/done", {"phase": "Succeeded"})
        static = objects.pod("mirror")
        assert objects.pod("done") is None
    finally:
        objects.run("patch", "pod", "going", "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
    assert static is not None
    assert (static.node, static.kind.static) == (node, True)
    assert terminating is not None
    assert terminating.terminating


def test_pods_of_controllers_share_their_kind(objects: Objects) -> None:
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"nodeSelector": {"no-such-label": "x"}, "containers": [container(limits={"cpu": "1"})]},
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template},
    }
    objects.create(deployment)
    objects.run("wait", "deployment/web", "--for=jsonpath={.status.unavailableReplicas}=3", "--timeout=30s")
    listed = json.loads(objects.run("get", "pods", "-o", "json"))["items"]
    records = [objects.decoder.pod(json.dumps(item).encode()) for item in listed]
    assert len(records) == 3
    (kind,) = {id(record.kind): record.kind for record in records if record is not None}.values()
    assert (kind.owner_kind, kind.requests) == ("ReplicaSet", {"cpu": 1000})


def test_nodes(objects: Objects, cluster: DevCluster) -> None:
    name = objects.namespace
    labels = {f"example.com/label-{number}": "x" * 20 for number in range(2000)}
    taint = {"key": "k", "value": "v", "effect": "NoSchedule"}
    odd = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": {"unschedulable": True, "taints": [taint]},
    }
    # As the API server answers, before kwok has given it something to offer.
    created = objects.run("create", "-o", "json", "-f", "-", stdin=json.dumps(odd))
    try:
        offered = json.dumps({"status": {"allocatable": {"cpu": "1500m", "memory": "8Ei", "pods": "3"}}})
        told = objects.run("patch", "node", name, "--subresource=status", "--type=merge", "-p", offered, "-o", "json")
    finally:
        cluster.kubectl("delete", "node", name, "--wait=false")
    bare, known = RecordDecoder().node(created.encode()), RecordDecoder().node(told.encode())
    assert (bare.allocatable, bare.clamped, bare.unschedulable) == ({}, (), True)
    assert labels.items() <= bare.labels.items()
    assert TaintRecord("k", "v", "NoSchedule") in bare.taints
    assert known.allocatable.items() >= {"cpu": 1500, "memory": 2**53 - 1, "pods": 3}.items()
    assert known.clamped == ("memory",)


def test_a_dump_of_everything(objects: Objects, cluster: DevCluster, node: str) -> None:
    objects.create(
        pod_object("here", {"nodeName": node, "containers": [container(requests={"cpu": "1"})]}, nowhere=False)
    )
    printed = cluster.kubectl("get", "nodes,pods,namespaces", "-A", "-o", "json").stdout
    snapshot = read_dump(printed.encode(), "dump.json")
    assert node in {item.name for item in snapshot.nodes}
    (pod,) = [pod for pod in snapshot.pods if snapshot.pod_id(pod) == f"{objects.namespace}/here"]
    assert (pod.node, snapshot.kinds[pod.kind].requests) == (node, {"cpu": 1000})
    assert snapshot.namespaces[objects.namespace]["kubernetes.io/metadata.name"] == objects.namespace
