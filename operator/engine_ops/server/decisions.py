"""Decisions that are remembered for a short while, and asked for once however many wait for them."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, Final, Generic, TypeVar

Value = TypeVar("Value")

MAX_ENTRIES: Final = 4096


class Recent(Generic[Value]):
    """Values that are good for some seconds after they were put in; the longest unused go first.

    Parameters
    ----------
    seconds
        For how long.
    entries
        How many at most.
    clock
        Seconds that only grow.
    """

    def __init__(
        self, seconds: float, entries: int = MAX_ENTRIES, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds = seconds
        self._entries = entries
        self._clock = clock
        self._values: OrderedDict[bytes, tuple[float, Value]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: bytes) -> Value | None:
        """Return what was put in not too long ago; None where there is nothing."""
        found = self._values.get(key)
        if found is None:
            return None
        put_at, value = found
        if self._clock() - put_at >= self._seconds:
            del self._values[key]
            return None
        self._values.move_to_end(key)
        return value

    def put(self, key: bytes, value: Value) -> None:
        """Remember a value."""
        self._values[key] = (self._clock(), value)
        self._values.move_to_end(key)
        while len(self._values) > self._entries:
            self._values.popitem(last=False)


@dataclasses.dataclass(eq=False, slots=True)
class _Flight(Generic[Value]):
    task: asyncio.Task[Value]
    waiting: int = 0


class SingleFlight(Generic[Value]):
    """Asks once for all who want to know the same at the same time. What fails, fails for all of them."""

    def __init__(self) -> None:
        self._flights: dict[bytes, _Flight[Value]] = {}

    async def run(self, key: bytes, ask: Callable[[], Coroutine[Any, Any, Value]]) -> Value:
        """Return what ``ask`` returns, or what it returned to somebody who asked for the same just before.

        It is given up when the last who waits for it has been cancelled.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight(asyncio.create_task(ask()))
            flight.task.add_done_callback(lambda task: self._land(key, task))
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                # Whoever comes now asks anew: this one is ending.
                self._forget(key, flight.task)
                flight.task.cancel()

    def _land(self, key: bytes, task: asyncio.Task[Value]) -> None:
        self._forget(key, task)
        if not task.cancelled():
            task.exception()  # seen, also where nobody is left to hear of it

    def _forget(self, key: bytes, task: asyncio.Task[Value]) -> None:
        flight = self._flights.get(key)
        if flight is not None and flight.task is task:
            del self._flights[key]
