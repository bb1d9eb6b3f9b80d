"""manifests/overlays/namespaced: an operator of one namespace, and what is left of the cluster in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from manifest_files import MANIFESTS, namespaced_overlay, rendered
from operator_process import StartOperator
from plugin_objects import SEARCH_PATH, PluginObjects, by
from rest_calls import ask_api
from rights_in_effect import wait_for_loss, wait_for_rights
from waiting import wait_until

from engine_ops.devcluster import DevCluster
from engine_ops.devcluster.pytest_plugin import Kubectl

OF_THE_CLUSTER = "engineops.dev/scope=cluster"
GOOD = "bad_plugins:Good"


@pytest.fixture
def overlay(kubectl: Kubectl, namespace: str, tmp_path: Path) -> Iterator[Path]:
    """The overlay, applied; what it has of the cluster goes with the test."""
    (tmp_path / "overlay").mkdir()
    directory = namespaced_overlay(tmp_path / "overlay", namespace)
    kubectl("apply", "--server-side", "--validate=strict", "-k", str(directory))
    yield directory
    of_the_cluster(kubectl, directory, "delete", "--ignore-not-found", "--wait=false")


def of_the_cluster(kubectl: Kubectl, directory: Path, command: str, *arguments: str) -> None:
    objects = [document for document in rendered(kubectl, directory) if "namespace" not in document["metadata"]]
    kubectl(command, *arguments, "-f", "-", stdin="---\n".join(json.dumps(document) + "\n" for document in objects))


@pytest.fixture
def kubeconfig(cluster: DevCluster, overlay: Path, namespace: str, tmp_path: Path) -> Path:
    """The rights of the overlay's ServiceAccount."""
    assert overlay.is_dir()
    wait_for_rights(cluster, namespace, "engine-ops")
    return cluster.service_account_kubeconfig(namespace, "engine-ops", tmp_path / "kubeconfig")


@pytest.fixture
def plugins(cluster: DevCluster, namespace: str) -> Iterator[PluginObjects]:
    with cluster.client() as client:
        made = PluginObjects(cluster, namespace, client)
        yield made
        made.clear()


def test_three_objects_are_the_clusters_and_they_are_named(kubectl: Kubectl, namespace: str, tmp_path: Path) -> None:
    objects = rendered(kubectl, namespaced_overlay(tmp_path, namespace))
    own = [document for document in objects if "namespace" in document["metadata"]]
    assert {document["metadata"]["namespace"] for document in own} == {namespace}
    kinds = {"Deployment", "Role", "RoleBinding", "ServiceAccount", "NetworkPolicy", "PodDisruptionBudget"}
    assert {document["kind"] for document in own} == kinds
    of_cluster = {
        (document["kind"], document["metadata"]["name"]): document
        for document in objects
        if "namespace" not in document["metadata"]
    }
    plugins, delegator = (
        f"engine-ops-plugins-namespaced-{namespace}",
        f"engine-ops-auth-delegator-namespaced-{namespace}",
    )
    assert set(of_cluster) == {
        ("ClusterRole", plugins),
        ("ClusterRoleBinding", plugins),
        ("ClusterRoleBinding", delegator),
    }
    overlay = (MANIFESTS / "overlays" / "namespaced" / "kustomization.yaml").read_text()
    docs = (MANIFESTS.parent / "docs" / "install.md").read_text()
    key, _, value = OF_THE_CLUSTER.partition("=")
    for (_, name), document in of_cluster.items():
        assert document["metadata"]["labels"][key] == value
        for text in (overlay, docs):
            assert name.removesuffix(f"-{namespace}") in text
    assert all(key not in document["metadata"].get("labels", {}) for document in own)
    # Both bindings are for the operator of this namespace, and the role only reads.
    subject = {"kind": "ServiceAccount", "name": "engine-ops", "namespace": namespace}
    assert of_cluster["ClusterRoleBinding", plugins]["subjects"] == [subject]
    assert of_cluster["ClusterRoleBinding", delegator]["subjects"] == [subject]
    assert of_cluster["ClusterRoleBinding", plugins]["roleRef"]["name"] == plugins
    assert of_cluster["ClusterRoleBinding", delegator]["roleRef"]["name"] == "system:auth-delegator"
    rules = of_cluster["ClusterRole", plugins]["rules"]
    assert {verb for rule in rules for verb in rule["verbs"]} == {"get", "list", "watch"}
    assert {resource for rule in rules for resource in rule["resources"]} == {
        "optimizerplugins",
        "optimizerplugins/status",
    }


@pytest.fixture
def administrator(cluster: DevCluster, kubectl: Kubectl, namespace: str, tmp_path: Path) -> Path:
    """Somebody who administers the namespace and nothing else."""
    kubectl("create", "serviceaccount", "boss", "-n", namespace)
    bound = f"--serviceaccount={namespace}:boss"
    kubectl("create", "rolebinding", "boss", "-n", namespace, "--clusterrole=admin", bound)
    # `admin` grants no more than it has itself, which is less than the operator needs.
    kubectl("create", "role", "boss", "-n", namespace, "--verb=bind,escalate", "--resource=roles")
    kubectl("create", "rolebinding", "boss-roles", "-n", namespace, "--role=boss", bound)
    wait_for_rights(cluster, namespace, "boss")
    return cluster.service_account_kubeconfig(namespace, "boss", tmp_path / "boss.kubeconfig")


@pytest.mark.usefixtures("installed")
def test_whoever_administers_the_namespace_updates_the_rest(
    cluster: DevCluster, administrator: Path, overlay: Path
) -> None:
    arguments = ("apply", "--server-side", "--force-conflicts", "-k", str(overlay))
    whole = cluster.kubectl(*arguments, kubeconfig=administrator, check=False)
    assert whole.returncode != 0
    assert "clusterroles.rbac.authorization.k8s.io" in whole.stderr
    rest = cluster.kubectl(*arguments, "-l", "engineops.dev/scope!=cluster", kubeconfig=administrator)
    assert "deployment.apps/engine-ops serverside-applied" in rest.stdout
    assert "clusterrole" not in rest.stdout


def test_it_gives_enough_for_its_namespace(
    kubeconfig: Path, kubectl: Kubectl, namespace: str, start_operator: StartOperator, overlay: Path
) -> None:
    # Without --namespace it asks for rights in all namespaces, which it does not have.
    everywhere = start_operator(kubeconfig=kubeconfig, namespaces=(), wait=False)
    assert everywhere.wait_for_exit() == 1
    assert "lacks rights in all namespaces" in everywhere.stderr
    (deployment,) = (found for found in rendered(kubectl, overlay) if found["kind"] == "Deployment")
    arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "--namespace=$(POD_NAMESPACE)" in arguments
    (off,) = (argument for argument in arguments if argument.startswith("--cluster-data-namespaces="))
    operator = start_operator("--history-flush-seconds=0.2", off, kubeconfig=kubeconfig)
    kubectl("apply", "-n", namespace, "-f", str(MANIFESTS / "samples" / "resource-from-config-map.yaml"))
    kubectl("apply", "-n", namespace, "-f", str(MANIFESTS / "samples" / "workload-outcome.yaml"))
    for name in ("web-shop-staging", "nightly-invoices"):
        kubectl("wait", "-n", namespace, f"optreq/{name}", "--for=condition=Ready", "--timeout=30s")
    for name in ("head", "open"):
        kubectl("wait", "-n", namespace, f"configmap/engine-ops-history-{name}", "--for=create", "--timeout=55s")
    shown = ("get", "-n", namespace, "configmap/engine-ops-status", "--ignore-not-found", "-o")
    wait_until(
        lambda: kubectl(*shown, "jsonpath={.data.conditions}").stdout,
        lambda own: [condition["status"] for condition in yaml.safe_load(own) or ()] == ["True"] * 4,
        "the operator says that all is well",
    )
    # Questions about the cluster are off: its nodes are not one namespace's business.
    kubectl("apply", "-n", namespace, "-f", str(MANIFESTS / "samples" / "cluster-repacking.yaml"))
    reason = '--for=jsonpath={.status.conditions[?(@.type=="Ready")].reason}=Forbidden'
    kubectl("wait", "-n", namespace, "optreq/fewer-nodes", reason, "--timeout=30s")
    assert "orbidden" not in operator.stderr  # it does not go on trying


def test_plugins_are_asked_and_told_of_by_the_api_and_their_status_is_left_to_another(
    kubeconfig: Path, kubectl: Kubectl, namespace: str, start_operator: StartOperator, plugins: PluginObjects
) -> None:
    plugins.apply("read-only", GOOD)
    plugins.apply("second", GOOD, enabled=False)
    operator = start_operator(
        "--api=http://127.0.0.1:0", kubeconfig=kubeconfig, environment={"PYTHONPATH": SEARCH_PATH}
    )
    waiting = plugins.requests.make(plugin="read-only")
    assert by(plugins.requests.final(waiting))["plugin"] == "read-only"
    plugins.patch("read-only", enabled=False)
    plugins.patch("second", enabled=True)
    assert by(plugins.requests.final(plugins.requests.make(plugin="second")))["plugin"] == "second"
    warned = [line for line in operator.stderr.splitlines() if "statuses are not written here" in line]
    assert len(warned) == 1, operator.stderr
    assert "patch optimizerplugins/status.engineops.dev" in warned[0]
    for name in ("read-only", "second"):
        assert set(plugins.get(name).get("status", {})) <= {"observedGeneration", "conditions"}
        assert plugins.get(name).get("status", {}).get("observedGeneration", -1) == -1
    token = kubectl("create", "token", "default", "-n", namespace).stdout.strip()
    assert ask_api(operator, "GET", "/api/v1/plugins", token)[0] == 403
    bound = f"--serviceaccount={namespace}:default"
    kubectl("create", "clusterrolebinding", namespace, "--clusterrole=engine-ops-view", bound)
    try:
        # That it may not is kept for ten seconds.
        _, listed = wait_until(
            lambda: ask_api(operator, "GET", "/api/v1/plugins", token), lambda said: said[0] == 200, "plugins listed"
        )
        shown = {plugin["name"]: plugin["config"]["enabled"] for plugin in listed["plugins"]}
        assert (shown["read-only"], shown["second"]) == (False, True)
    finally:
        kubectl("delete", "clusterrolebinding", namespace)
    assert "orbidden" not in operator.stderr


def test_without_what_is_the_clusters_it_runs_and_asks_no_plugin(
    cluster: DevCluster,
    namespace: str,
    kubeconfig: Path,
    kubectl: Kubectl,
    overlay: Path,
    start_operator: StartOperator,
    plugins: PluginObjects,
) -> None:
    of_the_cluster(kubectl, overlay, "delete")
    plural = {"group": "engineops.dev", "resource": "optimizerplugins"}
    reviews = {"group": "authentication.k8s.io", "resource": "tokenreviews"}
    for lost in ({"verb": "list", **plural}, {"verb": "create", **reviews}):
        wait_for_loss(cluster, namespace, "engine-ops", **lost)
    plugins.apply("not-asked", GOOD)
    # The REST API cannot be served: nobody's token could be looked at.
    refused = start_operator("--api=http://127.0.0.1:0", kubeconfig=kubeconfig, wait=False)
    assert refused.wait_for_exit() == 1
    assert "create tokenreviews.authentication.k8s.io" in refused.stderr
    operator = start_operator(kubeconfig=kubeconfig, environment={"PYTHONPATH": SEARCH_PATH})
    assert "plugin" not in by(plugins.requests.ask())
    assert "OptimizerPlugins are not followed" in operator.stderr
