"""The events of an asynchronous request: server-sent events as the HTML standard has them.

Each improvement is an event ``improvement``, the response the event ``answer``, after which the stream ends. An event's
id tells which it is, so that a reader who comes back with ``Last-Event-ID`` goes on where it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from engine_ops.server.jobs import Job

KEEP_ALIVE_SECONDS: Final = 15.0
"""A comment is sent when nothing else has been for so long: proxies end what is silent."""

RETRY_MS: Final = 2000
"""After that a reader whose connection broke comes back."""

MEDIA_TYPE: Final = "text/event-stream"

PIECE_BYTES: Final = 2**16
"""A long event is sent in such, each when the reader has taken most of those before."""

_ON_ONE_LINE: Final = bytes.maketrans(b"\r\n", b"  ")
"""A line break in JSON is white space."""


async def _always() -> bool:
    return True


def position_in(job: Job, last_event_id: str | None) -> int | None:
    """Return the number of the last event that a reader has.

    Parameters
    ----------
    job
        Whose events.
    last_event_id
        What the reader says; anything else than an id of this job's events is nothing.

    Returns
    -------
    int or None
        0 for none; None if the reader has the answer.
    """
    run, _, number = (last_event_id or "").partition("-")
    if run != job.run:
        return 0
    if number == "answer":
        return None
    return min(int(number), job.found) if number.isascii() and number.isdigit() and len(number) < 10 else 0


async def events_of(
    job: Job,
    position: int,
    *,
    keep_alive_seconds: float = KEEP_ALIVE_SECONDS,
    permitted: Callable[[], Awaitable[bool]] = _always,
) -> AsyncIterator[bytes]:
    """Return the events after one of them, each as it is sent, until the answer has been.

    Parameters
    ----------
    job
        Whose events.
    position
        See `position_in`.
    keep_alive_seconds
        See `KEEP_ALIVE_SECONDS`.
    permitted
        Asked as often, whether the reader may read on; if not, this is the end.
    """
    yield f"retry: {RETRY_MS}\n\n".encode()
    loop = asyncio.get_running_loop()
    asked = loop.time()
    while True:
        if loop.time() - asked >= keep_alive_seconds:
            if not await permitted():
                return
            asked = loop.time()
        for number, progress in list(job.improvements(position)):
            position = number
            yield _event(job, "improvement", str(number), progress)
        if job.found > position:
            continue  # found while the last ones were being sent
        # From here to the wait nothing else runs: whatever comes later ends the wait.
        if job.ended is not None:
            for piece in _answer(job):
                yield piece
            return
        try:
            async with asyncio.timeout(keep_alive_seconds):
                await job.changed()
        except TimeoutError:
            yield b": still at it\n\n"


class EventStream(Response):
    """A reply that sends a job's events, until the answer has been sent or the reader has gone.

    Parameters
    ----------
    job
        Whose events.
    position
        See `position_in`.
    keep_alive_seconds
        See `KEEP_ALIVE_SECONDS`.
    permitted
        See `events_of`.
    """

    media_type = MEDIA_TYPE

    def __init__(
        self,
        job: Job,
        position: int,
        *,
        keep_alive_seconds: float = KEEP_ALIVE_SECONDS,
        permitted: Callable[[], Awaitable[bool]] = _always,
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._job = job
        self._position = position
        self._keep_alive_seconds = keep_alive_seconds
        self._permitted = permitted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them."""
        del scope
        sending = asyncio.create_task(self._send(send))
        leaving = asyncio.create_task(until_gone(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            sending.cancel()
            leaving.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        events = events_of(
            self._job, self._position, keep_alive_seconds=self._keep_alive_seconds, permitted=self._permitted
        )
        async for event in events:
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def until_gone(receive: Receive) -> None:
    """Wait until the client has gone. What else it sends is of no interest."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _answer(job: Job) -> Iterator[bytes]:
    """Yield the last event; in pieces where it is long: it may have many readers, some of whom read slowly."""
    parts = job.response_parts
    if sum(map(len, parts)) <= PIECE_BYTES:
        yield _event(job, "answer", "answer", b"".join(parts))
        return
    yield b"event: answer\nid: %s-answer\ndata: " % job.run.encode()
    for part in parts:
        for begin in range(0, len(part), PIECE_BYTES):
            yield part[begin : begin + PIECE_BYTES].tobytes().translate(_ON_ONE_LINE)
    yield b"\n\n"


def _event(job: Job, kind: str, number: str, data: bytes) -> bytes:
    # A line break in JSON is white space: the reader puts the lines together again.
    lines = b"\ndata: ".join(data.splitlines())
    return b"event: %s\nid: %s-%s\ndata: %s\n\n" % (kind.encode(), job.run.encode(), number.encode(), lines)
