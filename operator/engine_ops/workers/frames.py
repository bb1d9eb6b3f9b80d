"""Messages between processes: msgpack in length-prefixed frames, decoded into typed structs, never unpickled.

A frame is its payload's length, four bytes big endian, and the payload.
"""

from __future__ import annotations

import struct
import threading
from typing import Generic, Protocol, TypeVar

import msgspec

MAX_FRAME_BYTES = 64 * 2**20
"""A longer payload is refused by both sides."""

MessageT = TypeVar("MessageT")

_LENGTH = struct.Struct(">I")
_ENCODER = msgspec.msgpack.Encoder()
_RECEIVE_BYTES = 256 * 1024


class FrameError(ValueError):
    """The bytes are no frame of the expected message."""


class FrameTooLargeError(FrameError):
    """A payload is longer than the limit.

    Parameters
    ----------
    size_bytes, limit_bytes
        What it has, and what it may have.
    """

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes
        super().__init__(f"a frame of {size_bytes} bytes is over the limit of {limit_bytes} bytes")


class TruncatedFrameError(FrameError):
    """The stream ended inside a frame."""


def encode_frame(message: msgspec.Struct, *, limit_bytes: int = MAX_FRAME_BYTES) -> bytearray:
    """Return the frame of a message.

    Raises
    ------
    FrameTooLargeError
        If the payload is longer than ``limit_bytes``.
    """
    frame = bytearray(_LENGTH.size)
    _ENCODER.encode_into(message, frame, _LENGTH.size)
    size_bytes = len(frame) - _LENGTH.size
    if size_bytes > limit_bytes:
        raise FrameTooLargeError(size_bytes, limit_bytes)
    _LENGTH.pack_into(frame, 0, size_bytes)
    return frame


class FrameDecoder(Generic[MessageT]):
    """Cuts a stream of bytes, in whatever pieces it comes, into messages.

    Parameters
    ----------
    payloads
        Decodes one payload. It may be shared by many decoders of one thread.
    limit_bytes
        The longest payload taken; may be changed between messages.
    """

    __slots__ = ("_buffer", "_payloads", "limit_bytes")

    def __init__(self, payloads: msgspec.msgpack.Decoder[MessageT], *, limit_bytes: int = MAX_FRAME_BYTES) -> None:
        self._payloads = payloads
        self.limit_bytes = limit_bytes
        self._buffer = bytearray()

    def feed(self, piece: bytes) -> list[MessageT]:
        """Take the next piece of the stream and return the messages that it completes.

        Raises
        ------
        FrameTooLargeError
            As soon as the length of a frame over the limit is read; its payload is never awaited.
        FrameError
            If a payload is not the expected message.
        """
        stream: bytes | bytearray = piece
        if self._buffer:
            self._buffer += piece
            stream = self._buffer
        messages: list[MessageT] = []
        start = 0
        with memoryview(stream) as view:
            while len(stream) - start >= _LENGTH.size:
                (size_bytes,) = _LENGTH.unpack_from(stream, start)
                if size_bytes > self.limit_bytes:
                    raise FrameTooLargeError(size_bytes, self.limit_bytes)
                payload_start = start + _LENGTH.size
                if len(stream) - payload_start < size_bytes:
                    break
                start = payload_start + size_bytes
                with view[payload_start:start] as payload:
                    messages.append(_decode(self._payloads, payload))
        if stream is self._buffer:
            del self._buffer[:start]
        else:
            self._buffer += piece[start:]
        return messages

    @property
    def buffered_bytes(self) -> int:
        """How much is there of a frame that is not complete."""
        return len(self._buffer)

    def end(self) -> None:
        """Say that the stream has ended.

        Raises
        ------
        TruncatedFrameError
            If it ended inside a frame.
        """
        if self._buffer:
            raise TruncatedFrameError(f"the stream ended inside a frame, {len(self._buffer)} bytes after its start")


class Stream(Protocol):
    """What of a blocking stream socket is used."""

    def recv_into(self, buffer: memoryview, /) -> int:
        """Fill the beginning of a buffer with what comes next; return how much that is, 0 at the end."""

    def sendall(self, data: bytearray, /) -> object:
        """Send it all."""


class FrameSocket(Generic[MessageT]):
    """The worker's end: frames over a blocking stream.

    Parameters
    ----------
    sock
        Connected and blocking; closed by whoever opened it.
    payloads
        Decodes one received payload.
    limit_bytes
        The longest payload sent or taken.
    """

    def __init__(
        self,
        sock: Stream,
        payloads: msgspec.msgpack.Decoder[MessageT],
        *,
        limit_bytes: int = MAX_FRAME_BYTES,
    ) -> None:
        self._sock = sock
        self._payloads = payloads
        self._limit_bytes = limit_bytes
        self._sending = threading.Lock()

    def send(self, message: msgspec.Struct) -> None:
        """Send a message; threads may send at the same time.

        Raises
        ------
        FrameTooLargeError
            If it is over the limit; nothing was sent.
        OSError
            If the other end is gone.
        """
        frame = encode_frame(message, limit_bytes=self._limit_bytes)
        with self._sending:
            self._sock.sendall(frame)

    def receive(self) -> MessageT | None:
        """Wait for the next message.

        Returns
        -------
        message or None
            None when the other end has closed the stream between two frames.

        Raises
        ------
        TruncatedFrameError
            If the stream ends inside a frame.
        FrameTooLargeError
            If the frame is over the limit.
        FrameError
            If the payload is not the expected message.
        """
        header = self._receive_exactly(_LENGTH.size)
        if header is None:
            return None
        (size_bytes,) = _LENGTH.unpack(header)
        if size_bytes > self._limit_bytes:
            raise FrameTooLargeError(size_bytes, self._limit_bytes)
        payload = self._receive_exactly(size_bytes)
        if payload is None:
            raise TruncatedFrameError("the stream ended after the length of a frame")
        return _decode(self._payloads, payload)

    def _receive_exactly(self, size_bytes: int) -> bytearray | None:
        """Return that many bytes, or None if the stream ended before the first of them."""
        received = bytearray(size_bytes)
        done = 0
        with memoryview(received) as view:
            while done < size_bytes:
                count = self._sock.recv_into(view[done : done + _RECEIVE_BYTES])
                if count == 0:
                    break
                done += count
        if done == size_bytes:
            return received
        if done == 0:
            return None
        raise TruncatedFrameError(f"the stream ended inside a frame, {size_bytes - done} bytes before its end")


def _decode(payloads: msgspec.msgpack.Decoder[MessageT], payload: memoryview | bytearray) -> MessageT:
    try:
        return payloads.decode(payload)
    except (ValueError, RecursionError) as error:  # msgspec's own, and UnicodeDecodeError
        raise FrameError(f"not the expected message: {error}") from error
