"""Installing, updating from the previous release, stopping and removing, by the commands of docs/install.md."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from install_world import OWN, Installation
from plugin_objects import PluginObjects, by
from request_objects import condition
from rest_calls import ask_api
from rights_in_effect import wait_for_definitions
from waiting import wait_until

from engine_ops.devcluster import DevCluster
from engine_ops.devcluster.binaries import COMPONENTS, Binaries

PREVIOUS = Path(__file__).parent / "previous_release.yaml"
GOOD = "bad_plugins:Good"
MANY = {
    "items": [{"id": f"deployment-{number:04d}", "cpu": 1, "memory": "1Gi"} for number in range(1500)],
    "nodeCapacity": {"cpu": 4, "memory": "8Gi"},
}
"""Its result is over 32 KiB, and goes to a ConfigMap."""
TOO_BIG = {"items": [{"id": "too-big", "cpu": 64, "memory": "1Gi"}], "nodeCapacity": {"cpu": 4, "memory": "8Gi"}}
REQUESTS = ("optimizationrequests.engineops.dev", "-A")
CRDS = {"optimizationrequests.engineops.dev", "optimizerplugins.engineops.dev"}


@pytest.fixture(scope="module")
def own_cluster(devcluster_binaries: Binaries) -> Iterator[DevCluster]:
    with DevCluster.start(components=COMPONENTS, binaries=devcluster_binaries) as started:
        started.add_nodes(1, prefix="install")
        yield started


@pytest.fixture
def place(own_cluster: DevCluster) -> Iterator[Installation]:
    """An empty cluster, made empty again."""
    installation = Installation(own_cluster)
    yield installation
    if installation.get("namespace", f"--field-selector=metadata.name={OWN}"):
        installation.run("### Remove everything")


@pytest.fixture
def used(own_cluster: DevCluster) -> Iterator[PluginObjects]:
    """A user's namespace."""
    name = f"shop-{uuid.uuid4().hex[:8]}"
    own_cluster.kubectl("create", "namespace", name)
    with own_cluster.client() as client:
        yield PluginObjects(own_cluster, name, client)
    own_cluster.kubectl("delete", "namespace", name, "--timeout=60s")


def make_requests(used: PluginObjects) -> dict[str, str]:
    """Make one of each fate, and return what Ready says of each when it has got there."""
    asked = used.requests
    asked.make(name="solved", searchSeconds=0)
    asked.make(name="by-plugin", plugin="packer", searchSeconds=0)
    asked.make(MANY, name="large", searchSeconds=0)
    asked.make(TOO_BIG, name="stalled", searchSeconds=0)
    asked.make(name="suspended", suspend=True)
    asked.make(name="waiting", plugin="later")
    expected = {
        "solved": "Solved",
        "by-plugin": "Solved",
        "large": "Solved",
        "stalled": "Unplaceable",
        "suspended": "Suspended",
        "waiting": "NoPlugin",
    }
    for name, reason in expected.items():
        asked.wait(name, lambda found, reason=reason: condition(found, "Ready").get("reason") == reason, 60.0)
    return expected


def without_noise(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return objects by name, with what a user or the operator has put there."""
    shown: dict[str, Any] = {}
    for document in found:
        metadata = document["metadata"]
        kept = {key: metadata.get(key) for key in ("uid", "generation", "labels", "annotations", "finalizers")}
        rest = {key: value for key, value in document.items() if key not in ("metadata", "apiVersion")}
        shown[f"{document['kind']}/{metadata.get('namespace')}/{metadata['name']}"] = {**rest, "metadata": kept}
    return shown


def kept_of(place: Installation, used: PluginObjects) -> dict[str, Any]:
    """Return all that is the users', and the history."""
    results = place.get("configmaps", "-n", used.namespace, "-l", "app.kubernetes.io/managed-by=engine-ops")
    history = place.get("configmaps", "-n", OWN, "-l", "app.kubernetes.io/component=history")
    plugins = place.get("optimizerplugins.engineops.dev")
    return without_noise([*place.get(*REQUESTS), *plugins, *results, *history])


def assert_valid(place: Installation, used: PluginObjects) -> None:
    """Check that the API server takes everything as it is."""
    for document in place.get(*REQUESTS) + place.get("optimizerplugins.engineops.dev"):
        for field in ("status", "managedFields"):
            document.pop(field, None)
        metadata = {key: document["metadata"][key] for key in ("name", "namespace") if key in document["metadata"]}
        arguments = ("apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-")
        place.cluster.kubectl(*arguments, stdin=json.dumps({**document, "metadata": metadata}))
    assert used.requests.list()


def test_an_update_from_the_previous_release_keeps_everything_and_answers_what_waits(
    place: Installation, used: PluginObjects
) -> None:
    place.cluster.kubectl("apply", "--server-side", "--validate=strict", "-f", str(PREVIOUS))
    place.rolled_out()
    with place.operator():
        used.running("packer", GOOD)
        fates = make_requests(used)
        wait_until(place.points, lambda points: points >= 4, "the history is written")
    points, before = place.points(), kept_of(place, used)
    assert {key.partition("/")[0] for key in before} == {"OptimizationRequest", "OptimizerPlugin", "ConfigMap"}

    for printed in place.run("## Update"):
        assert "conflict" not in printed
    place.rolled_out()
    assert kept_of(place, used) == before
    assert place.points() == points
    assert_valid(place, used)

    # Whoever calls the API: its rights come with the update.
    token = place.cluster.kubectl("create", "token", "default", "-n", used.namespace).stdout.strip()
    with place.operator("--api=http://127.0.0.1:0") as operator:
        assert by(used.requests.ask(plugin="packer"))["plugin"] == "packer"
        used.running("later", GOOD)
        assert by(used.requests.final("waiting"))["plugin"] == "later"
        used.cluster.kubectl(
            "create", "rolebinding", "caller", "-n", used.namespace, "--clusterrole=edit",
            f"--serviceaccount={used.namespace}:default",
        )  # fmt: skip
        question = {"id": "over-http", "type": "resource", "data": TOO_BIG}
        status, answer = wait_until(
            lambda: ask_api(operator, "POST", "/api/v1/optimize", token, question), lambda said: said[0] == 200, "asked"
        )
        assert (status, answer["reason"]) == (200, "Unplaceable")
        wait_until(place.points, lambda now: now == points + 3, "the history goes on")
        # What was answered before is not answered again.
        after = {name: used.requests.get(name)["status"] for name in fates if name != "waiting"}
    for name, status_now in after.items():
        assert status_now == before[f"OptimizationRequest/{used.namespace}/{name}"]["status"], name
    used.clear()


def test_without_the_operator_everything_stays_and_can_be_changed(place: Installation, used: PluginObjects) -> None:
    place.run("## In a cluster")
    with place.operator():
        used.running("packer", GOOD)
        make_requests(used)
        wait_until(place.points, lambda points: points >= 4, "the history is written")
        # The operator is at work when it goes: there is no kubelet to end it, only its rights are taken away.
        before_points = place.points()
        place.run("### Stop it, and keep what it knows")
    left = place.get(
        "deployments,replicasets,pods,services,networkpolicies,poddisruptionbudgets,serviceaccounts,roles,rolebindings",
        *("-n", OWN, "-l", "app.kubernetes.io/name=engine-ops"),
    )
    assert not [document for document in left if document["kind"] not in ("Pod", "ReplicaSet")]  # being collected
    assert {
        document["metadata"]["name"]
        for document in place.get("clusterroles,clusterrolebindings", "-l", "app.kubernetes.io/name=engine-ops")
    } == {
        "engine-ops-view",
        "engine-ops-edit",
        "engine-ops-admin",
        "engine-ops-plugin-editor",
        "engine-ops-api-metrics",
    }
    assert {document["metadata"]["name"] for document in place.get("customresourcedefinitions")} >= CRDS
    assert place.points() == before_points
    # An editor of the namespace edits and deletes as before; nothing waits for somebody who is gone.
    used.cluster.kubectl("create", "rolebinding", "ed", "-n", used.namespace, "--clusterrole=edit", "--user=ed")
    patch = ("patch", "optreq/by-plugin", "-n", used.namespace, "--type=merge", "-p", '{"spec": {"searchSeconds": 3}}')
    wait_until(
        lambda: place.cluster.kubectl(*patch, "--as=ed", check=False), lambda done: not done.returncode, "edited"
    )
    place.cluster.kubectl("delete", "optreq/large", "-n", used.namespace, "--as=ed", "--timeout=30s")
    wait_until(
        lambda: place.get("configmaps", "-n", used.namespace, "-l", "app.kubernetes.io/managed-by=engine-ops"),
        lambda found: not found,
        "its result goes with it",
    )
    used.patch("packer", priority=9)
    # Installed again, it goes on from there.
    place.run("## In a cluster")
    with place.operator():
        found = used.requests.wait("by-plugin", lambda found: found["status"]["observedGeneration"] == 2, 60.0)
        assert by(found)["plugin"] == "packer"
        wait_until(place.points, lambda points: points == before_points + 1, "the history goes on")
    used.clear()


def test_all_of_it_is_removed_and_nothing_hangs(place: Installation, used: PluginObjects) -> None:
    place.run("## In a cluster")
    with place.operator() as operator:
        used.running("packer", GOOD)
        make_requests(used)
        for number in range(200):
            used.requests.make(name=f"many-{number}", searchSeconds=0)
        place.run("### Remove everything")
        # It is told that its definitions are gone, if it is not ended first.
        assert operator.wait_for_exit() == 1
    used.applied.clear()
    assert not CRDS & {document["metadata"]["name"] for document in place.get("customresourcedefinitions")}
    kinds = "clusterroles,clusterrolebindings,namespaces,deployments,configmaps,networkpolicies,serviceaccounts,leases"
    left = [
        document["metadata"]["name"]
        for document in place.get(kinds, "-A")
        if document["metadata"]["name"].startswith("engine-ops-") or document["metadata"]["name"] == "engine-ops"
    ]
    assert left == []
    wait_until(
        lambda: place.get("configmaps", "-n", used.namespace, "-l", "app.kubernetes.io/managed-by=engine-ops"),
        lambda found: not found,
        "results are collected with their requests",
    )
    # And it can come back.
    place.run("## In a cluster")
    wait_for_definitions(place.cluster)
    assert place.get(*REQUESTS) == []
