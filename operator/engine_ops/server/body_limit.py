"""How long a request's body may be."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine_ops.server.problems import ProblemError

_MAX_DIGITS: Final = 18


class BodyLimit:
    """ASGI middleware: answers 413 to a body that is too long, and closes the connection.

    A body that says its length is not read at all. One that does not (chunked) is counted; where it gets too long the
    application behind sees a client that has gone, and whatever it says then is dropped: frameworks turn an exception
    out of ``receive`` into an answer of their own.

    Parameters
    ----------
    app
        The application behind.
    limit_bytes
        The longest body.
    """

    def __init__(self, app: ASGIApp, limit_bytes: int) -> None:
        self._app = app
        self._limit_bytes = limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # The server lets nothing but digits come so far; any number of them may be zeros before the number.
        digits = Headers(scope=scope).get("content-length", "").lstrip("0")
        if digits.isdecimal() and (len(digits) > _MAX_DIGITS or int(digits) > self._limit_bytes):
            await self._refuse(scope, receive, send)
            return
        counted = _Counted(self, scope, receive, send)
        try:
            await self._app(scope, counted.receive, counted.send)
        except Exception:
            if not counted.refused:
                raise

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        problem = ProblemError(
            "too-large",
            f"the body is longer than {self._limit_bytes} bytes; nothing of it was used",
            headers={"Connection": "close"},
        )
        await problem.response()(scope, receive, send)


class _Counted:
    """The body of one request on its way, counted."""

    def __init__(self, limit: BodyLimit, scope: Scope, receive: Receive, send: Send) -> None:
        self.refused = False
        self._limit = limit
        self._scope = scope
        self._receive = receive
        self._send = send
        self._received_bytes = 0
        self._started = False

    async def receive(self) -> Message:
        if self.refused:
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] != "http.request":
            return message
        self._received_bytes += len(message.get("body", b""))
        if self._received_bytes <= self._limit._limit_bytes:  # noqa: SLF001 - two halves of one
            return message
        self.refused = True
        if not self._started:
            await self._limit._refuse(self._scope, self._receive, self._send)  # noqa: SLF001
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if self.refused and not self._started:
            return
        self._started = True
        await self._send(message)
