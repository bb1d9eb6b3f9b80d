"""The plugins of the operator: where they run, what they learn from, and where their models are kept."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from engine_ops.api.optimizerplugin import OptimizerPluginSpec, PluginService
from engine_ops.api.reasons import Reason
from engine_ops.controllers.direct_plugins import plugins_health
from engine_ops.controllers.plugin_reconciler import PluginReconciler
from engine_ops.controllers.plugin_running import HistoryPoints, HostOnDemand, close_plugins, listen
from engine_ops.controllers.plugins_config import PluginsConfig
from engine_ops.controllers.view import PluginView
from engine_ops.history.feed import HistoryFeed
from engine_ops.kube import preflight
from engine_ops.kube.connection import Connection
from engine_ops.kube.errors import ApiError, UnavailableError
from engine_ops.kube.events import EventRecorder
from engine_ops.kube.model_store import ConfigMapModelStore
from engine_ops.kube.paths import PLUGIN, collection_path
from engine_ops.kube.status_writer import StatusWriter
from engine_ops.plugins.host.client import HostClient
from engine_ops.plugins.instance import Instance
from engine_ops.plugins.manager import PluginManager
from engine_ops.plugins.model_store import DirectoryModelStore, ModelStoreError
from engine_ops.plugins.process_instance import ProcessInstance
from engine_ops.plugins.registry import plugin_registry
from engine_ops.plugins.service_instance import ServiceInstance, cluster_url

if TYPE_CHECKING:
    from engine_ops.history.log import HistoryLog

logger = logging.getLogger(__name__)

AWAITED: Final = frozenset({Reason.NO_PLUGIN, Reason.NOT_ENOUGH_DATA})
"""What requests wait for that a plugin may end."""

LOOK_SECONDS: Final = 10.0
"""For so long an API server that is starting is asked for the plugins."""


class OperatorPlugins:
    """Runs the plugins of OptimizerPlugins.

    Parameters
    ----------
    connection
        To the API server.
    namespace
        The operator's own: models are kept there.
    config
        Where plugins run.
    log
        Of the history that they learn from; None for none.
    events
        Of the API server.
    follow
        Whether there may be OptimizerPlugins; without, the history alone predicts.
    """

    def __init__(
        self,
        connection: Connection,
        namespace: str,
        config: PluginsConfig,
        log: HistoryLog | None,
        events: EventRecorder,
        *,
        follow: bool = True,
    ) -> None:
        self.follow = follow
        self._connection = connection
        self._config = config
        self._log = log
        self._feed = None if log is None else HistoryFeed(log.collector)
        self._host = HostOnDemand(
            HostClient.subprocess() if config.host is None else HostClient.at(Path(config.host)),
        )
        directory = None if config.state_directory is None else DirectoryModelStore(config.state_directory)
        self._store = ConfigMapModelStore(connection, namespace, directory)
        self.manager = PluginManager(
            plugin_registry,
            make_instance=self._make_instance,
            history=None if log is None else HistoryPoints(log),
            store=self._store,
        )
        self.manager.subscribe(self._may_need_host)
        self.reconciler = PluginReconciler(
            plugins=self.manager, models=self._store, writer=StatusWriter(connection), events=events
        )
        if log is not None:
            listen(log, self.manager)
        self._running: asyncio.Task[object] | None = None

    async def look(self) -> None:
        """Take note of the plugins that there are: requests are watched after that, and none takes them for missing.

        Where their statuses may not be written, another operator does it, or nobody: they are asked all the same.

        Raises
        ------
        ApiError, UnavailableError
            If they may not be listed, or the API server does not say what else may be done.
        """
        if self.follow:
            self.reconciler.tells = await preflight.may_tell_of_plugins(self._connection)
            if not self.reconciler.tells:
                logger.warning(
                    "OptimizerPlugins are asked, and their statuses are not written here: the operator lacks the "
                    "right to %s in the cluster, which one operator of a cluster should have",
                    ", ".join(map(str, preflight.NEEDED_TO_TELL_OF_PLUGINS)),
                )
        deadline = time.monotonic() + LOOK_SECONDS
        while self.follow:
            try:
                listed = await self._connection.get(collection_path(PLUGIN))
            except (ApiError, UnavailableError) as error:
                if isinstance(error, ApiError) and not error.retriable:
                    raise
                if time.monotonic() > deadline:
                    logger.warning("OptimizerPlugins are not listed yet: %s", error)
                    return  # the watch tells of them
                await asyncio.sleep(0.5)
                continue
            for body in listed["items"]:
                self.reconciler.observe(PluginView.of(body))
            return

    async def run(self, wake: Callable[[frozenset[Reason]], None]) -> None:
        """Follow the plugins for as long as the operator runs, or until `stop`.

        Parameters
        ----------
        wake
            Told to try requests again that wait for one of these reasons: who can answer has changed.
        """
        self._running = asyncio.current_task()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sweep(), name="sweep models")
            group.create_task(self._warm(), name="read the history for the baseline")
            group.create_task(self._wake(wake), name="wake requests")

    async def stop(self) -> None:
        """End `run`, the plugins and their host. At its end kopf gives tasks that it takes for its own five seconds."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})
        await self.close()

    async def close(self) -> None:
        """End the plugins and their host."""
        await self.reconciler.close()
        await close_plugins(self.manager, self._host)

    def probe(self) -> dict[str, object]:
        """Return what health says of the plugins, as JSON values, by name."""
        return plugins_health(self.manager)

    def _may_need_host(self, name: str) -> None:
        """Have the host load what plugins need as soon as there is one, even disabled: a patch is then felt at once."""
        hosted = self.manager.get(name)
        if hosted is not None and hosted.spec.source.entry_point is not None:
            self._host.begin()

    async def _warm(self) -> None:
        if self._log is None:
            return
        await self._log.ready.wait()
        await self.manager.warm(self._log.collector.select().points())

    async def _sweep(self) -> None:
        if not self.follow:
            return
        try:
            await self._store.sweep()
        except ModelStoreError as error:
            logger.warning("models of plugins that are gone are still there: %s", error)

    async def _wake(self, wake: Callable[[frozenset[Reason]], None]) -> None:
        version = self.manager.version
        while True:
            version = await self.manager.wait_changed(version)
            wake(AWAITED)

    def _make_instance(
        self, name: str, spec: OptimizerPluginSpec, state: bytes, on_change: Callable[[], None]
    ) -> Instance:
        config = msgspec.json.encode(spec.config or {})
        if spec.source.service is not None:
            return ServiceInstance(
                name,
                spec.source.service,
                limits=spec.limits,
                config=config,
                state=state,
                feed=self._feed,
                resolve=self._address_of,
                on_change=on_change,
            )
        if spec.source.entry_point is None:
            raise AssertionError("the API server takes no source without one of the two")
        return ProcessInstance(
            self._host, spec.source.entry_point, name, config, spec.limits, self._feed, state, on_change
        )

    def _address_of(self, service: PluginService) -> str:
        return self._config.services.get(f"{service.namespace}/{service.name}") or cluster_url(service)
