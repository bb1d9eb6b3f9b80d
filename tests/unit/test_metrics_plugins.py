"""What plugins do is counted in the life of a plugin."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from hosted_world import Stage, stage
from metrics_scrapes import moves, scraped
from scripted_instances import ask_of, settled

from engine_ops.controllers.metrics_source import MetricsSource
from engine_ops.plugins.instance import Latency, PluginBrokenError, Unanswered
from engine_ops.server.metrics import MAX_PLUGINS, Metrics


def source_of(on: Stage) -> MetricsSource:
    return MetricsSource(plugins=on.manager)


def on_stage(test: Callable[[Stage, Metrics], Any], **options: Any) -> None:
    async def main() -> None:
        async with stage(**options) as on:
            await test(on, Metrics())

    asyncio.run(main())


@moves("plugin_enabled", "plugin_ready", "plugin_breaker_open")
def test_how_a_plugin_stands_is_shown() -> None:
    async def test(on: Stage, metrics: Metrics) -> None:
        await on.apply(enabled=False)
        shown = scraped(metrics, source_of(on))
        assert (shown("plugin_enabled", plugin="a"), shown("plugin_ready", plugin="a")) == (0, 0)
        await on.apply(enabled=True)
        shown = scraped(metrics, source_of(on))
        assert (shown("plugin_enabled", plugin="a"), shown("plugin_ready", plugin="a")) == (1, 1)
        assert shown("plugin_breaker_open", plugin="a") == 0
        on.world.hold_starts = asyncio.Event()
        await on.apply(config={"scale": 2})
        assert scraped(metrics, source_of(on))("plugin_ready", plugin="a") == 1, "it answers as before"
        on.world.hold_starts.set()
        await settled()
        on.world.instances[-1].degraded = "left out after 5 crashes in a row"
        shown = scraped(metrics, source_of(on))
        assert (shown("plugin_breaker_open", plugin="a"), shown("plugin_ready", plugin="a")) == (1, 0)

    on_stage(test)


@moves("plugin_requests_total", "plugin_fallbacks_total", "plugin_latency_p50_seconds", "plugin_latency_p99_seconds")
def test_what_comes_of_asking_a_plugin_is_counted() -> None:
    async def test(on: Stage, metrics: Metrics) -> None:
        on.world.has_model = False
        await on.apply()
        shown = scraped(metrics, source_of(on))
        assert shown("plugin_requests_total", plugin="a", outcome="answered") == 0
        assert shown("plugin_latency_p50_seconds", plugin="a") is None
        for _ in range(3):
            await on.ask()
        on.world.says_no = "not for me"
        await on.ask()
        on.world.says_no = None
        on.world.unanswered = Unanswered("too slow", "timeout")
        await on.ask()
        on.plugin.passed_over()
        instance = on.world.instances[-1]
        instance.counters.answered = 3
        instance.latency = Latency(20.0, 400.0, 10.0, 300.0)
        shown = scraped(metrics, source_of(on))
        assert shown("plugin_requests_total", plugin="a", outcome="answered") == 3
        assert shown("plugin_requests_total", plugin="a", outcome="declined") == 1
        assert shown("plugin_requests_total", plugin="a", outcome="failed") == 1
        assert shown("plugin_fallbacks_total", plugin="a") == on.snapshot.counts.fallbacks > 0
        assert shown("plugin_latency_p50_seconds", plugin="a") == 0.02
        assert shown("plugin_latency_p99_seconds", plugin="a") == 0.4

    on_stage(test)


def test_an_answer_that_turns_out_to_be_of_no_use_makes_no_counter_fall() -> None:
    async def test(on: Stage, metrics: Metrics) -> None:
        on.world.has_model = False
        await on.apply()
        await on.ask()
        await on.ask()
        assert scraped(metrics, source_of(on))("plugin_requests_total", plugin="a", outcome="answered") == 2
        on.plugin.judged(served=False, no="infeasible", unusable=True)
        assert on.snapshot.counts.answers == 1
        shown = scraped(metrics, source_of(on))
        assert shown("plugin_requests_total", plugin="a", outcome="answered") == 2
        assert shown("plugin_requests_total", plugin="a", outcome="failed") == 1
        await on.manager.remove("a")
        await on.apply()
        await on.ask()
        shown = scraped(metrics, source_of(on))
        assert shown("plugin_requests_total", plugin="a", outcome="answered") == 1, "made anew, it begins anew"

    on_stage(test)


@moves("plugin_trainings_total", "plugin_training_seconds_total", "plugin_model_trained_timestamp_seconds")
def test_trainings_are_counted_with_their_time() -> None:
    async def test(on: Stage, metrics: Metrics) -> None:
        await on.apply(training={"gate": "none"})
        on.world.hold_trainings = asyncio.Event()
        await on.train()
        assert scraped(metrics, source_of(on))("plugin_trainings_total", plugin="a", result="trained") == 0
        on.clock.now += 7
        on.world.hold_trainings.set()
        await on.clock.pass_by(1)
        shown = scraped(metrics, source_of(on))
        assert shown("plugin_trainings_total", plugin="a", result="trained") == 1
        assert shown("plugin_trainings_total", plugin="a", result="failed") == 0
        seconds = shown("plugin_training_seconds_total", plugin="a")
        assert seconds is not None
        assert 7 <= seconds < 7 + 12, "and what has passed while it was being started"
        model = on.snapshot.model
        assert model is not None
        assert shown("plugin_model_trained_timestamp_seconds", plugin="a") == model.trained_at.timestamp()

    on_stage(test)


def test_a_training_that_fails_is_counted() -> None:
    async def test(on: Stage, metrics: Metrics) -> None:
        await on.apply()
        on.world.broken["train"] = PluginBrokenError("train", "no luck")
        await on.train()
        shown = scraped(metrics, source_of(on))
        assert shown("plugin_trainings_total", plugin="a", result="failed") == 1
        assert shown("plugin_trainings_total", plugin="a", result="trained") == 0

    on_stage(test)


@moves("plugin_skill", "plugin_coverage_ratio", "plugin_drifted")
def test_how_good_a_model_is_is_shown_once_it_is_known() -> None:
    async def test(on: Stage, metrics: Metrics) -> None:
        await on.apply(training={"retrain": {"onDrift": False}})
        await on.train()
        shown = scraped(metrics, source_of(on))
        assert shown("plugin_skill", plugin="a") is shown("plugin_coverage_ratio", plugin="a") is None
        await on.requests(40)
        shown = scraped(metrics, source_of(on))
        assert shown("plugin_skill", plugin="a") == on.snapshot.skill
        assert shown("plugin_coverage_ratio", plugin="a") == on.snapshot.confidence is not None
        assert shown("plugin_drifted", plugin="a") == 0
        await on.requests(60, around=50_000.0)
        assert on.snapshot.drift
        assert scraped(metrics, source_of(on))("plugin_drifted", plugin="a") == 1

    on_stage(test)


def test_beyond_a_number_of_plugins_their_counts_are_added_up_and_their_gauges_left_out() -> None:
    async def test(on: Stage, metrics: Metrics) -> None:
        on.world.has_model = False
        for index in range(MAX_PLUGINS + 2):
            await on.apply(f"p{index:02}")
        asked = on.manager.get("p51")
        assert asked is not None

        await asked.ask(ask_of("resource"), point=b"k" * 16, workload=None, needs_prediction=False)
        shown = scraped(metrics, source_of(on))
        assert shown("plugin_requests_total", plugin="other", outcome="answered") == 1
        assert shown("plugin_requests_total", plugin="p51", outcome="answered") is None
        assert shown("plugin_ready", plugin="p49") == 1
        assert shown("plugin_ready", plugin="other") is None

    on_stage(test)
