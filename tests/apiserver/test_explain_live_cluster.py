"""`engine-ops solve` and `engine-ops explain` about a real API server's nodes and pods, with the user's own rights.

The cluster is everybody's: each test looks at nodes and pods of its own only, by labels and namespace. Its pending pods
name a scheduler that is not there, so that they stay pending.
"""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine_ops.devcluster import DevCluster

SCRIPTS = Path(sysconfig.get_path("scripts"))


class Own:
    """What belongs to one test, and the program."""

    def __init__(self, cluster: DevCluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.nodes = cluster.add_nodes(3, cpu="4", labels={"test": namespace}, prefix=namespace)

    def pod(self, name: str, *, cpu: str = "1", node: str | None = None) -> None:
        container = {"name": "main", "image": "pause", "resources": {"requests": {"cpu": cpu}}}
        spec: dict[str, Any] = {"containers": [container], "schedulerName": "nobody"}
        if node is not None:
            spec["nodeName"] = node
        self.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})

    def apply(self, body: dict[str, Any]) -> None:
        self.cluster.kubectl("apply", "--server-side", "-n", self.namespace, "-f", "-", stdin=json.dumps(body))

    def delete(self, *what: str) -> None:
        self.cluster.kubectl("delete", "-n", self.namespace, "--now", "--wait=true", *what)

    def request(self, name: str, kind: str, **source: Any) -> dict[str, Any]:
        nodes = {"labelSelector": {"matchLabels": {"test": self.namespace}}}
        source = source or {"pods": {"namespaces": [self.namespace]}}
        return {
            "apiVersion": "engineops.dev/v1alpha1",
            "kind": "OptimizationRequest",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"type": kind, "dataFrom": {"cluster": {"nodes": nodes, **source}}, "searchSeconds": 0},
        }

    def run(
        self, *arguments: str | Path, stdin: dict[str, Any] | None = None, kubeconfig: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "KUBECONFIG": str(kubeconfig or self.cluster.kubeconfig)}
        text = None if stdin is None else json.dumps(stdin)
        command = [str(SCRIPTS / "engine-ops"), *map(str, arguments)]
        return subprocess.run(
            command, input=text, env=environment, capture_output=True, text=True, check=False, timeout=120
        )

    def solve(self, body: dict[str, Any], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return self.run("solve", "-f", "-", *(arguments or ("--kubeconfig", self.cluster.kubeconfig)), stdin=body)

    def answer(self, body: dict[str, Any]) -> None:
        """Apply a request and write its status as the operator would."""
        self.apply(body)
        solved = self.solve(body, "--kubeconfig", self.cluster.kubeconfig, "-o", "json")
        assert solved.stdout, solved.stderr
        status = json.dumps({"status": json.loads(solved.stdout)["status"]})
        name = body["metadata"]["name"]
        self.cluster.kubectl(
            *("patch", "optreq", name, "-n", self.namespace, "--subresource=status", "--type=merge", "-p", status)
        )

    def explain(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return self.run("explain", "-n", self.namespace, *arguments)


@pytest.fixture
def own(cluster: DevCluster, namespace: str) -> Iterator[Own]:
    objects = Own(cluster, namespace)
    yield objects
    with cluster.client() as client:
        for name in objects.nodes:
            client.request("DELETE", f"/api/v1/nodes/{name}")


def bars(text: str) -> list[str]:
    return [line.split()[0] for line in text.splitlines() if line.endswith(" %")]


def test_a_live_cluster_is_answered_like_its_dump(own: Own, tmp_path: Path) -> None:
    first, second, _ = own.nodes
    own.pod("web-1", node=first)
    own.pod("web-2", node=second)
    body = own.request("fewer", "resource")
    live = own.solve(body)
    assert live.returncode == 0, live.stderr
    assert "fewer: 3 nodes, 2 in use now, 1 after repacking" in live.stdout
    assert len(bars(live.stdout)) == 3
    dump = tmp_path / "cluster.json"
    dump.write_text(own.cluster.kubectl("get", "nodes,pods,namespaces", "-A", "-o", "json").stdout)
    assert own.solve(body, "--dump", dump).stdout == live.stdout


def test_a_context_is_chosen(own: Own) -> None:
    own.pod("web-1")
    config = json.loads(own.cluster.kubectl("config", "view", "-o", "json").stdout)
    context = config["contexts"][0]["name"]
    body = own.request("pending", "scheduling")
    assert own.solve(body, "--context", context).returncode == 0
    wrong = own.solve(body, "--context", "nowhere")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "nowhere" in wrong.stderr


def test_a_workload_is_read(own: Own) -> None:
    pod = {"containers": [{"name": "main", "image": "pause", "resources": {"requests": {"cpu": "3"}}}]}
    labels = {"app": "shop"}
    template = {"metadata": {"labels": labels}, "spec": {**pod, "schedulerName": "nobody"}}
    own.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "shop"},
            "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": template},
        }
    )
    workload = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop", "replicas": 4}
    done = own.solve(own.request("grow", "scheduling", workload=workload))
    assert done.returncode == 1  # a node holds one of them
    assert "grow: 3 of 4 placed" in done.stdout
    missing = own.solve(own.request("grow", "scheduling", workload={**workload, "name": "other"}))
    assert missing.returncode == 1
    assert "DataNotFound" in missing.stdout
    assert f"Deployment {own.namespace}/other is not there" in missing.stdout


def test_without_the_right_to_list_nodes(own: Own) -> None:
    kubeconfig = own.cluster.service_account_kubeconfig(own.namespace, "default")
    done = own.run("solve", "-f", "-", "--kubeconfig", kubeconfig, stdin=own.request("fewer", "resource"))
    assert done.returncode == 1
    assert "Forbidden" in done.stdout
    assert "you may not read nodes (nodes is forbidden: " in done.stdout
    assert "Traceback" not in done.stderr


def test_why_a_pod_fits_nowhere_and_what_is_on_a_node(own: Own) -> None:
    first = own.nodes[0]
    own.pod("db-1", node=first, cpu="2")
    own.pod("web-1")
    own.pod("huge-1", cpu="64")
    own.answer(own.request("pending", "scheduling"))

    whole = own.explain("pending")
    assert whole.returncode == 0, whole.stderr
    assert "The cluster is as it is now, not as it was when the answer was made." in whole.stdout
    assert len(bars(whole.stdout)) == 3

    pod = own.explain("pending", "--pod", f"{own.namespace}/huge-1")
    assert pod.returncode == 0, pod.stderr
    assert "Insufficient cpu" in pod.stdout
    assert bars(pod.stdout) == []
    node = own.explain("pending", "--node", first)
    assert node.returncode == 0, node.stderr
    assert "db-1" in node.stdout
    typo = own.explain("pending", "--pod", f"{own.namespace}/hug-1")
    assert typo.returncode == 2
    assert f"did you mean {own.namespace}/huge-1" in typo.stderr


def test_the_cluster_has_moved_on(own: Own) -> None:
    own.pod("web-1")
    own.pod("web-2")
    own.answer(own.request("pending", "scheduling"))
    own.delete("pod", "web-2")
    own.pod("new-1")
    done = own.explain("pending", "--no-picture")
    assert done.returncode == 0, done.stderr
    assert f"{own.namespace}/web-1" in done.stdout
    assert "Since the answer: 1 is gone and left out; 1 came since and is left out." in done.stdout

    body = own.request("pending", "scheduling")
    solved = json.loads(own.solve(body, "--kubeconfig", own.cluster.kubeconfig, "-o", "json").stdout)
    used = {item["nodeId"] for item in solved["status"]["result"]["placements"]}
    own.answer(body)
    with own.cluster.client() as client:
        for name in used:
            client.request("DELETE", f"/api/v1/nodes/{name}")
    own.nodes = [name for name in own.nodes if name not in used]
    gone = own.explain("pending")
    assert gone.returncode == 1
    assert gone.stdout.startswith("pending: the answer does not fit this cluster: node ")
