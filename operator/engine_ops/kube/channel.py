"""One TCP connection to the API server, for requests that must reach the same server one after the other.

Behind the address of an API server there are often several, and a load balancer chooses one for each connection. What
one of them has said of its state holds for that one: a watch that relies on it goes over the same connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, Final

import aiohttp

from engine_ops.kube.connection import JSON, Connection, decode_status
from engine_ops.kube.errors import ApiError, ConnectError, UnavailableError

CONNECT_SECONDS: Final = 10.0
READ_BUFFER_BYTES: Final = 1 << 18
MAX_LINE_BYTES: Final = 1 << 26
"""etcd takes objects of 1.5 MB unless told otherwise; a line beyond 64 MB is no object."""


class StalledError(UnavailableError):
    """The server has not sent anything for so long that it is not believed to be there."""


class Stream:
    """The lines of an answer that goes on. Made by `Channel.stream`; owns its channel.

    Attributes
    ----------
    chunks : int
        How often something has come.
    open_seconds : float
        The time from the request to the first byte of the answer: at least one round trip.
    """

    def __init__(self, channel: Channel, response: aiohttp.ClientResponse, open_seconds: float) -> None:
        self._channel = channel
        self._response = response
        self._parts: list[bytes] = []
        self._size = 0
        self.open_seconds = open_seconds
        self.chunks = 0

    @property
    def within_line(self) -> bool:
        """Whether the beginning of a line has come, and not its end."""
        return bool(self._parts)

    async def read(self, silence_seconds: float) -> list[bytes] | None:
        """Wait until something comes, and return the lines that are complete now: none of them, one or many.

        Parameters
        ----------
        silence_seconds
            How long to wait.

        Returns
        -------
        list of bytes or None
            None at the end of the answer.

        Raises
        ------
        StalledError
            If nothing comes.
        UnavailableError
            If the connection breaks, or a line does not end within 64 MB.
        """
        try:
            async with asyncio.timeout(silence_seconds):
                chunk = await self._response.content.readany()
        except TimeoutError as error:
            raise StalledError(f"nothing came for {silence_seconds:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise UnavailableError(f"the stream broke: {str(error) or type(error).__name__}") from error
        if not chunk:
            return None
        self.chunks += 1
        *lines, rest = chunk.split(b"\n")
        if lines and self._parts:
            lines[0] = b"".join((*self._parts, lines[0]))
            self._parts.clear()
            self._size = 0
        if rest:
            self._parts.append(rest)
            self._size += len(rest)
            if self._size > MAX_LINE_BYTES:
                raise UnavailableError(f"a line of more than {MAX_LINE_BYTES >> 20} MB")
        return lines

    def abort(self) -> None:
        """Break the connection: a `read` that waits raises `UnavailableError`."""
        self._response.close()

    async def close(self) -> None:
        """Break the connection and free everything."""
        self._response.close()
        await self._channel.close()


class Channel:
    """One connection to the API server; another one is made when the server has closed it.

    Parameters
    ----------
    connection
        Whose server and credentials are used.

    Attributes
    ----------
    connects : int
        How many TCP connections it has made: two answers with the same number came over the same one.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._session: aiohttp.ClientSession | None = None
        self.connects = 0

    async def close(self) -> None:
        """End the connection."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def get(self, path: str, *, params: Mapping[str, str], accept: str = JSON, timeout_seconds: float) -> bytes:
        """Return the body of the answer.

        Raises
        ------
        ApiError
            If the server refused.
        UnavailableError
            If it could not be reached, or took longer than ``timeout_seconds``.
        """
        response = await self._open(path, params, accept, timeout_seconds)
        try:
            async with asyncio.timeout(timeout_seconds):
                return await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            response.close()
            raise self._unavailable(error) from error
        except BaseException:
            response.close()
            raise

    async def stream(self, path: str, *, params: Mapping[str, str], accept: str, timeout_seconds: float) -> Stream:
        """Send a request whose answer goes on, and return it once it has begun.

        The stream owns this channel from then on.

        Raises
        ------
        ApiError, UnavailableError
            As `get` does.
        """
        began = time.monotonic()
        response = await self._open(path, params, accept, timeout_seconds)
        return Stream(self, response, time.monotonic() - began)

    async def _open(
        self, path: str, params: Mapping[str, str], accept: str, timeout_seconds: float
    ) -> aiohttp.ClientResponse:
        status: int | None = None
        began = time.monotonic()
        try:
            async with asyncio.timeout(timeout_seconds):
                response = await self._send(path, params, accept)
                if response.status == 401:
                    response.release()
                    await self._connection.reload()
                    response = await self._send(path, params, accept)
                status = response.status
                if response.status >= 400:
                    body = await response.read()
                    raise ApiError(response.status, decode_status(body))
                return response
        except (aiohttp.ClientError, TimeoutError, OSError, ConnectError) as error:
            raise self._unavailable(error) from error
        finally:
            verb = "watch" if "watch" in params else "get"
            self._connection.on_call(verb, status, time.monotonic() - began)

    async def _send(self, path: str, params: Mapping[str, str], accept: str) -> aiohttp.ClientResponse:
        if self._session is None:
            self._session = self._connection.new_session(
                connections=1,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
                trace=self._count_connects(),
            )
        headers = await self._connection.headers(accept)
        # Packing and unpacking of large lists would cost both sides more than it saves on the way between them.
        headers["Accept-Encoding"] = "identity"
        return await self._session.get(
            self._connection.server + path,
            params=params,
            headers=headers,
            proxy=self._connection.proxy_url,
            read_bufsize=READ_BUFFER_BYTES,
        )

    def _count_connects(self) -> aiohttp.TraceConfig:
        async def count(_session: aiohttp.ClientSession, _context: SimpleNamespace, _params: Any) -> None:
            self.connects += 1

        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(count)
        return trace

    def _unavailable(self, error: Exception) -> UnavailableError:
        return UnavailableError(f"{self._connection.server}: {str(error) or type(error).__name__}")


async def close_quietly(closable: Channel | Stream | None) -> None:
    """Close what may be there, whatever state it is in."""
    if closable is not None:
        with contextlib.suppress(aiohttp.ClientError, OSError):
            await closable.close()
