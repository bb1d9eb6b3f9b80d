"""Points on their way to another process, in whatever form they are kept."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from engine_ops.history.block import Block

ROW_BYTES: Final = 21
"""Of a point in the columns of a run."""


class Run(msgspec.Struct, array_like=True, frozen=True):
    """Points one after the other, oldest first; columns of one length, and the rest in one of three forms.

    Parameters
    ----------
    timestamps, durations
        Milliseconds: 64 bits each, whole numbers and floats, little endian.
    successes
        A byte each, 0 or 1.
    types
        Codes of 16 bits, little endian: positions in ``type_names``.
    type_names
        Request types.
    namespaces, namespace_names
        In the same way; the empty name stands for none. Only with ``chunk``.
    chunk
        See `engine_ops.history.chunk.decode_chunk`.
    squeezed
        See `engine_ops.history.block.unsqueezed`.
    packed
        What `engine_ops.history.limits.pack` returned for each point.
    skip
        The receiver has the first so many already.
    """

    timestamps: bytes
    durations: bytes
    successes: bytes
    types: bytes
    type_names: tuple[str, ...]
    namespaces: bytes = b""
    namespace_names: tuple[str, ...] = ()
    chunk: bytes = b""
    squeezed: bytes = b""
    packed: tuple[bytes, ...] = ()
    skip: int = 0

    @property
    def size_bytes(self) -> int:
        """About how long it is as a frame."""
        names = sum(map(len, self.type_names)) + sum(map(len, self.namespace_names))
        return size_of(len(self.successes), len(self.chunk) + len(self.squeezed), self.packed) + 5 * names

    def __len__(self) -> int:
        """Points that the receiver does not have."""
        return len(self.successes) - self.skip


def size_of(count: int, body_bytes: int, packed: Sequence[bytes] = ()) -> int:
    """Return about how long the frame of a run is, without its names."""
    return 100 + ROW_BYTES * count + body_bytes + sum(map(len, packed)) + 5 * len(packed)


def encoded_run(block: Block, first: int, last: int, skip: int, chunk: bytes, squeezed: bytes) -> Run:
    """Return the run of the rows of a block whose values are kept as these bytes."""
    named = bool(chunk)
    return Run(
        _little(block.timestamps[first:last]),
        _little(block.durations[first:last]),
        block.successes[first:last].tobytes(),
        _little(block.types[first:last]),
        tuple(block.type_codes),
        _little(block.namespaces[first:last]) if named else b"",
        tuple(block.namespace_codes) if named else (),
        chunk,
        squeezed,
        (),
        skip,
    )


def packed_runs(block: Block, first: int, packed: Sequence[bytes], limit_bytes: int) -> Iterator[Run]:
    """Yield runs of packed points, which are the rows of a block from ``first`` on; each within a limit."""
    start = size = 0
    for index, each in enumerate(packed):
        own = size_of(1, len(each) + 5)
        if index > start and size + own > limit_bytes:
            yield _packed_run(block, first + start, packed[start:index])
            start, size = index, 0
        size += own
    if len(packed) > start:
        yield _packed_run(block, first + start, packed[start:])


def _packed_run(block: Block, first: int, packed: Sequence[bytes]) -> Run:
    last = first + len(packed)
    # A block may know many types; a run of a few points names those that it has.
    names, table = tuple(block.type_codes), dict[str, int]()
    codes = array("H", [table.setdefault(names[code], len(table)) for code in block.types[first:last]])
    return Run(
        _little(block.timestamps[first:last]),
        _little(block.durations[first:last]),
        block.successes[first:last].tobytes(),
        _little(codes),
        tuple(table),
        packed=tuple(packed),
    )


def _little(column: array[int] | array[float]) -> bytes:
    if sys.byteorder == "big":
        column = column[:]
        column.byteswap()
    return column.tobytes()
