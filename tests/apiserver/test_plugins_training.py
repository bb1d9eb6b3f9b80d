"""Models of plugins, from the history to the answer: trained aside, in shadow, kept over restarts, pinned, removed."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from history_objects import HistoryObjects
from plugin_objects import Found, World, assert_answered_once, by, history_file, own_namespace, plugin_world
from request_objects import condition
from waiting import wait_until

from engine_ops.devcluster import DevCluster

LEARNS = "cluster_plugins:Learns"
ML = ["ml-driven"]


@pytest.fixture
def own(cluster: DevCluster) -> Iterator[str]:
    """The operator's own namespace, with a history and models that are the test's alone."""
    with own_namespace(cluster, f"test-{uuid.uuid4().hex[:12]}") as name:
        yield name


def _import(cluster: DevCluster, own: str, path: Path, points: int) -> None:
    done = HistoryObjects(cluster, "", own).run("import", str(history_file(path / "history.jsonl", points)))
    assert done.returncode == 0, done.stderr


def _trained(world: World, name: str, reason: str = "Trained") -> Found:
    return world.plugins.wait_reason(name, reason, "Trained")


def _digest(found: Found) -> Any:
    return found["status"].get("model", {}).get("digest")


def test_a_model_is_trained_aside_served_kept_over_restarts_pinned_and_removed(
    cluster: DevCluster, own: str, tmp_path: Path
) -> None:
    _import(cluster, own, tmp_path, 60)
    with plugin_world(cluster, cluster.kubeconfig, f"--lease-namespace={own}") as world:
        plugins = world.plugins
        plugins.apply("learns", LEARNS, supportedTypes=ML, config={"train_seconds": 0.5})
        # Requests do not wait for a training: until then, the history alone answers.
        early = world.requests.ask({"workload_size": 100}, "ml-driven")
        assert by(early)["name"] in ("simple-predictor", "learns")
        found = _trained(world, "learns")
        assert condition(found, "Trained")["status"] == "True"
        assert found["status"]["skill"] == "Unproven"
        model = found["status"]["model"]
        assert model["samples"] >= 60
        answer = world.requests.ask({"workload_size": 100}, "ml-driven")
        assert by(answer)["plugin"] == "learns"
        assert by(answer)["role"] == "prediction"
        assert by(answer)["modelId"] == model["id"] == "mean-duration"
        training = answer["status"]["result"]["training"]
        wait_until(lambda: plugins.config_maps_of("learns", own), lambda maps: len(maps) == 2, "the model is stored")

        # The model is the same after a restart, without another training.
        for end in ("SIGTERM", "SIGKILL"):
            if end == "SIGTERM":
                world.operator.stop()
            else:
                world.operator.kill9()
            world.operator = world.operators.start()
            wait_until(
                lambda: world.requests.ask({"workload_size": 100}, "ml-driven")["status"],
                lambda status: status["solvedBy"].get("plugin") == "learns",
                f"it answers after {end}",
            )
            again = world.requests.ask({"workload_size": 100}, "ml-driven")
            assert again["status"]["result"]["training"] == training, end
            found = _trained(world, "learns")
            assert found["status"].get("model") == model, (end, found["status"])

        # Another config makes another model; the one before is not lost by that.
        plugins.patch("learns", config={"train_seconds": 0.1})
        found = plugins.wait("learns", lambda found: _digest(found) not in (None, model["digest"]), "a new model")
        newer = world.requests.ask({"workload_size": 100}, "ml-driven")
        assert newer["status"]["result"]["training"] != training
        plugins.patch("learns", config={"train_seconds": 0.5})
        plugins.wait("learns", lambda found: _digest(found) == model["digest"], "the first model is back")
        back = world.requests.ask({"workload_size": 100}, "ml-driven")
        assert back["status"]["result"]["training"] == training

        # With the resource, its models go.
        plugins.delete("learns")
        wait_until(lambda: plugins.config_maps_of("learns", own), lambda maps: not maps, "the models are removed")
        assert by(world.requests.ask({"workload_size": 100}, "ml-driven"))["name"] == "simple-predictor"


def test_a_pinned_model_is_served_and_nothing_is_trained(cluster: DevCluster, own: str, tmp_path: Path) -> None:
    _import(cluster, own, tmp_path, 30)
    with plugin_world(cluster, cluster.kubeconfig, f"--lease-namespace={own}") as world:
        plugins = world.plugins
        plugins.apply("learns", LEARNS, supportedTypes=ML, training={"retrain": {"afterSamples": 5}})
        first = _trained(world, "learns")["status"]["model"]
        training = world.requests.ask({"workload_size": 1}, "ml-driven")["status"]["result"]["training"]
        for _ in range(6):
            world.requests.ask({"workload_size": 1}, "ml-driven")
        found = plugins.wait("learns", lambda found: _digest(found) not in (None, first["digest"]), "a second model")
        second = found["status"]["model"]
        assert second["samples"] > first["samples"]
        # Stored before it is pinned: what is known of in memory alone could not be gone back to after a restart.
        wait_until(lambda: plugins.config_maps_of("learns", own), lambda maps: len(maps) >= 3, "both are stored")
        plugins.patch("learns", training={"pinnedModel": first["digest"][:19]})
        plugins.wait("learns", lambda found: _digest(found) == first["digest"], "the first model is back")
        for _ in range(8):
            answer = world.requests.ask({"workload_size": 1}, "ml-driven")
        assert answer["status"]["result"]["training"] == training
        assert _digest(plugins.get("learns")) == first["digest"]
        world.operator.kill9()
        world.operator = world.operators.start()
        plugins.wait_reason("learns", "Running")
        wait_until(
            lambda: world.requests.ask({"workload_size": 1}, "ml-driven")["status"]["result"].get("training"),
            lambda seen: seen == training,
            "the pinned model after a restart",
        )


def test_behind_the_gate_a_model_is_in_shadow_and_the_built_in_answers(
    cluster: DevCluster, own: str, tmp_path: Path
) -> None:
    _import(cluster, own, tmp_path, 30)
    with plugin_world(cluster, cluster.kubeconfig, f"--lease-namespace={own}") as world:
        world.plugins.apply("learns", LEARNS)
        found = _trained(world, "learns", "Shadow")
        assert condition(found, "Trained")["status"] == "True"
        assert "model" not in found["status"]
        assert found["status"]["candidate"]["samples"] == 30
        packed = world.requests.ask()
        assert_answered_once(packed)
        assert "plugin" not in by(packed)
        assert by(packed)["fallbackReason"].startswith("learns: its model is in shadow: ")
        # Where nothing else can answer, and no gate is asked for, it does.
        world.plugins.patch("learns", training={"gate": "proven"})
        world.plugins.wait("learns", lambda found: found["status"]["observedGeneration"] == 2)
        gated = world.requests.ask({"workload_size": 3}, "ml-driven")
        assert by(gated)["name"] == "simple-predictor"
        assert "its model is in shadow" in by(gated)["fallbackReason"]
        world.plugins.patch("learns", training={"gate": "none"})
        found = _trained(world, "learns")
        assert found["status"]["skill"] == "Unproven"
        assert by(world.requests.ask({"workload_size": 3}, "ml-driven"))["plugin"] == "learns"


def test_ml_driven_waits_for_ten_points_and_is_answered_then(cluster: DevCluster, own: str) -> None:
    with plugin_world(cluster, cluster.kubeconfig, f"--lease-namespace={own}") as world:
        name = world.requests.make({"workload_size": 3}, "ml-driven")
        found = world.requests.wait(
            name, lambda found: condition(found, "Reconciling").get("reason") == "NotEnoughData"
        )
        assert condition(found, "Ready")["status"] == "False"
        assert not condition(found, "Stalled")
        world.plugins.apply("learns", LEARNS, supportedTypes=ML)
        found = world.plugins.wait_reason("learns", "NotEnoughData", "Trained")
        assert condition(found, "Trained")["status"] == "False"
        assert "10" in condition(found, "Trained")["message"]
        world.plugins.delete("learns")
        for _ in range(11):
            world.requests.ask(searchSeconds=0)
        found = world.requests.final(name)
        assert_answered_once(found)
        assert by(found)["name"] == by(found)["algorithm"] == "simple-predictor"
        assert found["status"]["result"] == {"success_rate": 1}  # no more is known of requests than that
