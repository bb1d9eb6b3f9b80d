"""Telling of a long solve while it runs: first after two seconds, then at most every five."""

from __future__ import annotations

import asyncio
import datetime
import logging
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from engine_ops.api import status as statuses
from engine_ops.api.status import Attempt
from engine_ops.controllers.turns import Turn
from engine_ops.kube.errors import ApiError
from engine_ops.kube.status_writer import StatusWriter
from engine_ops.kube.target import Target

logger = logging.getLogger(__name__)

FIRST_REPORT_SECONDS = 2.0
REPORT_SECONDS = 5.0


class ProgressReporter:
    """Writes Reconciling=True and the best answer so far, for as long as its block runs.

    A solve that ends within two seconds costs no write and no task, only a timer. Nor does one that waits for its place
    behind others: of thousands that came at once, each would cost a write before its own turn.

    Parameters
    ----------
    writer
        Of statuses.
    target, attempt
        What is being solved.
    turn
        The request's; it knows when the request waits.
    """

    def __init__(self, writer: StatusWriter, target: Target, attempt: Attempt, turn: Turn) -> None:
        self._writer = writer
        self._target = target
        self._attempt = attempt
        self._turn = turn
        self._latest: Mapping[str, Any] | None = None
        self._told: Mapping[str, Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._write: asyncio.Task[None] | None = None
        self._first = True
        self._over = False

    def update(self, progress: Mapping[str, Any]) -> None:
        """Take note of a better answer."""
        self._latest = progress

    async def __aenter__(self) -> Self:
        self._arm(FIRST_REPORT_SECONDS)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        if self._write is None:
            return
        if isinstance(error, asyncio.CancelledError):
            # No final write follows. This one tries for as long as the API server is away: an end must not wait for it.
            self._write.cancel()
        try:
            # Else not cancelled: a write on its way could land after the final one.
            await asyncio.wait([self._write])
        except asyncio.CancelledError:
            self._write.cancel()
            raise

    def _arm(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._fire)

    def _fire(self) -> None:
        self._timer = None
        at_work_seconds = self._turn.at_work_seconds
        if at_work_seconds is None or at_work_seconds < FIRST_REPORT_SECONDS:
            self._arm(FIRST_REPORT_SECONDS - (at_work_seconds or 0.0))
        elif self._first or self._latest != self._told:
            self._first = False
            self._told = self._latest
            self._write = asyncio.create_task(self._tell(), name=f"progress {self._target}")
        else:
            self._arm(REPORT_SECONDS)

    async def _tell(self) -> None:
        now = datetime.datetime.now(datetime.UTC)
        try:
            await self._writer.write(self._target, statuses.solving(self._attempt, self._told, now))
        except ApiError as error:
            logger.warning("%s: its progress is not written: %s", self._target, error)
        self._write = None
        if not self._over:
            self._arm(REPORT_SECONDS)
