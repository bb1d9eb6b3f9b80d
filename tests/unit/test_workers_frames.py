"""Frames: whatever the pieces, the same messages; never more than the limit; never half a message."""

from __future__ import annotations

import itertools
import socket
import threading

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_ops.workers.frames import (
    FrameDecoder,
    FrameError,
    FrameSocket,
    FrameTooLargeError,
    TruncatedFrameError,
    encode_frame,
)


class Text(msgspec.Struct, tag=True, frozen=True):
    text: str


class Blob(msgspec.Struct, tag=True, frozen=True):
    blob: bytes
    number: float | None = None


PAYLOADS: msgspec.msgpack.Decoder[Text | Blob] = msgspec.msgpack.Decoder(Text | Blob)

messages = st.one_of(
    st.builds(Text, st.text(max_size=50)),
    st.builds(Blob, st.binary(max_size=300), st.none() | st.floats(allow_nan=False)),
)


def pieces_of(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(places)]


@given(st.lists(messages, max_size=6), st.lists(st.integers(0, 10_000), max_size=12))
def test_any_split_of_the_stream_gives_the_messages_in_order(sent: list[Text | Blob], cuts: list[int]) -> None:
    stream = b"".join(encode_frame(message) for message in sent)
    decoder = FrameDecoder(PAYLOADS)
    received = [message for piece in pieces_of(stream, cuts) for message in decoder.feed(piece)]
    decoder.end()
    assert received == sent


@given(messages, st.data())
def test_a_truncated_stream_gives_no_message_and_is_named(message: Text | Blob, data: st.DataObject) -> None:
    frame = bytes(encode_frame(message))
    kept = data.draw(st.integers(1, len(frame) - 1))
    decoder = FrameDecoder(PAYLOADS)
    assert decoder.feed(frame[:kept]) == []
    with pytest.raises(TruncatedFrameError):
        decoder.end()


@given(st.binary(min_size=1, max_size=60))
def test_bytes_from_elsewhere_raise_frame_errors_only(noise: bytes) -> None:
    decoder = FrameDecoder(PAYLOADS, limit_bytes=1000)
    try:
        decoder.feed(noise)
        decoder.end()
    except FrameError:
        return


@given(st.integers(0, 200))
def test_the_limit_holds_to_the_byte_when_sending(size: int) -> None:
    message = Blob(b"x" * size)
    payload_bytes = len(encode_frame(message)) - 4
    assert len(encode_frame(message, limit_bytes=payload_bytes)) == payload_bytes + 4
    with pytest.raises(FrameTooLargeError) as caught:
        encode_frame(message, limit_bytes=payload_bytes - 1)
    assert caught.value.size_bytes == payload_bytes
    assert str(payload_bytes - 1) in str(caught.value)


def test_an_oversized_frame_is_refused_at_its_length_before_its_payload_comes() -> None:
    decoder = FrameDecoder(PAYLOADS, limit_bytes=100)
    with pytest.raises(FrameTooLargeError) as caught:
        decoder.feed((101).to_bytes(4, "big"))
    assert (caught.value.size_bytes, caught.value.limit_bytes) == (101, 100)


def test_a_message_of_another_type_is_a_frame_error() -> None:
    class Stranger(msgspec.Struct, tag=True):
        text: str

    with pytest.raises(FrameError, match="not the expected message"):
        FrameDecoder(PAYLOADS).feed(bytes(encode_frame(Stranger("hello"))))


@given(st.lists(messages, max_size=4))
def test_frames_pass_a_blocking_socket_and_its_end_is_none(sent: list[Text | Blob]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sender, receiver = FrameSocket(ours, PAYLOADS), FrameSocket(theirs, PAYLOADS)
        for message in sent:
            sender.send(message)
        ours.shutdown(socket.SHUT_WR)
        received = []
        while (message := receiver.receive()) is not None:
            received.append(message)
    assert received == sent


def test_a_frame_larger_than_the_socket_buffer_passes() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        message = Blob(bytes(range(256)) * 20_000)
        sending = threading.Thread(target=FrameSocket(ours, PAYLOADS).send, args=(message,))
        sending.start()
        assert FrameSocket(theirs, PAYLOADS).receive() == message
        sending.join()


@pytest.mark.parametrize("kept", [2, 4, 10])
def test_a_blocking_socket_that_ends_inside_a_frame_is_named(kept: int) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(encode_frame(Text("a longer text"))[:kept])
        ours.shutdown(socket.SHUT_WR)
        with pytest.raises(TruncatedFrameError):
            FrameSocket(theirs, PAYLOADS).receive()


def test_a_blocking_socket_refuses_an_oversized_frame() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(encode_frame(Text("x" * 200)))
        with pytest.raises(FrameTooLargeError):
            FrameSocket(theirs, PAYLOADS, limit_bytes=100).receive()
        with pytest.raises(FrameTooLargeError):
            FrameSocket(theirs, PAYLOADS, limit_bytes=100).send(Text("x" * 200))
