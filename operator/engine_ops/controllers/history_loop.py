"""Loads the history at the start, replays what the last operator had not flushed, and flushes it from then on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence

import msgspec

from engine_ops.controllers.history_keeper import HistoryKeeper
from engine_ops.controllers.history_report import conditions_of
from engine_ops.controllers.view import RequestView
from engine_ops.history.log import HistoryLog
from engine_ops.history.store import StoreError
from engine_ops.kube.errors import ApiError, UnavailableError
from engine_ops.kube.operator_status import OperatorStatus
from engine_ops.kube.requests import Requests
from engine_ops.kube.target import Target

logger = logging.getLogger(__name__)

FIRST_RETRY_SECONDS = 1.0
LAST_RETRY_SECONDS = 30.0
LAST_FLUSH_SECONDS = 5.0
_BEFORE_ALL_STAMPS = 0


class HistoryLoop:
    """What the history does by itself.

    Parameters
    ----------
    log, keeper
        The history, and what records in it.
    requests, namespaces
        Where the statuses of finished requests are read; no namespaces stands for all.
    status
        Where it is said how the history is.
    flush_seconds
        How often it is written, at most.
    trouble
        Says why outcomes could not be read the last time; empty if they could.
    """

    def __init__(
        self,
        log: HistoryLog,
        keeper: HistoryKeeper,
        *,
        requests: Requests,
        namespaces: Sequence[str],
        status: OperatorStatus,
        flush_seconds: float,
        trouble: Callable[[], str],
    ) -> None:
        self._log = log
        self._keeper = keeper
        self._requests = requests
        self._namespaces = namespaces
        self._status = status
        self._flush_seconds = flush_seconds
        self._trouble = trouble
        self._unwritten: StoreError | None = None
        # Nothing counts as flushed by its stamp alone until every status was read that may hold something older.
        log.begin(_BEFORE_ALL_STAMPS)

    async def load(self) -> None:
        """Load the history, trying until the store answers."""
        delay = FIRST_RETRY_SECONDS
        while not self._log.loaded:
            try:
                await self._log.load()
            except StoreError as error:
                logger.warning("the history is not loaded yet, trying again in %.0f s: %s", delay, error)
                await self._report(unreadable=str(error))
                await asyncio.sleep(delay)
                delay = min(2 * delay, LAST_RETRY_SECONDS)

    async def run(self) -> None:
        """Replay, then flush for as long as the operator runs."""
        await self.load()
        await self._report()
        replay = asyncio.create_task(self._replay(), name="replay the history")
        try:
            await self._flush_forever()
        finally:
            replay.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await replay

    async def close(self) -> None:
        """Flush once more, without making the end of the process wait for a store that hangs."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_FLUSH_SECONDS):
                try:
                    await self._log.flush()
                except StoreError as error:
                    logger.warning("the history's last points are not written; they are read again: %s", error)

    async def _replay(self) -> None:
        """Read every status once: a point that was not flushed when the last operator ended is in one of them."""
        delay = FIRST_RETRY_SECONDS
        while True:
            try:
                async for item in self._requests.histories(self._namespaces):
                    if item.status is not None and item.status.history_points:
                        found = item.metadata
                        target = Target(found.namespace, found.name, found.uid, found.generation)
                        status = {"historyPoints": item.status.history_points}
                        self._keeper.note(RequestView(target=target, deleting=False, spec={}, status=status))
                break
            except (ApiError, UnavailableError, msgspec.MsgspecError) as error:
                logger.warning("finished requests are not replayed yet, trying again in %.0f s: %s", delay, error)
                await asyncio.sleep(delay)
                delay = min(2 * delay, LAST_RETRY_SECONDS)
        self._log.abandon(_BEFORE_ALL_STAMPS)

    async def _flush_forever(self) -> None:
        delay = self._flush_seconds
        while True:
            await asyncio.sleep(delay)
            if self._log.dirty:
                try:
                    await self._log.flush()
                except StoreError as error:
                    logger.debug("the history is not written yet: %s", error)  # its health says so, and is reported
                    delay = min(2 * delay, max(self._flush_seconds, LAST_RETRY_SECONDS))
                    self._unwritten = error
                else:
                    delay = self._flush_seconds
                    self._unwritten = None
            else:  # somebody who could not wait for the next flush has written it
                self._unwritten = None
            await self._report()

    async def _report(self, unreadable: str = "") -> None:
        try:
            await self._status.write(
                conditions_of(
                    self._log.health, unreadable=unreadable, unwritten=self._unwritten, trouble=self._trouble()
                )
            )
        except (ApiError, UnavailableError) as error:
            logger.debug("the operator's status is not written: %s", error)
