"""A plugin kept alive in a process of a real plugin host."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Iterator

import host_plugins
import pytest
from plugin_host_support import asking
from real_plugin_host import Limits, RealHost, ask, real_host, refused, until

from engine_ops.history.collector import WorkloadCollector
from engine_ops.history.feed import HistoryFeed
from engine_ops.ml import WorkloadDataPoint
from engine_ops.plugins.breaker import BreakerPolicy
from engine_ops.plugins.instance import PluginBrokenError, Unanswered
from engine_ops.plugins.messages import Ask, Replied
from engine_ops.plugins.process_instance import ProcessInstance

GOOD = "bad_plugins:Good"
SLEEPY = "bad_plugins:Sleepy"
PREDICTOR = "engine_ops.ml.examples.simple_predictor:SimplePredictorPlugin"


@pytest.fixture(scope="module")
def host() -> Iterator[RealHost]:
    with real_host() as started:
        yield started


def history_of(count: int) -> HistoryFeed:
    collector = WorkloadCollector()
    for number in range(count):
        collector.record(
            WorkloadDataPoint(10**12 + number, "ml-driven", {"cpu": 1.0}, 2000.0, True, {"uid": f"u{number}"})
        )
    return HistoryFeed(collector)


def pid_of(instance: ProcessInstance) -> int:
    process = instance._kept.process
    assert process is not None
    assert process.pid is not None
    return process.pid


def test_a_good_plugin_answers(host: RealHost) -> None:
    async def test() -> None:
        async with host.started(GOOD) as instance:
            assert instance.opened is not None
            assert (instance.opened.name, instance.opened.types) == ("good", ("resource",))
            said = await asyncio.gather(*(instance.ask(ask()) for _ in range(20)))
            for reply in said:
                assert isinstance(reply, Replied)
                assert refused(reply, "resource") == ""
            assert instance.counters.answered == 20
            assert instance.latency.p50_ms >= instance.latency.plugin_p50_ms > 0

    host.run(test)


def test_settings_that_the_schema_rejects_are_told_with_their_path(host: RealHost) -> None:
    async def test() -> None:
        instance = host.instance(SLEEPY, config=b'{"seconds": -1, "colour": "red"}')
        with pytest.raises(PluginBrokenError) as broken:
            await instance.start()
        assert broken.value.stage == "config"
        assert {path for path, _ in broken.value.faults} == {"config.seconds", "config.colour"}

    host.run(test)


def test_a_cancelled_request_leaves_the_next_one_its_own_answer(host: RealHost) -> None:
    async def test() -> None:
        async with host.started(SLEEPY) as instance:
            pid = pid_of(instance)
            packing = asyncio.create_task(instance.ask(ask()))
            await until(lambda: instance.counters.asked == 1)
            packing.cancel()
            said = await instance.ask(Ask("shop/r2", "resource", b"{}"))
            assert isinstance(said, Replied)
            assert said.no == "it packs items of a nodeCapacity only"
            assert instance.counters.answered == 1
            assert pid_of(instance) == pid

    host.run(test)


def test_one_that_takes_too_long_is_killed_and_the_next_request_goes_to_a_new_process(host: RealHost) -> None:
    async def test() -> None:
        async with host.started(host_plugins.ENTRY_POINT) as instance:
            pid = pid_of(instance)
            said = await instance.ask(asking("sleep"), timeout_seconds=0.05)
            assert said == Unanswered("no answer within 0.05 s", "timeout")
            assert isinstance(await instance.ask(asking("nothing")), Replied)
            assert pid_of(instance) != pid
            assert instance.counters.restarts == 1

    host.run(test)


def test_a_model_outlives_its_process(host: RealHost) -> None:
    async def test() -> None:
        async with host.started(PREDICTOR, feed=history_of(40)) as instance:
            assert instance.opened is not None
            assert instance.opened.is_trained is False
            trained = await instance.train(30)
            assert trained.samples == 40
            assert trained.state
            assert instance.opened.is_trained is True
            before = await instance.ask(Ask("shop/r1", "ml-driven", b"{}"))
            assert isinstance(before, Replied)
            assert before.scored

            pid = pid_of(instance)
            os.kill(pid, signal.SIGKILL)
            await until(lambda: instance.counters.restarts == 1)
            assert instance.last_error is not None
            assert "SIGKILL" in instance.last_error.message
            after = await instance.ask(Ask("shop/r1", "ml-driven", b"{}"))
            assert isinstance(after, Replied)
            assert after.scored == before.scored
            assert instance.opened.is_trained is True

        async with host.started(PREDICTOR, state=trained.state) as instance:
            assert instance.opened is not None
            assert instance.opened.is_trained is True

    host.run(test)


def test_a_process_over_its_memory_limit_is_told_of_with_the_figures(host: RealHost) -> None:
    async def test() -> None:
        async with host.started("bad_plugins:Allocates", Limits(memory_bytes=100 * 2**20)) as instance:
            said = await instance.ask(ask())
            assert isinstance(said, Unanswered)
            assert said.kind == "crashed"
            assert "limits.memory is 100 MiB" in said.reason

    host.run(test)


def test_five_crashes_in_a_row_leave_it_out(host: RealHost) -> None:
    async def test() -> None:
        async with host.started(
            "bad_plugins:Segfaults", breaker_policy=BreakerPolicy(first_wait_seconds=300)
        ) as instance:
            for _ in range(5):
                said = await instance.ask(ask())
                assert isinstance(said, Unanswered)
                assert said.kind == "crashed"
                assert "SIGSEGV" in said.reason
            assert instance.degraded is not None
            said = await instance.ask(ask())
            assert isinstance(said, Unanswered)
            assert said.kind == "open"
            assert re.fullmatch(r"left out after 5 crashes in a row, tried again in (300|2\d\d) s", said.reason)

    host.run(test)


def test_closing_does_not_lose_a_request_in_flight(host: RealHost) -> None:
    async def test() -> None:
        async with host.started(SLEEPY) as instance:
            asked = [asyncio.create_task(instance.ask(ask())) for _ in range(3)]
            await until(lambda: instance.counters.asked == 1)
            await instance.close()
            assert [type(await task) for task in asked] == [Replied] * 3

    host.run(test)


def test_a_host_that_ends_takes_no_request_with_it_for_long() -> None:
    async def test() -> None:
        async with host.started(SLEEPY, config=b'{"seconds": 30}') as instance, host.started(GOOD) as good:
            asked = asyncio.create_task(instance.ask(ask()))
            await until(lambda: instance.counters.asked == 1)
            os.kill(host.pid, signal.SIGKILL)
            said = await asked
            assert isinstance(said, Unanswered)
            assert said.kind == "unavailable"
            await until(lambda: instance.counters.restarts == 1 and good.counters.restarts == 1)
            assert isinstance(await good.ask(ask()), Replied)
            assert (instance.counters.crashes, good.counters.crashes) == (0, 0)

    with real_host() as host:
        host.run(test)
