"""Requests about the live cluster, answered by the operator with the rights of its ServiceAccount.

The cluster is everybody's: each test looks at nodes and pods of its own only, by labels and namespace. Its pending pods
name a scheduler that is not there, so that they stay pending.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from operator_process import OperatorProcess, StartOperator
from request_objects import RequestObjects, answered, condition
from rights_in_effect import wait_for_loss
from waiting import wait_until

from engine_ops.devcluster import DevCluster

BINDING = Path(__file__).parents[2] / "manifests" / "base" / "rbac_cluster_data.yaml"
ZONE = "topology.kubernetes.io/zone"


class Live:
    """Nodes, pods and questions of one test."""

    def __init__(self, cluster: DevCluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.names: list[str] = []

    def add_nodes(self, count: int) -> list[str]:
        # Half a core more than the tests need: a Deployment of the session may put a small pod there.
        added = self.cluster.add_nodes(count, cpu="4500m", labels={"test": self.namespace}, prefix=self.namespace)
        self.names += added
        return added

    def wait_cordoned(self, node: str) -> None:
        """Wait for the taint of a node that is cordoned: the controller manager gives it some time later."""
        taints = ("get", "node", node, "-o", "jsonpath={.spec.taints[*].key}")
        wait_until(
            lambda: self.cluster.kubectl(*taints).stdout,
            lambda keys: "node.kubernetes.io/unschedulable" in keys,
            f"{node} has the taint",
        )

    def pod(self, name: str, *, cpu: str = "1", node: str | None = None, **changes: Any) -> None:
        container = {"name": "main", "image": "pause", "resources": {"requests": {"cpu": cpu, "memory": "1Gi"}}}
        spec: dict[str, Any] = {"containers": [container], "schedulerName": "nobody", **changes}
        if node is not None:
            spec["nodeName"] = node
        metadata = {"name": name, "namespace": self.namespace, "labels": {"app": name.split("-", maxsplit=1)[0]}}
        with self.cluster.client() as client:
            body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
            client.request("POST", f"/api/v1/namespaces/{self.namespace}/pods", body)

    def spec(
        self, type_: str = "scheduling", *, source: dict[str, Any] | None = None, **changes: Any
    ) -> dict[str, Any]:
        nodes = {"labelSelector": {"matchLabels": {"test": self.namespace}}}
        pods = {"pods": {"namespaces": [self.namespace]}} if source is None else source
        return {"type": type_, "dataFrom": {"cluster": {"nodes": nodes, **pods}}, "searchSeconds": 0, **changes}


@pytest.fixture
def live(cluster: DevCluster, namespace: str) -> Iterator[Live]:
    objects = Live(cluster, namespace)
    yield objects
    with cluster.client() as client:
        for name in objects.names:
            client.request("DELETE", f"/api/v1/nodes/{name}")


@pytest.fixture
def requests(cluster: DevCluster, namespace: str) -> RequestObjects:
    return RequestObjects(cluster, namespace)


@pytest.fixture
def start(start_operator: StartOperator, namespace: str) -> Iterator[Any]:
    """Start an operator that shows the cluster to the test's namespace."""

    def inner() -> OperatorProcess:
        return start_operator(f"--cluster-data-namespaces=kubernetes.io/metadata.name={namespace}")

    return inner


def placements(found: dict[str, Any]) -> dict[str, Any]:
    return {item["taskId"]: item.get("nodeId", item.get("reason")) for item in found["status"]["result"]["placements"]}


def test_pending_pods_are_placed_beside_those_that_run(start, live: Live, requests: RequestObjects) -> None:
    first, second = live.add_nodes(2)
    live.pod("web-0", cpu="3", node=first)
    live.pod("web-1", cpu="2")
    live.pod("web-2", cpu="2")
    live.pod("huge-0", cpu="64")
    start()
    requests.apply("where", live.spec())
    found = requests.wait_reason("where", "Unplaceable")
    placed = placements(found)
    own = live.namespace
    assert placed[f"{own}/web-1"] == placed[f"{own}/web-2"] == second
    assert "2 Insufficient cpu" in placed[f"{own}/huge-0"]
    assert "huge-0" in condition(found, "Ready")["message"]
    assert found["status"]["inputDigest"]


def test_given_tasks_and_a_workload_are_placed_on_live_nodes(start, live: Live, requests: RequestObjects) -> None:
    first, second = live.add_nodes(2)
    live.pod("db-0", cpu="3500m", node=first)
    template = {
        "metadata": {"labels": {"app": "shop"}},
        "spec": {
            "schedulerName": "nobody",
            "containers": [{"name": "m", "image": "pause", "resources": {"requests": {"cpu": "1500m"}}}],
        },
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "shop"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "shop"}}, "template": template},
    }
    requests.kubectl("apply", "-f", "-", stdin=json.dumps(deployment))
    start()
    task = {"id": "import", "cpuRequired": 1, "memoryRequired": "1Gi"}
    requests.apply("given", live.spec(data={"task": task}, source={}))
    assert requests.wait_reason("given", "Solved")["status"]["result"]["nodeId"] == second

    workload = {"workload": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop", "replicas": 5}}
    requests.apply("scaled", live.spec(source=workload))
    result = requests.wait_reason("scaled", "Unplaceable")["status"]["result"]
    assert result["placedCount"] in (2, 3)
    assert result["placedCount"] + result["unplacedCount"] == 5

    workload["workload"]["name"] = "absent"
    requests.apply("absent", live.spec(source=workload))
    assert "Deployment" in condition(requests.wait_reason("absent", "DataNotFound"), "Ready")["message"]


def test_repacking_says_which_nodes_would_be_empty(start, live: Live, requests: RequestObjects) -> None:
    nodes = live.add_nodes(4)
    for number, node in enumerate(nodes):
        live.pod(f"web-{number}", node=node)
    start()
    requests.apply("fewer", live.spec("resource", searchSeconds=1))
    result = requests.wait_reason("fewer", "Solved")["status"]["result"]
    assert (result["nodeCount"], result["currentNodeCount"], result["lowerBound"], result["gap"]) == (1, 4, 1, 0)
    assert len(result["emptyNodes"]) == 3
    (node,) = (node for node in result["nodes"] if node["items"])
    assert node["id"] in nodes
    assert {item["id"] for item in node["items"]} >= {f"{live.namespace}/web-{number}" for number in range(4)}


def test_a_standing_question_is_solved_again_only_when_something_changed(
    start, live: Live, requests: RequestObjects
) -> None:
    (node,) = live.add_nodes(1)
    live.cluster.kubectl("cordon", node)  # nobody else's pod may come while we look
    live.wait_cordoned(node)
    live.pod("web-0", node=node)
    operator = start()
    requests.apply("stand", live.spec("resource", intervalSeconds=10))
    requests.wait_reason("stand", "Solved")
    operator.kill9()
    start()  # what was seen is in the status: a restart solves nothing again either
    deadline = time.monotonic() + 14.0
    while time.monotonic() < deadline:
        assert requests.get("stand")["status"]["run"] == 1
        time.sleep(0.5)
    live.pod("web-1", node=node)
    found = requests.wait("stand", lambda found: found["status"]["run"] >= 2)
    ids = {item["id"] for item in found["status"]["result"]["nodes"][0]["items"]}
    assert {f"{live.namespace}/web-0", f"{live.namespace}/web-1"} <= ids


def test_a_namespace_that_may_not_see_the_cluster_waits_until_it_may(
    start_operator: StartOperator, live: Live, requests: RequestObjects, cluster: DevCluster
) -> None:
    live.add_nodes(1)
    start_operator("--cluster-data-namespaces=cluster-data=allowed")
    requests.apply("where", live.spec())
    found = requests.wait_reason("where", "Forbidden")
    assert "--cluster-data-namespaces" in condition(found, "Reconciling")["message"]
    assert "result" not in found["status"]
    cluster.kubectl("label", "namespace", live.namespace, "cluster-data=allowed")
    requests.wait_reason("where", "Solved")


def test_only_the_operators_own_namespace_sees_the_cluster_unless_it_is_told_more(
    start_operator: StartOperator, live: Live, requests: RequestObjects
) -> None:
    live.add_nodes(1)
    start_operator()
    requests.apply("where", live.spec())
    message = condition(requests.wait_reason("where", "Forbidden"), "Ready")["message"]
    assert f"namespace {live.namespace} may not see the cluster" in message


def test_a_right_that_is_taken_away_is_named_and_does_its_work_again_when_it_is_back(
    start, live: Live, requests: RequestObjects, cluster: DevCluster
) -> None:
    live.add_nodes(1)
    start()
    requests.apply("before", live.spec())
    requests.wait_reason("before", "Solved")
    with without_the_right(cluster):
        requests.apply("during", live.spec())
        found = requests.wait_reason("during", "Forbidden")
        assert "forbidden" in condition(found, "Ready")["message"] or "may not" in condition(found, "Ready")["message"]
    requests.wait_reason("during", "Solved", seconds=60)


def test_a_selector_that_matches_nothing_and_one_that_cannot_be_read(
    start, live: Live, requests: RequestObjects
) -> None:
    live.add_nodes(1)
    live.pod("web-0")
    start()
    nobody = {"pods": {"namespaces": [live.namespace], "labelSelector": {"matchLabels": {"app": "nobody"}}}}
    requests.apply("nothing", live.spec(source=nobody))
    assert requests.wait_reason("nothing", "Solved")["status"]["result"]["placements"] == []

    wrong = {"pods": {"fieldSelector": "spec.colour=red"}}
    requests.apply("wrong", live.spec(source=wrong))
    message = condition(requests.wait_reason("wrong", "InvalidData"), "Stalled")["message"]
    assert "spec.dataFrom.cluster.pods.fieldSelector" in message

    requests.apply(
        "requirement",
        live.spec(source={"pods": {"labelSelector": {"matchExpressions": [{"key": "app", "operator": "In"}]}}}),
    )
    found = requests.wait("requirement", answered)
    assert "spec.dataFrom.cluster.pods.labelSelector.matchExpressions[0]" in condition(found, "Stalled")["message"]


def test_a_selector_of_namespaces_that_cannot_be_read_ends_the_operator(start_operator: StartOperator) -> None:
    operator = start_operator("--cluster-data-namespaces=a in (", wait=False)
    assert operator.wait_for_exit() == 1
    assert "--cluster-data-namespaces" in operator.stderr


@contextlib.contextmanager
def without_the_right(cluster: DevCluster) -> Iterator[None]:
    cluster.kubectl("delete", "clusterrolebinding", "engine-ops-cluster-data")
    try:
        wait_for_loss(cluster, "engine-ops-system", "engine-ops", verb="list", resource="nodes")
        yield
    finally:
        cluster.kubectl("apply", "--server-side", "-f", str(BINDING))
