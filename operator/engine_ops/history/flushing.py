"""When the history goes into its store: one flush at a time, again after another writer's, and shared by who waits."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable

from engine_ops.history.driving import pause
from engine_ops.history.store import ConflictError, StoreError, StoreRefusedError
from engine_ops.history.writing import LogWriter

logger = logging.getLogger(__name__)

FLUSH_TRIES = 8
FIRST_PAUSE_SECONDS = 0.02


class Flusher:
    """Reads and writes a log's store, and keeps how that went. For `engine_ops.history.log.HistoryLog` only.

    Parameters
    ----------
    writer
        What is in the store, and what is to be written.
    clock
        Epoch milliseconds.

    Attributes
    ----------
    ready : asyncio.Event
        Set once the store was read.
    read_only : bool
        Whether nothing may be written.
    refused : str
        What the store said when it refused the last flush; empty where it took it.
    flushed_at_ms : int or None
        When the last flush was done, in epoch milliseconds.
    conflicts : int
        How often another writer was faster.
    """

    def __init__(self, writer: LogWriter, clock: Callable[[], int]) -> None:
        self._writer = writer
        self._clock = clock
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[bool] | None = None
        self.ready = asyncio.Event()
        self.read_only = False
        self.refused = ""
        self.flushed_at_ms: int | None = None
        self.conflicts = 0

    async def load(self, *, read_only: bool) -> None:
        """Read the store; see `HistoryLog.load`.

        Raises
        ------
        StoreError
            If the store does not answer or refuses.
        """
        self.read_only = read_only
        async with self._lock:
            if not self._writer.loaded or read_only:
                await self._writer.read(read_only=read_only)
                self.ready.set()

    async def flush(self) -> None:
        """Bring everything into the store that was recorded before the call.

        Raises
        ------
        StoreError
            If it could not be done.
        """
        if self.read_only:
            raise StoreRefusedError("the history was opened for reading only")
        async with self._lock:
            try:
                await self._flush()
            except StoreRefusedError as error:
                if self.refused != str(error):
                    logger.warning("The history is kept in memory only, its store refuses it: %s.", error)
                self.refused = str(error)
                raise
            if self.refused:
                logger.info("The store takes the history again.")
            self.refused = ""
            self.flushed_at_ms = self._clock()

    async def flush_until(self, is_done: Callable[[], bool], timeout_seconds: float) -> None:
        """Flush until something is done, a flush fails without it, or the time is over."""
        deadline = time.monotonic() + timeout_seconds
        while not is_done():
            # One flush serves everybody who waits; it goes on when one of them gives up.
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._try_flush(), name="flush the history")
            left = deadline - time.monotonic()
            done, _ = await asyncio.wait({self._task}, timeout=max(0.0, left))
            if not done or (not is_done() and not self._task.result()):
                break

    async def _flush(self) -> None:
        delay = FIRST_PAUSE_SECONDS
        for attempt in itertools.count(1):
            try:
                if not self._writer.loaded or self._writer.is_behind:
                    await self._writer.read()
                    self.ready.set()
                await self._writer.write()
                return
            except ConflictError as error:
                self.conflicts += 1
                self._writer.is_behind = True
                if attempt >= FLUSH_TRIES:
                    raise
                logger.debug("Another writer was faster: %s", error)
            await pause(delay)
            delay *= 2

    async def _try_flush(self) -> bool:
        try:
            await self.flush()
        except StoreError as error:
            logger.debug("The history is not written yet: %s", error)
            return False
        return True
