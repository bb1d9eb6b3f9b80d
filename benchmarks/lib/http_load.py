"""An HTTP load from a process of its own: keep-alive connections, requests encoded in advance.

python benchmarks/lib/http_load.py OPTIONS reads JSON of `Load` from standard input and prints JSON of `Seen`. Run it
with `run`. It does nothing but write bytes and count answers: of two cores it must leave the server one.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import uvloop

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = b"content-length:"


class HttpLoadError(RuntimeError):
    """The server closed a connection, or answered what cannot be read."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is sent.

    Parameters
    ----------
    url
        ``http://HOST:PORT/PATH``.
    bodies
        JSON each, in turn; ``{n}`` in one is replaced by a number that no other request has.
    token
        Bearer token; empty for none.
    headers
        Further ones.
    connections
        How many; each has one request under way.
    seconds
        For so long.
    per_second
        Requests a second at even distances (an open loop: a late answer delays nothing as long as a connection is
        free); 0 for as many as possible.
    """

    url: str
    bodies: list[str]
    token: str = ""
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    connections: int = 4
    seconds: float = 5.0
    per_second: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """What came of it.

    Parameters
    ----------
    seconds
        From the first request to the last answer.
    statuses
        How many answers of each HTTP status.
    delays_ms
        From when a request was due to its answer, of those with status 200.
    """

    seconds: float
    statuses: dict[str, int]
    delays_ms: list[float]

    @property
    def ok_per_second(self) -> float:
        """Answers with status 200 a second."""
        return self.statuses.get("200", 0) / self.seconds


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._buffer = bytearray()
        self._waiting: asyncio.Future[int] | None = None
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's is none of its subclasses

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(_END_OF_HEAD)
        if end < 0 or self._waiting is None:
            return
        head = bytes(self._buffer[:end]).lower()
        at = head.find(_LENGTH)
        if at < 0:
            self._waiting.set_exception(HttpLoadError(head.decode(errors="replace")))
            return
        length = int(head[at + len(_LENGTH) :].split(b"\r\n", 1)[0])
        if len(self._buffer) < end + len(_END_OF_HEAD) + length:
            return
        status = int(head[9:12])
        del self._buffer[: end + len(_END_OF_HEAD) + length]
        self._waiting.set_result(status)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(HttpLoadError(f"the connection was closed: {exc}"))

    async def ask(self, request: bytes) -> int:
        assert self._transport is not None
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiting


async def _drive(load: Load) -> Seen:
    loop = asyncio.get_running_loop()
    parts = urlsplit(load.url)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    head = f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
    if load.token:
        head += f"Authorization: Bearer {load.token}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in load.headers.items())
    free: asyncio.Queue[_Connection] = asyncio.Queue()
    for _ in range(load.connections):
        _, connection = await loop.create_connection(_Connection, parts.hostname, parts.port)
        free.put_nowait(connection)
    statuses: collections.Counter[str] = collections.Counter()
    delays_ms: list[float] = []
    number = 0

    def encode() -> bytes:
        nonlocal number
        number += 1
        body = load.bodies[number % len(load.bodies)].replace("{n}", str(number)).encode()
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    async def one(connection: _Connection, due: float) -> None:
        status = await connection.ask(encode())
        statuses[str(status)] += 1
        if status == 200:
            delays_ms.append((time.perf_counter() - due) * 1000)
        free.put_nowait(connection)

    began = time.perf_counter()
    if load.per_second:
        async with asyncio.TaskGroup() as group:
            for count in range(int(load.seconds * load.per_second)):
                due = began + count / load.per_second
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                group.create_task(one(await free.get(), due))
    else:

        async def keep_on() -> None:
            connection = await free.get()
            while (now := time.perf_counter()) - began < load.seconds:
                await one(connection, now)
                free.get_nowait()

        await asyncio.gather(*(keep_on() for _ in range(load.connections)))
    return Seen(time.perf_counter() - began, dict(statuses), delays_ms)


async def run(load: Load) -> Seen:
    """Send a load from another process.

    Raises
    ------
    HttpLoadError
        If the server could not be talked to.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate(json.dumps(dataclasses.asdict(load)).encode())
    if process.returncode:
        raise HttpLoadError(f"the load ended with {process.returncode}")
    return Seen(**json.loads(said))


if __name__ == "__main__":
    print(json.dumps(dataclasses.asdict(uvloop.run(_drive(Load(**json.load(sys.stdin)))))))
