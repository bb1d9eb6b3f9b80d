"""The end of a connection: the last answer arrives, and nobody can hold the connection open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from engine_ops.server.timer import Timer


class ClosingTransport(asyncio.Transport):
    """A transport whose `close` lingers where the client is still sending, and which ends when nobody reads.

    A socket that is closed with bytes unread in it resets the connection, and the client never sees the answer (RFC
    9112, section 9.6): so sending ends first, and what comes is thrown away for a while.

    Parameters
    ----------
    transport
        The real one.
    loop
        Its loop.
    unread
        Whether the client is still sending a request.
    linger_seconds, write_seconds
        See `engine_ops.server.connections.ConnectionLimits`.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        *,
        unread: Callable[[], bool],
        linger_seconds: float,
        write_seconds: float,
    ) -> None:
        super().__init__()
        self._transport = transport
        self._unread = unread
        self._linger_seconds = linger_seconds
        self._write_seconds = write_seconds
        self._closed = False
        self._lingering = Timer(loop, self._close)
        self._writing = Timer(loop, self._check_writing)
        self._unsent_bytes = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See `asyncio.WriteTransport`."""
        if not self._closed:
            self._transport.write(data)

    def close(self) -> None:
        """End the connection when all is sent; until then, and for a while, take what the client sends."""
        if self._closed:
            return
        self._closed = True
        if self._unread() and not self._transport.is_closing():
            if self._transport.can_write_eof():
                self._transport.write_eof()
            self._transport.resume_reading()
            self._lingering.start(self._linger_seconds)
        else:
            self._close()

    def abort(self) -> None:
        """End the connection now."""
        self._closed = True
        self._transport.abort()

    def is_closing(self) -> bool:
        """Return whether nothing more can be written."""
        return self._closed or self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """See `asyncio.BaseTransport`."""
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """See `asyncio.ReadTransport`."""
        if not self._closed:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """See `asyncio.ReadTransport`."""
        if not self._closed:
            self._transport.resume_reading()

    def writing_paused(self) -> None:
        """Say that the client does not take what is sent."""
        self._watch_writing()

    def writing_resumed(self) -> None:
        """Say that it has taken nearly all."""
        if not self._closed:
            self._writing.stop()

    def lost(self) -> None:
        """Say that the connection has ended."""
        self._closed = True
        self._lingering.stop()
        self._writing.stop()

    def _close(self) -> None:
        self._transport.close()
        self._watch_writing()

    def _watch_writing(self) -> None:
        self._unsent_bytes = self._transport.get_write_buffer_size()
        self._writing.start(self._write_seconds)

    def _check_writing(self) -> None:
        if 0 < self._transport.get_write_buffer_size() < self._unsent_bytes:
            self._watch_writing()
        else:
            self.abort()
