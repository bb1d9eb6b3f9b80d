"""A listener on a port of its own, an application to attack behind it, and raw sockets."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from engine_ops.server.address import parse_address
from engine_ops.server.body_limit import BodyLimit
from engine_ops.server.connections import ConnectionLimits
from engine_ops.server.listening import Listener
from engine_ops.server.thread import ServerThread
from engine_ops.server.tls import ReloadedCertificate

DEADLINE_SECONDS = 30.0
PATIENT = ConnectionLimits(
    handshake_seconds=600.0,
    head_seconds=600.0,
    body_seconds=600.0,
    keep_alive_seconds=600.0,
    write_seconds=600.0,
    linger_seconds=600.0,
)
"""What no test comes to the end of, wherever it is held up."""
BODY_LIMIT_BYTES = 10 * 2**20
SOON_SECONDS = 0.1


class Application:
    """Echoes, waits, streams; tells what it saw."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, int]] = []
        self.disconnects = 0
        self.cancelled = 0
        self.release = threading.Event()
        self.waiting = threading.Semaphore(0)
        self.headers: list[list[tuple[bytes, bytes]]] = []
        self.lifespans: list[str] = []

    def asgi(self) -> Any:
        @contextlib.asynccontextmanager
        async def lifespan(_app: Starlette) -> Any:
            self.lifespans.append("began")
            yield
            self.lifespans.append("ended")

        routes = [
            Route("/", self._hello),
            Route("/echo", self._echo, methods=["POST"]),
            Route("/echo-late", self._echo_late, methods=["POST"]),
            Route("/unread", self._unread, methods=["GET", "POST"]),
            Route("/late", self._late),
            Route("/deaf", self._deaf),
            Route("/stream", self._stream),
            Route("/header", self._header),
        ]
        return BodyLimit(Starlette(routes=routes, lifespan=lifespan), BODY_LIMIT_BYTES)

    async def _hello(self, request: Request) -> Response:
        self.seen.append((request.method, request.url.path, 0))
        self.headers.append(request.scope["headers"])
        return JSONResponse({"hello": True})

    async def _echo(self, request: Request) -> Response:
        length = 0
        async for piece in request.stream():
            length += len(piece)
        self.seen.append((request.method, request.url.path, length))
        self.headers.append(list(request.scope["headers"]))
        return JSONResponse({"bytes": length})

    async def _echo_late(self, request: Request) -> Response:
        """Begin to read when told to."""
        self.waiting.release()
        while not self.release.is_set():  # noqa: ASYNC110 - the event is a thread's
            await asyncio.sleep(0.005)
        return await self._echo(request)

    async def _unread(self, request: Request) -> Response:
        return JSONResponse({"read": False}, 401)

    async def _late(self, request: Request) -> Response:
        """Answer when told to; notice when the client goes."""
        self.waiting.release()
        gone = asyncio.create_task(self._until_gone(request))
        try:
            while not self.release.is_set() and not gone.done():  # noqa: ASYNC110 - the event is a thread's
                await asyncio.sleep(0.005)
        finally:
            gone.cancel()
        return JSONResponse({"late": True})

    async def _deaf(self, _request: Request) -> Response:
        self.waiting.release()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        raise AssertionError

    async def _until_gone(self, request: Request) -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self.disconnects += 1

    async def _stream(self, _request: Request) -> Response:
        async def pieces() -> Any:
            while True:
                yield b"x" * 65536

        return _Counted(pieces(), self)

    async def _header(self, _request: Request) -> Response:
        return Response(b"", headers={"X-Said": "a\r\nSet-Cookie: b"})


class _Counted(StreamingResponse):
    """Counts when it ends, which for an endless one is a cancellation."""

    def __init__(self, content: Any, application: Application) -> None:
        super().__init__(content)
        self._application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._application.cancelled += 1


@dataclass
class Served:
    """A thread that serves one listener."""

    thread: ServerThread
    app: Application
    host: str
    port: int
    defects: list[BaseException] = field(default_factory=list)

    def connect(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=DEADLINE_SECONDS)

    def ask(self, *pieces: bytes) -> Answer:
        """Send, and read one response."""
        with self.connect() as link:
            for piece in pieces:
                link.sendall(piece)
            return read_answer(link)

    def until(self, condition: Callable[[], object]) -> None:
        until(condition)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Silence(EOFError):  # noqa: N818 - a state
    """The server has ended the connection without a word."""


def read_answer(link: socket.socket) -> Answer:
    """Read exactly one response with a Content-Length."""
    raw = b""
    while b"\r\n\r\n" not in raw:
        piece = link.recv(1)
        if not piece:
            if not raw:
                raise Silence
            raise EOFError(f"the connection ended after {raw!r}")
        raw += piece
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    found = re.fullmatch(r"HTTP/1\.1 ([0-9]{3}) .*", lines[0])
    assert found, lines[0]
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    while len(body) < int(headers["content-length"]):
        piece = link.recv(int(headers["content-length"]) - len(body))
        if not piece:
            raise EOFError("the connection ended in the body")
        body += piece
    return Answer(int(found[1]), headers, body)


def ended(link: socket.socket) -> bool:
    """Read until the server ends the connection."""
    link.settimeout(DEADLINE_SECONDS)
    try:
        while link.recv(65536):
            pass
    except (ConnectionResetError, BrokenPipeError):
        pass
    return True


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.005)


def limited(**limits: Any) -> ConnectionLimits:
    """Return limits that are patient but for some."""
    return dataclasses.replace(PATIENT, **limits)


def change(limits: ConnectionLimits, **changes: float) -> None:
    """Have other limits from now on; what runs by one of them already goes on."""
    for name, value in changes.items():
        object.__setattr__(limits, name, value)


def ever_longer() -> Iterator[float]:
    """Yield time limits for a client that is to be in time once: it may be held up for longer than the first ones."""
    for power in range(6):
        yield SOON_SECONDS * 4**power
    raise AssertionError("the client was never in time")


@contextlib.contextmanager
def serving(
    *,
    limits: ConnectionLimits | None = None,
    certificate: ReloadedCertificate | None = None,
    host: str = "127.0.0.1",
    app: Any = None,
    drain: Callable[[float], Awaitable[None]] | None = None,
    certificate_seconds: float = 10.0,
) -> Iterator[Served]:
    application = Application()
    scheme = "http" if certificate is None else "https"
    shown = f"[{host}]" if ":" in host else host
    defects: list[BaseException] = []
    listener = Listener(
        address=parse_address(f"{scheme}://{shown}:0", "--api"),
        app=app or application.asgi(),
        certificate=certificate,
        limits=limits or PATIENT,
        drain=drain,
    )
    thread = ServerThread({"api": listener}, on_defect=defects.append, certificate_seconds=certificate_seconds)
    thread.start()
    try:
        port = int(thread.address("api").rpartition(":")[2])
        yield Served(thread, application, host, port, defects)
    finally:
        application.release.set()
        thread.stop(1)
    until(lambda: not thread.alive)


def trusting(certificate: str | None = None) -> ssl.SSLContext:
    """Return a client's context: one that looks at nothing, or trusts one certificate."""
    context = ssl.create_default_context(cafile=certificate)
    if certificate is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
