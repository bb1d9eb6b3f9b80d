"""Orders of events around a plugin's process that a real one cannot be brought to."""

import asyncio
import contextlib
import dataclasses
import logging
import types
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import msgspec
import pytest
from plugin_process_stand_in import ASK, CRASH, OPENED, Limits, StandInHost, until

from engine_ops.history.feed import HistoryUpdate
from engine_ops.plugins.breaker import BreakerPolicy
from engine_ops.plugins.host.client import HostUnavailableError
from engine_ops.plugins.instance import PluginBrokenError, PluginUnavailableError, Unanswered
from engine_ops.plugins.kept_process import RestartPolicy
from engine_ops.plugins.messages import Ask, Broken, Open, Opened, Replied, Train, Trained
from engine_ops.plugins.process_instance import ProcessInstance
from engine_ops.workers.errors import WorkerDiedError, WorkerTimeoutError

AT_ONCE = RestartPolicy(first_wait_seconds=1e-6, longest_wait_seconds=1e-6)
TRAINED = Trained("m1", 10, "sha256:aa", b"STATE", is_trained=True)


@dataclasses.dataclass
class Table:
    """An instance, and what there is around it."""

    host: StandInHost
    instance: ProcessInstance
    changes: list[tuple[Opened | None, str | None, str | None]]

    def ask_in_background(self, request_id: str, **kwargs: Any) -> asyncio.Task[Replied | Unanswered]:
        return asyncio.create_task(self.instance.ask(msgspec.structs.replace(ASK, request_id=request_id), **kwargs))

    async def asked(self, request_id: str, **kwargs: Any) -> asyncio.Task[Replied | Unanswered]:
        """Return a request that the process has."""
        task = self.ask_in_background(request_id, **kwargs)
        await until(lambda: self.host.last.busy and self.host.last.asked[-1] == request_id)
        return task

    async def crash(self, times: int) -> Unanswered:
        for number in range(times):
            task = await self.asked(f"crash-{number}")
            self.host.last.die()
            said = await task
            assert isinstance(said, Unanswered)
            if self.instance.degraded is None:
                await until(lambda: not self.host.last.ended.done())
        return said


def at_table(
    test: Callable[[Table], Coroutine[Any, Any, None]],
    *,
    start: bool = True,
    limits: Limits | None = None,
    **kwargs: Any,
) -> None:
    async def run() -> None:
        host = StandInHost()
        table = Table(host, None, [])  # type: ignore[arg-type]

        def changed() -> None:
            error = table.instance.last_error
            table.changes.append((table.instance.opened, table.instance.degraded, error and error.message))

        kwargs.setdefault("restart_policy", AT_ONCE)
        table.instance = ProcessInstance(
            host, "a.b:C", "p", b'{"a": 1}', limits or Limits(), on_change=kwargs.pop("on_change", changed), **kwargs
        )
        if start:
            assert await table.instance.start() == OPENED
        try:
            await test(table)
        finally:
            async with asyncio.timeout(60):
                await table.instance.close()
        assert all(process.ended.done() for process in host.processes)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


def test_the_first_message_names_the_plugin_and_its_limits_go_to_the_host() -> None:
    async def test(table: Table) -> None:
        assert table.host.last.said == [Open("a.b:C", "p", b'{"a": 1}', b"S0")]
        assert table.host.spawns == [("p", 2**29)]
        assert table.instance.opened == OPENED
        assert table.changes == [(OPENED, None, None)]

    at_table(test, state=b"S0")


def test_requests_are_answered_one_at_a_time_in_order_of_arrival() -> None:
    async def test(table: Table) -> None:
        tasks = [table.ask_in_background(f"r{number}") for number in range(5)]
        for number, task in enumerate(tasks):
            await until(lambda: table.host.last.busy)
            assert table.host.last.asked == [f"r{before}" for before in range(number + 1)]
            table.host.last.answer(Replied(str(number).encode()))
            said = await task
            assert isinstance(said, Replied)
            assert said.envelope == str(number).encode()
        assert dataclasses.asdict(table.instance.counters) == {
            "asked": 5,
            "answered": 5,
            "said_no": 0,
            "failures": 0,
            "timeouts": 0,
            "crashes": 0,
            "restarts": 0,
        }

    at_table(test)


def test_a_request_whose_turn_does_not_come_in_time_is_told_so_and_never_sent() -> None:
    async def test(table: Table) -> None:
        first = await table.asked("r1")
        said = await table.instance.ask(ASK, timeout_seconds=0.01)
        assert isinstance(said, Unanswered)
        assert said.kind == "busy"
        assert "0.01 s" in said.reason
        table.host.last.answer()
        assert isinstance(await first, Replied)
        assert table.host.last.asked == ["r1"]
        assert table.instance.last_error is None

    at_table(test)


def test_a_cancelled_request_is_waited_out_and_its_answer_goes_to_nobody_else() -> None:
    async def test(table: Table) -> None:
        first = await table.asked("r1")
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        second = table.ask_in_background("r2")
        await asyncio.sleep(0)
        assert table.host.last.asked == ["r1"]
        assert not table.host.last.killed
        table.host.last.answer(Replied(b"for r1"))
        await until(lambda: table.host.last.asked == ["r1", "r2"])
        table.host.last.answer(Replied(b"for r2"))
        said = await second
        assert isinstance(said, Replied)
        assert said.envelope == b"for r2"

    at_table(test)


def test_a_cancelled_request_that_waits_for_its_turn_is_never_sent() -> None:
    async def test(table: Table) -> None:
        first = await table.asked("r1")
        second, third = table.ask_in_background("r2"), table.ask_in_background("r3")
        await asyncio.sleep(0)
        second.cancel()
        table.host.last.answer()
        await first
        await until(lambda: table.host.last.asked == ["r1", "r3"])
        table.host.last.answer()
        assert isinstance(await third, Replied)

    at_table(test)


def test_a_cancelled_request_that_takes_too_long_ends_its_process_all_the_same() -> None:
    async def test(table: Table) -> None:
        first = await table.asked("r1")
        first.cancel()
        second = table.ask_in_background("r2", timeout_seconds=30)
        await until(lambda: len(table.host.processes) == 2 and table.host.last.busy)
        assert table.host.processes[0].killed
        assert table.instance.counters.timeouts == 1
        table.host.last.answer()
        assert isinstance(await second, Replied)

    at_table(test, limits=Limits(timeout_seconds=0.02))


def test_time_limit_and_crash_are_told_with_their_cause() -> None:
    async def test(table: Table) -> None:
        timed_out = await table.instance.ask(ASK)
        assert timed_out == Unanswered("no answer within 0.02 s (limits.timeoutSeconds)", "timeout")
        own_limit = await table.instance.ask(ASK, timeout_seconds=0.01)
        assert own_limit == Unanswered("no answer within 0.01 s", "timeout")
        task = await table.asked("r2", timeout_seconds=30)
        table.host.last.die()
        assert await task == Unanswered(CRASH, "crashed")
        assert table.instance.last_error is not None
        assert table.instance.last_error.message == CRASH
        assert table.changes[-1] == (OPENED, None, CRASH)
        assert (table.instance.counters.timeouts, table.instance.counters.crashes) == (2, 1)

    at_table(test, limits=Limits(timeout_seconds=0.02))


def test_a_request_that_comes_between_two_processes_waits_for_the_new_one() -> None:
    async def test(table: Table) -> None:
        first = await table.asked("r1")
        table.host.may_spawn.clear()
        table.host.last.die()
        await first
        second = table.ask_in_background("r2")
        await asyncio.sleep(0)
        table.host.may_spawn.set()
        await until(lambda: len(table.host.processes) == 2 and table.host.last.busy)
        table.host.last.answer()
        assert isinstance(await second, Replied)
        assert table.instance.counters.restarts == 1

    at_table(test)


def test_nobody_waits_for_a_start_that_comes_too_late() -> None:
    async def test(table: Table) -> None:
        await table.crash(1)  # the first start in a row is at once, the second an hour later
        task = await table.asked("r2")
        table.host.last.die()
        await task
        said = await table.instance.ask(ASK)
        assert isinstance(said, Unanswered)
        assert said.kind == "crashed"
        assert said.reason.startswith(f"{CRASH}; started again in 3")

    at_table(test, restart_policy=RestartPolicy(3600, 3600))


@pytest.mark.parametrize(
    ("ends_in_a_row", "wait_seconds"), [(1, 0), (2, 0.1), (3, 0.2), (4, 0.4), (10, 25.6), (11, 30), (10**6, 30)]
)
def test_the_wait_for_a_start_doubles_up_to_half_a_minute(ends_in_a_row: int, wait_seconds: float) -> None:
    assert RestartPolicy().wait_seconds(ends_in_a_row) == pytest.approx(wait_seconds)


def test_a_good_answer_makes_the_next_end_the_first_again() -> None:
    async def test(table: Table) -> None:
        for _ in range(3):
            await table.crash(1)
            task = await table.asked("good")
            table.host.last.answer()
            assert isinstance(await task, Replied)

    at_table(test, restart_policy=RestartPolicy(3600, 3600))


def test_a_plugin_that_crashes_again_and_again_is_left_out_and_tried_once_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = types.SimpleNamespace(monotonic=lambda: clock.now, now=1000.0)
    monkeypatch.setattr("engine_ops.plugins.guarded_instance.time", clock)

    async def test(table: Table) -> None:
        await table.crash(2)
        assert table.instance.degraded == f"left out after 2 crashes in a row, the last: {CRASH}"
        assert table.changes[-1][1] == table.instance.degraded
        asked = table.instance.counters.asked
        said = await table.instance.ask(ASK)
        assert said == Unanswered("left out after 2 crashes in a row, tried again in 1 s", "open")
        assert table.instance.counters.asked == asked
        clock.now += 0.2
        trial = await table.asked("trial")
        # While the trial is under way, the others do not wait for how it ends.
        said = await table.instance.ask(ASK)
        assert said == Unanswered("left out after 2 crashes in a row, is being tried again", "open")
        table.host.last.answer()
        assert isinstance(await trial, Replied)
        assert table.instance.degraded is None
        assert table.changes[-1][1] is None

    at_table(test, breaker_policy=BreakerPolicy(crashes=2, first_wait_seconds=0.2, longest_wait_seconds=0.2))


def test_requests_that_wait_their_turn_when_the_breaker_opens_are_not_sent() -> None:
    async def test(table: Table) -> None:
        first, second = await table.asked("r1"), table.ask_in_background("r2")
        await asyncio.sleep(0)
        table.host.last.die()
        said = await second
        assert isinstance(said, Unanswered)
        assert said.kind == "open"
        assert isinstance(await first, Unanswered)

    at_table(test, breaker_policy=BreakerPolicy(crashes=1, first_wait_seconds=300))


def test_a_process_that_ends_between_two_requests_is_replaced_and_counted() -> None:
    async def test(table: Table) -> None:
        table.host.last.die()
        await until(lambda: len(table.host.processes) == 2 and table.instance.counters.restarts)
        assert table.instance.counters.crashes == 1
        assert table.instance.counters.asked == 0
        assert (OPENED, None, CRASH) in table.changes

    at_table(test)


def test_starts_that_fail_open_the_breaker_and_are_tried_until_one_succeeds() -> None:
    async def test(table: Table) -> None:
        broken = Broken("init", "no disk")
        table.host.to_come = [broken, WorkerDiedError(CRASH), WorkerTimeoutError(60.0), broken]
        table.host.last.die()
        await until(lambda: table.instance.degraded is not None)
        assert (OPENED, None, "no disk") in table.changes
        await until(lambda: not table.host.to_come and not table.host.last.ended.done())
        assert len(table.host.processes) == 6
        assert table.instance.counters.restarts == 1
        assert all(process.ended.done() for process in table.host.processes[:-1])
        said = await table.instance.ask(ASK)
        assert isinstance(said, Unanswered)
        assert said.kind == "open"

    at_table(test, breaker_policy=BreakerPolicy(first_wait_seconds=300))


@pytest.mark.parametrize(
    ("on_open", "stage", "words"),
    [
        (Broken("config", "2 faults", (("config.x", "is bad"),)), "config", "2 faults"),
        (WorkerTimeoutError(60.0), "import", r"not loaded and initialised in time (60 s)"),
        (WorkerDiedError(CRASH), "init", CRASH),
        (TRAINED, "init", "what it was not asked"),
    ],
)
def test_what_cannot_be_opened_is_told_and_leaves_nothing(on_open: Any, stage: str, words: str) -> None:
    async def test(table: Table) -> None:
        table.host.to_come = [on_open]
        with pytest.raises(PluginBrokenError) as broken:
            await table.instance.start()
        assert broken.value.stage == stage
        assert words in broken.value.message
        assert broken.value.faults == getattr(on_open, "faults", ())
        assert table.host.last.ended.done()
        assert await table.instance.ask(ASK) == Unanswered("it has not been started", "unavailable")
        assert await table.instance.start() == OPENED

    at_table(test, start=False)


def test_without_a_host_it_says_so_and_comes_back_with_it() -> None:
    async def test(table: Table) -> None:
        table.host.to_come = [HostUnavailableError("no host")]
        with pytest.raises(PluginUnavailableError, match="no host"):
            await table.instance.start()
        await table.instance.start()

        for number in range(3):  # each time it is started again at once
            task = await table.asked(f"r{number}")
            table.host.available = False
            table.host.to_come = [HostUnavailableError("no host")]
            table.host.last.die("the host has gone")
            said = await task
            assert isinstance(said, Unanswered)
            assert said.kind == "unavailable"
            said = await table.instance.ask(ASK, timeout_seconds=0.01)
            assert isinstance(said, Unanswered)
            assert said.kind == "unavailable"
            table.host.available = True
            await until(lambda: not table.host.last.ended.done())
        task = await table.asked("last")
        table.host.last.answer()
        assert isinstance(await task, Replied)
        assert table.instance.degraded is None
        assert table.instance.counters.crashes == 0

    # One end more than those above would count as the plugin's doing.
    at_table(test, start=False, breaker_policy=BreakerPolicy(crashes=4), restart_policy=RestartPolicy(3600, 3600))


@pytest.mark.parametrize("at_work", [False, True])
def test_a_host_that_stays_away_is_told_once_and_so_is_its_return(at_work: bool) -> None:
    async def test(table: Table) -> None:
        told: list[str | None] = []
        changed = table.instance._on_change
        assert changed is not None
        table.instance._on_change = lambda: (changed(), told.append(table.instance.unavailable))[0]  # type: ignore[func-returns-value]
        assert table.instance.unavailable is None
        task = await table.asked("r") if at_work else None
        table.host.available = False
        table.host.may_spawn.clear()
        table.host.to_come = [HostUnavailableError("no host")]
        table.host.last.die("the plugin host ended")
        await until(lambda: told)
        assert table.instance.unavailable == "the plugin host has gone"
        assert table.instance.last_error is not None
        if task is not None:
            await task
        table.host.may_spawn.set()
        await until(lambda: told[-1] == "no host")
        assert isinstance(await table.instance.ask(ASK, timeout_seconds=0.01), Unanswered)
        table.host.available = True
        await until(lambda: told[-1] is None)
        assert list(dict.fromkeys(told)) == ["the plugin host has gone", "no host", None]
        task = await table.asked("again")
        table.host.last.answer()
        assert isinstance(await task, Replied)

    at_table(test)


def test_one_that_crashes_or_is_closed_is_not_unavailable() -> None:
    async def test(table: Table) -> None:
        table.host.may_spawn.clear()
        table.host.last.die()
        await until(lambda: table.instance.counters.crashes == 1)
        assert table.instance.unavailable is None
        table.host.may_spawn.set()
        await until(lambda: len(table.host.processes) == 2)
        await table.instance.close()
        assert table.instance.unavailable is None

    at_table(test)


def test_training_keeps_the_state_for_the_next_start() -> None:
    async def test(table: Table) -> None:
        training = asyncio.create_task(table.instance.train(30, ASK))
        await until(lambda: table.host.last.busy)
        assert table.host.last.said[-1] == Train(ASK)
        waiting = table.ask_in_background("r1")
        await asyncio.sleep(0)
        assert table.host.last.asked == []
        table.host.last.answer(TRAINED)
        assert await training == TRAINED
        assert table.instance.opened is not None
        assert (table.instance.opened.model_id, table.instance.opened.is_trained) == ("m1", True)
        await until(lambda: table.host.last.busy)
        table.host.last.die()
        await waiting
        await until(lambda: len(table.host.processes) == 2)
        assert table.host.last.said[0] == Open("a.b:C", "p", b'{"a": 1}', b"STATE")

        table.instance.set_state(b"OTHER")
        table.host.last.die()
        await until(lambda: len(table.host.processes) == 3)
        assert table.host.last.said[0] == Open("a.b:C", "p", b'{"a": 1}', b"OTHER")

    at_table(test)


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (lambda process: process.answer(Broken("train", "too few points")), "too few points"),
        (lambda process: process.die(), CRASH),
        (lambda process: process.answer(), "what it was not asked"),
        (lambda _: None, r"no model within 0.01 s \(training.timeoutSeconds\)"),
    ],
)
def test_a_training_that_fails_is_told_and_is_no_crash_of_the_serving(end: Callable[[Any], None], words: str) -> None:
    async def test(table: Table) -> None:
        training = asyncio.create_task(table.instance.train(0.01))
        await until(lambda: table.host.last.busy)
        end(table.host.last)
        with pytest.raises(PluginBrokenError, match=words) as broken:
            await training
        assert broken.value.stage == "train"
        assert table.instance.degraded is None
        task = await table.asked("after")
        table.host.last.answer()
        assert isinstance(await task, Replied)

    at_table(test, breaker_policy=BreakerPolicy(crashes=1))


def test_a_cancelled_training_is_ended() -> None:
    async def test(table: Table) -> None:
        training = asyncio.create_task(table.instance.train(30))
        await until(lambda: table.host.last.busy)
        training.cancel()
        with pytest.raises(asyncio.CancelledError):
            await training
        assert table.host.processes[0].killed
        task = await table.asked("after")
        table.host.last.answer()
        assert isinstance(await task, Replied)

    at_table(test)


def test_one_that_is_at_work_whenever_the_host_ends_is_left_out() -> None:
    """A plugin can end its host, and with it all other plugins."""

    async def test(table: Table) -> None:
        for number in range(3):
            task = await table.asked(f"r{number}")
            table.host.available = False
            table.host.last.die("the host has gone")
            said = await task
            assert isinstance(said, Unanswered)
            assert said.kind == "unavailable"
            table.host.available = True
            await until(lambda: not table.host.last.ended.done())
        said = await table.instance.ask(ASK)
        assert isinstance(said, Unanswered)
        assert said.kind == "open"
        assert table.instance.counters.crashes == 0

    at_table(test, breaker_policy=BreakerPolicy(crashes=3, first_wait_seconds=300))


class Feed:
    """Numbered updates: all of them to a new process, then the new ones."""

    def __init__(self) -> None:
        self.updates = [HistoryUpdate(1), HistoryUpdate(2)]

    def cursor(self) -> list[int]:
        return [0]

    def updates_for(self, cursor: list[int]) -> Iterator[HistoryUpdate]:
        yield from self.updates[cursor[0] :]
        cursor[0] = len(self.updates)


def test_the_history_comes_before_requests_and_trainings_and_anew_to_a_new_process() -> None:
    feed = Feed()

    async def test(table: Table) -> None:
        assert [type(message) for message in table.host.last.said] == [Open]
        task = await table.asked("r1")
        table.host.last.answer()
        await task
        feed.updates.append(HistoryUpdate(3))
        training = asyncio.create_task(table.instance.train(30))
        await until(lambda: table.host.last.busy)
        table.host.last.answer(TRAINED)
        await training
        task = await table.asked("r2")
        said = [getattr(message, "size", type(message)) for message in table.host.last.said]
        assert said == [Open, 1, 2, Ask, 3, Train, Ask]
        table.host.last.die()
        await task
        task = await table.asked("r3")
        said = [getattr(message, "size", type(message)) for message in table.host.last.said]
        assert said == [Open, 1, 2, 3, Ask]
        table.host.last.answer()
        await task

    at_table(test, feed=feed)


def test_a_fault_of_ours_is_logged_and_answered(caplog: pytest.LogCaptureFixture) -> None:
    class BadFeed(Feed):
        def updates_for(self, cursor: list[int]) -> Iterator[HistoryUpdate]:
            raise ZeroDivisionError

    async def test(table: Table) -> None:
        said = await table.instance.ask(ASK)
        assert isinstance(said, Unanswered)
        assert said.kind == "unavailable"
        assert "ZeroDivisionError" in caplog.text

    at_table(test, feed=BadFeed())


def test_a_listener_that_fails_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    async def test(table: Table) -> None:
        await table.crash(1)
        task = await table.asked("r1")
        table.host.last.answer()
        assert isinstance(await task, Replied)
        assert "ZeroDivisionError" in caplog.text

    with caplog.at_level(logging.ERROR):
        at_table(test, on_change=fail)


def test_answers_are_counted_by_what_they_are_and_what_turned_out_later() -> None:
    async def test(table: Table) -> None:
        for reply in (
            Replied(b"{}", duration_us=3000),
            Replied(no="too few", duration_us=1000),
            Replied(no="it raised X", failed=True),
        ):
            task = await table.asked("r")
            table.host.last.answer(reply)
            assert await task == reply
        assert table.instance.last_error is not None
        assert table.instance.last_error.message == "it raised X"
        table.instance.blame("node n9 does not exist")
        assert table.instance.last_error.message == "node n9 does not exist"
        counters = table.instance.counters
        assert (counters.answered, counters.said_no, counters.failures) == (1, 1, 2)
        latency = table.instance.latency
        assert (latency.plugin_p50_ms, latency.plugin_p99_ms) == (1.0, 3.0)
        assert 0 < latency.p50_ms <= latency.p99_ms

    at_table(test)


def test_closing_lets_the_requests_end_that_came_before() -> None:
    async def test(table: Table) -> None:
        first, second = await table.asked("r1"), table.ask_in_background("r2")
        await asyncio.sleep(0)
        closings = [asyncio.create_task(table.instance.close()) for _ in range(2)]
        await asyncio.sleep(0)
        assert await table.instance.ask(ASK) == Unanswered("it is being replaced or removed", "closing")
        with pytest.raises(PluginUnavailableError):
            await table.instance.train(1)
        assert table.host.last.closed_within is None
        table.host.last.answer()
        assert isinstance(await first, Replied)
        await until(lambda: table.host.last.busy)
        table.host.last.answer()
        assert isinstance(await second, Replied)
        await asyncio.gather(*closings)
        assert table.host.last.closed_within == 2.0
        assert table.instance.counters.crashes == 0
        assert len(table.host.processes) == 1

    at_table(test)


def test_closing_ends_a_training_and_a_wait_for_a_process() -> None:
    async def test(table: Table) -> None:
        training = asyncio.create_task(table.instance.train(3600))
        await until(lambda: table.host.last.busy)
        waiting = table.ask_in_background("r1")
        await asyncio.sleep(0)
        await table.instance.close()
        with pytest.raises(PluginUnavailableError, match="replaced or removed"):
            await training
        assert await waiting == Unanswered("it is being replaced or removed", "closing")
        assert len(table.host.processes) == 1

    at_table(test)


def test_a_start_that_is_overtaken_by_the_end_leaves_no_process() -> None:
    async def test(table: Table) -> None:
        table.host.may_spawn.clear()
        starting = asyncio.create_task(table.instance.start())
        await asyncio.sleep(0)
        await table.instance.close()
        table.host.may_spawn.set()
        with pytest.raises(PluginUnavailableError):
            await starting
        assert table.host.last.ended.done()

    at_table(test, start=False)


def test_closing_while_it_is_being_started_again_leaves_no_process() -> None:
    async def test(table: Table) -> None:
        table.host.may_spawn.clear()
        table.host.last.die()
        await asyncio.sleep(0)
        await table.instance.close()
        assert len(table.host.processes) == 1

    at_table(test)


def test_closing_while_it_is_being_started_again_ends_though_the_host_does_not_hear_of_it() -> None:
    """The start of a process has just succeeded when it is cancelled."""

    async def test(table: Table) -> None:
        spawn = table.host.spawn

        async def deaf(label: str, *, memory_limit_bytes: int) -> Any:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            return await spawn(label, memory_limit_bytes=memory_limit_bytes)

        table.host.spawn = deaf  # type: ignore[method-assign]
        table.host.last.die()
        await asyncio.sleep(0.01)
        async with asyncio.timeout(60):
            await table.instance.close()
        assert [process.ended.done() for process in table.host.processes] == [True, True]

    at_table(test)
