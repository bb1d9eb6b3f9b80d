"""The operator, with no more rights than manifests/ give it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from manifest_files import MANIFESTS, namespaced_overlay, rendered
from operator_process import OperatorProcess, StartOperator
from rights_in_effect import wait_for_rights

from engine_ops.devcluster import DevCluster
from engine_ops.devcluster.pytest_plugin import Kubectl

SAMPLE_REASONS = {
    "api-right-size": "Solved",
    "backup-node": "Solved",
    "checkout-right-size": "Solved",
    "gpu-batch": "Unplaceable",
    "invoice-run": "Solved",
    "nightly-invoices": "Solved",
    "report-run": "Unplaceable",
    "tasks-on-nodes": "Solved",
    "web-shop": "Solved",
    "web-shop-next-year": "Suspended",
    "web-shop-sale": "Solved",
    "web-shop-staging": "Solved",
    # The answers to the others are history enough to predict from.
    "worker-replicas-tonight": "Solved",
    # Unless it is told otherwise, the operator shows the cluster to its own namespace only.
    **dict.fromkeys(("fewer-nodes", "new-tasks", "pending-pods", "web-at-ten"), "Forbidden"),
}


def apply_samples(kubectl: Kubectl, namespace: str) -> None:
    for path in sorted((MANIFESTS / "samples").glob("*.yaml")):
        if not path.name.startswith("optimizerplugin"):  # cluster-scoped: they would outlive the test
            kubectl("apply", "-n", namespace, "-f", str(path))


def ready_of(request: dict[str, Any]) -> str | None:
    for condition in request.get("status", {}).get("conditions", ()):
        if condition["type"] == "Ready":
            return str(condition["reason"])
    return None


@pytest.mark.usefixtures("operator")
def test_every_sample_is_answered_with_the_rights_of_the_service_account(kubectl: Kubectl, namespace: str) -> None:
    apply_samples(kubectl, namespace)
    for name, reason in SAMPLE_REASONS.items():
        wanted = f'--for=jsonpath={{.status.conditions[?(@.type=="Ready")].reason}}={reason}'
        kubectl("wait", "-n", namespace, f"optreq/{name}", wanted, "--timeout=45s")
    found = json.loads(kubectl("get", "optreq", "-n", namespace, "-o", "json").stdout)["items"]
    assert {request["metadata"]["name"]: ready_of(request) for request in found} == SAMPLE_REASONS


def test_a_large_result_and_its_event_need_no_more_rights(
    operator: OperatorProcess, kubectl: Kubectl, namespace: str
) -> None:
    # Over 32 KiB, the result goes to a ConfigMap (create and patch); an infeasible request is worth an Event.
    items = [{"id": f"deployment-{number:04d}", "cpu": 1, "memory": "1Gi"} for number in range(1500)]
    items.append({"id": "too-big", "cpu": 64, "memory": "1Gi"})
    spec: dict[str, Any] = {
        "type": "resource",
        "searchSeconds": 0,
        "data": {"items": items, "nodeCapacity": {"cpu": 4, "memory": "8Gi"}},
    }
    request = {"apiVersion": "engineops.dev/v1alpha1", "kind": "OptimizationRequest", "metadata": {"name": "large"}}
    kubectl("apply", "--server-side", "-n", namespace, "-f", "-", stdin=json.dumps({**request, "spec": spec}))
    kubectl("wait", "-n", namespace, "optreq/large", "--for=condition=Stalled", "--timeout=30s")
    status = json.loads(kubectl("get", "-n", namespace, "optreq/large", "-o", "json").stdout)["status"]
    kubectl("get", "-n", namespace, f"configmap/{status['resultRef']['name']}")
    selected = "--field-selector=regarding.name=large"
    kubectl("wait", "-n", namespace, "events.events.k8s.io", selected, "--for=create", "--timeout=55s")
    # The small answer that follows makes the ConfigMap stale (delete).
    spec["data"]["items"] = items[:2]
    kubectl("apply", "--server-side", "-n", namespace, "-f", "-", stdin=json.dumps({**request, "spec": spec}))
    kubectl("wait", "-n", namespace, "optreq/large", "--for=condition=Ready", "--timeout=30s")
    kubectl("wait", "-n", namespace, f"configmap/{status['resultRef']['name']}", "--for=delete", "--timeout=55s")
    assert "orbidden" not in operator.stderr


def test_a_request_deletes_itself_with_the_rights_of_the_service_account(
    operator: OperatorProcess, kubectl: Kubectl, namespace: str
) -> None:
    request = yaml.safe_load((MANIFESTS / "samples" / "ttl-after-finished.yaml").read_text())
    request["spec"]["ttlSecondsAfterFinished"] = 0
    kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(request))
    kubectl("wait", "-n", namespace, "optreq/backup-node", "--for=delete", "--timeout=30s")
    assert operator.stop() == 0


@pytest.mark.parametrize(
    ("verb", "resource", "named"),
    [
        ("watch", "optimizationrequests", "watch optimizationrequests.engineops.dev"),
        ("patch", "optimizationrequests/status", "patch optimizationrequests/status.engineops.dev"),
        ("get", "configmaps", "get configmaps"),
        ("create", "events", "create events.events.k8s.io"),
        ("update", "leases", "update leases.coordination.k8s.io"),
    ],
)
def test_the_operator_names_the_right_that_it_lacks(
    cluster: DevCluster,
    kubectl: Kubectl,
    namespace: str,
    start_operator: StartOperator,
    tmp_path: Path,
    verb: str,
    resource: str,
    named: str,
) -> None:
    objects = rendered(kubectl, namespaced_overlay(tmp_path, namespace))
    for role in (document for document in objects if document["kind"] == "Role"):
        for rule in role["rules"]:
            if resource in rule["resources"]:
                rule["verbs"].remove(verb)
        role["rules"] = [rule for rule in role["rules"] if rule["verbs"]]
    rights = [document for document in objects if document["kind"] in {"Role", "RoleBinding", "ServiceAccount"}]
    kubectl("apply", "-f", "-", stdin="---\n".join(json.dumps(document) + "\n" for document in rights))
    wait_for_rights(cluster, namespace, "engine-ops")  # otherwise it would name others, too
    kubeconfig = cluster.service_account_kubeconfig(namespace, "engine-ops", tmp_path / "kubeconfig")
    operator = start_operator(kubeconfig=kubeconfig, wait=False)
    assert operator.wait_for_exit() == 1
    (error,) = (line for line in operator.stderr.splitlines() if line.startswith("error: "))
    assert f"the operator lacks rights in namespace {namespace}: {named}." in error
