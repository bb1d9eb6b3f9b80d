"""How much of what is answered waits for clients to read it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine_ops.server.body_limit import Bodies
from engine_ops.server.problems import ProblemError

PIECE_BYTES: Final = 2**16
"""Longer pieces of an answer are sent in such, each when the client has read most of the one before."""


class AnswerLimit:
    """ASGI middleware: bounds what is held for clients that read slowly, or not at all.

    A server takes a piece of an answer whatever its length, and keeps what the client does not read: a hundred readers
    of an answer of some megabytes would be the end of the process.

    Parameters
    ----------
    app
        The application behind.
    together
        Bounds the long answers that are being sent; those of streams are none. A user who has none always gets one.
    owner
        Names whose a request is, when it is answered.
    """

    def __init__(self, app: ASGIApp, together: Bodies, owner: Callable[[Scope], str]) -> None:
        self._app = app
        self._together = together
        self._owner = owner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start: Message | None = None
        refused = False

        async def send_on(message: Message) -> None:
            nonlocal start, refused
            if message["type"] == "http.response.start":
                start = message
                return
            if refused:
                return
            body: bytes = message.get("body", b"")
            held_bytes = len(body) if start is not None and len(body) > PIECE_BYTES else 0
            owner = self._owner(scope)
            if held_bytes and not self._together.take(owner, held_bytes, at_least_one=True):
                refused = True
                await _too_many().response()(scope, receive, send)
                return
            try:
                if start is not None:
                    await send(start)
                    start = None
                await _in_pieces(message, body, send)
            finally:
                if held_bytes:
                    self._together.give_back(owner, held_bytes)

        await self._app(scope, receive, send_on)


async def _in_pieces(message: Message, body: bytes, send: Send) -> None:
    begin = 0
    while len(body) - begin > PIECE_BYTES:
        await send({**message, "body": body[begin : begin + PIECE_BYTES], "more_body": True})
        begin += PIECE_BYTES
    await send({**message, "body": body[begin:]} if begin else message)


def _too_many() -> ProblemError:
    return ProblemError(
        "busy",
        "There are too many long answers that are not read yet. Ask again later.",
        headers={"Retry-After": "1"},
    )
