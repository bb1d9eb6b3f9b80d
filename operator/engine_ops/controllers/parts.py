"""The parts of the operator, put together."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from engine_ops.controllers.cluster_data import ClusterData
from engine_ops.controllers.measuring import UNMEASURED, Measured
from engine_ops.controllers.operator_config import OperatorConfig
from engine_ops.controllers.patience import patiently
from engine_ops.controllers.plugins import NO_PLUGINS
from engine_ops.controllers.ports import Ports
from engine_ops.controllers.reconciler import RequestReconciler
from engine_ops.controllers.recording import NoHistory
from engine_ops.kube import preflight
from engine_ops.kube.cluster_access import ClusterAccess
from engine_ops.kube.cluster_cache import ClusterCache
from engine_ops.kube.config_maps import ConfigMaps
from engine_ops.kube.connection import Connection
from engine_ops.kube.errors import ConnectError
from engine_ops.kube.events import EventRecorder
from engine_ops.kube.requests import Requests
from engine_ops.kube.status_writer import StatusWriter
from engine_ops.workers.pool import WorkerPool

if TYPE_CHECKING:
    from engine_ops.controllers.operator_history import OperatorHistory
    from engine_ops.controllers.operator_plugins import OperatorPlugins

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the operator is made of. Make it with `Parts.build`.

    Parameters
    ----------
    connection
        To the API server.
    pool, workers
        The solvers, and how many processes they are.
    cache
        Of the cluster's nodes and pods.
    events
        Of the API server.
    history, plugins
        None where there are none.
    reconciler
        Of OptimizationRequests.
    measured
        Who counts what becomes of requests.
    """

    connection: Connection
    pool: WorkerPool
    workers: int
    cache: ClusterCache
    events: EventRecorder
    history: OperatorHistory | None
    plugins: OperatorPlugins | None
    reconciler: RequestReconciler
    measured: Measured

    @classmethod
    async def build(
        cls,
        config: OperatorConfig,
        connection: Connection,
        namespace: str,
        identity: str,
        pool: WorkerPool,
        workers: int,
        stack: contextlib.AsyncExitStack,
        measured: Measured = UNMEASURED,
    ) -> Self:
        """Make the parts, load the history, and look for plugins.

        Parameters
        ----------
        config
            How the operator runs.
        connection
            To the API server.
        namespace
            The operator's own.
        identity
            What tells this operator from another.
        pool, workers
            The solvers, and how many processes they are.
        stack
            Closes the parts at the end.
        measured
            Who counts what becomes of requests.

        Raises
        ------
        ConnectError, ApiError, UnavailableError
            If something is missing, or the API server does not answer.
        """
        access = ClusterAccess(connection, namespace, config.cluster_data_namespaces)
        await access.check_selector()
        cache = ClusterCache(connection)
        stack.push_async_callback(cache.close)
        events = EventRecorder(connection, identity)
        requests = Requests(connection)
        history = None
        if config.history is not None:
            from engine_ops.controllers.operator_history import OperatorHistory  # columns: numpy is only needed here

            history = OperatorHistory(connection, requests, namespace, config.namespaces, config.history, identity)
            stack.push_async_callback(history.close)
            await history.load_soon()
        plugins = await _plugins(config, connection, namespace, history, events)
        if plugins is not None:
            stack.push_async_callback(plugins.close)
            await patiently(plugins.look)
        reconciler = RequestReconciler(
            requests=requests,
            writer=StatusWriter(connection),
            config_maps=ConfigMaps(connection),
            cluster_data=ClusterData(cache, access),
            events=events,
            history=NoHistory() if history is None else history.keeper,
            pool=pool,
            workers=workers,
            plugins=NO_PLUGINS if plugins is None else plugins.manager,
            measured=measured,
        )
        stack.push_async_callback(events.drain, 2.0)
        stack.push_async_callback(reconciler.close)
        return cls(
            connection=connection,
            pool=pool,
            workers=workers,
            cache=cache,
            events=events,
            history=history,
            plugins=plugins,
            reconciler=reconciler,
            measured=measured,
        )

    def health(self) -> dict[str, Callable[[], object]]:
        """Return what health tells: by part, what returns its numbers as JSON values."""
        parts: dict[str, Callable[[], object]] = {
            "requestsUnderWay": lambda: self.reconciler.under_way,
            "clusterCacheAgeSeconds": lambda: self.cache.age_seconds,
        }
        if self.history is not None:
            parts["history"] = self.history.probe
        if self.plugins is not None:
            parts["plugins"] = self.plugins.probe
        return parts

    async def open_api(self, ports: Ports, kubeconfig: str | None, stack: contextlib.AsyncExitStack) -> None:
        """Serve the REST API.

        Parameters
        ----------
        ports
            Where.
        kubeconfig
            As `Connection.open` has it.
        stack
            Closes what answers at the end.

        Raises
        ------
        ConnectError
            If it cannot be served, or who calls could not be found out.
        """
        from engine_ops.controllers.direct import DirectRequests

        why_not = await patiently(lambda: preflight.why_no_api(self.connection))
        if why_not is not None:
            raise ConnectError(f"the REST API (--api) cannot be served: {why_not}")
        engine = DirectRequests(
            pool=self.pool,
            workers=self.workers,
            manager=None if self.plugins is None else self.plugins.manager,
            log=None if self.history is None else self.history.log,
            probes=self.health(),
            measured=self.measured,
        )
        stack.push_async_callback(engine.close)
        await ports.open_api(engine, kubeconfig)


async def _plugins(
    config: OperatorConfig,
    connection: Connection,
    namespace: str,
    history: OperatorHistory | None,
    events: EventRecorder,
) -> OperatorPlugins | None:
    if config.plugins is None:
        return None
    from engine_ops.controllers.operator_plugins import OperatorPlugins

    why_not = await patiently(lambda: preflight.why_no_plugins(connection))
    if why_not is not None:
        logger.warning("OptimizerPlugins are not followed: %s", why_not)
    log = None if history is None else history.log
    return OperatorPlugins(connection, namespace, config.plugins, log, events, follow=why_not is None)
