"""Which plugins there are, and whom a request goes to."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from hosted_world import Stage, on_a_loop, stage
from plugin_stand_ins import Heard, ModelPlugin, request
from scripted_instances import ask_of, settled

from engine_ops.api.reasons import Reason
from engine_ops.ml import WorkloadDataPoint
from engine_ops.ml.scoring import DURATION
from engine_ops.plugins import EventKind, PluginConfig, PluginError
from engine_ops.plugins.fallback import FALLBACK, IDLE_SECONDS
from engine_ops.plugins.remote_plugin import RemotePlugin


def chosen(on: Stage, request_type: str = "resource", pinned: str | None = None) -> list[str]:
    return [plugin.name for plugin in on.manager.select(request_type, pinned)]


@on_a_loop
async def test_requests_go_by_priority_then_name_then_type() -> None:
    async with stage() as on:
        await on.apply("b", priority=1)
        await on.apply("a", priority=1)
        await on.apply("c", priority=9, supportedTypes=["scheduling"])
        assert chosen(on) == ["a", "b"]
        assert chosen(on, "scheduling") == ["c", "a", "b"]
        assert chosen(on, pinned="b") == ["b"]
        assert chosen(on, pinned="c") == []
        assert chosen(on, pinned="none") == []
        assert chosen(on, pinned="z") == []
        await on.apply("b", priority=2)
        await on.apply("c", priority=9, enabled=False)
        assert chosen(on, "scheduling") == ["b", "a"]
        await on.manager.remove("b")
        assert chosen(on) == ["a"]
        assert on.manager.names() == ["a", "c"]


@on_a_loop
async def test_the_registry_shows_them_and_tells_of_them() -> None:
    async with stage() as on:
        heard = Heard()
        on.registry.subscribe(heard)
        on.registry.register(ModelPlugin("own"), PluginConfig(priority=5))
        await on.apply("a", config={"scale": 1})
        assert chosen(on, "ml-driven") == ["a"], "those of the process itself are not asked here"
        entry = on.registry.get("a")
        assert entry is not None
        assert isinstance(entry.plugin, RemotePlugin)
        assert (entry.metadata.version, entry.config.config, entry.plugin.config) == (
            "1.2.3",
            {"scale": 1},
            {"scale": 1},
        )
        with pytest.raises(PluginError, match="process of its own"):
            entry.plugin.optimize(request())
        await on.apply("a", config={"scale": 2}, enabled=False)
        await on.manager.remove("a")
        assert [event for event in heard.words() if event.endswith(" a")] == [
            f"{EventKind.REGISTERED} a",
            f"{EventKind.CONFIG_UPDATED} a",
            f"{EventKind.DISABLED} a",
            f"{EventKind.UNREGISTERED} a",
        ]
        with pytest.raises(ValueError, match="registered already"):
            await on.apply("own")
        assert on.manager.snapshot("own") is None
        on.registry.unregister("own")


@on_a_loop
async def test_a_model_that_learns_from_every_plugin_s_outcomes_is_scored_for_its_own_replies_only() -> None:
    async with stage() as on:
        await on.apply("a", training={"gate": "none"})
        await on.apply("b", training={"gate": "none"})
        await on.train()
        await settled()
        await on.outcome(5000)
        for _ in range(3):
            await on.ask()
            await on.outcome(5000)
        first, second = on.manager.snapshot("a"), on.manager.snapshot("b")
        assert first is not None
        assert second is not None
        assert (first.outcomes, second.outcomes) == (3, 0)
        other = on.manager.get("b")
        assert other is not None
        on.count += 1
        other.shadow(ask_of(), point=on.count.to_bytes(16, "big"), workload=None)
        await settled()
        await on.outcome(5000)
        second = on.manager.snapshot("b")
        assert second is not None
        assert (second.outcomes, second.counts.requests) == (1, 0)


@on_a_loop
async def test_the_baseline_knows_the_history_before_the_first_request() -> None:
    async with stage() as on:
        points = [
            WorkloadDataPoint(at, "resource", {}, duration, True, {"workload": {"name": "w"}})
            for at, duration in ((5000, 70.0), (1000, 10.0), (3000, 50.0), (2000, 30.0), (4000, 60.0), (0, 1.0))
        ]
        await on.manager.warm(iter(points))
        assert on.manager._hosting.baseline.predict("//w", "resource", DURATION) == 50.0


@on_a_loop
async def test_whoever_waits_is_told_when_somebody_else_can_answer() -> None:
    async with stage() as on:
        version = on.manager.version
        waiting = asyncio.create_task(on.manager.wait_changed(version))
        await settled()
        assert not waiting.done()
        await on.apply("a")
        version = await waiting
        await settled()
        version = on.manager.version
        on.world.alive[0].on_change()
        await on.ask()
        await on.clock.pass_by(30)
        assert on.manager.version == version, "nothing has changed"
        await on.apply("a", enabled=False)
        assert await on.manager.wait_changed(version) > version
        waiting = asyncio.create_task(on.manager.wait_changed(on.manager.version))
        await settled()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert not on.manager._waiting


@on_a_loop
async def test_a_listener_that_fails_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async with stage() as on:
        told: list[str] = []

        def fail(name: str) -> None:
            raise RuntimeError(name)

        on.manager.subscribe(fail)
        on.manager.subscribe(told.append)
        await on.apply("a")
        assert set(told) == {"a"}
        assert "a listener failed" in caplog.text
        assert on.snapshot.state is Reason.RUNNING


@on_a_loop
async def test_the_fallback_predicts_once_there_are_ten_points() -> None:
    async with stage() as on:
        fallback = on.manager.fallback()
        assert fallback is not None
        assert fallback is on.manager.fallback()
        assert fallback.name == FALLBACK
        await settled()
        assert chosen(on, "ml-driven") == [], "it is no OptimizerPlugin"
        on.world.says_no = "Model not trained"
        said = await fallback.ask(ask_of("ml-driven"), point=None, workload=None, needs_prediction=True)
        assert (said.envelope, said.waiting) == (None, Reason.NOT_ENOUGH_DATA)
        on.world.says_no = None
        version = on.manager.version
        on.world.points = 9
        await on.outcome(5000)
        assert on.manager.version > version, "requests that wait are tried again"
        said = await fallback.ask(ask_of("ml-driven"), point=None, workload=None, needs_prediction=True)
        assert said.envelope is not None
        for _ in range(25):
            await on.outcome(5000)
        assert on.world.trained_count == 2, "it keeps up with the history"


@on_a_loop
async def test_a_fallback_that_nobody_needs_is_ended_and_is_back_with_its_model() -> None:
    async with stage(points=10) as on:
        fallback = on.manager.fallback()
        await settled()
        await on.clock.pass_by(IDLE_SECONDS - 1)
        assert on.manager.fallback() is fallback, "it was needed again in time"
        await on.clock.pass_by(IDLE_SECONDS - 1)
        assert len(on.world.alive) == 1
        await on.clock.pass_by(1)
        assert on.world.alive == []
        trained = on.world.trained_count
        for _ in range(50):
            await on.outcome(5000)
        await on.clock.pass_by(IDLE_SECONDS)
        assert on.world.trained_count == trained
        on.world.hold_trainings = asyncio.Event()
        again = on.manager.fallback()
        assert again is not None
        assert again is not fallback
        await settled()
        said = await again.ask(ask_of("ml-driven"), point=None, workload=None, needs_prediction=True)
        assert said.envelope is not None
        assert f'"model-{trained}"'.encode() in said.envelope
        assert on.world.training_now == 1, "it makes up for what it has missed, aside"


@on_a_loop
async def test_the_fallback_wakes_whoever_waits_though_a_plugin_has_its_name() -> None:
    async with stage(points=10) as on:
        on.world.has_model = True
        await on.apply(FALLBACK, enabled=False)
        version = on.manager.version
        on.manager.fallback()
        await settled()
        assert on.manager.version > version
        assert on.manager.select("ml-driven", None) == []


@on_a_loop
async def test_there_is_no_fallback_without_a_history() -> None:
    async with stage(history=False) as on:
        assert on.manager.fallback() is None


@on_a_loop
async def test_after_the_end_nothing_is_started() -> None:
    on = Stage()
    await on.apply()
    await on.manager.close()
    await on.manager.close()
    await on.apply()
    await on.apply("b")
    assert on.manager.names() == []
    assert on.manager.fallback() is None
    assert on.world.alive == []


def test_the_manager_needs_neither_numpy_nor_scikit_learn() -> None:
    code = (
        "import sys; import engine_ops.plugins.manager; "
        "sys.exit(repr([name for name in ('numpy', 'sklearn', 'kopf', 'kubernetes') if name in sys.modules] or ''))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.stderr.strip(), ended.returncode) == ("''", 1)
