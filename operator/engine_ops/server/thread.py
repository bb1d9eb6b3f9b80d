"""The thread that answers HTTP, with an event loop of its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import logging
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Final

from engine_ops.server.address import Address
from engine_ops.server.listening import Listener, Listening

logger = logging.getLogger(__name__)

CERTIFICATE_SECONDS: Final = 10.0
"""How often the files of certificates are looked at."""

START_SECONDS: Final = 30.0
"""For the applications to start."""

_ENDING_SECONDS: Final = 10.0
"""Beyond the drain, for the thread to end. It never keeps the process from ending."""


class ServerThread:
    """Serves listeners on a thread of its own. Signal handlers are left alone.

    Parameters
    ----------
    listeners
        What is served, by a name for messages, such as ``api``.
    on_defect
        Called once, on that thread, if it ends without having been told to; the program should then end. Must not
        block.
    certificate_seconds
        How often the files of certificates are looked at.
    """

    def __init__(
        self,
        listeners: Mapping[str, Listener],
        *,
        on_defect: Callable[[BaseException], None],
        certificate_seconds: float = CERTIFICATE_SECONDS,
    ) -> None:
        self._listeners = dict(listeners)
        self._on_defect = on_defect
        self._certificate_seconds = certificate_seconds
        self._sockets: dict[str, socket.socket] = {}
        self._addresses: dict[str, Address] = {}
        self._started: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event
        self._drain_seconds = 0.0
        self._served: dict[str, Listening] = {}

    def start(self) -> None:
        """Bind the ports, start the applications and serve. Returns when connections are answered.

        Raises
        ------
        AddressError
            If a port cannot be had; names the option.
        RuntimeError
            If an application does not start.
        """
        try:
            for name, listener in self._listeners.items():
                self._sockets[name] = listener.address.listen()
                port = self._sockets[name].getsockname()[1]
                self._addresses[name] = dataclasses.replace(listener.address, port=port)
        except BaseException:
            self._close_sockets()
            raise
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)
        self._thread.start()
        try:
            self._started.result(START_SECONDS)
        except TimeoutError:
            self.stop(0)
            raise RuntimeError(f"what answers HTTP did not start within {START_SECONDS:g} s") from None

    def address(self, name: str) -> str:
        """Return where a listener is reached, with the port that was bound, such as ``http://127.0.0.1:40123``."""
        return str(self._addresses[name])

    @property
    def addresses(self) -> Mapping[str, str]:
        """All of them by name."""
        return {name: str(address) for name, address in self._addresses.items()}

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def connections(self, name: str) -> Mapping[str, int]:
        """Return how many connections are open, and how many were given up and refused. From any thread."""
        served = self._served.get(name)
        return {} if served is None else served.numbers

    def stop(self, drain_seconds: float) -> None:
        """Accept no more, let what is under way end, then end the thread. Blocks; may be called again.

        The engine's loop must go on meanwhile, since it is what answers: on it, await `aclose`.

        Parameters
        ----------
        drain_seconds
            What is not ended then is answered 503 and cut off.
        """
        thread, loop = self._thread, self._loop
        if thread is None:
            return
        if loop is not None:
            self._drain_seconds = drain_seconds
            with contextlib.suppress(RuntimeError):  # It has ended by itself.
                loop.call_soon_threadsafe(self._stop.set)
        thread.join(drain_seconds + _ENDING_SECONDS)
        if thread.is_alive():
            logger.error("the thread that answers HTTP does not end; it is left behind")

    async def aclose(self, drain_seconds: float) -> None:
        """Await `stop`, while this loop goes on."""
        await asyncio.to_thread(self.stop, drain_seconds)

    def _close_sockets(self) -> None:
        for listening in self._sockets.values():
            listening.close()

    def _run(self) -> None:
        import uvloop

        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._serve())
        except BaseException as error:
            if not self._started.done():
                self._started.set_exception(error)
                return
            logger.exception("the thread that answers HTTP ended")
            self._on_defect(error)
        finally:
            self._close_sockets()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        try:
            for name, listener in self._listeners.items():
                served = Listening(listener, self._sockets[name])
                await served.start()
                self._served[name] = served
        except BaseException:
            await self._drain()
            raise
        self._started.set_result(None)
        async with asyncio.TaskGroup() as group:
            clock = group.create_task(self._watch_clock())
            certificates = group.create_task(self._watch_certificates())
            await self._stop.wait()
            clock.cancel()
            certificates.cancel()
        await self._drain()

    async def _drain(self) -> None:
        async with asyncio.TaskGroup() as group:
            for served in self._served.values():
                group.create_task(served.drain(self._drain_seconds))

    async def _watch_clock(self) -> None:
        while True:
            for served in self._served.values():
                served.tick()
            await asyncio.sleep(1)

    async def _watch_certificates(self) -> None:
        certificates = [listener.certificate for listener in self._listeners.values() if listener.certificate]
        while certificates:
            await asyncio.sleep(self._certificate_seconds)
            for certificate in certificates:
                certificate.check()
