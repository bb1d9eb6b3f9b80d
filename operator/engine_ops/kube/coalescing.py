"""One piece of work for all who wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class _Run:
    """One time that the work is done."""

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.waiters = 0


class Coalesced:
    """Does a piece of work so that each caller gets a time that began after the call, and callers share it.

    At most one is under way and one is to follow; those for whom nobody waits any more are cancelled.

    Parameters
    ----------
    work
        What is done.
    """

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self._work = work
        self._running: _Run | None = None
        self._next: _Run | None = None

    async def __call__(self) -> None:
        """Wait until the work was done from a beginning after this call. Raises what the work raises."""
        run = self._next
        if run is None:
            run = self._next = _Run()
            run.task = asyncio.create_task(self._execute(run, self._running), name="coalesced work")
        if run.task is None:
            raise AssertionError("a run has its task from the beginning")
        run.waiters += 1
        try:
            # Not `shield`: where the caller is cancelled, the work's own error would be reported as lost.
            await asyncio.wait([run.task])
        finally:
            run.waiters -= 1
            if run.waiters == 0 and not run.task.done():
                run.task.cancel()
                if self._next is run:
                    self._next = None
        run.task.result()

    async def close(self) -> None:
        """Cancel what is under way, and wait for its end."""
        tasks = [run.task for run in (self._running, self._next) if run is not None and run.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._running = self._next = None

    async def _execute(self, run: _Run, previous: _Run | None) -> None:
        if previous is not None and previous.task is not None:
            await asyncio.wait([previous.task])
        self._running, self._next = run, None
        try:
            await self._work()
        finally:
            if self._running is run:
                self._running = None
