"""The REST API, ready to be served by a thread."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp

from engine_ops.server.address import Address
from engine_ops.server.app import create_app
from engine_ops.server.http_metrics import measured
from engine_ops.server.late_app import LateApp
from engine_ops.server.listening import Listener
from engine_ops.server.metrics import Metrics
from engine_ops.server.optimizer import Optimizer
from engine_ops.server.services import Services
from engine_ops.server.tls import ReloadedCertificate


def api_listener(
    address: Address,
    make_services: Callable[[contextlib.AsyncExitStack], Awaitable[Services]],
    *,
    version: str,
    certificate: ReloadedCertificate | None = None,
    metrics: Metrics | None = None,
) -> Listener:
    """Return a listener that serves the API, and drains it.

    Parameters
    ----------
    address
        Where.
    make_services
        Called on the loop that serves; what is entered into the stack is left at the end.
    version
        Of this program.
    certificate
        For https.
    metrics
        Counts the calls.
    """
    optimizers: list[Optimizer] = []

    async def make(stack: contextlib.AsyncExitStack) -> ASGIApp:
        app = create_app(await make_services(stack), version=version)
        optimizers.append(app.state.optimizer)
        return app if metrics is None else measured(app, metrics)

    async def drain(seconds: float) -> None:
        for optimizer in optimizers:
            await optimizer.drain(seconds)

    return Listener(address=address, app=LateApp(make), certificate=certificate, drain=drain)
