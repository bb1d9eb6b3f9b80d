"""Calls at a later time."""

from __future__ import annotations

import queue
import threading
import time

from engine_ops.workers.alarm import Alarm


def test_calls_come_when_due_in_their_order_on_one_thread() -> None:
    alarm = Alarm()
    came: queue.Queue[tuple[str, float, int]] = queue.Queue()
    now = time.monotonic()
    # Set in another order than due: the thread that waits for the last must wake for the others.
    for name, delay in (("third", 0.15), ("first", 0.05), ("second", 0.1)):
        alarm.set(now + delay, lambda name=name: came.put((name, time.monotonic(), threading.get_ident())))
    names, times, threads = zip(*(came.get(timeout=10) for _ in range(3)), strict=True)
    assert names == ("first", "second", "third")
    assert all(at >= now + delay for at, delay in zip(times, (0.05, 0.1, 0.15), strict=True))
    assert len(set(threads)) == 1


def test_what_is_cancelled_does_not_come() -> None:
    alarm = Alarm()
    came: queue.Queue[str] = queue.Queue()
    number = alarm.set(time.monotonic() + 0.02, lambda: came.put("cancelled"))
    alarm.cancel(number)
    alarm.cancel(number)
    alarm.set(time.monotonic() + 0.04, lambda: came.put("kept"))
    assert came.get(timeout=10) == "kept"


def test_it_goes_on_after_a_time_without_calls() -> None:
    alarm = Alarm()
    came: queue.Queue[int] = queue.Queue()
    for turn in range(3):
        alarm.set(time.monotonic(), lambda turn=turn: came.put(turn))
        assert came.get(timeout=10) == turn


def test_the_thread_is_not_started_anew_for_each_call() -> None:
    alarm = Alarm()
    before = threading.active_count()
    for _ in range(100):
        alarm.cancel(alarm.set(time.monotonic() + 60, lambda: None))
    assert threading.active_count() == before + 1
