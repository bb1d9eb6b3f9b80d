"""`engine-ops explain NAME` reads requests, their data and their results from a real API server."""

from __future__ import annotations

import base64
import gzip
import json
import os
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from engine_ops.devcluster import DevCluster

SCRIPTS = Path(sysconfig.get_path("scripts"))
DATA = {
    "items": [{"id": "web", "cpu": "500m", "memory": "1Gi", "count": 6}],
    "nodeCapacity": {"cpu": 2, "memory": "8Gi"},
}


def run(cluster: DevCluster, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
    command = [str(SCRIPTS / "engine-ops"), *arguments]
    return subprocess.run(
        command, input=stdin, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def explain(cluster: DevCluster, namespace: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(cluster, "explain", "-n", namespace, *arguments)


def request(name: str, namespace: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "engineops.dev/v1alpha1",
        "kind": "OptimizationRequest",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"type": "resource", "searchSeconds": 0, **spec},
    }


def config_map(name: str, namespace: str, **content: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, **content}


def apply(cluster: DevCluster, *objects: dict[str, Any]) -> None:
    whole = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(whole))


def answer(cluster: DevCluster, *objects: dict[str, Any], **changes: Any) -> None:
    """Apply objects and write the first one's status as the operator would."""
    apply(cluster, *objects)
    solved = run(cluster, "solve", "-f", "-", "-o", "json", stdin=json.dumps({"kind": "List", "items": list(objects)}))
    status = json.loads(solved.stdout)["status"] | changes
    metadata = objects[0]["metadata"]
    cluster.kubectl(
        *("patch", "optreq", metadata["name"], "-n", metadata["namespace"]),
        *("--subresource=status", "--type=merge", "-p", json.dumps({"status": status})),
    )


@pytest.mark.parametrize("name", ["pack", "optreq/pack", "optimizationrequests.engineops.dev/pack"])
def test_an_answer(cluster: DevCluster, namespace: str, name: str) -> None:
    answer(cluster, request("pack", namespace, data=DATA))
    done = explain(cluster, namespace, name)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("pack: ")
    assert "\nweb " in done.stdout


def test_data_and_result_in_config_maps(cluster: DevCluster, namespace: str) -> None:
    data = config_map("data", namespace, data={"k": json.dumps(DATA)})
    asked = request("pack", namespace, dataFrom={"configMapKeyRef": {"name": "data", "key": "k"}})
    answer(cluster, asked, data)
    inline = explain(cluster, namespace, "pack")
    assert inline.returncode == 0

    whole = json.loads(cluster.kubectl("get", "optreq", "pack", "-n", namespace, "-o", "json").stdout)
    compressed = base64.b64encode(gzip.compress(json.dumps(whole["status"]["result"]).encode())).decode()
    ref = {"name": "result", "key": "result.json.gz", "compression": "gzip"}
    answer(cluster, asked, data, result={"nodeCount": 2}, resultRef=ref)
    missing = explain(cluster, namespace, "pack")
    assert missing.returncode == 1
    assert 'configmaps "result" not found' in missing.stdout

    apply(cluster, config_map("result", namespace, binaryData={"result.json.gz": compressed}))
    stored = explain(cluster, namespace, "pack")
    assert (stored.returncode, stored.stderr) == (0, "")
    assert stored.stdout == inline.stdout


def test_requests_without_an_answer(cluster: DevCluster, namespace: str) -> None:
    answer(cluster, request("waits", namespace, type="ml-driven", data={"x": 1}))
    apply(cluster, request("unseen", namespace, data=DATA))
    done = explain(cluster, namespace, "waits", "unseen")
    assert done.returncode == 1
    assert "waits: no answer to explain" in done.stdout
    assert "NoPlugin" in done.stdout
    assert "unseen: no answer, and no word from the operator yet" in done.stdout


def test_an_answer_to_an_older_spec_is_not_explained(cluster: DevCluster, namespace: str) -> None:
    answer(cluster, request("pack", namespace, data=DATA))
    apply(cluster, request("pack", namespace, data=DATA, searchSeconds=1))
    done = explain(cluster, namespace, "pack")
    assert done.returncode == 1
    assert "pack: no answer to explain" in done.stdout


def test_a_request_that_is_not_there(cluster: DevCluster, namespace: str) -> None:
    done = explain(cluster, namespace, "nobody")
    assert done.returncode == 1
    assert done.stderr == 'Error: optimizationrequests.engineops.dev "nobody" not found\n'
    assert done.stdout == ""


def test_kubectl_runs_it_as_a_plugin(cluster: DevCluster, namespace: str) -> None:
    answer(cluster, request("pack", namespace, data=DATA))
    kubectl = cluster.kubectl("version", "--client").args[0]
    environment = {
        **os.environ,
        "KUBECONFIG": str(cluster.kubeconfig),
        "PATH": f"{SCRIPTS}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    command = [kubectl, "engine-ops", "explain", "optreq/pack", "-n", namespace]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == explain(cluster, namespace, "pack").stdout
