"""What whoever runs plugins needs, with or without Kubernetes: a host, the history to learn from, and an end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from engine_ops.history.keys import point_key

if TYPE_CHECKING:
    from engine_ops.history.log import HistoryLog
    from engine_ops.ml.data_point import WorkloadDataPoint
    from engine_ops.plugins.host.client import HostClient, PluginProcess
    from engine_ops.plugins.manager import PluginManager

END_SECONDS: Final = 2.0
"""At the end a plugin that is asked just then has so long."""


class HostOnDemand:
    """A plugin host that is started when there is a plugin: it loads scikit-learn, which many never need.

    Parameters
    ----------
    client
        Of the host; not started yet.
    """

    def __init__(self, client: HostClient) -> None:
        self._client = client
        self._starting: asyncio.Task[None] | None = None

    @property
    def available(self) -> bool:
        """Whether the host can start processes."""
        return self._client.available

    def begin(self) -> None:
        """Start the host aside, before the first plugin needs it."""
        if self._starting is None:
            self._starting = asyncio.create_task(self._client.start(), name="start the plugin host")

    async def spawn(self, label: str, *, memory_limit_bytes: int) -> PluginProcess:
        """Start a process; see `HostClient.spawn`."""
        await self._client.start()  # once; it does nothing after
        return await self._client.spawn(label, memory_limit_bytes=memory_limit_bytes)

    async def close(self) -> None:
        """End the host, and what runs there."""
        if self._starting is not None:
            await self._starting
        await self._client.close()


class HistoryPoints:
    """The history, as far as training asks for it.

    Parameters
    ----------
    log
        Of the history.
    """

    def __init__(self, log: HistoryLog) -> None:
        self._log = log

    def points(self) -> int:
        """Return how many data points there are."""
        return len(self._log.collector)


def listen(log: HistoryLog, manager: PluginManager) -> None:
    """Have plugins told of each outcome when the history knows it."""

    def recorded(point: WorkloadDataPoint) -> None:
        manager.outcome(point_key(point), point)

    log.on_recorded = recorded


async def close_plugins(manager: PluginManager, host: HostOnDemand) -> None:
    """End the plugins and their host.

    Nobody waits for an answer any more: a plugin that is at one has a moment to end, and is killed then.
    """
    closing = asyncio.create_task(manager.close(), name="close the plugins")
    await asyncio.wait({closing}, timeout=END_SECONDS)
    await host.close()
    await closing
