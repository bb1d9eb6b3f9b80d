"""The life of plugins in real processes: trained on a history, served, killed, restarted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import msgspec
import pytest
from real_plugin_host import RealHost, real_host, until

from engine_ops.api.optimizerplugin import OptimizerPluginSpec
from engine_ops.api.reasons import Reason
from engine_ops.history.collector import WorkloadCollector
from engine_ops.history.feed import HistoryFeed
from engine_ops.ml import WorkloadDataPoint
from engine_ops.plugins.hosted import HostedPlugin
from engine_ops.plugins.manager import PluginManager
from engine_ops.plugins.messages import Ask
from engine_ops.plugins.model_store import MemoryModelStore, ModelStore
from engine_ops.plugins.process_instance import ProcessInstance
from engine_ops.plugins.registry import PluginRegistry

PREDICTOR = "engine_ops.ml.examples.simple_predictor:SimplePredictorPlugin"


@pytest.fixture(scope="module")
def host() -> Iterator[RealHost]:
    with real_host() as started:
        yield started


class History:
    def __init__(self, count: int) -> None:
        self.collector = WorkloadCollector()
        self.feed = HistoryFeed(self.collector)
        for number in range(count):
            self.record(number)

    def record(self, number: int) -> WorkloadDataPoint:
        metadata = {"uid": f"u{number}", "generation": 1, "run": 0}
        point = WorkloadDataPoint(10**12 + number, "ml-driven", {"cpu": 1.0}, 2000.0, True, metadata)
        self.collector.record(point)
        return point

    def points(self) -> int:
        return len(self.collector)


@contextlib.asynccontextmanager
async def managing(
    host: RealHost, history: History, instances: list[ProcessInstance], store: ModelStore | None = None
) -> AsyncIterator[PluginManager]:
    def make(name: str, spec: OptimizerPluginSpec, state: bytes, on_change: Callable[[], None], /) -> ProcessInstance:
        entry_point = spec.source.entry_point
        assert entry_point is not None
        config = msgspec.json.encode(spec.config or {})
        instance = ProcessInstance(host.client, entry_point, name, config, spec.limits, history.feed, state, on_change)
        instances.append(instance)
        return instance

    manager = PluginManager(PluginRegistry(), make_instance=make, history=history, store=store)
    try:
        yield manager
    finally:
        await manager.close()


def spec(entry_point: str = PREDICTOR, **fields: Any) -> OptimizerPluginSpec:
    return OptimizerPluginSpec.model_validate({"source": {"entryPoint": entry_point}, **fields})


async def predicted(plugin: HostedPlugin) -> dict[str, Any]:
    ask = Ask("r", "ml-driven", msgspec.json.encode({"workload_size": 100}))
    said = await plugin.ask(ask, point=b"0" * 16, workload=None, needs_prediction=True)
    assert said.envelope is not None, said.no
    decoded: dict[str, Any] = msgspec.json.decode(said.envelope)
    return decoded


def test_a_plugin_is_trained_aside_served_and_survives_its_process_and_ours(host: RealHost) -> None:
    async def test() -> None:
        store = MemoryModelStore()
        history = History(5)
        instances: list[ProcessInstance] = []
        async with managing(host, history, instances, store) as manager:
            await manager.apply("p", spec())
            plugin = manager.get("p")
            assert plugin is not None
            await until(lambda: plugin.snapshot().state is Reason.RUNNING)
            assert plugin.snapshot().trained == (
                Reason.NOT_ENOUGH_DATA,
                "the history has 5 of the 10 points that training needs",
            )
            for number in range(5, 40):
                manager.outcome(None, history.record(number))
            await until(lambda: plugin.snapshot().is_trained)
            answer = await predicted(plugin)
            assert answer["result"]["expected_duration"] == pytest.approx(2000)
            assert len([each for each in instances if each._kept.process is not None]) == 1
            pid = instances[-1]._kept.process.pid  # type: ignore[union-attr]
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await until(lambda: instances[-1].counters.restarts == 1)
            assert (await predicted(plugin))["result"] == answer["result"]
            before = plugin.snapshot()
            assert before.candidate is not None
        assert all(each._kept.process is None for each in instances)
        async with managing(host, history, [], store) as manager:
            await manager.apply("p", spec())
            plugin = manager.get("p")
            assert plugin is not None
            await until(lambda: plugin.snapshot().state is Reason.RUNNING)
            after = plugin.snapshot().candidate
            assert after is not None
            assert after.model == before.candidate.model
            assert (await predicted(plugin))["result"] == answer["result"]

    host.run(test)


def test_who_waits_for_a_plugin_whose_host_was_killed_is_told_when_it_is_back() -> None:
    async def test() -> None:
        async with managing(host, History(20), []) as manager:
            await manager.apply("p", spec())
            plugin = manager.get("p")
            assert plugin is not None
            await until(lambda: plugin.snapshot().is_trained)
            version = manager.version
            os.kill(host.pid, signal.SIGKILL)
            async with asyncio.timeout(60):
                version = await manager.wait_changed(version)
                gone = plugin.snapshot()
                assert gone.state is Reason.PLUGIN_UNAVAILABLE
                assert gone.is_trained
                ask = Ask("r", "ml-driven", b"{}")
                said = await plugin.ask(ask, point=None, workload=None, needs_prediction=True, timeout_seconds=0.01)
                assert said.waiting is Reason.PLUGIN_UNAVAILABLE
                await manager.wait_changed(version)
            assert plugin.snapshot().state is Reason.RUNNING
            assert (await predicted(plugin))["result"]["expected_duration"] == pytest.approx(2000)

    with real_host() as host:
        host.run(test)


def test_the_fallback_answers_from_the_history_alone(host: RealHost) -> None:
    async def test() -> None:
        async with managing(host, History(20), []) as manager:
            fallback = manager.fallback()
            assert fallback is not None
            await until(lambda: fallback.snapshot().is_trained)
            assert (await predicted(fallback))["result"]["expected_duration"] == pytest.approx(2000)

    host.run(test)


def test_what_cannot_be_loaded_is_told(host: RealHost) -> None:
    async def test() -> None:
        async with managing(host, History(20), []) as manager:
            await manager.apply("missing", spec("no_such_module:Plugin"))
            await manager.apply("strict", spec("bad_plugins:Sleepy", config={"seconds": -1}))
            missing, strict = manager.get("missing"), manager.get("strict")
            assert missing is not None
            assert strict is not None
            await until(lambda: missing.snapshot().state is Reason.LOAD_FAILED)
            await until(lambda: strict.snapshot().state is Reason.INVALID_CONFIG)
            assert "no_such_module" in missing.snapshot().message
            assert [path for path, _ in strict.snapshot().faults] == ["config.seconds"]
            assert manager.select("resource", None) == []
            await manager.apply("strict", spec("bad_plugins:Sleepy", config={"seconds": 0.001}))
            await until(lambda: manager.select("resource", None) == [strict])

    host.run(test)
