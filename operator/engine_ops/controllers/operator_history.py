"""The parts of the operator's history, put together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from engine_ops.controllers.history_config import HistoryConfig
from engine_ops.controllers.history_keeper import HistoryKeeper
from engine_ops.controllers.history_loop import HistoryLoop
from engine_ops.controllers.history_report import numbers_of
from engine_ops.history.log import HistoryLog, epoch_ms
from engine_ops.history.outcomes.collector import OutcomeCollector
from engine_ops.history.outcomes.joining import given_up
from engine_ops.kube.connection import Connection
from engine_ops.kube.history_store import ConfigMapStore
from engine_ops.kube.operator_status import OperatorStatus
from engine_ops.kube.outcome_source import KubeOutcomeSource
from engine_ops.kube.requests import Requests

LOAD_SECONDS = 5.0
"""Requests wait for the history no longer than this at the start; what they tell is kept until it is loaded."""


class OperatorHistory:
    """The history of the operator: its log in ConfigMaps, who records in it, and what joins the outcomes.

    Parameters
    ----------
    connection, requests
        The API server.
    namespace
        The operator's own: the history's ConfigMaps are there.
    namespaces
        Whose requests are watched; empty for all.
    config
        How.
    writer
        What tells this operator from another.
    """

    def __init__(
        self,
        connection: Connection,
        requests: Requests,
        namespace: str,
        namespaces: Sequence[str],
        config: HistoryConfig,
        writer: str,
    ) -> None:
        self.log = HistoryLog(
            ConfigMapStore(connection, namespace),
            capacity=config.points,
            writer=writer,
            close_pushed_out=lambda opened: given_up(opened, epoch_ms()),
        )
        self._source = KubeOutcomeSource(connection, namespaces=namespaces, observe_selector=config.observe)
        self._outcomes = OutcomeCollector(
            self.log,
            self._source,
            observe=config.observe is not None,
            sample_period_s=config.usage_period_seconds,
        )
        self.keeper = HistoryKeeper(
            self.log,
            outcome_window_ms=round(config.outcome_window_seconds * 1000),
            opened=self._outcomes.wake,
        )
        self._loop = HistoryLoop(
            self.log,
            self.keeper,
            requests=requests,
            namespaces=namespaces,
            status=OperatorStatus(connection, namespace),
            flush_seconds=config.flush_seconds,
            trouble=lambda: self._outcomes.trouble,
        )
        self._running: asyncio.Task[object] | None = None

    async def load_soon(self) -> None:
        """Load the history, but wait for a store that does not answer no longer than a few seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOAD_SECONDS):
                await self._loop.load()

    async def run(self) -> None:
        """Keep the history for as long as the operator runs, or until `stop`."""
        self._running = asyncio.current_task()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._loop.run(), name="flush the history")
            group.create_task(self._outcomes.run(), name="join outcomes")

    async def stop(self) -> None:
        """End `run`; `close` still writes. At its end kopf gives tasks that it takes for its own five seconds."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})
        await self._source.close()

    async def close(self) -> None:
        """Write what is not written yet."""
        await self._source.close()
        await self._loop.close()

    def probe(self) -> dict[str, object]:
        """Return what health says of the history, as JSON values."""
        return numbers_of(self.log.health)
