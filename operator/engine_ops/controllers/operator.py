"""The operator: connects, checks, takes the Lease, and runs kopf in its own loop beside the reconciler."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
from collections.abc import Callable

from engine_ops.controllers.background import in_background
from engine_ops.controllers.kopf_run import run_kopf
from engine_ops.controllers.observed import Observed
from engine_ops.controllers.operator_config import OperatorConfig
from engine_ops.controllers.parts import Parts
from engine_ops.controllers.patience import patiently
from engine_ops.controllers.ports import Ports
from engine_ops.kube import preflight
from engine_ops.kube.connection import Connection
from engine_ops.kube.lease import Lease, LocalLock, own_identity
from engine_ops.workers.early_pool import EarlyPool
from engine_ops.workers.garbage import collect_rarely, collector_waits, spare_what_lives_on

LEASE_NAME = "engine-ops"
LEASE_RELEASE_SECONDS = 3.0
NESTING_LIMIT = 15_000
"""The API server takes JSON that is nested 10,000 deep; at Python's own 1,000 one such object would end every watch."""


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
    # Half a second to a second of imports, while the API server, the Lease and the workers are waited for.
    loading = asyncio.create_task(asyncio.to_thread(_load, config), name="load what comes later")
    async with contextlib.AsyncExitStack() as stack:
        observed = Observed.where(config.probes is not None)
        ports = await stack.enter_async_context(Ports(config.probes, config.api, observed.metrics))
        connection = await Connection.open(config.kubeconfig)
        observed.count_calls(connection)
        stack.push_async_callback(connection.close)
        namespace = config.lease_namespace or connection.namespace
        await patiently(lambda: preflight.check(connection, config.namespaces, namespace))

        identity, in_pod = own_identity()
        if not in_pod:
            lock = LocalLock.for_lease(connection.server, namespace, LEASE_NAME)
            lock.acquire()
            stack.callback(lock.release)
        lease = Lease(_apart(connection, stack), namespace, LEASE_NAME, identity)
        await lease.acquire()
        stack.push_async_callback(_give_back, lease)
        pool = await early_pool.ready()
        workers = early_pool.workers
        parts = await Parts.build(
            config, connection, namespace, identity, pool, workers, stack, measured=observed.measured
        )
        observed.read_from(lease, parts)
        ports.tell(parts.health())
        await loading
        if config.api is not None:
            await parts.open_api(ports, config.kubeconfig, stack)
        watched = ", ".join(config.namespaces) or "all namespaces"
        announce(
            f"watching optimizationrequests in {watched} of {connection.server}; "
            f"{workers} workers; Lease {namespace}/{LEASE_NAME} as {identity}; "
            f"health at {ports.probes_address or 'no address'}; REST API at {ports.api_address or 'no address'}"
        )
        spare_what_lives_on()
        collect_rarely()
        async with contextlib.AsyncExitStack() as beside:
            await beside.enter_async_context(in_background(lease.hold(), "hold the Lease"))
            await beside.enter_async_context(in_background(ports.watch(), "watch the ports"))
            await beside.enter_async_context(in_background(parts.events.run(), "post Events"))
            if parts.history is not None:
                await beside.enter_async_context(in_background(parts.history.run(), "keep the history"))
            if parts.plugins is not None:
                following = parts.plugins.run(parts.reconciler.wake)
                await beside.enter_async_context(in_background(following, "follow the plugins"))
            try:
                await run_kopf(config, parts, ports)
            except Exception:
                # Says in a sentence what has gone missing since the start, if that is why: a definition, a right.
                await preflight.check(connection, config.namespaces, namespace)
                raise


def _load(config: OperatorConfig) -> None:
    """Import what is only needed later, and only with some options: those who need it import it there by name."""
    wanted = {
        "engine_ops.controllers.operator_history": config.history,
        "engine_ops.controllers.operator_plugins": config.plugins,
        "engine_ops.controllers.direct": config.api,
        "engine_ops.server.api_listener": config.api,
    }
    with collector_waits():
        for name, option in wanted.items():
            if option is not None:
                importlib.import_module(name)


def _apart(connection: Connection, stack: contextlib.AsyncExitStack) -> Connection:
    """Return a connection for the Lease alone, closed by the stack.

    Behind thousands of status writes a renewal would come too late, and end the operator when it has most to do.
    """
    own = connection.apart()
    stack.push_async_callback(own.close)
    return own


async def _give_back(lease: Lease) -> None:
    """Release the Lease, without making the end of the process wait for an API server that hangs."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LEASE_RELEASE_SECONDS):
            await lease.release()
