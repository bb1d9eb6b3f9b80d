"""The operator: connects, checks, takes the Lease, and runs kopf in its own loop beside the reconciler."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import errno
import gc
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import kopf

from engine_ops.controllers import kopf_settings, optimizationrequest, optimizerplugin
from engine_ops.controllers.cluster_data import ClusterData
from engine_ops.controllers.history_config import HistoryConfig
from engine_ops.controllers.plugins import NO_PLUGINS
from engine_ops.controllers.plugins_config import PluginsConfig
from engine_ops.controllers.reconciler import RequestReconciler
from engine_ops.controllers.recording import NoHistory
from engine_ops.kube import preflight
from engine_ops.kube.cluster_access import ClusterAccess
from engine_ops.kube.cluster_cache import ClusterCache
from engine_ops.kube.config_maps import ConfigMaps
from engine_ops.kube.connection import Connection
from engine_ops.kube.errors import ApiError, ConnectError, UnavailableError
from engine_ops.kube.events import EventRecorder
from engine_ops.kube.lease import Lease, LocalLock, own_identity
from engine_ops.kube.requests import Requests
from engine_ops.kube.status_writer import StatusWriter
from engine_ops.workers.early_pool import EarlyPool

if TYPE_CHECKING:
    from engine_ops.controllers.operator_history import OperatorHistory
    from engine_ops.controllers.operator_plugins import OperatorPlugins

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

LEASE_NAME = "engine-ops"
GC_THRESHOLDS = (50_000, 20, 50)
LEASE_RELEASE_SECONDS = 3.0
NESTING_LIMIT = 15_000
"""The API server takes JSON that is nested 10,000 deep; at Python's own 1,000 one such object would end every watch."""
API_SERVER_PATIENCE_SECONDS = 60.0
UNUSABLE_ADDRESS = (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES, errno.EPERM)
CREDENTIALS_REFRESH = datetime.timedelta(minutes=5)
"""How often kopf asks for the credentials again: a Pod's token is rotated by the kubelet."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OperatorConfig:
    """How the operator runs.

    Parameters
    ----------
    kubeconfig
        A file; None as `Connection.open` says.
    namespaces
        Those to watch; empty for all.
    lease_namespace
        Where the Lease lives; None for the Pod's own, or that of the kubeconfig.
    cluster_data_namespaces
        A label selector of the namespaces whose requests may see the cluster; None for the operator's own only.
    probes
        Where health is answered, such as ``http://0.0.0.0:8080/healthz``; None for nowhere.
    history
        How the history is kept; None for not at all.
    plugins
        Where plugins run; None for no plugins.
    """

    kubeconfig: str | None = None
    namespaces: tuple[str, ...] = ()
    lease_namespace: str | None = None
    cluster_data_namespaces: str | None = None
    probes: str | None = "http://127.0.0.1:8080/healthz"
    history: HistoryConfig | None = None
    plugins: PluginsConfig | None = None


async def serve(config: OperatorConfig, early_pool: EarlyPool, announce: Callable[[str], None]) -> None:
    """Run the operator until it is told to stop, or cannot go on.

    Parameters
    ----------
    config
        How.
    early_pool
        The workers, which may still be starting; its context is the caller's.
    announce
        Told, in one line each, what it is and that it serves.

    Raises
    ------
    ConnectError
        If there are no credentials, or what is needed is missing; with a sentence for people.
    LeaseLostError
        If another operator took over.
    """
    sys.setrecursionlimit(max(sys.getrecursionlimit(), NESTING_LIMIT))
    async with contextlib.AsyncExitStack() as stack:
        connection = await Connection.open(config.kubeconfig)
        stack.push_async_callback(connection.close)
        namespace = config.lease_namespace or connection.namespace
        await _patiently(lambda: preflight.check(connection, config.namespaces, namespace))

        identity, in_pod = own_identity()
        if not in_pod:
            lock = LocalLock.for_lease(connection.server, namespace, LEASE_NAME)
            lock.acquire()
            stack.callback(lock.release)
        lease = Lease(_apart(connection, stack), namespace, LEASE_NAME, identity)
        await lease.acquire()
        stack.push_async_callback(_give_back, lease)
        pool = await early_pool.ready()

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
            await _patiently(plugins.look)
        reconciler = RequestReconciler(
            requests=requests,
            writer=StatusWriter(connection),
            config_maps=ConfigMaps(connection),
            cluster_data=ClusterData(cache, access),
            events=events,
            history=NoHistory() if history is None else history.keeper,
            pool=pool,
            workers=early_pool.workers,
            plugins=NO_PLUGINS if plugins is None else plugins.manager,
        )
        stack.push_async_callback(events.drain, 2.0)
        stack.push_async_callback(reconciler.close)
        watched = ", ".join(config.namespaces) or "all namespaces"
        announce(
            f"watching optimizationrequests in {watched} of {connection.server}; "
            f"{early_pool.workers} workers; Lease {namespace}/{LEASE_NAME} as {identity}; "
            f"health at {config.probes or 'no address'}"
        )
        _spare_the_collector()
        async with contextlib.AsyncExitStack() as beside:
            await beside.enter_async_context(_in_background(lease.hold(), "hold the Lease"))
            await beside.enter_async_context(_in_background(events.run(), "post Events"))
            if history is not None:
                await beside.enter_async_context(_in_background(history.run(), "keep the history"))
            if plugins is not None:
                await beside.enter_async_context(_in_background(plugins.run(reconciler.wake), "follow the plugins"))
            try:
                await _run_kopf(config, connection, reconciler, cache, history, plugins)
            except Exception:
                # Says in a sentence what has gone missing since the start, if that is why: a definition, a right.
                await preflight.check(connection, config.namespaces, namespace)
                raise


def _apart(connection: Connection, stack: contextlib.AsyncExitStack) -> Connection:
    """Return a connection for the Lease alone, closed by the stack.

    Behind thousands of status writes a renewal would come too late, and end the operator when it has most to do.
    """
    own = connection.apart()
    stack.push_async_callback(own.close)
    return own


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

    why_not = await _patiently(lambda: preflight.why_no_plugins(connection))
    if why_not is not None:
        logger.warning("OptimizerPlugins are not followed: %s", why_not)
    log = None if history is None else history.log
    return OperatorPlugins(connection, namespace, config.plugins, log, events, follow=why_not is None)


def _spare_the_collector() -> None:
    """Keep Python's cycle collector from walking what lives as long as the process, and from running in every parse.

    Decoding one large object allocates tens of thousands of containers, none of them in a cycle; with the default
    thresholds the collector runs hundreds of times in it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


async def _give_back(lease: Lease) -> None:
    """Release the Lease, without making the end of the process wait for an API server that hangs."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LEASE_RELEASE_SECONDS):
            await lease.release()


async def _patiently(ask: Callable[[], Awaitable[_T]]) -> _T:
    """Return what the API server says, giving one that is starting itself, or learning of a new kind, some time."""
    deadline = asyncio.get_running_loop().time() + API_SERVER_PATIENCE_SECONDS
    while True:
        try:
            return await ask()
        except (ApiError, UnavailableError) as error:
            # One that has just begun to listen answers 503 until it knows all of its paths; of a definition that was
            # just applied it says 429 for a moment.
            wait = not isinstance(error, ApiError) or error.retriable
            if not wait or asyncio.get_running_loop().time() > deadline:
                raise
            logger.warning("waiting for the API server: %s", error)
            await asyncio.sleep(1.0)


async def _run_kopf(
    config: OperatorConfig,
    connection: Connection,
    reconciler: RequestReconciler,
    cache: ClusterCache,
    history: OperatorHistory | None,
    plugins: OperatorPlugins | None,
) -> None:
    registry = kopf.OperatorRegistry()
    optimizationrequest.register(registry, reconciler)
    if plugins is not None and plugins.follow:
        optimizerplugin.register(registry, plugins.reconciler)

    @kopf.on.login(registry=registry)
    async def login(**_: object) -> kopf.ConnectionInfo:
        await connection.reload()  # kopf asks anew when the API server no longer takes what it had
        found = await connection.credentials()
        return kopf.ConnectionInfo(
            server=found.server,
            ca_path=found.ca_path,
            certificate_path=found.certificate_path,
            private_key_path=found.private_key_path,
            token=found.token,
            insecure=found.insecure,
            proxy_url=found.proxy_url,
            expiration=datetime.datetime.now(datetime.UTC) + CREDENTIALS_REFRESH if found.token else None,
        )

    @kopf.on.cleanup(registry=registry)
    async def stop_solving(**_: object) -> None:
        # Otherwise kopf first gives our solves, which it takes for its own tasks, five seconds to end by themselves.
        await reconciler.close()
        if plugins is not None:
            await plugins.stop()
        if history is not None:
            await history.stop()

    @kopf.on.probe(registry=registry, id="requestsUnderWay")
    async def requests_under_way(**_: object) -> int:
        return reconciler.under_way

    @kopf.on.probe(registry=registry, id="clusterCacheAgeSeconds")
    async def cluster_cache_age(**_: object) -> float | None:
        return cache.age_seconds

    if history is not None:
        history_kept = history

        @kopf.on.probe(registry=registry, id="history")
        async def history_health(**_: object) -> dict[str, object]:
            return history_kept.probe()

    if plugins is not None:
        plugins_run = plugins

        @kopf.on.probe(registry=registry, id="plugins")
        async def plugins_health(**_: object) -> dict[str, object]:
            return plugins_run.probe()

    try:
        await kopf.operator(
            registry=registry,
            settings=kopf_settings.settings(),
            standalone=True,
            clusterwide=not config.namespaces,
            namespaces=config.namespaces,
            liveness_endpoint=config.probes,
        )
    except OSError as error:
        if error.errno not in UNUSABLE_ADDRESS:
            raise
        raise ConnectError(f"health cannot be answered at {config.probes}: {error.strerror}. Set --probes") from error


@contextlib.asynccontextmanager
async def _in_background(work: asyncio._CoroutineLike[None], name: str) -> AsyncIterator[None]:
    """Run something beside the block. When it fails the block is cancelled, and its error is the one that counts."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work, name=name)
        yield
        task.cancel()
