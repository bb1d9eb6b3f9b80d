"""kopf in this loop: it watches, and tells the reconcilers of what it sees."""

from __future__ import annotations

import asyncio
import datetime
from typing import Final

import kopf

from engine_ops.controllers import kopf_settings, optimizationrequest, optimizerplugin
from engine_ops.controllers.background import in_background
from engine_ops.controllers.operator_config import OperatorConfig
from engine_ops.controllers.parts import Parts
from engine_ops.controllers.ports import Ports

CREDENTIALS_REFRESH: Final = datetime.timedelta(minutes=5)
"""How often kopf asks for the credentials again: a Pod's token is rotated by the kubelet."""


async def run_kopf(config: OperatorConfig, parts: Parts, ports: Ports) -> None:
    """Run kopf until it is told to stop.

    Parameters
    ----------
    config
        How the operator runs.
    parts
        What is told of objects, and stopped at the end.
    ports
        Told when the watches have begun; closed before what answers there.
    """
    connection, reconciler, history, plugins = parts.connection, parts.reconciler, parts.history, parts.plugins
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
        await ports.close_api()
        # Otherwise kopf first gives our solves, which it takes for its own tasks, five seconds to end by themselves.
        await reconciler.close()
        if plugins is not None:
            await plugins.stop()
        if history is not None:
            await history.stop()

    serving = asyncio.Event()
    async with in_background(_tell_ready(serving, ports), "tell that it serves"):
        await kopf.operator(
            registry=registry,
            settings=kopf_settings.settings(),
            standalone=True,
            clusterwide=not config.namespaces,
            namespaces=config.namespaces,
            ready_flag=serving,
        )


async def _tell_ready(serving: asyncio.Event, ports: Ports) -> None:
    await serving.wait()
    ports.ready()
