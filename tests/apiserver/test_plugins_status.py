"""Statuses of OptimizerPlugins, their Events and their models at a real API server, with the operator's own rights."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import hashlib
import json
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from manifest_files import MANIFESTS
from operator_process import StartOperator

from engine_ops.api.optimizerplugin import OptimizerPluginSpec
from engine_ops.api.reasons import Reason
from engine_ops.controllers.plugin_reconciler import PluginReconciler
from engine_ops.controllers.view import PluginView
from engine_ops.devcluster import DevCluster
from engine_ops.devcluster.pytest_plugin import Kubectl
from engine_ops.kube.connection import Connection
from engine_ops.kube.events import EventRecorder
from engine_ops.kube.model_names import index_name, model_name
from engine_ops.kube.model_store import ConfigMapModelStore
from engine_ops.kube.preflight import why_no_plugins
from engine_ops.kube.status_writer import StatusWriter, Written
from engine_ops.kube.target import Target
from engine_ops.plugins.instance import LastError
from engine_ops.plugins.model_store import MemoryModelStore, ModelRecord, ModelStoreError, SavedModels
from engine_ops.plugins.snapshot import CandidateInfo, Counts, ModelInfo, PluginSnapshot

WAIT_SECONDS = 30
SYSTEM = "engine-ops-system"
KIND = "OptimizerPlugin"
THEN = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
MODEL = ModelInfo("boosting", "sha256:" + "ab" * 32, THEN, 120)


class StandIn:
    """What runs plugins, for a test that says how they stand."""

    def __init__(self) -> None:
        self.specs: list[OptimizerPluginSpec] = []
        self.snapshots: dict[str, PluginSnapshot] = {}
        self.callback: Callable[[str], None] = lambda _: None

    async def apply(self, name: str, spec: OptimizerPluginSpec) -> None:
        self.specs.append(spec)
        self.stands(name, Reason.RUNNING if spec.enabled else Reason.DISABLED)

    async def remove(self, name: str) -> None:
        self.snapshots.pop(name, None)

    def snapshot(self, name: str) -> PluginSnapshot | None:
        return self.snapshots.get(name)

    def subscribe(self, callback: Callable[[str], None]) -> Callable[[], None]:
        self.callback = callback
        return lambda: None

    def stands(self, name: str, state: Reason, **fields: Any) -> None:
        self.snapshots[name] = PluginSnapshot(name=name, enabled=True, state=state, message="so it is", **fields)
        self.callback(name)


class Plugin:
    """One OptimizerPlugin of a test."""

    def __init__(self, kubectl: Kubectl, name: str) -> None:
        self._kubectl = kubectl
        self.name = name

    def apply(self, **spec: Any) -> None:
        manifest = {
            "apiVersion": "engineops.dev/v1alpha1",
            "kind": "OptimizerPlugin",
            "metadata": {"name": self.name},
            "spec": {"source": {"entryPoint": "a.b:C"}, **spec},
        }
        self._kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(manifest))

    def get(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._kubectl("get", "optplug", self.name, "-o", "json").stdout)
        return found

    def view(self) -> PluginView:
        return PluginView.of(self.get())

    def conditions(self) -> dict[str, tuple[str, str]]:
        found = self.get().get("status", {}).get("conditions", ())
        return {entry["type"]: (entry["status"], entry["reason"]) for entry in found}

    async def until(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        async with asyncio.timeout(WAIT_SECONDS):
            while not holds(found := await asyncio.to_thread(self.get)):  # noqa: ASYNC110 - another process changes it
                await asyncio.sleep(0.05)
        return found


@pytest.fixture
def plugin(installed: DevCluster, kubectl: Kubectl) -> Iterator[Plugin]:
    made = Plugin(kubectl, f"test-{uuid.uuid4().hex[:8]}")
    yield made
    kubectl("delete", "optplug", made.name, "--ignore-not-found")


@dataclasses.dataclass
class World:
    plugins: StandIn
    reconciler: PluginReconciler
    connection: Connection
    events: EventRecorder


@asynccontextmanager
async def following(kubeconfig: Path) -> AsyncIterator[World]:
    connection = await Connection.open(str(kubeconfig))
    plugins, events = StandIn(), EventRecorder(connection, "test")
    reconciler = PluginReconciler(
        plugins=plugins, models=MemoryModelStore(), writer=StatusWriter(connection), events=events
    )
    posting = asyncio.create_task(events.run())
    try:
        yield World(plugins, reconciler, connection, events)
    finally:
        await events.drain(2.0)
        posting.cancel()
        await reconciler.close()
        await connection.close()


def run(kubeconfig: Path, test: Callable[[World], Awaitable[None]]) -> None:
    async def inner() -> None:
        async with following(kubeconfig) as world:
            await test(world)

    asyncio.run(inner())


def reason_is(reason: Reason) -> Callable[[dict[str, Any]], bool]:
    def holds(found: dict[str, Any]) -> bool:
        conditions = found.get("status", {}).get("conditions", ())
        return any(entry["type"] == "Ready" and entry["reason"] == reason for entry in conditions)

    return holds


def test_a_whole_status_is_stored_as_it_was_written_and_shown_in_the_columns(
    operator_kubeconfig: Path, plugin: Plugin, kubectl: Kubectl
) -> None:
    async def test(world: World) -> None:
        world.reconciler.observe(plugin.view())
        await plugin.until(reason_is(Reason.RUNNING))
        world.plugins.stands(
            plugin.name, Reason.RUNNING, trained=(Reason.SHADOW, "asked and scored"), is_trained=True, version="1.2.3",
            description="d", types=("resource",), config_schema=b'{"type":"object","properties":{}}',
            model=MODEL, candidate=CandidateInfo(MODEL, 7, "better so far"), skill=0.25, skill_key="expected_duration",
            outcomes=40, loss=0.5, baseline_loss=0.75, confidence=1.0, claimed_confidence=0.5, drift=False,
            counts=Counts(9, 4, 1, 2, 2, 6), p50_ms=1.0, p99_ms=9.0, last_error=LastError("it raised", THEN),
            degraded="it crashed 5 times",
        )  # fmt: skip
        found = await plugin.until(lambda found: "model" in found["status"])
        # Nothing was pruned or changed by the schema. The API server's answer to the write may come after ours.
        entry = world.reconciler._entries[plugin.name]
        async with asyncio.timeout(WAIT_SECONDS):
            while "model" not in entry.known:  # noqa: ASYNC110 - it is over within a few turns of the loop
                await asyncio.sleep(0)
        known = entry.known
        assert found["status"] == json.loads(json.dumps(known))
        assert found["metadata"].get("finalizers") is None
        assert found["metadata"].get("annotations") is None

    plugin.apply()
    run(operator_kubeconfig, test)
    header, row = kubectl("get", "optplug", plugin.name).stdout.splitlines()
    shown = dict(zip(header.split(), row.split(), strict=True))
    assert (shown["ENABLED"], shown["READY"], shown["REASON"], shown["VERSION"]) == ("true", "True", "Running", "1.2.3")
    assert shown["SKILL"] == "0.250"
    kubectl("wait", f"optplug/{plugin.name}", "--for=condition=Trained", "--timeout=60s")


def test_a_patch_takes_the_plugin_out_and_in_again(operator_kubeconfig: Path, plugin: Plugin, kubectl: Kubectl) -> None:
    async def test(world: World) -> None:
        world.reconciler.observe(plugin.view())
        await plugin.until(reason_is(Reason.RUNNING))
        for enabled, reason in ((False, Reason.DISABLED), (True, Reason.RUNNING)):
            patch = json.dumps({"spec": {"enabled": enabled}})
            await asyncio.to_thread(kubectl, "patch", "optplug", plugin.name, "--type=merge", "-p", patch)
            world.reconciler.observe(await asyncio.to_thread(plugin.view))
            found = await plugin.until(reason_is(reason))
            assert found["status"]["observedGeneration"] == found["metadata"]["generation"]
        assert [spec.enabled for spec in world.plugins.specs] == [True, False, True]
        async with asyncio.timeout(WAIT_SECONDS):  # at its end an operator has two seconds for them
            awaited = {("Normal", "Running", KIND), ("Normal", "Disabled", KIND)}
            while not await asyncio.to_thread(told) >= awaited:  # noqa: ASYNC110 - another process has them
                await asyncio.sleep(0.05)

    def told() -> set[tuple[str, str, str]]:
        selector = f"regarding.name={plugin.name}"
        shown = kubectl("get", "events.events.k8s.io", "-n", "default", "--field-selector", selector, "-o", "json")
        return {
            (event["type"], event["reason"], event["regarding"]["kind"]) for event in json.loads(shown.stdout)["items"]
        }

    plugin.apply()
    run(operator_kubeconfig, test)
    assert "Disabled" in kubectl("describe", "optplug", plugin.name).stdout.partition("Events:")[2]


@pytest.mark.parametrize("stale", ["uid", "generation"])
def test_a_status_of_another_object_or_generation_is_dropped(
    operator_kubeconfig: Path, plugin: Plugin, stale: str
) -> None:
    plugin.apply()
    target = plugin.view().target
    other = dataclasses.replace(target, **{stale: "another" if stale == "uid" else target.generation + 1})

    async def test(world: World) -> None:
        writer = StatusWriter(world.connection)
        assert await writer.write(other, {"observedGeneration": 1}) is Written.DROPPED
        assert await writer.write(target, {"observedGeneration": 1}) is Written.DONE
        gone = Target("", "no-such-plugin", "u", 1, target.kind)
        assert await writer.write(gone, {"observedGeneration": 1}) is Written.DROPPED

    run(operator_kubeconfig, test)
    assert plugin.get()["status"]["observedGeneration"] == 1


def test_the_operators_rights_are_enough_and_others_are_told(
    operator_kubeconfig: Path, installed: DevCluster, kubectl: Kubectl, namespace: str
) -> None:
    async def why(kubeconfig: Path) -> str | None:
        connection = await Connection.open(str(kubeconfig))
        try:
            return await why_no_plugins(connection)
        finally:
            await connection.close()

    assert asyncio.run(why(operator_kubeconfig)) is None
    kubectl("create", "serviceaccount", "nobody", "-n", namespace)
    nobody = installed.service_account_kubeconfig(namespace, "nobody")
    assert "watch optimizerplugins.engineops.dev" in (asyncio.run(why(nobody)) or "")


def models(*states: bytes) -> SavedModels:
    digests = [f"sha256:{hashlib.sha256(state).hexdigest()}" for state in states]
    return SavedModels(
        records=tuple(ModelRecord(digest, "m", 10, 1, "x") for digest in digests),
        active=digests[0],
        states=dict(zip(digests, states, strict=True)),
    )


def test_models_are_kept_in_config_maps_and_go_with_their_plugin(
    operator_kubeconfig: Path, plugin: Plugin, kubectl: Kubectl
) -> None:
    big = random.Random(1).randbytes(700 * 1024)  # as it is, it does not get smaller
    saved = models(big[:-1024], b"two", b"three")

    async def test(world: World) -> None:
        store = ConfigMapModelStore(world.connection, SYSTEM)
        await store.save(plugin.name, saved)
        assert await ConfigMapModelStore(world.connection, SYSTEM).load(plugin.name) == saved
        # Another that writes meanwhile is not written over unseen.
        await ConfigMapModelStore(world.connection, SYSTEM).save(plugin.name, models(b"two", b"three"))
        with pytest.raises(ModelStoreError):
            await store.save(plugin.name, models(b"three"))
        await store.save(plugin.name, models(b"three"))
        assert await store.load(plugin.name) == models(b"three")
        await ConfigMapModelStore(world.connection, SYSTEM).sweep()  # the plugin is there
        assert await store.load(plugin.name) == models(b"three")

    plugin.apply()
    run(operator_kubeconfig, test)
    selected = ("-n", SYSTEM, "-l", f"engineops.dev/plugin={plugin.name}", "-o", "json")
    found = json.loads(kubectl("get", "configmaps", *selected).stdout)["items"]
    (digest,) = models(b"three").states
    assert {item["metadata"]["name"]: item.get("immutable", False) for item in found} == {
        index_name(plugin.name): False,
        model_name(plugin.name, digest): True,
    }
    kubectl("delete", "optplug", plugin.name)

    async def after(world: World) -> None:
        await ConfigMapModelStore(world.connection, SYSTEM).sweep()

    run(operator_kubeconfig, after)
    assert json.loads(kubectl("get", "configmaps", *selected).stdout)["items"] == []


def test_the_longest_name_of_a_plugin_has_its_models(operator_kubeconfig: Path) -> None:
    name = f"{uuid.uuid4().hex}{'x' * 221}"
    assert len(name) == 253

    async def test(world: World) -> None:
        store = ConfigMapModelStore(world.connection, SYSTEM)
        await store.save(name, models(b"one"))
        assert await ConfigMapModelStore(world.connection, SYSTEM).load(name) == models(b"one")
        await store.forget(name)
        assert await store.load(name) == SavedModels()

    run(operator_kubeconfig, test)


def test_the_sample_runs_when_it_is_enabled_by_a_patch_and_is_current_either_way(
    start_operator: StartOperator, kubectl: Kubectl
) -> None:
    sample = yaml.safe_load((MANIFESTS / "samples" / "optimizerplugin.yaml").read_text())
    sample["metadata"]["name"] = name = f"test-{uuid.uuid4().hex[:8]}"
    plugin = Plugin(kubectl, name)
    kubectl("apply", "-f", "-", stdin=json.dumps(sample))
    try:
        start_operator()

        async def enabled_and_disabled() -> None:
            await plugin.until(reason_is(Reason.DISABLED))
            for enabled, reason in ((True, Reason.RUNNING), (False, Reason.DISABLED)):
                patch = json.dumps({"spec": {"enabled": enabled}})
                await asyncio.to_thread(kubectl, "patch", "optplug", name, "--type=merge", "-p", patch)
                found = await plugin.until(reason_is(reason))
                assert plugin.conditions()["Ready"] == ("True", reason)
                assert not {"Stalled", "Degraded"} & set(plugin.conditions())
                assert found["status"]["version"] == "1.0.0"
                assert found["metadata"].get("finalizers") is None
            patch = json.dumps({"spec": {"enabled": True, "config": {"no_such_setting": 1}}})
            await asyncio.to_thread(kubectl, "patch", "optplug", name, "--type=merge", "-p", patch)
            found = await plugin.until(reason_is(Reason.INVALID_CONFIG))
            assert plugin.conditions()["Stalled"] == ("True", "InvalidConfig")
            (message,) = {entry["message"] for entry in found["status"]["conditions"]}
            assert "spec.config.no_such_setting" in message

        asyncio.run(enabled_and_disabled())
    finally:
        kubectl("delete", "optplug", name)
