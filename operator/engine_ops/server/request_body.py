"""Reading a request's body, as far as it is wanted."""

from __future__ import annotations

from starlette.requests import ClientDisconnect, Request

from engine_ops.server.problems import ProblemError


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """Read the body.

    Raises
    ------
    ProblemError
        413 if it is too long.
    ClientDisconnect
        If the caller has gone.
    """
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        piece = message.get("body", b"")
        size += len(piece)
        if size > limit_bytes:
            raise ProblemError("too-large", f"The body is longer than {limit_bytes} bytes.")
        pieces.append(piece)
        if not message.get("more_body"):
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
