"""HTTP/1.1 of the operator's own ports: uvicorn's protocol on httptools, with limits on all that a client can hold."""

from __future__ import annotations

import asyncio
import http
import logging
from collections import deque
from typing import Any, Final, cast

import httptools
from starlette.types import Message, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from engine_ops.server.closing import ClosingTransport
from engine_ops.server.connections import ConnectionLimits, Seat, Stage
from engine_ops.server.problems import ProblemError
from engine_ops.server.timer import Timer

logger = logging.getLogger(__name__)
# What is cut off at the end of a drain is no defect of the application.
logger.addFilter(lambda record: not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError)))

_FRAMING_BYTES: Final = 16
"""What a chunked body may spend on framing for each byte of content, beyond the bytes that a head may have."""


class HttpProtocol(HttpToolsProtocol):
    """One connection.

    What uvicorn leaves open is closed here: time for the head and for the body, bytes and number of headers, requests
    in a pipeline, bytes around chunks, trailers (dropped: they would be appended to the headers of a request whose
    caller is known already), clients that never read, and heads that two servers may read differently. Errors are
    problem details, and a request that cannot be read ends the connection.

    A client that ends its side is taken for gone, as by uvicorn: the two cannot be told apart.

    Parameters
    ----------
    config, server_state, app_state
        See uvicorn.
    limits
        What the connection may take.
    seat
        Its place among all.
    """

    def __init__(
        self,
        *,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        limits: ConnectionLimits,
        seat: Seat,
    ) -> None:
        super().__init__(config=config, server_state=server_state, app_state=app_state)
        self.timeout_keep_alive = cast("int", limits.keep_alive_seconds)
        self.logger = logger
        self._application = self.app
        self.app = self._answer
        self._limits = limits
        self._seat = seat
        self._link: ClosingTransport
        self._refusal: ProblemError | None = None
        self._open: deque[RequestResponseCycle] = deque()
        self._deaf = False
        self._in_head = False
        self._in_body = False
        self._waited_for = False
        self._arrived_bytes = 0
        self._head_bytes = 0
        self._header_count = 0
        self._body_bytes = 0
        self._head_timer = Timer(self.loop, self._head_late)
        self._body_timer = Timer(self.loop, self._body_late)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.BaseProtocol`."""
        self._link = ClosingTransport(
            transport,
            self.loop,
            unread=lambda: self._in_body or self._deaf,
            linger_seconds=self._limits.linger_seconds,
            write_seconds=self._limits.write_seconds,
        )
        self._seat.give_up = self._link.abort
        super().connection_made(self._link)
        self._head_timer.start(self._limits.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol`."""
        self._link.lost()
        self._seat.leave()
        self._head_timer.stop()
        self._body_timer.stop()
        self._unset_keepalive_if_required()
        for cycle in self._open:  # uvicorn tells the last only, which in a pipeline is not the one that is run.
            _disconnect(cycle)
        self._open.clear()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        super().pause_writing()
        self._link.writing_paused()

    def resume_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        super().resume_writing()
        self._link.writing_resumed()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self._deaf or self._link.is_closing():
            return
        self._arrived_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Answered as if it had not been asked for, which RFC 9110, section 7.8 allows. What follows is not HTTP.
            self._end_after_answers()
        except httptools.HttpParserError as error:
            self._refuse(
                self._refusal or ProblemError("malformed", f"this is not HTTP/1.1 as it is read here: {error}")
            )
        else:
            self._check_bytes()
        self._watch()

    # What the parser finds.

    def on_message_begin(self) -> None:
        """See httptools."""
        super().on_message_begin()
        self._in_head = True
        self._arrived_bytes = self._head_bytes = self._header_count = self._body_bytes = 0
        self._unset_keepalive_if_required()

    def on_url(self, url: bytes) -> None:
        """See httptools."""
        self._count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """See httptools."""
        self._header_count += 1
        self._count_head(len(name) + len(value) + 4)
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """See httptools."""
        self._check_head()
        self._unset_keepalive_if_required()
        super().on_headers_complete()
        self._open.append(self.cycle)
        self._in_head = False
        self._in_body = True
        self._waited_for = False

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """See httptools."""
        self._in_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """See uvicorn."""
        if self._open:
            self._open.popleft()
        super().on_response_complete()
        # Answered without its body: what is still to come would be read for nothing, however much it is.
        if self._in_body and not self._open:
            self._link.close()
        self._watch()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, and say where the connection ends with its answer.

        RFC 9112, section 9.6: a client that is not told sends its next request on a connection that is gone.
        """
        cycle = self._open[0]  # those behind it in the pipeline wait

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start" and cycle.more_body:
                cycle.keep_alive = False
            await send(message)

        await self._application(scope, receive, send_on)

    def _count_head(self, length: int) -> None:
        self._head_bytes += length
        limits = self._limits
        if self._head_bytes > limits.head_bytes or self._header_count > limits.headers:
            self._refuse_parsing(self._too_large())

    def _check_head(self) -> None:
        version = self.parser.get_http_version()
        names = [name for name, _ in self.headers]
        if version not in {"1.0", "1.1"}:
            self._refuse_parsing(ProblemError("malformed", "the version is not HTTP/1.1"))
        hosts = names.count(b"host")
        if hosts > 1 or (hosts == 0 and version == "1.1"):
            self._refuse_parsing(ProblemError("malformed", "there must be one Host header"))
        codings = [value.strip().lower() for name, value in self.headers if name == b"transfer-encoding"]
        # RFC 9112, sections 6.1 and 6.3: where two servers could see different bodies, nothing is read.
        if codings and (codings != [b"chunked"] or b"content-length" in names or version == "1.0"):
            self._refuse_parsing(ProblemError("malformed", "the length of the body can be read in more than one way"))
        if len(self.pipeline) >= self._limits.pipelined:
            self._refuse_parsing(ProblemError("too-many-requests", "too many requests wait on this connection"))

    def _check_bytes(self) -> None:
        """Look at what the parser holds without saying so: an unfinished header, chunk extensions, trailers."""
        if self._in_head and self._arrived_bytes > self._limits.head_bytes:
            self._refuse(self._too_large())
        elif self._in_body and self._arrived_bytes > self._limits.head_bytes + _FRAMING_BYTES * self._body_bytes:
            self._refuse(ProblemError("malformed", "there is more around the chunks of the body than in them"))

    def _too_large(self) -> ProblemError:
        limits = self._limits
        return ProblemError(
            "headers-too-large",
            f"request line and headers may be {limits.head_bytes} bytes, and {limits.headers} headers",
        )

    # Time.

    def _watch(self) -> None:
        """Set timers and stage by what is being waited for."""
        if self._link.is_closing():
            self._head_timer.stop()
            self._body_timer.stop()
            self._seat.move(Stage.IDLE)
            return
        if self._in_head:
            self._head_timer.start(self._limits.head_seconds)
        elif self.scope is not None:
            self._head_timer.stop()
        if self._in_body:
            self._body_timer.start(self._limits.body_seconds)
        else:
            self._body_timer.stop()
        if self._in_body and len(self._open) == 1:
            self._seat.move(Stage.RECEIVING)
        else:
            self._seat.move(Stage.BUSY if self._open else Stage.IDLE)

    def _head_late(self) -> None:
        if self._in_head:
            seconds = self._limits.head_seconds
            self._refuse(ProblemError("timeout", f"the headers did not arrive within {seconds:g} s"))
        elif not self._open:
            self._link.close()

    def _body_late(self) -> None:
        if self.flow.read_paused:
            # It waits for the application, not for the client.
            self._waited_for = True
            self._body_timer.start(1.0)
            return
        seconds = self._limits.body_seconds
        if self._waited_for:
            # What the client could not send until now has the time that it would have had.
            self._waited_for = False
            self._body_timer.start(seconds)
            return
        self._refuse(ProblemError("timeout", f"the body did not arrive within {seconds:g} s"))

    # Ends.

    def refuse_open_requests(self, problem: ProblemError) -> None:
        """Answer what is not answered yet with an error, and end the connection."""
        self._end(problem)

    def _refuse_parsing(self, problem: ProblemError) -> None:
        self._refusal = problem
        raise problem

    def _refuse(self, problem: ProblemError) -> None:
        """Answer what is just arriving with an error, after what came before it, and end the connection."""
        if self._in_body and len(self._open) > 1:
            # Its turn does not come: the connection ends with the answer before it.
            self._open.pop()
            self._end_after_answers()
        elif self._open and not self._in_body:
            self._end_after_answers()
        else:
            self._end(problem)

    def _end_after_answers(self) -> None:
        self._deaf = True
        self._in_body = False
        if self._open:
            self._open[-1].keep_alive = False
        else:
            self._link.close()

    def _end(self, problem: ProblemError) -> None:
        self._deaf = True
        if self._link.is_closing():
            return
        started = bool(self._open) and (self._open[0].response_started or len(self._open) > 1)
        for cycle in self._open:
            _disconnect(cycle)
        if started:
            self._link.abort()
            return
        self._link.write(raw_response(problem, self.server_state.default_headers))
        self._link.close()


def raw_response(problem: ProblemError, headers: list[tuple[bytes, bytes]]) -> bytes:
    """Return the bytes of an error that ends a connection.

    Parameters
    ----------
    problem
        The error.
    headers
        Those that every response has.
    """
    response = problem.response()
    lines = [f"HTTP/1.1 {problem.status} {http.HTTPStatus(problem.status).phrase}".encode()]
    for name, value in [*headers, *response.raw_headers, (b"connection", b"close")]:
        lines.append(name + b": " + value)
    return b"\r\n".join(lines) + b"\r\n\r\n" + bytes(response.body)


def _disconnect(cycle: RequestResponseCycle) -> None:
    """Tell the application that the client has gone."""
    cycle.disconnected = True
    cycle.message_event.set()
