"""The operator's own ports: the probes from its first moment on, and the REST API once there is somebody to answer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from engine_ops import __version__
from engine_ops.controllers.api_config import ApiConfig
from engine_ops.kube.connection import Connection
from engine_ops.kube.errors import ConnectError

if TYPE_CHECKING:
    from engine_ops.server.address import Address
    from engine_ops.server.backend import Engine
    from engine_ops.server.metrics import Metrics
    from engine_ops.server.thread import ServerThread
    from engine_ops.server.tls import ReloadedCertificate

logger = logging.getLogger(__name__)

DRAIN_SECONDS: Final = 5.0
"""For what is being answered when the operator is told to stop."""

_STARTING: Final = "it is starting"

Part = Callable[[], object]


class Ports:
    """Where the operator answers HTTP. An asynchronous context manager, to be entered on the engine's loop.

    The probes have a thread, and the API another: neither waits for requests to be reconciled, nor the probes for the
    API's callers.

    Parameters
    ----------
    probes
        Address of the probes, with or without ``/healthz``; None for none.
    api
        How the REST API is served; None for not at all.
    metrics
        Counts calls, and is what Prometheus reads; None for no ``/metrics``.

    Raises
    ------
    ConnectError
        If an address or a certificate cannot be used; names the option.
    """

    def __init__(self, probes: str | None, api: ApiConfig | None, metrics: Metrics | None = None) -> None:
        self._probes_at: Address | None = None
        self._api_at: Address | None = None
        self._certificate: ReloadedCertificate | None = None
        self._config = api
        self._metrics = metrics
        if probes is None and api is None:
            return
        # A web server takes some 200 ms to import: only where there is a port.
        from engine_ops.server.address import AddressError, parse_address
        from engine_ops.server.tls import TlsError

        try:
            if probes is not None:
                self._probes_at = parse_address(probes, "--probes", paths=("", "/", "/healthz"))
            if api is not None:
                self._api_at = parse_address(api.address, "--api")
                self._certificate = _certificate_of(api, self._api_at)
        except (AddressError, TlsError) as error:
            raise ConnectError(str(error)) from error

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._defect: asyncio.Future[BaseException] = self._loop.create_future()
        self._parts: dict[str, Part] = {}
        self._unready: str | None = _STARTING
        self._probes: ServerThread | None = None
        self._api: ServerThread | None = None
        if self._probes_at is not None:
            from engine_ops.server.listening import Listener
            from engine_ops.server.probes import probe_app

            scraped: dict[str, Any] = {}
            if self._metrics is not None:
                from engine_ops.server.metrics import CONTENT_TYPE

                scraped = {"metrics": self._metrics.scrape, "metrics_type": CONTENT_TYPE}
            app = probe_app(self._health, lambda: self._unready, **scraped)
            self._probes = await self._serve("probes", Listener(address=self._probes_at, app=app))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close_api()
        if self._probes is not None:
            await self._probes.aclose(0)

    @property
    def probes_address(self) -> str | None:
        """Where health is answered, with the port that was bound."""
        return None if self._probes is None else self._probes.address("probes")

    @property
    def api_address(self) -> str | None:
        """Where the REST API is served, once it is."""
        return None if self._api is None else self._api.address("api")

    def tell(self, parts: Mapping[str, Part]) -> None:
        """Have health tell more: each part is called on the engine's loop and returns JSON values."""
        self._parts.update(parts)

    def ready(self) -> None:
        """Take note that the operator serves."""
        self._unready = None

    async def watch(self) -> None:
        """Wait for ever, or until a thread has ended by a defect.

        Raises
        ------
        ConnectError
            Then.
        """
        error = await asyncio.shield(self._defect)
        raise ConnectError(f"what answers HTTP ended: {type(error).__name__}: {error}") from error

    async def open_api(self, engine: Engine, kubeconfig: str | None) -> None:
        """Serve the REST API.

        Parameters
        ----------
        engine
            What answers, on this loop.
        kubeconfig
            Of the API server, which knows who calls; as `Connection.open` has it.

        Raises
        ------
        ConnectError
            If it cannot be served.
        """
        if self._api_at is None or self._config is None:
            return
        from engine_ops.server.access import KubeAccess
        from engine_ops.server.api_listener import api_listener
        from engine_ops.server.bridge import BridgedEngine
        from engine_ops.server.plugin_switch import KubePluginSwitch
        from engine_ops.server.services import ApiLimits, Services

        config, bridged, metrics = self._config, BridgedEngine(engine, self._loop), self._metrics
        rate = config.requests_per_second

        async def services(stack: contextlib.AsyncExitStack) -> Services:
            connection = await Connection.open(kubeconfig)
            stack.push_async_callback(connection.close)
            if metrics is not None:
                connection.on_call = metrics.kube_call
            return Services(
                engine=bridged,
                access=KubeAccess(connection, audiences=config.audiences),
                switch=KubePluginSwitch(connection),
                limits=ApiLimits(requests_per_second=rate, burst=max(1, round(2 * rate))),
            )

        listener = api_listener(
            self._api_at, services, version=__version__, certificate=self._certificate, metrics=metrics
        )
        self._api = await self._serve("api", listener)

    async def close_api(self) -> None:
        """Take no more calls, and let those end that are being answered: the engine must still be there."""
        api, self._api = self._api, None
        if api is not None:
            await api.aclose(DRAIN_SECONDS)

    async def _serve(self, name: str, listener: Any) -> ServerThread:
        from engine_ops.server.address import AddressError
        from engine_ops.server.thread import ServerThread

        thread = ServerThread({name: listener}, on_defect=self._failed)
        try:
            await asyncio.to_thread(thread.start)
        except (AddressError, RuntimeError) as error:
            raise ConnectError(str(error)) from error
        return thread

    def _failed(self, error: BaseException) -> None:
        """Take note of a defect, on a thread that is ending."""

        def note() -> None:
            if not self._defect.done():
                self._defect.set_result(error)

        with contextlib.suppress(RuntimeError):  # this loop has ended too
            self._loop.call_soon_threadsafe(note)

    async def _health(self) -> Mapping[str, Any]:
        """Ask the engine's loop; runs on the probes' own."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._look(), self._loop))

    async def _look(self) -> dict[str, object]:
        return {name: part() for name, part in self._parts.items()}


def _certificate_of(api: ApiConfig, address: Address) -> ReloadedCertificate | None:
    """Return the certificate of an https address.

    Raises
    ------
    ConnectError
        If the options do not go together.
    TlsError
        If the files cannot be used.
    """
    from engine_ops.server.tls import ReloadedCertificate

    if address.scheme == "https":
        if api.tls_cert is None or api.tls_key is None:
            raise ConnectError(f"--api {address}: set --api-tls-cert and --api-tls-key, too")
        return ReloadedCertificate(Path(api.tls_cert), Path(api.tls_key))
    if api.tls_cert is not None or api.tls_key is not None:
        raise ConnectError(f"--api {address}: with a certificate it begins with https://")
    if not address.loopback and not api.plain_http:
        raise ConnectError(
            f"--api {address}: tokens would come over the network as they are. Use https:// with --api-tls-cert and "
            "--api-tls-key, a loopback address, or --api-plain-http where something else encrypts"
        )
    return None
