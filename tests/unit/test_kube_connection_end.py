"""A session that is closed leaves no connection open, also none that was given up over TLS before."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
import uvloop

from engine_ops.devcluster.certificates import CertificateAuthority
from engine_ops.kube.connection_end import EndingConnector

DEADLINE_SECONDS = 30.0
BEGINNING = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
LOOPS = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])


def sockets() -> set[str]:
    """Those of this process."""
    found = set()
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # of the listing itself
            found.add(str(path.readlink()))
    return {name for name in found if name.startswith("socket:")}


@contextlib.asynccontextmanager
async def silent_server(directory: Path) -> AsyncIterator[tuple[str, ssl.SSLContext]]:
    """Begin each answer, and never say or read anything again: no farewell is answered."""
    authority = CertificateAuthority(directory, "ca")
    pair = authority.server("api", ["localhost"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    ended = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(BEGINNING)
        await writer.drain()
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await ended.wait()
        writer.transport.abort()

    server = await asyncio.start_server(answer, "localhost", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    try:
        trusted = ssl.create_default_context(cafile=str(authority.key_pair.certificate))
        yield f"https://localhost:{port}/", trusted
    finally:
        ended.set()
        server.close()
        await server.wait_closed()


async def given_up(session: aiohttp.ClientSession, url: str) -> None:
    response = await session.get(url)
    assert await response.content.readany() == b"abc"
    response.close()


async def timed_out(session: aiohttp.ClientSession, url: str) -> None:
    with pytest.raises(TimeoutError):
        async with session.get(url, timeout=aiohttp.ClientTimeout(sock_read=0.01)) as response:
            await response.read()


@LOOPS
@pytest.mark.parametrize("leave", [given_up, timed_out])
def test_no_connection_is_left(
    leave: Callable[..., Awaitable[object]], new_loop: Callable[..., object], tmp_path: Path
) -> None:
    async def main() -> None:
        async with asyncio.timeout(DEADLINE_SECONDS), silent_server(tmp_path) as (url, trusted):
            session = aiohttp.ClientSession(connector=EndingConnector(limit=2, ssl=trusted, keepalive_timeout=60))
            before = sockets()
            await leave(session, url)
            assert len(sockets() - before) == 2  # the client's end, and the server's
            await session.close()
            assert len(sockets() - before) < 2  # the server's may have followed

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
