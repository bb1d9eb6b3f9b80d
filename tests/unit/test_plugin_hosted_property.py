"""Whatever happens to plugins, and in whatever order: nothing is served that must not be, and nothing is left over."""

from __future__ import annotations

import asyncio
from typing import Any

from hosted_world import Stage, on_a_loop, stage
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_instances import ask_of, settled, spec_of

from engine_ops.api.reasons import Reason
from engine_ops.plugins.instance import PluginBrokenError
from engine_ops.plugins.model_store import KEPT, MemoryModelStore
from engine_ops.plugins.training import is_gated

REJECTED = {"scale": "x"}
SPECS = st.fixed_dictionaries(
    {
        "enabled": st.sampled_from([True, True, True, False]),
        "mode": st.sampled_from(["active", "active", "shadow"]),
        "config": st.sampled_from([{}, {"scale": 1}, REJECTED]),
        "limits": st.sampled_from([{}, {"timeoutSeconds": 5}]),
        "training": st.fixed_dictionaries(
            {"minSamples": st.sampled_from([5, 10]), "retrain": st.sampled_from([{}, {"afterSamples": 5}])},
            optional={"gate": st.sampled_from(["none", "proven"]), "pinnedModel": st.just("sha256:4f93e5df395c")},
        ),
    }
)
NAMES = st.sampled_from(["a", "b"])
EVENTS = st.one_of(
    st.tuples(st.just("apply"), NAMES, SPECS),
    st.tuples(st.just("remove"), NAMES),
    st.tuples(st.just("ask"), NAMES, st.sampled_from(["resource", "ml-driven"]), st.booleans()),
    st.tuples(st.just("outcomes"), st.integers(1, 40)),
    st.tuples(st.just("pass"), st.sampled_from([1.0, 30.0, 700.0])),
    st.tuples(st.just("crash"), st.integers(0, 3)),
    st.tuples(st.just("breaks"), st.sampled_from(["import", "load", "train"]), st.booleans()),
    st.tuples(st.just("away"), st.booleans()),
    st.tuples(st.just("saves"), st.booleans()),
    st.tuples(st.just("hold"), st.sampled_from(["hold_starts", "hold_trainings", "hold_asks"]), st.booleans()),
    st.tuples(st.just("turn"), st.integers(0, 3)),
)


class Run:
    def __init__(self, on: Stage) -> None:
        self.on = on
        self.asks: list[asyncio.Task[None]] = []
        self.others: list[asyncio.Task[Any]] = []
        self.keys: list[bytes] = []

    async def do(self, event: tuple[Any, ...]) -> None:
        on, world = self.on, self.on.world
        match event:
            case ("apply", name, fields):
                await on.manager.apply(name, spec_of(**fields))
            case ("remove", name):
                self.others.append(asyncio.create_task(on.manager.remove(name)))
            case ("ask", name, request_type, needs_prediction):
                self.asks.append(asyncio.create_task(self.ask(name, request_type, needs_prediction)))
            case ("outcomes", count):
                for index in range(count):
                    await on.outcome(5000.0 * (0.8, 1.25)[index % 2])
            case ("pass", seconds):
                await on.clock.pass_by(seconds)
            case ("crash", index):
                if index < len(world.alive):
                    world.alive[index].crash()
            case ("breaks", stage_, is_broken):
                if is_broken:
                    world.broken[stage_] = PluginBrokenError(stage_, f"{stage_} fails")
                else:
                    world.broken.pop(stage_, None)
            case ("away", is_away):
                world.unavailable = is_away
            case ("saves", saves):
                world.saves = saves
            case ("hold", what, is_held):
                held = getattr(world, what)
                if held is not None:
                    held.set()
                setattr(world, what, asyncio.Event() if is_held else None)
            case ("turn", count):
                for _ in range(count):
                    await asyncio.sleep(0)
        self.check()

    async def ask(self, name: str, request_type: str, needs_prediction: bool) -> None:
        plugin = self.on.manager.get(name)
        if plugin is None:
            return
        self.on.count += 1
        key = self.on.count.to_bytes(16, "big")
        spec = plugin.spec
        said = await plugin.ask(ask_of(request_type), point=key, workload=None, needs_prediction=needs_prediction)
        assert (said.envelope is None) == (said.no is not None)
        if said.envelope is None:
            assert said.no
            return
        assert not said.shadow
        # What was decided when it was asked holds for the answer.
        assert spec.mode == "active"

    def check(self) -> None:
        on = self.on
        assert on.world.most_at_once <= 1
        for name in on.manager.names():
            plugin = on.manager.get(name)
            snapshot = on.manager.snapshot(name)
            assert plugin is not None
            assert snapshot is not None
            assert len(list(plugin._state.lineup.shelf)) <= KEPT
            active, candidate = plugin._state.lineup.roles
            assert active is None or active is not candidate
            selected = plugin in on.manager.select("resource", None)
            if not plugin.spec.enabled:
                assert snapshot.state is Reason.DISABLED
                assert not selected
            elif snapshot.state in (Reason.INVALID_CONFIG, Reason.LOAD_FAILED) and plugin._state.edition is None:
                assert not selected
            elif snapshot.state in (Reason.RUNNING, Reason.UPDATING):
                assert snapshot.is_behind is (snapshot.state is Reason.UPDATING)
                assert plugin._state.edition == plugin._state.wanted or snapshot.is_behind
                assert selected
            if active is not None and not active.passed and snapshot.state is Reason.RUNNING:
                pinned = plugin.spec.training.pinned_model
                assert (pinned and active.digest.startswith(pinned)) or not plugin._state.is_gated
            if candidate is not None and is_gated(plugin.spec, "resource"):
                assert not candidate.passed


@settings(max_examples=150)
@given(st.lists(EVENTS, max_size=40))
def test_any_order_of_events(events: list[tuple[Any, ...]]) -> None:
    @on_a_loop
    async def run() -> None:
        async with stage(store=MemoryModelStore()) as on:
            on.world.rejected_configs = [REJECTED]
            run = Run(on)
            for event in events:
                await run.do(event)
            for what in ("hold_starts", "hold_trainings", "hold_asks"):
                await run.do(("hold", what, False))
            on.world.broken.clear()
            on.world.unavailable = False
            await asyncio.gather(*run.asks, *run.others)
            await on.clock.pass_by(1400)
            await settled()
            run.check()
            # In the end all is as the last spec wants it.
            for name in on.manager.names():
                plugin = on.manager.get(name)
                assert plugin is not None
                state = plugin.snapshot().state
                was_started = plugin._life is not None
                if not was_started:
                    assert state is Reason.DISABLED
                elif plugin.spec.config == REJECTED:
                    assert state in (Reason.INVALID_CONFIG, Reason.DISABLED)
                    assert plugin._state.lineup.instance is None
                else:
                    assert state in (Reason.RUNNING, Reason.DISABLED)
                    assert plugin._state.edition == plugin._state.wanted
                    running = [each for each in on.world.alive if each.name == name]
                    assert 1 <= len(running) <= 2
                    assert all(each.spec.config == plugin.spec.config for each in running)
                    assert all(each.spec.limits == plugin.spec.limits for each in running)
                    enough = on.world.points >= plugin.spec.training.min_samples
                    if plugin.spec.enabled and enough and plugin.spec.training.pinned_model is None:
                        assert plugin.snapshot().is_trained

    run()
