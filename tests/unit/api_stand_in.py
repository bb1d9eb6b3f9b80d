"""A stand-in for the REST API over real sockets: it answers as a test says, and remembers what it was asked."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from reserved_port import reserved_port


@dataclasses.dataclass(frozen=True)
class Asked:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclasses.dataclass(frozen=True)
class Said:
    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def json(cls, value: Any, status: int = 200, **headers: str) -> Said:
        return cls(status, json.dumps(value).encode(), {"Content-Type": "application/json", **headers})

    @classmethod
    def problem(cls, kind: str, status: int, *, headers: Mapping[str, str] | None = None, **more: Any) -> Said:
        value = {"type": f"urn:engine-ops:problem:{kind}", "title": "T", "status": status, "detail": "it is so", **more}
        return cls(
            status, json.dumps(value).encode(), {"Content-Type": "application/problem+json", **(dict(headers or {}))}
        )


class StandIn:
    """Answers with ``answers`` in their order, the last one again and again; a function makes one of what is asked."""

    def __init__(self, port: int, scheme: str) -> None:
        self.port = port
        self.scheme = scheme
        self.answers: list[Said | Callable[[Asked], Said]] = [Said()]
        self.asked: list[Asked] = []
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.port}"

    def answer(self, asked: Asked) -> Said:
        with self._lock:
            self.asked.append(asked)
            said = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return said(asked) if callable(said) else said


@contextlib.contextmanager
def gone() -> Iterator[StandIn]:
    """Have a port where nobody listens, nor can another program: the connection is refused."""
    with reserved_port() as port:
        yield StandIn(port, "http")


@contextlib.contextmanager
def stand_in(tls: ssl.SSLContext | None = None) -> Iterator[StandIn]:
    """Serve on a free port of this machine until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            said = serving.answer(Asked(self.command, self.path, self.headers, body))
            self.send_response(said.status)
            for name, value in said.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(said.body)))
            self.end_headers()
            self.wfile.write(said.body)

        do_GET = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a client that does not believe the certificate ends the connection

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    serving = StandIn(server.server_address[1], "http" if tls is None else "https")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield serving
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
