"""What the store holds and what we hold, put together: each point once.

A segment is made before the head that no longer holds its points, and the two writes are not one. After a crash, or
where another writer wrote the head in between, points are therefore in both: what is in a segment is left out of the
head. The head is never dropped as a whole for its sequence, since it may hold what another writer added to it.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b

import msgspec

from engine_ops.history.block import Block
from engine_ops.history.key_index import KeyIndex
from engine_ops.history.reading import Segment, Survey
from engine_ops.ml.data_point import WorkloadDataPoint


@dataclasses.dataclass(frozen=True, slots=True)
class Merged:
    """Blocks for the collector.

    Parameters
    ----------
    sealed
        The stored segments' points, oldest first.
    open
        At least one open block of a segment's size at most: the stored head's points that are in no segment, then
        ours that are not in the store.
    unsaved
        How many points of these are not in the stored head.
    found
        Keys of ours that are in the store.
    """

    sealed: list[Block]
    open: list[Block]
    unsaved: int
    found: set[bytes]


def merge(
    stored: Survey,
    known: Iterable[int],
    ours: Sequence[Block],
    *,
    block_points: int,
    is_stale: Callable[[bytes], bool] = lambda _: False,
) -> Merged:
    """Merge.

    Parameters
    ----------
    stored
        What the store holds.
    known
        Sequences of the segments that we knew: none of our points is in them.
    ours
        Points that were not in a segment when we looked last, oldest first; they may be in the head.
    block_points
        Of an open block at most.
    is_stale
        Whether a point of ours is left out though the store does not hold it: it was dropped from the ring before.
    """
    known = set(known)
    keys = KeyIndex()
    sealed = []
    for sequence in sorted(stored.segments):
        block = _without(stored.segments[sequence].block, keys)
        keys.update(block.keys())
        sealed.append(block)
    rest = _Blocks(block_points)
    # A point without a key is the same as another one if all of it is; so many are the same as there are.
    plain = _PlainPoints()
    if stored.head is not None:
        for sequence, segment in stored.segments.items():
            if sequence >= stored.head.header.sequence:
                plain.add(segment.block)
        _append(rest, stored.head.block, keys, plain)
    from_store = len(rest)
    plain = _PlainPoints()
    for block in rest.blocks:
        plain.add(block)
    for sequence, segment in stored.segments.items():
        if sequence not in known:
            plain.add(segment.block)
    found: set[bytes] = set()
    for block in ours:
        found |= _append(rest, block, keys, plain, is_stale)
    return Merged(sealed, rest.blocks, len(rest) - from_store, found)


def restorable(stored: Survey, known: Mapping[int, Segment]) -> dict[int, Segment]:
    """Return the segments that somebody deleted or damaged though they are part of the ring, as we have them."""
    return {
        sequence: segment
        for sequence, segment in sorted(known.items())
        if sequence >= stored.oldest and sequence not in stored.segments
    }


class _Blocks:
    """Open blocks, filled one after another."""

    def __init__(self, block_points: int) -> None:
        self.blocks = [Block()]
        self._block_points = block_points

    def __len__(self) -> int:
        return sum(map(len, self.blocks))

    def append(self, point: WorkloadDataPoint) -> None:
        if len(self.blocks[-1]) >= self._block_points:
            self.blocks.append(Block())
        self.blocks[-1].append(point)


class _PlainPoints:
    """How often each point without a key is there."""

    def __init__(self) -> None:
        self._counts: Counter[bytes] = Counter()

    def add(self, block: Block) -> None:
        rows = [row for row, key in enumerate(block.keys()) if key is None]
        self._counts.update(_digest(point.to_dict()) for point in block.points(rows))

    def take(self, digest: bytes) -> bool:
        if self._counts[digest] <= 0:
            return False
        self._counts[digest] -= 1
        return True

    def __bool__(self) -> bool:
        return bool(self._counts)


def _append(
    rest: _Blocks,
    block: Block,
    keys: KeyIndex,
    plain: _PlainPoints,
    is_stale: Callable[[bytes], bool] = lambda _: False,
) -> set[bytes]:
    """Append what is not there yet; return the keys that are."""
    found: set[bytes] = set()
    for key, point in zip(list(block.keys()), block.points(), strict=True):
        if key is None:
            if plain and plain.take(_digest(point.to_dict())):
                continue
        elif key in keys:
            found.add(key)
            continue
        elif is_stale(key):
            continue
        else:
            keys.add(key)
        rest.append(point)
    return found


def _without(block: Block, keys: KeyIndex) -> Block:
    return block.without(keys) if len(keys) else block


_ENCODER = msgspec.msgpack.Encoder(order="deterministic")


def _digest(point: object) -> bytes:
    return blake2b(_ENCODER.encode(point), digest_size=16).digest()
