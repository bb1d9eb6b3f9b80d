"""One thread for a plugin's code, beside the event loop that answers for it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

MAX_WAITING: Final = 16
"""Calls that wait for their turn; whoever comes then is told to come later."""

T = TypeVar("T")


class WorkerBusyError(Exception):
    """Too many calls wait already."""


class ServiceWorker:
    """Makes calls one after the other, in the order in which they came, on a thread of their own.

    The thread ends with the program: a plugin that never returns keeps nobody from ending it.

    Parameters
    ----------
    max_waiting
        Calls that wait for their turn.
    """

    def __init__(self, max_waiting: int = MAX_WAITING) -> None:
        self._max_waiting = max_waiting
        self._calls: queue.SimpleQueue[tuple[concurrent.futures.Future[Any], Callable[[], Any]] | None]
        self._calls = queue.SimpleQueue()
        self._pending = 0
        self._began: float | None = None
        self._thread = threading.Thread(target=self._work, name="plugin", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many calls wait for their turn."""
        return max(0, self._pending - 1)

    @property
    def busy_seconds(self) -> float:
        """How long the call that is made now has been going on; 0 while there is none."""
        began = self._began
        return 0.0 if began is None else time.monotonic() - began

    async def run(self, function: Callable[[], T]) -> T:
        """Make a call, and return or raise what it does.

        A call that is cancelled before its turn is not made.

        Raises
        ------
        WorkerBusyError
            If too many wait.
        """
        if self._pending > self._max_waiting:
            raise WorkerBusyError
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._pending += 1
        loop = asyncio.get_running_loop()
        # Counted off when it is really over: who waits for it may go before.
        future.add_done_callback(lambda _: self._count_off(loop))
        self._calls.put((future, function))
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """End the thread after the calls that wait. Does not wait for it."""
        self._calls.put(None)

    def _count_off(self, loop: asyncio.AbstractEventLoop) -> None:
        def count_off() -> None:
            self._pending -= 1

        if not loop.is_closed():
            loop.call_soon_threadsafe(count_off)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            future, function = call
            if not future.set_running_or_notify_cancel():
                continue
            self._began = time.monotonic()
            try:
                result = function()
            except BaseException as error:  # noqa: BLE001 - raised again where it is awaited
                self._began = None
                future.set_exception(error)
            else:
                self._began = None
                future.set_result(result)
