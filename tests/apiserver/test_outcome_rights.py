"""What the source of outcomes may see on a real API server: observed namespaces, and the rights that it needs."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from outcome_jobs import reading, run, until

from engine_ops.devcluster import DevCluster
from engine_ops.devcluster.client import ApiError
from engine_ops.history.outcomes.source import SourceError
from engine_ops.kube.outcome_source import KubeOutcomeSource

BASE = Path(__file__).parents[2] / "manifests" / "base"
RBAC = "/apis/rbac.authorization.k8s.io/v1"


# ---- Observed namespaces


def test_observed_namespaces_follow_their_labels(cluster: DevCluster, namespace: str) -> None:
    label = f"engineops.dev/{namespace}"
    path = f"/api/v1/namespaces/{namespace}"

    async def check() -> None:
        selector = f"{label} in (yes, daily)"
        async with (
            reading(cluster.kubeconfig) as unasked,
            reading(cluster.kubeconfig, observe_selector=selector) as source,
            reading(cluster.kubeconfig, observe_selector=selector, namespaces=["other"]) as elsewhere,
        ):
            assert await unasked.observed_namespaces() == ()
            assert await source.observed_namespaces() == []
            for value, expected in (("daily", [namespace]), ("no", []), ("yes", [namespace])):
                cluster.kubectl("label", "namespace", namespace, f"{label}={value}", "--overwrite")

                async def follows(expected: list[str] = expected) -> bool:
                    return await source.observed_namespaces() == expected

                await until(follows, f"{path}: {value}")
            assert await elsewhere.observed_namespaces() == []

    run(check)


def test_a_selector_that_is_none_is_said(cluster: DevCluster) -> None:
    async def check() -> None:
        async with reading(cluster.kubeconfig, observe_selector="a in b") as source:
            with pytest.raises(SourceError, match="namespaces"):
                await source.observed_namespaces()

    run(check)


# ---- Rights


def rules_of(file: str) -> list[dict[str, Any]]:
    documents = yaml.safe_load_all((BASE / file).read_text())
    [role] = [document for document in documents if document["kind"] == "ClusterRole"]
    return list(role["rules"])


@pytest.fixture
def grant(cluster: DevCluster, namespace: str) -> Iterator[Callable[[list[dict[str, Any]]], None]]:
    """Give the namespace's default ServiceAccount rights in the whole cluster."""
    name = f"test:{namespace}"
    subject = {"kind": "ServiceAccount", "name": "default", "namespace": namespace}
    group = "rbac.authorization.k8s.io"

    def give(rules: list[dict[str, Any]]) -> None:
        with cluster.client() as client:
            role = {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}
            client.request("POST", f"{RBAC}/clusterroles", role)
            binding = {
                "apiVersion": f"{group}/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": name},
                "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
                "subjects": [subject],
            }
            client.request("POST", f"{RBAC}/clusterrolebindings", binding)

    yield give
    with cluster.client() as client:
        for kind in ("clusterrolebindings", "clusterroles"):
            with contextlib.suppress(ApiError):
                client.request("DELETE", f"{RBAC}/{kind}/{name}")


Grant = Callable[[list[dict[str, Any]]], None]


def test_every_missing_right_is_named_and_the_manifests_have_them_all(
    cluster: DevCluster, namespace: str, grant: Grant
) -> None:
    kubeconfig = cluster.service_account_kubeconfig(namespace, "default")

    async def everything(source: KubeOutcomeSource) -> dict[str, str]:
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            "list and watch jobs.batch in all namespaces": lambda: source.jobs(namespace),
            f"list pods in namespace {namespace}": lambda: source.pods(namespace),
            f"list pods.metrics.k8s.io in namespace {namespace}": lambda: source.usage(namespace),
            "list and watch namespaces in all namespaces": source.observed_namespaces,
        }
        for kind, resource in {
            "Deployment": "deployments.apps",
            "StatefulSet": "statefulsets.apps",
            "DaemonSet": "daemonsets.apps",
        }.items():
            calls[f"get {resource} in namespace {namespace}"] = lambda kind=kind: source.workload(kind, namespace, "a")  # type: ignore[misc]
        refused = {}
        for right, call in calls.items():
            try:
                await call()
            except SourceError as error:
                refused[right] = str(error)
        return refused

    async def check() -> None:
        async with reading(kubeconfig, observe_selector="a=b") as source:
            refused = await everything(source)
            assert len(refused) == 7
            for right, message in refused.items():
                assert message.startswith(f"the operator may not {right}: "), message
            grant([*rules_of("rbac_outcomes.yaml"), *rules_of("rbac_observe.yaml")])

            async def allowed() -> bool:
                return not await everything(source)

            await until(allowed, "a right is still missing")

    run(check)


def test_no_rule_of_the_manifests_is_superfluous() -> None:
    granted = {
        (verb, group, resource)
        for file in ("rbac_outcomes.yaml", "rbac_observe.yaml")
        for rule in rules_of(file)
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert granted == {
        ("list", "batch", "jobs"),
        ("watch", "batch", "jobs"),
        ("list", "", "pods"),
        *(("get", "apps", resource) for resource in ("deployments", "statefulsets", "daemonsets")),
        ("list", "metrics.k8s.io", "pods"),
        ("list", "", "namespaces"),
        ("watch", "", "namespaces"),
    }
