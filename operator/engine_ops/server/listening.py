"""One port: what connects is accepted, counted, and spoken HTTP with."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from email.utils import formatdate
from typing import Final, cast

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.lifespan.on import LifespanOn
from uvicorn.server import ServerState

from engine_ops.server.address import Address
from engine_ops.server.connections import ConnectionLimits, Connections, Seat
from engine_ops.server.problems import ProblemError
from engine_ops.server.protocol import HttpProtocol, raw_response
from engine_ops.server.tls import ReloadedCertificate

logger = logging.getLogger(__name__)

ACCEPTED_AT_ONCE: Final = 64
"""So many connections are accepted before requests get their turn."""

NO_DESCRIPTORS_SECONDS: Final = 0.1
"""Pause when the process has no file descriptor left: the socket stays readable, and asking it would burn the CPU."""

ENDING_SECONDS: Final = 2.0
"""For what is left after the drain: cancelled work, and the application's own end."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A port, and what answers there.

    Parameters
    ----------
    address
        Where.
    app
        ASGI, with the lifespan protocol: its start-up runs on the thread's loop before the port accepts.
    certificate
        For https.
    limits
        Of its connections.
    drain
        Is given the seconds that remain, and ends what would go on for longer by itself, such as streams of events.
    """

    address: Address
    app: ASGIApp
    certificate: ReloadedCertificate | None = None
    limits: ConnectionLimits = dataclasses.field(default_factory=ConnectionLimits)
    drain: Callable[[float], Awaitable[None]] | None = None


class Listening:
    """A `Listener` at work, on the loop of the thread.

    Parameters
    ----------
    listener
        What and where.
    listening
        The bound socket.
    """

    def __init__(self, listener: Listener, listening: socket.socket) -> None:
        self._listener = listener
        self._socket = listening
        self._loop = asyncio.get_running_loop()
        self._config = Config(
            _in_turns(listener.app),
            interface="asgi3",
            loop="none",
            http=HttpProtocol,
            ws="none",
            lifespan="on",
            log_config=None,
            log_level=logging.WARNING,
            access_log=False,
            # Nobody in between is trusted to say who calls: limits go by the address of the peer.
            proxy_headers=False,
            server_header=False,
        )
        self._config.load()
        self._state = ServerState()
        self._lifespan = LifespanOn(self._config)
        self._connections = Connections(listener.limits.connections)
        self._taking: set[asyncio.Task[None]] = set()
        self._accepting = False

    @property
    def numbers(self) -> Mapping[str, int]:
        """How many connections are open, and were given up and refused for lack of room."""
        seats = self._connections
        return {"open": len(seats), "givenUp": seats.given_up, "refused": seats.refused}

    async def start(self) -> None:
        """Start the application, then accept.

        Raises
        ------
        RuntimeError
            If the application does not start; its log has the reason.
        """
        await self._lifespan.startup()
        if self._lifespan.should_exit:
            raise RuntimeError(f"what answers at {self._listener.address} did not start")
        self.tick()
        self._accept_again()

    def tick(self) -> None:
        """Bring up to date what goes by the clock; once a second."""
        self._state.default_headers = [(b"date", formatdate(usegmt=True).encode())]

    async def drain(self, seconds: float) -> None:
        """Accept no more, and wait for what is under way.

        Parameters
        ----------
        seconds
            What is not ended then is told so, and cut off.
        """
        deadline = self._loop.time() + seconds
        self._stop_accepting()
        self._socket.close()
        for task in self._taking:
            task.cancel()
        for connection in list(self._state.connections):
            connection.shutdown()
        if self._listener.drain is not None:
            try:
                async with asyncio.timeout(seconds):
                    await self._listener.drain(seconds)
            except TimeoutError:
                pass
            except Exception:
                logger.exception("what answers at %s could not be drained", self._listener.address)
        await self._until_ended(deadline)
        await self._cut_off(seconds)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ENDING_SECONDS):
                await self._lifespan.shutdown()

    async def _until_ended(self, deadline: float) -> None:
        # Nobody says when the last of uvicorn's tasks and connections ends.
        while (self._state.tasks or self._state.connections) and self._loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    async def _cut_off(self, seconds: float) -> None:
        left = [task for task in self._state.tasks if not task.done()]
        if left:
            logger.warning(
                "%d requests at %s did not end within %g s and are cut off", len(left), self._listener.address, seconds
            )
        ending = ProblemError("unavailable", "the operator is ending", headers={"Retry-After": "5"})
        for connection in list(self._state.connections):
            cast("HttpProtocol", connection).refuse_open_requests(ending)
        if left:
            # Those that listen for the client's end have heard of it.
            await asyncio.wait(left, timeout=ENDING_SECONDS / 2)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=ENDING_SECONDS / 2)
        for connection in list(self._state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)

    # Accepting.

    def _accept_again(self) -> None:
        if self._socket.fileno() >= 0 and not self._accepting:
            self._accepting = True
            self._loop.add_reader(self._socket, self._accept)

    def _stop_accepting(self) -> None:
        if self._accepting:
            self._accepting = False
            self._loop.remove_reader(self._socket)

    def _accept(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                accepted, _ = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}:
                    raise
                logger.warning("%s accepts no connection for a moment: %s", self._listener.address, error)
                self._stop_accepting()
                self._loop.call_later(NO_DESCRIPTORS_SECONDS, self._accept_again)
                return
            accepted.setblocking(False)
            task = self._loop.create_task(self._take(accepted))
            self._taking.add(task)
            task.add_done_callback(self._taking.discard)

    async def _take(self, accepted: socket.socket) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker
        seat = self._connections.admit(lambda: _cancel(task))
        if seat is None:
            self._refuse(accepted)
            return
        certificate = self._listener.certificate
        try:
            await self._loop.connect_accepted_socket(
                lambda: self._protocol(seat),
                accepted,
                ssl=None if certificate is None else certificate.context,
                ssl_handshake_timeout=None if certificate is None else self._listener.limits.handshake_seconds,
                ssl_shutdown_timeout=None if certificate is None else self._listener.limits.linger_seconds,
            )
        except BaseException as error:
            seat.leave()
            accepted.close()
            if not isinstance(error, OSError):
                raise
            # Whoever speaks no TLS, or leaves in the middle: nothing to tell anybody.
            logger.debug("a connection to %s came to nothing: %s", self._listener.address, error)

    def _protocol(self, seat: Seat) -> HttpProtocol:
        return HttpProtocol(
            config=self._config,
            server_state=self._state,
            app_state=self._lifespan.state,
            limits=self._listener.limits,
            seat=seat,
        )

    def _refuse(self, accepted: socket.socket) -> None:
        if self._listener.certificate is None:
            busy = ProblemError("busy", "too many connections are open", headers={"Retry-After": "1"})
            with contextlib.suppress(OSError):
                accepted.send(raw_response(busy, self._state.default_headers))
        accepted.close()


def _in_turns(app: ASGIApp) -> ASGIApp:
    """Let others have their turn between the pieces of a response.

    uvicorn's ``send`` waits for nothing as long as the client reads fast, nor when it has gone: an application that
    streams would have the loop for itself, and never hear that nobody listens.
    """

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_and_wait(message: Message) -> None:
            await send(message)
            if message.get("more_body"):
                await asyncio.sleep(0)

        await app(scope, receive, send_and_wait if scope["type"] == "http" else send)

    return run


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
