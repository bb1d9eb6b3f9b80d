"""Connections that are gone when their session is closed, also those over TLS that were given up before.

aiohttp ends a TLS connection that it cannot use again (an answer that nobody reads to its end, a request that is
cancelled) with TLS's own farewell, outside of the session: `aiohttp.ClientSession.close` aborts what the session still
has and does not wait for what it had. A server that does not answer keeps such a connection for 30 s, and a loop that
ends first leaves it open.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import weakref
from typing import Any, Final

import aiohttp

END_SECONDS: Final = 1.0
"""The loop sees the end of a connection in its next turns; this is for a loop that has much else to do."""


class EndingConnector(aiohttp.TCPConnector):
    """One whose `close` comes back when each of its connections is closed.

    Parameters
    ----------
    limit
        How many connections there may be at once.
    ssl
        Whom to trust.
    keepalive_timeout
        For how long, in seconds, a connection is kept that nobody uses.
    """

    def __init__(self, *, limit: int, ssl: ssl.SSLContext, keepalive_timeout: float) -> None:
        self._made: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        super().__init__(limit=limit, ssl=ssl, keepalive_timeout=keepalive_timeout, socket_factory=self._make)

    async def close(self, *, abort_ssl: bool = False) -> None:
        """Close all connections, and wait until they are closed."""
        await super().close(abort_ssl=abort_ssl)
        for left in self._left():
            # The loop reads the end of the connection, and waits for no farewell.
            with contextlib.suppress(OSError):
                left.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                while self._left():  # noqa: ASYNC110 - nothing tells of the end of a socket
                    await asyncio.sleep(0)

    def _make(self, address: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol = address[:3]
        made = socket.socket(family, kind, protocol)
        self._made.add(made)
        return made

    def _left(self) -> list[socket.socket]:
        return [made for made in self._made if made.fileno() >= 0]
