"""Whose turn it is: so many requests at once hold data or write status, and none of them while it waits for others."""

from __future__ import annotations

import asyncio
import collections
import contextlib
from collections.abc import AsyncIterator, Iterator

_Waiters = collections.deque[asyncio.Future[None]]


class Turns:
    """A number of turns. Who has lent one comes before all who had none yet, else first come, first served.

    A request that was asked about already is then not behind the thousands that came meanwhile, and what those hold
    that have lent their turn is bounded: no new ones begin while they wait.

    Of those that search for long at most half have a turn, or have lent it: the others never wait for the end of one.

    Parameters
    ----------
    count
        How many there are.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._returning: _Waiters = collections.deque()
        self._coming: _Waiters = collections.deque()
        self._long = asyncio.Semaphore(max(1, count // 2))
        self._long_waiting = 0

    @contextlib.asynccontextmanager
    async def take(self, *, long: bool = False) -> AsyncIterator[Turn]:
        """Wait for a turn, and give it back in the end.

        Parameters
        ----------
        long
            Whether it may be held for long.
        """
        async with self._room() if long else contextlib.nullcontext():
            await self._wait(self._coming)
            turn = Turn(self)
            try:
                yield turn
            finally:
                turn.end()

    @property
    def waiting(self) -> int:
        """How many wait for one."""
        return len(self._returning) + len(self._coming) + self._long_waiting

    async def wait_again(self) -> None:
        """Wait for a turn in place of one that was lent."""
        await self._wait(self._returning)

    def release(self) -> None:
        """Let the next one have a turn."""
        for waiters in (self._returning, self._coming):
            while waiters:
                waiter = waiters.popleft()
                if not waiter.done():  # else it was cancelled
                    waiter.set_result(None)
                    return
        self._free += 1

    @contextlib.asynccontextmanager
    async def _room(self) -> AsyncIterator[None]:
        self._long_waiting += 1
        try:
            await self._long.acquire()
        finally:
            self._long_waiting -= 1
        try:
            yield
        finally:
            self._long.release()

    async def _wait(self, waiters: _Waiters) -> None:
        if self._free:
            self._free -= 1  # a turn is free only while nobody waits
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.release()  # it was got just before
            raise


class Turn:
    """A turn that was taken.

    Parameters
    ----------
    turns
        Where it is from.
    """

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._held = True
        self._at_work_since: float | None = asyncio.get_running_loop().time()

    @property
    def at_work_seconds(self) -> float | None:
        """For how long its request has been at something since it waited for its place last; None while it waits."""
        if self._at_work_since is None:
            return None
        return asyncio.get_running_loop().time() - self._at_work_since

    @contextlib.asynccontextmanager
    async def lent(self, places: asyncio.Semaphore | None = None) -> AsyncIterator[None]:
        """Let others have it for as long as the body lasts; then wait for another.

        Where the body fails or is cancelled, nothing is waited for.

        Parameters
        ----------
        places
            The body needs one of these. The turn is lent before one is waited for, and the place is free again before
            another turn is: neither is ever held by somebody who waits for the other.
        """
        self.end()
        if places is None:
            yield
        else:
            with self._waiting():
                await places.acquire()
            try:
                yield
            finally:
                places.release()
        with self._waiting():
            await self._turns.wait_again()
        self._held = True

    @contextlib.contextmanager
    def _waiting(self) -> Iterator[None]:
        self._at_work_since = None
        yield
        self._at_work_since = asyncio.get_running_loop().time()

    def end(self) -> None:
        """Give it back, if it is held."""
        if self._held:
            self._held = False
            self._turns.release()
