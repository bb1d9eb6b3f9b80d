"""Calls at a later time, on one thread for the whole process."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable


class Alarm:
    """Calls functions when they are due, in the order in which they are, on a thread of its own.

    Made for calls that are nearly always cancelled before they are due, one with each short task: the thread is
    started once, with the first call that is set, and it is not woken for calls that are due after it wakes anyway.
    A `threading.Timer` for each costs 0.1 ms, more than many a task.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls: dict[int, tuple[float, Callable[[], None]]] = {}
        self._last = 0
        self._wakes_at = math.inf
        self._thread: threading.Thread | None = None

    def set(self, due: float, call: Callable[[], None]) -> int:
        """Have ``call`` called.

        Parameters
        ----------
        due
            When, on the clock of `time.monotonic`. Later where another call takes long.
        call
            Must not raise.

        Returns
        -------
        int
            Names the call for `cancel`.
        """
        with self._changed:
            self._last += 1
            self._calls[self._last] = due, call
            # A fork leaves threads behind.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="alarm", daemon=True)
                self._thread.start()
            elif due < self._wakes_at:
                self._changed.notify()
            return self._last

    def cancel(self, number: int) -> None:
        """Forget a call; one that has begun goes on, and one that is done is no matter."""
        with self._changed:
            self._calls.pop(number, None)

    def _run(self) -> None:
        while True:
            self._next()()

    def _next(self) -> Callable[[], None]:
        """Wait for the next call that is due, and take it."""
        with self._changed:
            while True:
                number, (due, call) = min(
                    self._calls.items(), key=lambda entry: entry[1][0], default=(0, (math.inf, _nothing))
                )
                if due <= time.monotonic():
                    del self._calls[number]
                    return call
                self._wakes_at = due
                self._changed.wait(None if due == math.inf else due - time.monotonic())


def _nothing() -> None:
    """Stand for the call of an empty list."""


ALARM = Alarm()
"""The process's own."""
