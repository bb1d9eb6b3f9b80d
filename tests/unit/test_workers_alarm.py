"""Calls at a later time."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Iterator

from engine_ops.workers.alarm import Alarm

DEADLINE_SECONDS = 60.0


@contextlib.contextmanager
def held_up(alarm: Alarm) -> Iterator[None]:
    """Have nothing called within the body, however long it takes: the thread is at another call."""
    began, goes_on = threading.Event(), threading.Event()

    def hold() -> None:
        began.set()
        goes_on.wait()

    alarm.set(time.monotonic(), hold)
    try:
        assert began.wait(DEADLINE_SECONDS)
        yield
    finally:
        goes_on.set()


def test_calls_come_when_due_in_their_order_on_one_thread() -> None:
    alarm = Alarm()
    came: queue.Queue[tuple[str, float, int]] = queue.Queue()
    with held_up(alarm):
        now = time.monotonic()
        for name, delay in (("third", 0.15), ("first", 0.05), ("second", 0.1)):
            alarm.set(now + delay, lambda name=name: came.put((name, time.monotonic(), threading.get_ident())))
    names, times, threads = zip(*(came.get(timeout=DEADLINE_SECONDS) for _ in range(3)), strict=True)
    assert names == ("first", "second", "third")
    assert all(at >= now + delay for at, delay in zip(times, (0.05, 0.1, 0.15), strict=True))
    assert len(set(threads)) == 1


def test_the_thread_that_waits_for_a_later_call_wakes_for_an_earlier_one() -> None:
    alarm = Alarm()
    came: queue.Queue[str] = queue.Queue()
    alarm.set(time.monotonic() + 3600, lambda: came.put("late"))
    alarm.set(time.monotonic() + 1800, lambda: came.put("earlier"))
    for name in ("one", "two"):
        alarm.set(time.monotonic() + 0.01, lambda name=name: came.put(name))
        assert came.get(timeout=DEADLINE_SECONDS) == name


def test_what_is_cancelled_does_not_come() -> None:
    alarm = Alarm()
    came: queue.Queue[str] = queue.Queue()
    with held_up(alarm):
        number = alarm.set(time.monotonic() + 0.02, lambda: came.put("cancelled"))
        alarm.cancel(number)
        alarm.cancel(number)
        alarm.set(time.monotonic() + 0.04, lambda: came.put("kept"))
    assert came.get(timeout=DEADLINE_SECONDS) == "kept"


def test_it_goes_on_after_a_time_without_calls() -> None:
    alarm = Alarm()
    came: queue.Queue[int] = queue.Queue()
    for turn in range(3):
        alarm.set(time.monotonic(), lambda turn=turn: came.put(turn))
        assert came.get(timeout=DEADLINE_SECONDS) == turn


def test_the_thread_is_not_started_anew_for_each_call() -> None:
    alarm = Alarm()
    before = set(threading.enumerate())
    for _ in range(100):
        alarm.cancel(alarm.set(time.monotonic() + 60, lambda: None))
    # Of other tests some may end meanwhile.
    assert [thread.name for thread in set(threading.enumerate()) - before] == ["alarm"]
