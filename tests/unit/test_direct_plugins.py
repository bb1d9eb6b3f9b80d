"""Plugins as the REST API shows them, and the lineup that says for how long a cached answer is good."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from hosted_world import Stage, on_a_loop, stage
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_instances import digest_of, settled

from engine_ops.api.optimizationrequest import RequestType
from engine_ops.controllers.direct import DirectRequests
from engine_ops.plugins.fallback import IDLE_SECONDS
from engine_ops.plugins.instance import LastError
from engine_ops.workers.messages import Outcome

TYPES = [each.value for each in RequestType]


class NoPool:
    async def run(self, *_: Any, **__: Any) -> Outcome:
        raise AssertionError("nothing is solved here")


@asynccontextmanager
async def engine_of(on: Stage) -> AsyncIterator[DirectRequests]:
    async with DirectRequests(pool=NoPool(), workers=1, manager=on.manager) as engine:
        yield engine


async def seen(engine: DirectRequests, plugin: str | None = None) -> dict[str, str]:
    await settled()
    return {request_type: engine.lineup(request_type, plugin) for request_type in TYPES}


@on_a_loop
async def test_without_plugins_there_is_no_lineup_but_of_predictions() -> None:
    async with stage() as on, engine_of(on) as engine:
        lineup = await seen(engine)
        assert [request_type for request_type in TYPES if lineup[request_type]] == ["ml-driven"]
        assert engine.lineup("genetic", None) == ""


@on_a_loop
async def test_a_lineup_is_of_its_types_plugins_in_their_order() -> None:
    async with stage() as on:
        await on.apply("early", priority=9, supportedTypes=["resource"])
        async with engine_of(on) as engine:
            await on.apply("b")
            await on.apply("off", enabled=False)
            lineup = await seen(engine)
            assert [each.split(":")[0] for each in lineup["resource"].split()] == ["early", "b"]
            assert [each.split(":")[0] for each in lineup["scheduling"].split()] == ["b"]
            assert [each.split(":")[0] for each in lineup["ml-driven"].split()] == ["b", "simple-predictor"]
            alone = await seen(engine, "b")
            assert alone["resource"] == alone["ml-driven"] == lineup["scheduling"]
            assert set((await seen(engine, "none")).values()) == {""}
            assert set((await seen(engine, "nobody")).values()) == {""}


@on_a_loop
async def test_a_lineup_changes_with_whatever_changes_the_answers_and_comes_back_with_it() -> None:
    async with stage() as on, engine_of(on) as engine:
        await on.apply("other", supportedTypes=["scheduling"])
        on.world.has_model = False
        await on.apply("a", supportedTypes=["resource"])
        first = await seen(engine)
        different: list[dict[str, Any]] = [{"priority": 5}, {"config": {"scale": 2}}, {"mode": "shadow"}]
        lineups = {first["resource"]}
        for fields in [*different, {"limits": {"timeoutSeconds": 3}}, {"enabled": False}]:
            await on.apply("a", **{"supportedTypes": ["resource"], **fields})
            lineup = await seen(engine)
            assert lineup["resource"] not in lineups, fields
            assert lineup["scheduling"] == first["scheduling"]
            lineups.add(lineup["resource"])
        await on.apply("a", supportedTypes=["resource"])
        assert await seen(engine) == first
        on.world.unavailable = True
        instance = next(each for each in on.world.alive if each.name == "a")
        instance.unavailable = "its host is gone"
        instance.on_change()
        assert (await seen(engine))["resource"] != first["resource"]
        await on.manager.remove("a")
        assert (await seen(engine))["resource"] == ""


@on_a_loop
async def test_settings_that_are_being_made_ready_are_a_lineup_of_their_own() -> None:
    async with stage() as on, engine_of(on) as engine:
        on.world.has_model = False
        await on.apply("a", config={"scale": 1})
        before = await seen(engine)
        on.world.hold_starts = asyncio.Event()
        await on.apply("a", config={"scale": 2})
        meanwhile = await seen(engine)
        on.world.hold_starts.set()
        after = await seen(engine)
        assert len({each["resource"] for each in (before, meanwhile, after)}) == 3


@on_a_loop
async def test_a_new_model_is_a_new_lineup() -> None:
    async with stage() as on, engine_of(on) as engine:
        await on.apply("a", training={"gate": "none", "retrain": {"afterSamples": 5}})
        before = await seen(engine)
        await on.train()
        assert on.snapshot.model is not None
        assert on.snapshot.model.digest == digest_of("model-1")
        trained = await seen(engine)
        assert trained["resource"] != before["resource"]
        await on.ask()
        await on.outcome(1.0)
        assert await seen(engine) == trained, "requests and outcomes alone change nothing"


@on_a_loop
async def test_the_model_that_predicts_from_the_history_is_in_the_lineup() -> None:
    async with stage(points=100) as on, engine_of(on) as engine:
        before = await seen(engine)
        assert on.manager.running_fallback is None, "it is not started to be looked at"
        assert on.manager.fallback() is not None
        await on.clock.pass_by(11)
        trained = await seen(engine)
        assert trained["ml-driven"] != before["ml-driven"]
        assert trained["resource"] == before["resource"] == ""
        await on.clock.pass_by(IDLE_SECONDS + 1)
        assert await seen(engine) == before


_CHANGES = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.none()
        | st.fixed_dictionaries(
            {"priority": st.integers(0, 2), "enabled": st.booleans(), "config": st.sampled_from([{}, {"scale": 1}])}
        ),
    ),
    max_size=8,
)


@given(changes=_CHANGES)
@settings(max_examples=30)
def test_a_lineup_names_whom_the_manager_selects_whatever_has_changed(
    changes: list[tuple[str, dict[str, Any] | None]],
) -> None:
    async def test() -> None:
        async with stage() as on, engine_of(on) as engine:
            on.world.has_model = False
            for name, fields in changes:
                if fields is None:
                    await on.manager.remove(name)
                else:
                    await on.apply(name, **fields)
            lineup = await seen(engine)
            selected = [plugin.name for plugin in on.manager.select("resource", None)]
            assert [each.split(":")[0] for each in lineup["resource"].split()] == selected
            # The same plugins, made at once, have the same lineup.
            async with engine_of(on) as other:
                assert await seen(other) == lineup

    asyncio.run(test())


@on_a_loop
async def test_a_lineup_is_read_on_any_thread_while_plugins_change() -> None:
    async with stage() as on, engine_of(on) as engine:
        await on.apply("a")
        found: set[tuple[str, ...]] = set()
        began, ended = threading.Event(), threading.Event()

        def read() -> None:
            while not ended.is_set():
                found.add(tuple(each.split(":")[0] for each in engine.lineup("resource", None).split()))
                began.set()

        reading = asyncio.create_task(asyncio.to_thread(read))
        assert await asyncio.to_thread(began.wait, 60)
        for priority in range(100):
            await on.apply("a", priority=priority)
            await on.apply("b", priority=1, enabled=bool(priority % 2))
        ended.set()
        await reading
        assert found <= {("a",), ("a", "b"), ("b", "a")}
        assert found


@on_a_loop
async def test_a_plugin_is_shown_with_its_settings_and_how_it_stands() -> None:
    async with stage() as on, engine_of(on) as engine:
        await on.apply("b", enabled=False, supportedTypes=["scheduling"])
        await on.apply("a", priority=7, config={"scale": 2}, training={"gate": "none"})
        await on.train()
        await on.ask()
        on.world.alive[0].last_error = LastError("it fell", at=_moment())
        infos = await engine.plugins()
        assert [info.name for info in infos] == ["a", "b"]
        shown, off = infos
        assert (shown.version, shown.description, shown.enabled, shown.priority) == ("1.2.3", "A test", True, 7)
        assert (shown.config, shown.types) == ({"scale": 2}, ("ml-driven", "performance", "resource", "scheduling"))
        assert shown.status["state"] == "Running"
        assert shown.status["model"]["digest"] == digest_of("model-1")[:19]
        assert shown.status["counts"]["requests"] == 1
        assert shown.status["trained"] == {
            "status": True,
            "reason": "Trained",
            "message": "trained on 10 points, served without proof",
        }
        assert json.loads(msgspec.json.encode(shown.status)) == shown.status
        assert (off.version, off.types, off.enabled, off.status["state"]) == ("", ("scheduling",), False, "Disabled")
        assert await engine.plugin("a") == shown
        assert await engine.plugin("nobody") is None


def _moment() -> Any:
    import datetime

    return datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
