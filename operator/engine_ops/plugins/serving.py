"""A plugin as a service of its own, in its own image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from engine_ops.plugins.base import Plugin

if TYPE_CHECKING:
    from aiohttp import web

DEFAULT_PORT: Final = 8080
STUCK_AFTER_SECONDS: Final = 900.0


def serve(
    plugin: Plugin | type[Plugin],
    *,
    host: str = "0.0.0.0",  # noqa: S104 - in a Pod of its own, reached through a Service
    port: int = DEFAULT_PORT,
    config: Mapping[str, Any] | None = None,
    stuck_after_seconds: float = STUCK_AFTER_SECONDS,
) -> None:
    """Answer requests for a plugin over HTTP until the process is told to end (SIGTERM, SIGINT).

    Whoever reaches the port can use the plugin, and give it settings and a history: let only the operator in.

    Parameters
    ----------
    plugin
        A plugin, or its class. Of a class a new object is made when the settings change; an object is initialised
        again.
    host, port
        Where it listens.
    config
        The settings to begin with, until the operator sends those of the `OptimizerPlugin`.
    stuck_after_seconds
        ``/healthz`` answers 503 when one call of the plugin takes longer, so that a liveness probe starts it anew.

    Raises
    ------
    TypeError
        If it is no plugin.
    OSError
        If the port cannot be had.
    """
    from aiohttp import web

    web.run_app(
        application(plugin, config=config, stuck_after_seconds=stuck_after_seconds),
        host=host,
        port=port,
        print=None,
        handler_cancellation=True,
    )


def application(
    plugin: Plugin | type[Plugin],
    *,
    config: Mapping[str, Any] | None = None,
    stuck_after_seconds: float = STUCK_AFTER_SECONDS,
) -> web.Application:
    """Return what `serve` serves, to be served by other means.

    Run it with ``handler_cancellation``: a request whose sender has gone then leaves the queue.

    Parameters
    ----------
    plugin, config, stuck_after_seconds
        See `serve`.

    Raises
    ------
    TypeError
        If it is no plugin.
    """
    from engine_ops.plugins.served_plugin import ServedPlugin
    from engine_ops.plugins.service_app import ServiceApp

    settings = msgspec.json.encode(dict(config or {}), order="deterministic")
    return ServiceApp(ServedPlugin(plugin), settings, stuck_after_seconds=stuck_after_seconds).application()
