"""A block as the bytes of a segment, and back.

Every format, this one and later ones, has the same envelope: `MAGIC`, the format's number (16 bits, little endian),
what the format says, and the blake2b of all that (16 bytes). The checksum is read first: a flipped bit is damage and
never a format from the future.
"""

from __future__ import annotations

import struct
from hashlib import blake2b
from typing import Final

import msgspec

from engine_ops.history.block import Block
from engine_ops.history.columns import Reader, Writer

FORMAT: Final = 1
"""What `encode_segment` writes; `decode_segment` reads this and no later one."""
MAGIC: Final = b"EOHS"

_CHECKSUM_BYTES = 16
_START = struct.Struct("<4sH")


class SegmentError(ValueError):
    """A segment cannot be read."""


class DamagedSegmentError(SegmentError):
    """Its bytes are not as they were written; the message says why."""


class FutureFormatError(SegmentError):
    """A later version wrote it. It is whole, and must not be overwritten.

    Parameters
    ----------
    format
        The number of its format.
    """

    def __init__(self, format: int) -> None:  # noqa: A002 - the field's name
        super().__init__(f"format {format} is newer than this version reads (up to {FORMAT}): upgrade the operator")
        self.format = format


class SegmentHeader(msgspec.Struct, frozen=True, rename="camel"):
    """What a segment says of itself.

    Parameters
    ----------
    sequence
        Its place among the segments.
    count
        Points in it.
    start_ms, end_ms
        The earliest and the latest timestamp.
    watermark
        Every stamp up to this one was flushed when it was written.
    oldest
        The lowest sequence that was part of the ring then.
    writer
        Who wrote it.
    """

    sequence: int
    count: int
    start_ms: int
    end_ms: int
    watermark: int = 0
    oldest: int = 0
    writer: str = ""


def wrap(content: bytes, format: int = FORMAT) -> bytes:  # noqa: A002 - the field's name
    """Return the envelope of any format around its content."""
    body = _START.pack(MAGIC, format) + content
    return body + blake2b(body, digest_size=_CHECKSUM_BYTES).digest()


def unwrap(segment: bytes) -> tuple[int, memoryview]:
    """Return the format and the content of a whole segment.

    Raises
    ------
    DamagedSegmentError
        If it is not as it was written.
    """
    if len(segment) < _START.size + _CHECKSUM_BYTES:
        raise DamagedSegmentError(f"it has {len(segment)} bytes, fewer than any segment")
    body, checksum = segment[:-_CHECKSUM_BYTES], segment[-_CHECKSUM_BYTES:]
    magic, number = _START.unpack_from(body)
    if magic != MAGIC:
        raise DamagedSegmentError("it does not begin as a segment does")
    if blake2b(body, digest_size=_CHECKSUM_BYTES).digest() != checksum:
        raise DamagedSegmentError("the checksum does not match")
    return number, memoryview(body)[_START.size :]


class _Body(msgspec.Struct, array_like=True):
    header: SegmentHeader
    columns: bytes
    chunks: list[tuple[int, bytes]]


def encode_segment(block: Block, header: SegmentHeader) -> bytes:
    """Return the bytes of a segment. The header's count and times are taken from the block."""
    header = msgspec.structs.replace(header, count=len(block), start_ms=block.start_ms, end_ms=block.end_ms)
    writer = Writer()
    columns = writer.finish(block.put_columns(writer))
    body = _Body(header, columns, list(block.chunks()))
    return wrap(msgspec.msgpack.encode(body))


def decode_segment(content: bytes) -> tuple[SegmentHeader, Block]:
    """Return the header and the block, sealed, of a segment. Its chunks are decompressed when points are asked for.

    Raises
    ------
    DamagedSegmentError, FutureFormatError
        If it cannot be read.
    """
    body = _body(content)
    try:
        block = Block.of(body.header.count, Reader(body.columns), body.chunks)
    except Exception as error:
        # The checksum was right: whoever wrote this did not write what the format says.
        raise DamagedSegmentError(f"its content is not what the format says: {error}") from error
    return body.header, block


def _body(segment: bytes) -> _Body:
    number, content = unwrap(segment)
    if number > FORMAT:
        raise FutureFormatError(number)
    try:
        return msgspec.msgpack.decode(content, type=_Body)
    except msgspec.DecodeError as error:
        raise DamagedSegmentError(f"its content is not what the format says: {error}") from None
