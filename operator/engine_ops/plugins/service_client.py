"""HTTP to a plugin's service: bounded, typed, and nothing followed that it points to."""

from __future__ import annotations

import asyncio
import contextlib
import io
import math
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import msgspec

from engine_ops.plugins.messages import MAX_REPLY_BYTES
from engine_ops.plugins.service_messages import JSON_TYPE, PROBLEM_TYPE, Problem

if TYPE_CHECKING:
    import aiohttp

CONNECT_SECONDS: Final = 3.0
"""To make a connection; a Service without a ready Pod refuses at once or not at all."""

GET_TRIES: Final = 3
KEEP_ALIVE_SECONDS: Final = 15.0
"""Below what servers commonly allow: a connection that the server closes while a request is on its way costs one."""

MAX_CONNECTIONS: Final = 64
THREAD_BYTES: Final = 256 * 1024
"""A longer body is read and written on a thread: its JSON would hold up the event loop."""

FaultKind = Literal["unavailable", "busy", "timeout", "crashed"]
T = TypeVar("T")

_PIECE_BYTES: Final = 64 * 1024
_LONGEST_RETRY_AFTER_SECONDS: Final = 60.0


class ServiceFaultError(Exception):
    """The service gave no answer that can be used.

    Parameters
    ----------
    kind
        ``unavailable``: it cannot be reached. ``busy``: it has too much to do. ``timeout``: the time is up.
        ``crashed``: it ended the connection, or what it sent is not what its interface says.
    message
        One sentence for people, without a full stop.
    retry_after_seconds
        When the service wants to be asked again, if it says so.
    """

    def __init__(self, kind: FaultKind, message: str, retry_after_seconds: float | None = None) -> None:
        self.kind = kind
        self.message = message
        self.retry_after_seconds = retry_after_seconds
        super().__init__(message)


class ServiceProblemError(Exception):
    """The service answered with an error of its own.

    Parameters
    ----------
    status
        The HTTP status, 400 to 599.
    problem
        What it says of it; empty where it says nothing that can be read.
    """

    def __init__(self, status: int, problem: Problem) -> None:
        self.status = status
        self.problem = problem
        super().__init__(self.message)

    @property
    def message(self) -> str:
        """One sentence for people."""
        text = " ".join((self.problem.detail or self.problem.title).split())[:1000]
        return text or f"it answers with HTTP status {self.status}"


class ServiceClient:
    """Calls of one service. It belongs to one event loop.

    Nothing of the environment counts (proxies, netrc), no cookie is kept, no redirect followed, no compression
    accepted: whatever the service sends, at most ``max_reply_bytes`` of it are read.

    Parameters
    ----------
    base_url
        ``http://host:port``, with a path or without.
    max_reply_bytes
        Of one reply.
    """

    def __init__(self, base_url: str, *, max_reply_bytes: int = MAX_REPLY_BYTES) -> None:
        self.base_url = base_url.rstrip("/")
        self._max_reply_bytes = max_reply_bytes
        self._session: aiohttp.ClientSession | None = None

    async def get(self, path: str, kind: type[T], *, timeout_seconds: float) -> T:
        """Read something. A connection that fails is tried again within the time.

        Raises
        ------
        ServiceFaultError
            If no answer came that can be used.
        ServiceProblemError
            If the answer is an error.
        """
        async with _limit(timeout_seconds):
            for _ in range(GET_TRIES - 1):
                try:
                    return await self._call("GET", path, None, kind)
                except ServiceFaultError as fault:
                    if fault.kind != "unavailable":
                        raise
                await asyncio.sleep(0.1)
            return await self._call("GET", path, None, kind)

    async def post(self, path: str, body: msgspec.Struct | bytes, kind: type[T], *, timeout_seconds: float) -> T:
        """Have something done; never tried again by itself.

        Parameters
        ----------
        path
            Such as ``/optimize``.
        body
            Encoded as JSON, or JSON already.
        kind
            What the answer must be.
        timeout_seconds
            For all of it.

        Raises
        ------
        ServiceFaultError, ServiceProblemError
            See `get`.
        """
        async with _limit(timeout_seconds):
            content = body if isinstance(body, bytes) else msgspec.json.encode(body)
            return await self._call("POST", path, content, kind)

    async def close(self) -> None:
        """Close all connections. The client may be used again."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _call(self, method: str, path: str, body: bytes | None, kind: type[T]) -> T:
        import aiohttp

        # What is long goes in pieces, so that others on the event loop have their turn in between.
        data = io.BytesIO(body) if body is not None and len(body) > THREAD_BYTES else body
        try:
            async with self._open().request(
                method, f"{self.base_url}{path}", data=data, allow_redirects=False
            ) as response:
                content = await self._read(response)
                status, headers = response.status, response.headers.copy()
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError) as error:
            raise ServiceFaultError("crashed", f"it closed the connection in the middle: {_line(error)}") from error
        except aiohttp.ClientResponseError as error:
            raise ServiceFaultError("crashed", f"what it sends is no HTTP: {_line(error)}") from error
        except aiohttp.ConnectionTimeoutError as error:
            message = f"{self.base_url} takes no connection within {CONNECT_SECONDS:g} s"
            raise ServiceFaultError("unavailable", message) from error
        except aiohttp.ClientConnectionError as error:
            raise ServiceFaultError("unavailable", f"{self.base_url} cannot be reached: {_line(error)}") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ServiceFaultError("unavailable", f"{self.base_url} cannot be asked: {_line(error)}") from error
        if status == 200:
            return await self._decoded(content, headers.get("Content-Type", ""), kind, path)
        raise _refusal(status, headers, content)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            import aiohttp

            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS, keepalive_timeout=KEEP_ALIVE_SECONDS),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                headers={
                    "Accept": f"{JSON_TYPE}, {PROBLEM_TYPE}",
                    "Accept-Encoding": "identity",
                    "Content-Type": JSON_TYPE,
                    "User-Agent": "engine-ops",
                },
                requote_redirect_url=False,
            )
        return self._session

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        declared = response.content_length
        if declared is not None and declared > self._max_reply_bytes:
            response.close()
            raise self._too_large()
        pieces = bytearray()
        async for piece in response.content.iter_chunked(_PIECE_BYTES):
            pieces += piece
            if len(pieces) > self._max_reply_bytes:
                # The rest is not wanted: the connection cannot be used again.
                response.close()
                raise self._too_large()
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise ServiceFaultError("crashed", "its reply is compressed, which it was told not to do")
        return bytes(pieces)

    def _too_large(self) -> ServiceFaultError:
        return ServiceFaultError("crashed", f"its reply is longer than {self._max_reply_bytes} bytes")

    async def _decoded(self, content: bytes, content_type: str, kind: type[T], path: str) -> T:
        if not _is(content_type, JSON_TYPE):
            raise ServiceFaultError("crashed", f"its reply to {path} has the type {content_type[:80]!r}, no JSON")
        try:
            if len(content) > THREAD_BYTES:
                return await asyncio.to_thread(msgspec.json.decode, content, type=kind)
            return msgspec.json.decode(content, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ServiceFaultError("crashed", f"its reply to {path} is not as it must be: {_line(error)}") from error


@contextlib.asynccontextmanager
async def _limit(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise ServiceFaultError("timeout", f"no answer within {seconds:g} s") from None


def _refusal(status: int, headers: Any, content: bytes) -> ServiceFaultError | ServiceProblemError:
    if 300 <= status < 400:
        where = headers.get("Location", "somewhere else")[:200]
        return ServiceFaultError("crashed", f"it redirects to {where}: redirects are not followed")
    if status < 400:
        return ServiceFaultError("crashed", f"it answers with HTTP status {status}, and must with 200")
    problem = _problem(headers.get("Content-Type", ""), content)
    if status in {429, 503}:
        retry_after = _seconds(headers.get("Retry-After"))
        if retry_after is not None:
            said = problem.detail or "it has too much to do"
            return ServiceFaultError("busy", " ".join(said.split())[:200], retry_after)
    if status in {502, 503, 504}:
        return ServiceFaultError("unavailable", f"nothing is behind it now (HTTP status {status})")
    return ServiceProblemError(status, problem)


def _problem(content_type: str, content: bytes) -> Problem:
    if not _is(content_type, PROBLEM_TYPE, JSON_TYPE):
        return Problem()
    try:
        return msgspec.json.decode(content[:THREAD_BYTES], type=Problem)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Problem()


def _is(content_type: str, *wanted: str) -> bool:
    return content_type.partition(";")[0].strip().lower() in wanted


def _seconds(text: str | None) -> float | None:
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER_SECONDS) if math.isfinite(seconds) else None


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
