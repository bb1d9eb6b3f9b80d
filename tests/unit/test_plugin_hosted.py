"""The life of a plugin: started, asked, replaced, ended."""

from __future__ import annotations

import asyncio

from hosted_world import on_a_loop, stage
from scripted_instances import ask_of, settled, spec_of

from engine_ops.api.reasons import Reason
from engine_ops.plugins.instance import PluginBrokenError, Unanswered
from engine_ops.plugins.snapshot import Counts


@on_a_loop
async def test_a_plugin_is_asked_once_it_has_started() -> None:
    async with stage() as on:
        on.world.hold_starts = asyncio.Event()
        await on.apply()
        assert (on.snapshot.state, on.snapshot.trained) == (Reason.STARTING, None)
        assert on.manager.select("resource", None) == []
        said = await on.ask()
        assert (said.envelope, said.waiting, said.fault) == (None, Reason.STARTING, False)
        on.world.hold_starts.set()
        await settled()
        assert on.snapshot.state is Reason.RUNNING
        assert (on.snapshot.version, on.snapshot.types) == ("1.2.3", on.world.types)
        assert on.manager.select("resource", None) == [on.plugin]
        said = await on.ask()
        assert said.envelope is not None
        assert (said.no, said.version, said.model_id, said.claimed_confidence) == (None, "1.2.3", "m", 0.5)


@on_a_loop
async def test_one_that_was_never_enabled_is_never_started() -> None:
    async with stage() as on:
        await on.apply(enabled=False)
        await on.clock.pass_by(100)
        assert on.snapshot.state is Reason.DISABLED
        assert on.world.instances == []
        await on.apply(enabled=True)
        assert on.snapshot.state is Reason.RUNNING


@on_a_loop
async def test_switching_off_and_on_restarts_nothing() -> None:
    async with stage() as on:
        await on.apply()
        await on.apply(enabled=False)
        assert on.manager.select("resource", None) == []
        assert on.snapshot.state is Reason.DISABLED
        await on.apply(
            enabled=True, priority=7, supportedTypes=["resource"], mode="shadow", training={"minSamples": 99}
        )
        assert on.manager.select("scheduling", None) == []
        assert on.manager.select("resource", None) == [on.plugin]
        assert on.snapshot.types == ("resource",)
        assert len(on.world.instances) == 1


@on_a_loop
async def test_new_settings_take_over_when_they_are_ready_and_the_old_ones_finish() -> None:
    async with stage() as on:
        await on.apply(config={"scale": 1})
        old = on.world.instances[0]
        on.world.hold_asks = asyncio.Event()
        in_flight = asyncio.create_task(on.ask())
        await settled()
        on.world.hold_starts = asyncio.Event()
        await on.apply(config={"scale": 2})
        assert (on.snapshot.state, on.snapshot.is_behind) == (Reason.UPDATING, True)
        assert on.manager.select("resource", None) == [on.plugin], "the old settings serve until the new are ready"
        on.world.hold_starts.set()
        await settled()
        assert (on.snapshot.state, on.snapshot.is_behind) == (Reason.RUNNING, False)
        assert old.closed
        assert not in_flight.done()
        on.world.hold_asks.set()
        assert (await in_flight).envelope is not None
        await on.ask()
        assert [len(instance.asks) for instance in on.world.instances] == [1, 1]
        assert on.world.instances[1].spec.config == {"scale": 2}


@on_a_loop
async def test_what_answered_before_it_was_disabled_is_not_asked_when_it_is_enabled_with_other_settings() -> None:
    async with stage() as on:
        await on.apply(config={"scale": 1})
        await on.apply(enabled=False, config={"scale": 1})
        on.world.hold_starts = asyncio.Event()
        await on.apply(config={"scale": 2})
        assert on.snapshot.state is Reason.STARTING
        assert on.manager.select("resource", None) == []
        assert (await on.ask()).waiting is Reason.STARTING
        on.world.hold_starts.set()
        await settled()
        assert on.snapshot.state is Reason.RUNNING
        (alive,) = on.world.alive
        assert alive.spec.config == {"scale": 2}
        assert (await on.ask()).envelope is not None
        assert [len(instance.asks) for instance in on.world.instances] == [0, 1]


@on_a_loop
async def test_a_request_that_came_too_late_for_one_instance_goes_to_the_next() -> None:
    async with stage() as on:
        await on.apply(config={"scale": 1})
        old = on.world.instances[0]
        closed_answer = old.ask

        async def late(ask: object, *, timeout_seconds: float | None = None) -> object:
            await on.apply(config={"scale": 2})
            return await closed_answer(ask_of(), timeout_seconds=timeout_seconds)

        old.ask = late  # type: ignore[assignment, method-assign]
        assert (await on.ask()).envelope is not None
        assert old.asks == []


@on_a_loop
async def test_the_last_of_many_specs_counts() -> None:
    async with stage() as on:
        on.world.hold_starts = asyncio.Event()
        for scale in range(5):
            await on.manager.apply("a", spec_of(config={"scale": scale}))
            await asyncio.sleep(0)
        on.world.hold_starts.set()
        await settled()
        (alive,) = on.world.alive
        assert alive.spec.config == {"scale": 4}
        assert on.snapshot.state is Reason.RUNNING


@on_a_loop
async def test_settings_that_are_rejected_take_it_out_of_selection_until_they_change() -> None:
    async with stage() as on:
        on.world.rejected_configs = [{"scale": "x"}]
        await on.apply(config={"scale": 1})
        await on.apply(config={"scale": "x"})
        assert on.snapshot.state is Reason.INVALID_CONFIG
        assert on.snapshot.faults == (("config.scale", "must be a number"),)
        assert on.manager.select("resource", None) == []
        assert on.world.alive == []
        assert "must be a number" in str((await on.ask()).no)
        tried = len(on.world.instances)
        await on.clock.pass_by(300)
        assert len(on.world.instances) == tried, "the spec must change first"
        await on.apply(config={"scale": 1})
        assert on.snapshot.state is Reason.RUNNING
        assert on.manager.select("resource", None) == [on.plugin]


@on_a_loop
async def test_settings_that_were_rejected_before_are_tried_again_when_they_come_back() -> None:
    async with stage() as on:
        on.world.rejected_configs = [{"scale": "x"}]
        await on.apply(config={"scale": "x"})
        await on.manager.apply("a", spec_of(config={"scale": 1}))
        await on.apply(config={"scale": "x"})
        assert on.snapshot.state is Reason.INVALID_CONFIG


@on_a_loop
async def test_an_import_that_fails_is_tried_again_less_and_less_often() -> None:
    async with stage() as on:
        on.world.broken["import"] = PluginBrokenError("import", "No module named 'examples'")
        await on.apply()
        assert on.snapshot.state is Reason.LOAD_FAILED
        assert "No module" in on.snapshot.message
        tried = []
        for _ in range(200):
            await on.clock.pass_by(1)
            tried.append(len(on.world.instances))
        assert [tried[at - 1] for at in (1, 3, 7, 15, 31, 63)] == [1, 2, 3, 4, 5, 6]
        assert tried[-1] == 8, "at most once a minute"
        del on.world.broken["import"]
        await on.clock.pass_by(61)
        assert on.snapshot.state is Reason.RUNNING


@on_a_loop
async def test_a_host_that_is_away_is_waited_for() -> None:
    async with stage() as on:
        on.world.unavailable = True
        await on.apply()
        assert on.snapshot.state is Reason.PLUGIN_UNAVAILABLE
        said = await on.ask()
        assert (said.waiting, said.fault) == (Reason.PLUGIN_UNAVAILABLE, False)
        on.world.unavailable = False
        await on.clock.pass_by(3)
        assert on.snapshot.state is Reason.RUNNING


@on_a_loop
async def test_while_the_host_is_away_settings_as_they_were_stay_in_force() -> None:
    async with stage() as on:
        await on.apply(config={"scale": 1})
        on.world.unavailable = True
        await on.apply(config={"scale": 2})
        assert on.snapshot.state is Reason.PLUGIN_UNAVAILABLE
        assert (await on.ask()).envelope is not None
        await on.apply(config={"scale": 1})
        assert on.snapshot.state is Reason.RUNNING


@on_a_loop
async def test_a_removed_plugin_answers_what_it_was_asked() -> None:
    async with stage() as on:
        await on.apply()
        on.world.hold_asks = asyncio.Event()
        plugin = on.plugin
        in_flight = asyncio.create_task(plugin.ask(ask_of(), point=None, workload=None, needs_prediction=False))
        await settled()
        removing = asyncio.create_task(on.manager.remove("a"))
        await settled()
        assert on.manager.select("resource", None) == []
        assert on.manager.snapshot("a") is None
        assert not removing.done()
        on.world.hold_asks.set()
        assert (await in_flight).envelope is not None
        await removing
        late = await plugin.ask(ask_of(), point=None, workload=None, needs_prediction=False)
        assert late.envelope is None


@on_a_loop
async def test_one_that_is_removed_while_it_starts_leaves_nothing() -> None:
    async with stage() as on:
        on.world.hold_starts = asyncio.Event()
        await on.apply()
        await on.manager.remove("a")
        await on.manager.remove("a")
        assert on.world.alive == []


@on_a_loop
async def test_in_shadow_mode_everything_is_asked_and_nothing_served() -> None:
    async with stage() as on:
        await on.apply(mode="shadow", training={"gate": "none"})
        await on.train()
        said = await on.ask("ml-driven")
        assert (said.envelope, said.shadow, said.fault) == (None, True, False)
        assert len(on.world.alive[0].asks) == 1
        await on.outcome(4000)
        await on.ask("ml-driven")
        await on.outcome(4000)
        assert on.snapshot.outcomes == 1
        await on.apply(mode="active", training={"gate": "none"})
        assert (await on.ask("ml-driven")).envelope is not None
        assert len(on.world.instances) == 2, "the one that was trained is the one that serves"


@on_a_loop
async def test_what_became_of_requests_is_counted() -> None:
    async with stage() as on:
        await on.apply()
        await on.ask()
        on.plugin.judged(served=True, no="", unusable=False)
        await on.ask()
        on.plugin.judged(served=False, no="the built-in's is better", unusable=False)
        await on.ask()
        on.plugin.judged(served=False, no="node n9 does not exist", unusable=True)
        assert on.snapshot.counts == Counts(requests=3, answers=2, failures=1)
        assert on.world.instances[0].counters.failures == 1
        on.world.says_no = "not today"
        await on.ask()
        on.plugin.passed_over()
        assert on.snapshot.counts == Counts(requests=4, answers=2, failures=1, declined=1, fallbacks=1)
        on.world.unanswered = Unanswered("it died", "crashed")
        await on.ask()
        on.world.unanswered = Unanswered("it is left out", "open")
        await on.ask()
        on.plugin.left_out()
        assert on.snapshot.counts == Counts(requests=7, answers=2, failures=2, declined=1, left_out=2, fallbacks=1)


@on_a_loop
async def test_a_request_that_is_given_up_is_counted_and_a_question_beside_it_is_not() -> None:
    async with stage() as on:
        await on.apply()
        on.world.hold_asks = asyncio.Event()
        asking = asyncio.create_task(on.ask())
        await settled()
        assert on.snapshot.counts == Counts()
        asking.cancel()
        await settled()
        assert on.snapshot.counts == Counts(requests=1, left_out=1)
        on.world.hold_asks.set()
        said = await on.plugin.ask(ask_of(), point=None, workload=None, needs_prediction=False)
        assert said.envelope is not None
        assert on.snapshot.counts == Counts(requests=1, left_out=1)


@on_a_loop
async def test_one_whose_host_has_gone_is_told_at_the_loss_and_at_the_return_and_wakes_who_waits() -> None:
    async with stage() as on:
        await on.apply()
        instance, before = on.world.instances[0], on.snapshot
        for unavailable, state, message in [
            ("the plugin host has gone", Reason.PLUGIN_UNAVAILABLE, "the plugin host has gone"),
            (None, before.state, before.message),
        ]:
            waiting = asyncio.create_task(on.manager.wait_changed(on.manager.version))
            await settled()
            instance.unavailable = unavailable
            instance.on_change()
            await settled()
            assert (on.snapshot.state, on.snapshot.message, on.snapshot.degraded) == (state, message, None)
            assert waiting.done()


@on_a_loop
async def test_one_that_crashes_again_and_again_is_told() -> None:
    async with stage() as on:
        told: list[str] = []
        await on.apply()
        end = on.manager.subscribe(told.append)
        on.world.instances[0].degraded = "left out after 5 crashes in a row"
        on.world.instances[0].on_change()
        assert told == ["a"]
        assert (on.snapshot.state, on.snapshot.degraded) == (Reason.CRASH_LOOPING, on.world.instances[0].degraded)
        end()
        end()
        on.world.instances[0].on_change()
        assert told == ["a"]
