"""OptimizerPlugins as their users see them: switched, ordered, changed while requests are in flight."""

from __future__ import annotations

import concurrent.futures
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from plugin_objects import PluginObjects, World, assert_answered_once, by, is_absent, plugin_world
from request_objects import condition
from waiting import wait_until

from engine_ops.devcluster import DevCluster
from engine_ops.devcluster.errors import DevClusterError

GOOD = "bad_plugins:Good"
SLEEPY = "bad_plugins:Sleepy"
NODES = [{"id": name, "cpuLoad": load, "memoryLoad": load} for name, load in (("n1", 10), ("n2", 20), ("n3", 60))]
ONE_TASK = {"task": {"id": "t", "cpuRequired": 5, "memoryRequired": 5}, "nodes": NODES}


@pytest.fixture(scope="module")
def whole(cluster: DevCluster, operator_kubeconfig: Path) -> Iterator[World]:
    with plugin_world(cluster, operator_kubeconfig) as made:
        yield made


@pytest.fixture
def world(whole: World) -> Iterator[World]:
    yield whole
    whole.clear()
    assert whole.operator.returncode is None
    assert "Traceback" not in whole.operator.stderr


@pytest.fixture
def plugins(world: World) -> PluginObjects:
    return world.plugins


def test_a_patch_switches_who_answers_the_next_request(plugins: PluginObjects) -> None:
    plugins.apply("packer", GOOD, enabled=False)
    plugins.wait_reason("packer", "Disabled")
    without = by(plugins.requests.ask())
    assert "plugin" not in without
    assert "fallbackReason" not in without
    built_in = without["algorithm"]
    for _ in range(2):
        plugins.patch("packer", enabled=True)
        plugins.wait_reason("packer", "Running")
        found = plugins.requests.ask()
        assert by(found) == {"name": "packer", "plugin": "packer", "role": "answer", "version": "1.0.0"}
        assert_answered_once(found)
        assert found["status"]["result"]["nodeCount"] == 2
        plugins.patch("packer", enabled=False)
        plugins.wait_reason("packer", "Disabled")
        assert by(plugins.requests.ask())["name"] == built_in
    columns = plugins.requests.kubectl("get", "optreq").splitlines()
    assert any(" packer " in line for line in columns)


def test_without_waiting_the_next_requests_are_answered_by_the_other_soon(plugins: PluginObjects) -> None:
    plugins.running("packer", GOOD)
    for enabled, name in ((False, None), (True, "packer")):
        plugins.patch("packer", enabled=enabled)
        wait_until(lambda: by(plugins.requests.ask()).get("plugin"), lambda seen, name=name: seen == name, "the switch")


def test_the_highest_priority_goes_first_and_ties_by_name(plugins: PluginObjects) -> None:
    for name, priority in (("a-packer", 5), ("b-packer", 5), ("c-packer", 7)):
        plugins.running(name, GOOD, priority=priority)
    assert by(plugins.requests.ask())["plugin"] == "c-packer"
    plugins.patch("c-packer", priority=5)
    plugins.wait_reason("c-packer", "Running")
    assert by(plugins.requests.ask())["plugin"] == "a-packer"
    plugins.patch("b-packer", priority=6)
    plugins.wait_reason("b-packer", "Running")
    assert by(plugins.requests.ask())["plugin"] == "b-packer"
    assert by(plugins.requests.ask(plugin="c-packer"))["plugin"] == "c-packer"
    none = by(plugins.requests.ask(plugin="none"))
    assert "plugin" not in none
    assert "fallbackReason" not in none


def test_a_request_waits_for_the_plugin_that_it_names(plugins: PluginObjects) -> None:
    waiting = plugins.requests.make(plugin="packer")
    found = plugins.requests.wait(waiting, lambda found: condition(found, "Reconciling").get("reason") == "NoPlugin")
    assert condition(found, "Ready")["status"] == "False"
    plugins.running("packer", GOOD)
    found = plugins.requests.final(waiting)
    assert by(found)["plugin"] == "packer"
    assert_answered_once(found)


def test_it_is_asked_for_its_types_only(plugins: PluginObjects) -> None:
    plugins.running("packer", GOOD, supportedTypes=["scheduling"])
    assert "plugin" not in by(plugins.requests.ask())
    assert "plugin" not in by(plugins.requests.ask(ONE_TASK, "scheduling"))
    plugins.patch("packer", supportedTypes=["scheduling", "resource"])
    plugins.wait("packer", lambda found: "resource" in found["status"].get("types", ()))
    assert by(plugins.requests.ask())["plugin"] == "packer"


def test_a_plugin_in_shadow_is_never_served(plugins: PluginObjects) -> None:
    plugins.running("packer", GOOD, mode="shadow")
    shown = by(plugins.requests.ask())
    assert "plugin" not in shown
    assert shown["fallbackReason"].startswith("packer: ")
    assert "shadow" in shown["fallbackReason"]
    plugins.patch("packer", mode="active")
    plugins.wait_reason("packer", "Running")
    assert by(plugins.requests.ask())["plugin"] == "packer"


def test_advice_leads_the_built_in_algorithm(plugins: PluginObjects) -> None:
    """All nodes are alike, and nobody but the plugin would choose this one."""
    nodes = [{**node, "cpuLoad": 10, "memoryLoad": 10} for node in NODES]
    data = {**ONE_TASK, "nodes": nodes}
    without = plugins.requests.ask(data, "scheduling")
    chosen = without["status"]["result"]["nodeId"]
    preferred = next(node["id"] for node in reversed(nodes) if node["id"] != chosen)
    plugins.running("prefers", "cluster_plugins:Prefers", config={"node": preferred})
    found = plugins.requests.ask(data, "scheduling")
    shown = by(found)
    assert (shown["plugin"], shown["role"], shown["version"]) == ("prefers", "advice", "1.2.0")
    assert shown["algorithm"] == "filter-and-advice"
    assert found["status"]["result"]["nodeId"] == preferred


def test_a_prediction_is_the_result_where_nothing_else_can_be(plugins: PluginObjects) -> None:
    plugins.running("sizes", "cluster_plugins:Sizes", training={"minSamples": 1_000_000})
    found = plugins.requests.ask({"workload_size": 5})
    assert found["status"]["result"]["workload_size"] == 200
    shown = by(found)
    assert (shown["plugin"], shown["role"], shown["version"]) == ("sizes", "prediction", "3.0.0")
    assert (shown["modelId"], shown["claimedConfidence"]) == ("size-model", 0.75)
    other = by(plugins.requests.ask())
    assert "plugin" not in other
    assert other["fallbackReason"].startswith("sizes: it needs a workload_size")


def test_a_config_that_is_rejected_takes_the_plugin_out_until_it_is_corrected(plugins: PluginObjects) -> None:
    plugins.running("first", SLEEPY, priority=2, config={"seconds": 0})
    plugins.running("second", GOOD, priority=1)
    plugins.patch("first", config={"seconds": -1})
    found = plugins.wait_reason("first", "InvalidConfig")
    assert condition(found, "Ready")["status"] == "False"
    assert condition(found, "Stalled")["status"] == "True"
    assert "spec.config.seconds" in condition(found, "Stalled")["message"]
    assert found["status"]["observedGeneration"] == found["metadata"]["generation"]
    shown = by(plugins.requests.ask())
    assert shown["plugin"] == "second"
    plugins.patch("first", config={"seconds": 0.01})
    found = plugins.wait_reason("first", "Running")
    assert not condition(found, "Stalled")
    assert by(plugins.requests.ask())["plugin"] == "first"
    schema = found["status"]["configSchema"]
    assert schema["properties"]["seconds"]["minimum"] == 0


def test_what_cannot_be_imported_is_told_and_harms_nobody(plugins: PluginObjects) -> None:
    plugins.running("packer", GOOD)
    for name, entry_point, said in (
        ("no-module", "no_such_module:Plugin", "no_such_module"),
        ("no-class", "bad_plugins:NoSuchPlugin", "NoSuchPlugin"),
        ("no-plugin", "bad_plugins:Case", "Case"),
    ):
        plugins.apply(name, entry_point, priority=9)
        found = plugins.wait_reason(name, "LoadFailed")
        assert condition(found, "Ready")["status"] == "False"
        assert said in condition(found, "Ready")["message"]
    found = plugins.requests.ask()
    assert by(found) == {"name": "packer", "plugin": "packer", "role": "answer", "version": "1.0.0"}
    plugins.patch("no-module", source={"entryPoint": GOOD})
    plugins.wait_reason("no-module", "Running")
    assert by(plugins.requests.ask())["plugin"] == "no-module"


@pytest.mark.parametrize(
    "spec",
    [
        {"source": {}},
        {"source": {"entryPoint": GOOD, "service": {"name": "a", "namespace": "b"}}},
        {"source": {"entryPoint": "no class"}},
        {"source": {"entryPoint": GOOD}, "limits": {"memory": "much"}},
        {"source": {"entryPoint": GOOD}, "supportedTypes": ["other"]},
    ],
    ids=json.dumps,
)
def test_an_invalid_spec_is_refused_at_the_door(plugins: PluginObjects, spec: dict[str, Any]) -> None:
    with pytest.raises(DevClusterError, match=r"spec\."):
        plugins.apply("wrong", **spec)
    assert is_absent(plugins, "wrong")


CHANGES: dict[str, dict[str, Any] | None] = {
    "config": {"config": {"seconds": 0.1}},
    "wrong config": {"config": {"seconds": -1}},
    "limits": {"limits": {"timeoutSeconds": 9, "memory": "300Mi"}},
    "source": {"config": None, "source": {"entryPoint": GOOD}},
    "priority": {"priority": -1},
    "types": {"supportedTypes": ["performance"]},
    "mode": {"mode": "shadow"},
    "disabled": {"enabled": False},
    "deleted": None,
}


@pytest.mark.parametrize("change", CHANGES)
def test_no_request_in_flight_is_lost_by_a_change(plugins: PluginObjects, change: str, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    asked.touch()
    plugins.running("slow", "cluster_plugins:Marks", config={"file": str(asked), "seconds": 0.3}, priority=3)
    plugins.running("spare", GOOD)
    names = [plugins.requests.make(searchSeconds=0) for _ in range(4)]
    wait_until(asked.read_text, bool, "the plugin is asked")
    spec = CHANGES[change]
    if spec is None:
        plugins.delete("slow")
    else:
        plugins.patch("slow", **spec)
    names += [plugins.requests.make(searchSeconds=0) for _ in range(2)]
    for name in names:
        found = plugins.requests.final(name)
        assert_answered_once(found)
        assert found["status"]["result"]["nodeCount"] == 2
        assert by(found)["plugin"] in ("slow", "spare"), by(found)
    # What was at work when the change came has ended its work.
    assert by(plugins.requests.get(names[0]))["plugin"] == "slow"


def test_the_operator_writes_status_and_nothing_else(plugins: PluginObjects) -> None:
    """Argo CD and Flux see no drift: the object is as they applied it."""
    spec = {"priority": 3, "config": {"seconds": 0.01}, "training": {"minSamples": 20}}
    plugins.running("packer", SLEEPY, **spec)
    before = plugins.get("packer")
    plugins.requests.ask()
    plugins.patch("packer", enabled=False)
    plugins.wait_reason("packer", "Disabled")
    plugins.patch("packer", enabled=True)
    after = plugins.wait_reason("packer", "Running")
    assert after["spec"] == before["spec"] | {"enabled": True}
    assert after["metadata"]["generation"] == before["metadata"]["generation"] + 2
    assert after["metadata"]["annotations"] == {"team": "data"}
    assert after["metadata"]["labels"] == {"app": "test"}
    assert "finalizers" not in after["metadata"]
    managers = {
        (entry["manager"], entry.get("subresource", "")): entry["fieldsV1"]
        for entry in plugins.get("packer")["metadata"]["managedFields"]
    }
    ours = [fields for (manager, _), fields in managers.items() if manager not in ("gitops", "kubectl-patch")]
    assert len(ours) == 1, managers.keys()
    assert set(ours[0]) == {"f:status"}
    assert [subresource for manager, subresource in managers if manager not in ("gitops", "kubectl-patch")] == [
        "status"
    ]
    assert "f:status" not in managers["gitops", ""]
    # The same manifest again is no change.
    plugins.apply("packer", SLEEPY, **spec, enabled=True)
    assert plugins.get("packer")["metadata"]["generation"] == after["metadata"]["generation"]


def test_many_patches_at_once_end_with_the_last(plugins: PluginObjects) -> None:
    plugins.running("packer", GOOD)
    answers = [plugins.requests.make(searchSeconds=0)]
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        for number in range(8):
            threads.submit(plugins.patch, "packer", enabled=bool(number % 2), priority=number)
    plugins.patch("packer", enabled=True, priority=5)
    answers.append(plugins.requests.make(searchSeconds=0))
    plugins.wait_reason("packer", "Running")
    for name in answers:
        assert_answered_once(plugins.requests.final(name))
    assert by(plugins.requests.ask())["plugin"] == "packer"
