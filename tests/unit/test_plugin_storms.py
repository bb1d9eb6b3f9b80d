"""Many changes at once, at the worst moments: the reconciler and the manager together come to what was wanted last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hosted_world import on_a_loop
from scripted_instances import Clock, World, ask_of, digest_of, settled

from engine_ops.api.optimizerplugin import OptimizerPluginStatus
from engine_ops.controllers import plugin_reconciler as reconciling
from engine_ops.controllers.plugin_reconciler import PluginReconciler
from engine_ops.controllers.view import PluginView
from engine_ops.kube.errors import ApiError
from engine_ops.kube.status_writer import Written
from engine_ops.kube.target import Target
from engine_ops.plugins.manager import PluginManager
from engine_ops.plugins.model_store import MemoryModelStore, ModelStoreError, SavedModels
from engine_ops.plugins.registry import PluginRegistry

UNGATED = {"gate": "none"}


class Store(MemoryModelStore):
    """Away for a while, if a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False

    async def save(self, plugin: str, models: SavedModels) -> None:
        if self.away:
            raise ModelStoreError("the API server does not answer")
        await super().save(plugin, models)

    async def forget(self, plugin: str) -> None:
        if self.away:
            raise ModelStoreError("the API server does not answer")
        await super().forget(plugin)

    def kept(self, plugin: str) -> set[str]:
        return {state.decode() for state in self._saved.get(plugin, SavedModels()).states.values()}


class Place:
    """The API server, as far as plugins matter, and one operator."""

    def __init__(self, store: Store) -> None:
        self.world = World()
        self.world.points = 10
        self.store = store
        self.clock = Clock()
        self.away = False
        self.hold_writes: asyncio.Event | None = None
        self.statuses: dict[str, Mapping[str, Any]] = {}
        self.writes = 0
        self.manager = PluginManager(
            PluginRegistry(),
            make_instance=self.world.make,
            history=self,
            store=self.store,
            now=self.clock,
            sleep=self.clock.sleep,
        )
        edges: Any = self
        self.reconciler = PluginReconciler(
            plugins=self.manager, models=self.store, writer=edges, events=edges, coalesce_seconds=0.002
        )
        self._generations: dict[str, int] = {}

    def points(self) -> int:
        return self.world.points

    def record(self, target: Target, type_: str, reason: str, message: str) -> None:
        """Events are for others."""

    async def write(self, target: Target, status: dict[str, Any]) -> Written:
        OptimizerPluginStatus.model_validate(status)
        await asyncio.sleep(0)
        if self.away:
            raise ApiError(503, {"message": "it is away"})
        self.writes += 1
        if self.hold_writes is not None:
            await self.hold_writes.wait()
        self.statuses[target.uid] = status
        return Written.DONE

    def show(self, name: str = "a", *, uid: str = "", entry_point: str = "a.b:C", **spec: Any) -> PluginView:
        """The watch shows a plugin, with a new spec."""
        uid = uid or name
        generation = self._generations[uid] = self._generations.get(uid, 0) + 1
        metadata = {"name": name, "uid": uid, "generation": generation}
        whole = {"source": {"entryPoint": entry_point}, "training": UNGATED, **spec}
        shown = PluginView.of({"metadata": metadata, "spec": whole, "status": self.statuses.get(uid, {})})
        self.reconciler.observe(shown)
        return shown

    def is_told(self, uid: str = "a") -> bool:
        """Whether the status is that of the last spec, and says what the plugin is like."""
        status = self.statuses.get(uid, {})
        conditions = {one["type"]: one["reason"] for one in status.get("conditions", ())}
        return status.get("observedGeneration") == self._generations[uid] and "Reconciling" not in conditions

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await self.clock.pass_by(1)
                await asyncio.sleep(0.001)

    async def answer(self, name: str = "a") -> bytes:
        (plugin,) = self.manager.select("resource", name)
        said = await plugin.ask(ask_of(), point=None, workload=None, needs_prediction=False)
        return said.envelope or b""


@asynccontextmanager
async def place(store: Store | None = None) -> AsyncIterator[Place]:
    """One operator, and the proof that nothing is left of it."""
    before = asyncio.all_tasks()
    made = Place(store or Store())
    try:
        yield made
    finally:
        for hold in (made.world.hold_starts, made.world.hold_trainings):
            if hold is not None:
                hold.set()
        await made.reconciler.close()
        await made.manager.close()
    await settled()
    assert asyncio.all_tasks() <= before
    assert made.world.alive == []


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciling, "FIRST_RETRY_SECONDS", 0.001)
    monkeypatch.setattr(reconciling, "LAST_RETRY_SECONDS", 0.002)


@pytest.mark.parametrize("last", [True, False])
@on_a_loop
async def test_a_plugin_that_is_switched_a_hundred_times_is_as_it_was_left(last: bool) -> None:
    async with place() as on:
        on.show()
        await on.until(lambda: on.store.kept("a") == {"model-1"} and on.is_told())
        before = on.writes
        on.hold_writes = asyncio.Event()
        on.show(enabled=not last, priority=1)
        await on.until(lambda: on.writes > before)
        for number in range(100):
            on.show(enabled=bool(number % 2) is last)
            await asyncio.sleep(0)
        on.hold_writes.set()
        await on.until(on.is_told)
        assert on.statuses["a"]["conditions"][0]["reason"] == ("Running" if last else "Disabled")
        assert len(on.manager.select("resource", None)) == last
        assert (len(on.world.alive), on.world.trained_count) == (1, 1), "nothing was started anew"
        assert on.writes - before <= 3, "what has changed while a status was written is told with one more"


@on_a_loop
async def test_settings_that_change_during_trainings_end_with_a_model_of_the_last_ones() -> None:
    async with place() as on:
        on.world.hold_trainings = asyncio.Event()
        on.show(config={"scale": 0})
        for scale in range(1, 6):
            await on.until(lambda: on.world.training_now > 0)
            on.show(config={"scale": scale})
        on.world.hold_trainings.set()
        await on.until(lambda: on.is_told() and "model" in on.statuses["a"])
        assert b"model" in await on.answer()
        (alive,) = on.world.alive
        assert alive.spec.config == {"scale": 5}
        assert (on.world.training_now, on.world.most_at_once) == (0, 1)


@on_a_loop
async def test_a_plugin_that_is_deleted_while_it_trains_leaves_nothing_and_others_all() -> None:
    async with place() as on:
        on.show("other")
        await on.until(lambda: on.store.kept("other") == {"model-1"} and on.is_told("other"))
        on.world.hold_trainings = asyncio.Event()
        shown = on.show(training={**UNGATED, "minSamples": 1})
        await on.until(lambda: on.world.training_now > 0)
        on.reconciler.gone(shown)
        on.world.hold_trainings.set()
        await on.until(lambda: on.manager.names() == ["other"] and on.reconciler.under_way == 0)
        await on.until(lambda: [each.name for each in on.world.alive] == ["other"])
        assert on.store._saved.keys() == {"other"}
        assert b"model-1" in await on.answer("other")


@pytest.mark.parametrize("is_told_of_the_end", [True, False])
@on_a_loop
async def test_another_plugin_under_the_same_name_has_none_of_the_firsts_models(is_told_of_the_end: bool) -> None:
    async with place() as on:
        first = on.show(uid="first")
        on.show("other")
        await on.until(lambda: bool(on.store.kept("a") and on.store.kept("other")))
        others = on.store.kept("other")
        on.world.hold_trainings = asyncio.Event()
        if is_told_of_the_end:
            on.reconciler.gone(first)
        on.show(uid="second", entry_point="x.y:Z")
        await on.until(lambda: on.is_told("second"))
        assert "model" not in on.statuses["second"]
        assert b"model-" not in await on.answer()
        on.world.hold_trainings.set()
        await on.until(lambda: on.store.kept("a") == {"model-3"})
        assert on.store.kept("other") == others
        assert {each.spec.source.entry_point for each in on.world.alive if each.name == "a"} == {"x.y:Z"}


@on_a_loop
async def test_while_the_api_server_is_away_requests_are_answered_and_afterwards_all_is_told() -> None:
    async with place() as on:
        policy = {"training": {**UNGATED, "retrain": {"afterSamples": 1}}}
        on.show(**policy)
        await on.until(lambda: on.store.kept("a") == {"model-1"} and on.is_told())
        on.away = on.store.away = True
        on.show(priority=7, **policy)
        on.manager._plugins["a"].outcome(None, {})
        await on.until(lambda: on.world.trained_count == 2)
        await on.clock.pass_by(30)
        assert b"model-2" in await on.answer()
        assert not on.is_told()
        on.away = on.store.away = False
        await on.until(lambda: on.store.kept("a") == {"model-1", "model-2"})
        await on.until(lambda: on.is_told() and on.statuses["a"]["model"]["digest"] == digest_of("model-2")[:19])
        await on.until(lambda: "trained again after a restart" not in str(on.statuses["a"]["conditions"]))


@on_a_loop
async def test_of_two_operators_the_one_that_stays_keeps_a_model_that_it_can_load() -> None:
    store = Store()
    async with place(store) as old:
        old.show()
        await old.until(lambda: store.kept("a") == {"model-1"})
        async with place(store) as new:
            new.show()
            await new.until(lambda: new.is_told() and "model" in new.statuses["a"])
            assert new.world.trained_count == 0
            await old.reconciler.close()
            await old.manager.close()
            assert b"model-1" in await new.answer()
            assert store.kept("a") == {"model-1"}
