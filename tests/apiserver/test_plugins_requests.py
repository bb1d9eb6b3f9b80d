"""Requests of every form, with plugins: standing ones, data of ConfigMaps, large results, the live cluster."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from plugin_objects import World, assert_answered_once, by, plugin_world
from request_objects import condition
from waiting import wait_until

from engine_ops.devcluster import DevCluster
from engine_ops.devcluster.client import ApiClient

TELLS = "cluster_plugins:Tells"


@pytest.fixture(scope="module")
def whole(cluster: DevCluster, operator_kubeconfig: Path) -> Iterator[World]:
    arguments = ("--cluster-data-namespaces=live=yes",)
    with plugin_world(cluster, operator_kubeconfig, *arguments) as made:
        cluster.kubectl("label", "namespace", made.plugins.namespace, "live=yes")
        yield made


@pytest.fixture
def world(whole: World) -> Iterator[World]:
    yield whole
    whole.requests.kubectl("delete", "optreq", "--all")
    whole.clear()
    assert whole.operator.returncode is None
    assert "Traceback" not in whole.operator.stderr


def test_a_plugin_sees_the_request_and_nothing_of_the_operator(world: World) -> None:
    world.plugins.running("tells", TELLS)
    found = world.requests.ask({"queue": 7, "deep": {"a": [1, None, "x"]}}, "ml-driven", constraints={"most": 3})
    result = found["status"]["result"]
    assert result["type"] == "ml-driven"
    assert result["data"]["queue"] == 7
    assert result["data"]["deep"] == {"a": [1, None, "x"]}
    assert result["constraints"] == {"most": 3}
    assert isinstance(result["history"], int), "an operator that keeps a history shows it, even an empty one"
    assert by(found)["role"] == "prediction"
    assert "score" not in found["status"]["metrics"]


def test_what_only_a_plugin_can_answer_waits_for_one_that_is_applied_after_it(world: World) -> None:
    name = world.requests.make({"workload_size": 200})
    waiting = world.requests.wait_reason(name, "NoPlugin")
    message = condition(waiting, "Ready")["message"]
    assert message.startswith("spec.data.items: required, but absent"), "it may be a typing error"
    assert message.endswith("; or only a plugin can answer it: no enabled plugin can handle type resource")
    assert (condition(waiting, "Reconciling")["status"], condition(waiting, "Stalled")) == ("True", {})
    world.plugins.running("tells-of-sizes", "cluster_plugins:TellsOfSizes")
    found = world.requests.final(name)
    assert_answered_once(found)
    assert (by(found)["plugin"], by(found)["role"]) == ("tells-of-sizes", "prediction")
    assert found["status"]["result"]["data"]["workload_size"] == 200


def test_data_of_a_config_map_as_yaml(world: World) -> None:
    world.plugins.running("tells", TELLS)
    world.requests.config_map("question", text=yaml.safe_dump({"queue": 8, "since": "2026-01-02", "on": [1.5, True]}))
    found = world.requests.ask(type_="ml-driven", dataFrom={"configMapKeyRef": {"name": "question", "key": "text"}})
    assert_answered_once(found)
    seen = found["status"]["result"]["data"]
    assert {key: seen[key] for key in ("queue", "since", "on")} == {
        "queue": 8,
        "since": "2026-01-02",
        "on": [1.5, True],
    }


def test_a_packing_whose_data_is_yaml_of_a_config_map(world: World) -> None:
    world.plugins.running("good", "bad_plugins:Good")
    text = "items:\n- {id: web, cpu: 500m, memory: 1Gi, count: 6}\nnodeCapacity: {cpu: 2, memory: 8Gi}\n"
    world.requests.config_map("items", **{"items.yaml": text})
    found = world.requests.ask(dataFrom={"configMapKeyRef": {"name": "items", "key": "items.yaml"}})
    assert by(found)["plugin"] == "good", by(found)
    assert found["status"]["result"]["nodeCount"] == 2


def test_a_result_too_large_for_the_status_goes_to_a_config_map(world: World, cluster: DevCluster) -> None:
    world.plugins.running("tells", TELLS, config={"bytes": 100_000})
    found = world.requests.ask({"queue": 7}, "ml-driven")
    assert_answered_once(found)
    assert by(found)["plugin"] == "tells"
    reference = found["status"]["resultRef"]
    assert len(json.dumps(found["status"])) < 32 * 1024
    stored = json.loads(world.requests.kubectl("get", "configmap", reference["name"], "-o", "json"))
    (owner,) = stored["metadata"]["ownerReferences"]
    assert owner["uid"] == found["metadata"]["uid"]
    whole = json.loads(world.requests.kubectl("get", "optreq", found["metadata"]["name"], "-o", "json"))
    assert whole["status"]["resultRef"] == reference
    # What is too large even for that is a fault of the plugin's, and told.
    world.plugins.patch("tells", config={"bytes": 6_000_000})
    world.plugins.wait_reason("tells", "Running")
    name = world.requests.make({"queue": 7}, "ml-driven", plugin="tells")
    # One that is being solved for two seconds says that first.
    found = world.requests.wait(name, lambda found: condition(found, "Ready").get("reason", "Solving") != "Solving", 60)
    assert condition(found, "Ready")["status"] == "False"
    assert re.search(r"^tells: the result is \d+ bytes long", condition(found, "Ready")["message"])


def test_a_standing_request_asks_whoever_there_is(world: World) -> None:
    name = world.requests.make(intervalSeconds=10)
    first = world.requests.final(name)
    assert "plugin" not in by(first)
    world.plugins.running("good", "bad_plugins:Good")
    # The second run, unless ten seconds have passed before the plugin ran.
    second = world.requests.wait(name, lambda found: "plugin" in by(found), 60)
    assert by(second)["plugin"] == "good"
    assert second["status"]["run"] > first["status"]["run"] == 1
    assert second["metadata"]["generation"] == first["metadata"]["generation"]


def _pending_pod(client: ApiClient, namespace: str) -> None:
    container = {"name": "main", "image": "work", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}
    # It is to stay pending: its scheduler does not exist.
    spec = {"schedulerName": "nobody", "containers": [container]}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "waits"}, "spec": spec}
    client.request("POST", f"/api/v1/namespaces/{namespace}/pods", body)


def test_the_live_cluster_is_shown_to_a_plugin_and_its_advice_is_followed(world: World, cluster: DevCluster) -> None:
    namespace, client = world.plugins.namespace, world.plugins.client
    nodes = cluster.add_nodes(3, prefix=namespace, labels={"test": namespace})
    try:
        wait_until(
            lambda: client.request("GET", f"/api/v1/namespaces/{namespace}/serviceaccounts")["items"], bool, "accounts"
        )
        _pending_pod(client, namespace)
        spec: dict[str, Any] = {
            "dataFrom": {
                "cluster": {
                    "nodes": {"labelSelector": {"matchLabels": {"test": namespace}}},
                    "pods": {"namespaces": [namespace]},
                }
            }
        }
        without = world.requests.ask(type_="scheduling", **spec)
        (placement,) = without["status"]["result"]["placements"]
        preferred = next(node for node in nodes if node != placement["nodeId"])
        world.plugins.running("prefers", "cluster_plugins:Prefers", config={"node": preferred})
        found = world.requests.ask(type_="scheduling", **spec)
        assert_answered_once(found)
        assert (by(found)["plugin"], by(found)["role"]) == ("prefers", "advice"), by(found)
        (placement,) = found["status"]["result"]["placements"]
        assert placement["nodeId"] == preferred
        # A node that is not there is never chosen.
        world.plugins.delete("prefers")
        world.plugins.running("places", "cluster_plugins:Places", config={"node": "no-such-node"})
        found = world.requests.ask(type_="scheduling", **spec)
        assert_answered_once(found)
        assert "no-such-node" in by(found)["fallbackReason"]
        assert found["status"]["result"]["placements"][0]["nodeId"] in nodes
    finally:
        cluster.kubectl("delete", "node", *nodes, "--wait=false")


def test_ml_driven_without_a_plugin_waits_and_a_plugin_that_comes_answers_it(world: World) -> None:
    name = world.requests.make({"queue": 1}, "ml-driven", plugin="tells")
    world.requests.wait(name, lambda found: condition(found, "Reconciling").get("reason") == "NoPlugin")
    world.plugins.running("tells", TELLS)
    found = world.requests.final(name)
    assert found["status"]["result"]["data"]["queue"] == 1
