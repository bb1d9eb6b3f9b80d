"""A run of points in columns: what filters and statistics read as arrays, everything else compressed."""

from __future__ import annotations

import zlib
from array import array
from bisect import bisect_left
from collections.abc import Container, Iterator, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from engine_ops.history.block_columns import Columns
from engine_ops.history.chunk import Content, Frame, decode_chunk, decode_keys, encode_chunk, unpack
from engine_ops.history.columns import (
    Reader,
    Spec,
    Writer,
    get_flags,
    get_floats,
    get_ints,
    get_texts,
    put_flags,
    put_floats,
    put_ints,
    put_texts,
)
from engine_ops.history.keys import KEY_BYTES, point_key
from engine_ops.history.limits import MAX_STRING, CutCounts, pack
from engine_ops.ml.data_point import WorkloadDataPoint

CHUNK_POINTS: Final = 2_000
"""At most so many points are compressed together: what reading one costs in memory and time."""
MAX_BLOCK_POINTS: Final = 65_535
"""Codes of types and namespaces have 16 bits."""

Rows = Sequence[int] | npt.NDArray[np.intp]
"""Numbers of points of a block."""

_NO_KEY = bytes(KEY_BYTES)
_FAST: Final = 1
"""The level of zlib for points that may never be written: a fifth of the time of columns, three times their bytes."""


class Kept(NamedTuple):
    """How the values of some points of a block, one after the other, are kept at the moment; in one of three forms.

    Parameters
    ----------
    number
        How many points.
    chunk
        Columns; see `engine_ops.history.chunk.decode_chunk`.
    squeezed
        See `unsqueezed`.
    packed
        What `engine_ops.history.limits.pack` returned for each; not to be changed.
    """

    number: int
    chunk: bytes = b""
    squeezed: bytes = b""
    packed: Sequence[bytes] = ()


class Run(NamedTuple):
    """Points of a block that are kept together.

    Parameters
    ----------
    block, first
        Where they are: the row of the first of all of them.
    kept
        How.
    rows
        Those that are wanted, in ascending order; rows of the block.
    """

    block: Block
    first: int
    kept: Kept
    rows: Sequence[int]

    def frame(self) -> Frame:
        """Return what `engine_ops.history.chunk` needs to know of the points."""
        return self.block.frame(self.first, self.first + self.kept.number)


class Block:
    """Points in the order in which they were recorded; it grows until it is sealed.

    The key of each is kept beside it; a point without one is never taken for another.
    """

    def __init__(self) -> None:
        self.sealed = False
        self.timestamps = array("q")
        self.durations = array("d")
        self.successes = array("B")
        self.types = array("H")
        self.namespaces = array("H")
        self.type_codes: dict[str, int] = {}
        self.namespace_codes: dict[str, int] = {"": 0}
        self._keys = bytearray()
        self._chunks: list[tuple[int, bytes]] = []
        self._tail: list[bytes] = []
        # The tail of a sealed block until somebody asks for chunks: how many points, and their bytes.
        self._squeezed: tuple[int, bytes] | None = None
        self._columns: Columns | None = None

    def __len__(self) -> int:
        return len(self.timestamps)

    @property
    def start_ms(self) -> int:
        """The earliest timestamp; 0 of an empty block."""
        return min(self.timestamps, default=0)

    @property
    def end_ms(self) -> int:
        """The latest timestamp; 0 of an empty block."""
        return max(self.timestamps, default=0)

    @property
    def encoded_bytes_estimate(self) -> int:
        """About how long the encoded segment will be; what is no column yet is taken at a part of its bytes."""
        size = 200 + 12 * len(self) + sum(len(body) for _, body in self._chunks) + sum(map(len, self._tail)) // 4
        return size if self._squeezed is None else size + len(self._squeezed[1]) // 2

    def append(
        self, point: WorkloadDataPoint, counts: CutCounts | None = None, key: bytes | None = None
    ) -> bytes | None:
        """Add a point at the new end and return its key, which the caller may know already.

        Raises
        ------
        InvalidPointError
            If it holds something that is no JSON value; nothing was added.
        ValueError
            If the block is sealed or full.
        """
        if self.sealed:
            raise ValueError("a sealed block takes no more points")
        if len(self) >= MAX_BLOCK_POINTS:
            raise ValueError(f"a block holds at most {MAX_BLOCK_POINTS} points")
        kind, packed = pack(point, counts if counts is not None else CutCounts())
        key = key if key is not None else point_key(point)
        self._add(point, kind, packed, key)
        return key

    def _add(self, point: WorkloadDataPoint, kind: str, packed: bytes, key: bytes | None) -> None:
        namespace = point.metadata.get("namespace")
        namespace = namespace[:MAX_STRING] if isinstance(namespace, str) else ""
        # Somebody may have changed the point since it was made: either all columns grow or none does.
        duration, success = float(point.duration), bool(point.success)
        self.timestamps.append(point.timestamp)
        self.durations.append(duration)
        self.successes.append(success)
        self.types.append(self.type_codes.setdefault(kind, len(self.type_codes)))
        self.namespaces.append(self.namespace_codes.setdefault(namespace, len(self.namespace_codes)))
        self._keys += key or _NO_KEY
        self._tail.append(packed)
        self._columns = None
        if len(self._tail) >= CHUNK_POINTS:
            self._compress()

    def seal(self) -> None:
        """Take no more points. The newest are compressed fast for now, and become columns when `chunks` are wanted."""
        if self._tail:
            self._squeezed = len(self._tail), zlib.compress(msgspec.msgpack.encode(self._tail), _FAST)
            self._tail = []
        self.sealed = True

    def _compress(self) -> None:
        self._chunks.append((len(self._tail), self._encoded(self._tail)))
        self._tail = []

    def _encoded(self, newest: list[bytes]) -> bytes:
        first = len(self) - len(newest)
        keyed = [key is not None for key in self._keys_from(first)]
        return encode_chunk(newest, keyed, self.frame(first, len(self)))

    def frame(self, first: int, last: int) -> Frame:
        """Return what is known of the points of a chunk beside it."""
        names = tuple(self.namespace_codes)
        return Frame(
            np.array(self.timestamps[first:last], dtype=np.int64),
            np.array(self.durations[first:last], dtype=np.float64),
            [names[code] for code in self.namespaces[first:last]],
        )

    def chunks(self) -> Iterator[tuple[int, bytes]]:
        """Yield how many points each chunk has and its bytes, oldest first; an open block's newest are one for now."""
        if self._squeezed is not None:
            count, squeezed = self._squeezed
            # In this order: somebody who reads meanwhile finds the points in one place at least.
            self._chunks = [*self._chunks, (count, self._encoded(unsqueezed(squeezed)))]
            self._squeezed = None
        yield from self._chunks
        if self._tail:
            yield len(self._tail), self._encoded(self._tail)

    def kept(self) -> list[Kept]:
        """Return how the values of the points are kept, oldest first; nothing is encoded for it."""
        runs = [Kept(count, chunk=body) for count, body in self._chunks]
        if self._squeezed is not None:
            runs.append(Kept(self._squeezed[0], squeezed=self._squeezed[1]))
        if self._tail:
            runs.append(Kept(len(self._tail), packed=self._tail))
        return runs

    def keys(self) -> Iterator[bytes | None]:
        """Yield the key of each point, None where it has none."""
        yield from self._keys_from(0)

    def _keys_from(self, first: int) -> Iterator[bytes | None]:
        for start in range(first * KEY_BYTES, len(self._keys), KEY_BYTES):
            key = bytes(self._keys[start : start + KEY_BYTES])
            yield key if key != _NO_KEY else None

    def columns(self) -> Columns:
        """Return the columns as arrays."""
        if self._columns is None:
            # A view would forbid the array to grow, so an open block hands out copies.
            def view(column: array[int] | array[float], kind: type) -> npt.NDArray[Any]:
                whole: npt.NDArray[Any] = np.frombuffer(column, dtype=kind)
                return whole if self.sealed else whole.copy()

            self._columns = Columns(
                view(self.timestamps, np.int64),
                view(self.durations, np.float64),
                view(self.successes, np.uint8),
                view(self.types, np.uint16),
                view(self.namespaces, np.uint16),
                tuple(self.type_codes),
                tuple(self.namespace_codes),
            )
        return self._columns

    def points(self, rows: Rows | None = None) -> Iterator[WorkloadDataPoint]:
        """Yield the points, or those of some rows in ascending order; a chunk is in memory at a time."""
        types = tuple(self.type_codes)
        for row, content, is_checked in self._contents(rows):
            facts = self.timestamps[row], types[self.types[row]], self.durations[row], bool(self.successes[row])
            yield _checked_point(*facts, content) if is_checked else point_of(*facts, content)

    def documents(self, rows: Rows | None = None) -> Iterator[dict[str, Any]]:
        """Yield what `WorkloadDataPoint.to_dict` returns of the same points; in half of their time."""
        types = tuple(self.type_codes)
        for row, (usage, metadata, further), _ in self._contents(rows):
            yield {
                "timestamp": self.timestamps[row],
                "requestType": types[self.types[row]],
                "resourceUsage": usage,
                "duration": self.durations[row],
                "success": bool(self.successes[row]),
                "metadata": metadata,
                **further,
            }

    def _contents(self, rows: Rows | None) -> Iterator[tuple[int, Content, bool]]:
        """Yield some rows with what is kept of each, and whether that was checked when it was recorded here."""
        for run in self.runs(rows):
            if run.kept.chunk:
                contents = decode_chunk(run.kept.chunk, run.frame())
                for row in run.rows:
                    yield row, contents[row - run.first], False
            else:
                packed = unsqueezed(run.kept.squeezed) if run.kept.squeezed else run.kept.packed
                for row in run.rows:
                    yield row, unpack(packed[row - run.first]), True

    def runs(self, rows: Rows | None = None) -> Iterator[Run]:
        """Yield how the points, or those of some rows in ascending order, are kept; nothing is decoded for it."""
        wanted = range(len(self)) if rows is None else [int(row) for row in rows]
        position, first = 0, 0
        # As they are now: the block may grow, and compress its newest points, while somebody reads on.
        tail, squeezed = list(self._tail), self._squeezed
        newest = Kept(len(tail), packed=tail) if squeezed is None else Kept(squeezed[0], squeezed=squeezed[1])
        for kept in [*(Kept(count, chunk=body) for count, body in self._chunks), newest]:
            last = first + kept.number
            stop = bisect_left(wanted, last, position)
            if stop > position:
                yield Run(self, first, kept, wanted[position:stop])
            position, first = stop, last

    def frozen(self) -> Block:
        """Return the points as they are now, to be read on any thread: a copy where this block may grow still."""
        if self.sealed:
            return self
        copy = Block()
        copy.timestamps, copy.durations, copy.successes = self.timestamps[:], self.durations[:], self.successes[:]
        copy.types, copy.namespaces = self.types[:], self.namespaces[:]
        copy.type_codes, copy.namespace_codes = dict(self.type_codes), dict(self.namespace_codes)
        copy._keys, copy._chunks, copy._tail = self._keys[:], self._chunks[:], self._tail[:]
        copy.sealed = True
        return copy

    def put_columns(self, writer: Writer) -> Spec:
        """Encode what is not in the chunks: times, successes, types and namespaces."""
        columns = self.columns()
        return [
            put_ints(columns.timestamps, writer),
            put_floats(columns.durations, writer),
            put_flags(columns.successes.astype(np.bool_), writer),
            put_texts(columns.type_names, writer),
            put_ints(columns.types.astype(np.int64), writer),
            put_texts(columns.namespace_names, writer),
            put_ints(columns.namespaces.astype(np.int64), writer),
            len(columns.type_names),
            len(columns.namespace_names),
        ]

    @classmethod
    def of(cls, count: int, reader: Reader, chunks: Sequence[tuple[int, bytes]]) -> Block:
        """Return the sealed block of encoded columns and chunks.

        Raises
        ------
        Exception
            Of any kind, where the bytes are not what `put_columns` and `chunks` gave.
        """
        spec = reader.spec
        block = cls()
        block.timestamps = array("q", get_ints(spec[0], count, reader).tobytes())
        block.durations = array("d", get_floats(spec[1], count, reader).tobytes())
        block.successes = array("B", get_flags(spec[2], count, reader).tobytes())
        block.type_codes = {name: code for code, name in enumerate(get_texts(spec[3], spec[7], reader))}
        block.types = array("H", get_ints(spec[4], count, reader).astype(np.uint16).tobytes())
        block.namespace_codes = {name: code for code, name in enumerate(get_texts(spec[5], spec[8], reader))}
        block.namespaces = array("H", get_ints(spec[6], count, reader).astype(np.uint16).tobytes())
        if max(block.types, default=-1) >= spec[7] or max(block.namespaces, default=0) >= spec[8]:
            raise ValueError("a code has no name")
        for size, body in chunks:
            block._keys += b"".join(key or _NO_KEY for key in decode_keys(body, size))
        if len(block._keys) != KEY_BYTES * count:
            raise ValueError(f"the chunks hold {len(block._keys) // KEY_BYTES} points, not {count}")
        block._chunks = list(chunks)
        block.sealed = True
        return block

    def take(self, rows: Sequence[int]) -> Block:
        """Return an open block of some rows, in ascending order."""
        taken = Block()
        for point in self.points(rows):
            taken.append(point)
        return taken

    def without(self, keys: Container[bytes]) -> Block:
        """Return this block if it holds none of these keys, else a new open one of the other points."""
        kept = [row for row, key in enumerate(self.keys()) if key is None or key not in keys]
        return self if len(kept) == len(self) else self.take(kept)


def point_of(timestamp: int, kind: str, duration: float, success: bool, content: Content) -> WorkloadDataPoint:
    """Return the point of what a chunk holds of it."""
    usage, metadata, further = content
    point = WorkloadDataPoint(timestamp, kind, usage, duration, success, metadata)
    return WorkloadDataPoint.from_dict(point.to_dict() | further) if further else point


def unpacked_point(timestamp: int, kind: str, duration: float, success: bool, packed: bytes) -> WorkloadDataPoint:
    """Return the point of what `engine_ops.history.limits.pack` returned of it."""
    return _checked_point(timestamp, kind, duration, success, unpack(packed))


def _checked_point(timestamp: int, kind: str, duration: float, success: bool, content: Content) -> WorkloadDataPoint:
    # Every value is of its kind, and nobody else's: checking and copying them again is half of the time.
    point = WorkloadDataPoint.__new__(WorkloadDataPoint)
    point.timestamp, point.request_type, point.duration, point.success = timestamp, kind, duration, success
    point.resource_usage, point.metadata, point.further = content
    return point


def unsqueezed(squeezed: bytes) -> list[bytes]:
    """Return the packed points of a sealed block's tail."""
    return msgspec.msgpack.decode(zlib.decompress(squeezed), type=list[bytes])
