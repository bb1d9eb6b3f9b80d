"""A watch that runs while somebody uses it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from engine_ops.history.outcomes.source import SourceError
from engine_ops.kube.coalescing import Coalesced
from engine_ops.kube.errors import ApiError, ConnectError, UnavailableError
from engine_ops.kube.outcome_errors import to_source_error
from engine_ops.kube.watch import Watch

logger = logging.getLogger(__name__)

FRESH_SECONDS: Final = 5.0
"""A view that was known to be current so recently is not checked again."""
WAIT_SECONDS: Final = 30.0
"""How long the first list, or the check, may take."""

_ENDING: Final = "the operator is about to end"

WatchT = TypeVar("WatchT", bound=Watch[Any])


class Watched(Generic[WatchT]):
    """Begins a watch with the first use and ends it when it was not used for a while.

    Parameters
    ----------
    make
        Makes the watch; called for every beginning.
    right
        What it needs, such as ``list and watch jobs.batch``; for messages.
    namespace
        Where it watches; empty for the whole cluster.
    idle_seconds
        After so long without use it ends.
    """

    def __init__(self, make: Callable[[], WatchT], right: str, namespace: str, idle_seconds: float) -> None:
        self._make = make
        self._right = right
        self._namespace = namespace
        self._idle_seconds = idle_seconds
        self._watch: WatchT | None = None
        self._idle: asyncio.Task[None] | None = None
        self._used_at = 0.0
        self._users = 0
        self._closed = False
        self._refresh = Coalesced(self._bring_up_to_now)

    @property
    def running(self) -> bool:
        """Whether it watches now."""
        return self._watch is not None

    async def current(self) -> WatchT:
        """Return the watch, whose view is then at most five seconds old.

        Raises
        ------
        SourceError
            If there is none: a right is missing, the API server is away, or this was closed.
        """
        self._users += 1
        try:
            watch = self._begin()
            at = watch.current_at
            if not watch.complete or at is None or time.monotonic() - at > FRESH_SECONDS:
                await self._refresh()
            return watch
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if self._closed and (task is None or not task.cancelling()):
                raise SourceError(_ENDING) from error
            raise
        finally:
            self._users -= 1
            self._used_at = time.monotonic()

    async def close(self) -> None:
        """End it for good."""
        self._closed = True
        await self._refresh.close()
        idle, self._idle = self._idle, None
        if idle is not None:
            idle.cancel()
            await asyncio.wait([idle])
        await self._end()

    def _begin(self) -> WatchT:
        if self._closed:
            raise SourceError(_ENDING)
        if self._watch is None:
            self._watch = self._make()
            self._watch.start()
        if self._idle is None or self._idle.done():
            self._idle = asyncio.create_task(self._end_when_idle(), name=f"end of the right to {self._right}")
        return self._watch

    async def _bring_up_to_now(self) -> None:
        watch = self._watch
        if watch is None:
            raise SourceError(_ENDING)
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await watch.fresh()
        except (ApiError, UnavailableError, ConnectError) as error:
            raise to_source_error(error, self._right, self._namespace) from error
        except TimeoutError as error:
            silent = UnavailableError(f"no answer within {WAIT_SECONDS:g} s")
            raise to_source_error(silent, self._right, self._namespace) from error

    async def _end_when_idle(self) -> None:
        while self._watch is not None:
            left = self._idle_seconds if self._users else self._used_at + self._idle_seconds - time.monotonic()
            if left > 0:
                await asyncio.sleep(left)
                continue
            logger.info("nobody has asked for %.0f s: no longer doing %s", self._idle_seconds, self._right)
            await self._end()

    async def _end(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            await watch.close()
