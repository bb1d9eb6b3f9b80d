"""Whose turn it is: so many requests at once hold data or write status, and none of them while it waits for others."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Turns:
    """A number of turns, first come, first served.

    Parameters
    ----------
    count
        How many there are.
    """

    def __init__(self, count: int) -> None:
        self._free = asyncio.Semaphore(count)

    @contextlib.asynccontextmanager
    async def take(self) -> AsyncIterator[Turn]:
        """Wait for a turn, and give it back in the end."""
        await self._free.acquire()
        turn = Turn(self._free)
        try:
            yield turn
        finally:
            turn.end()


class Turn:
    """A turn that was taken.

    Parameters
    ----------
    free
        Where it is from.
    """

    def __init__(self, free: asyncio.Semaphore) -> None:
        self._free = free
        self._held = True

    @contextlib.asynccontextmanager
    async def lent(self) -> AsyncIterator[None]:
        """Let others have it for as long as the body lasts; then wait for another.

        Where the body fails or is cancelled, nothing is waited for.
        """
        self.end()
        yield
        await self._free.acquire()
        self._held = True

    def end(self) -> None:
        """Give it back, if it is held."""
        if self._held:
            self._held = False
            self._free.release()
