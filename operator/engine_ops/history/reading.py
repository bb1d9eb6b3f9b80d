"""What the store holds, as far as it can be read. Nothing is written here."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from engine_ops.history import names
from engine_ops.history.block import Block
from engine_ops.history.codec import FORMAT, DamagedSegmentError, FutureFormatError, SegmentHeader, decode_segment
from engine_ops.history.open_points import OpenPoint, decode_open_points
from engine_ops.history.store import Blob, BlobStore, StoreUnavailableError

logger = logging.getLogger(__name__)

MAX_LOOKED_FOR = 16
"""So many missing sequences are asked for by name: a list shows none whose labels were taken away."""
_TRIES = 5

_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True, slots=True)
class Segment:
    """A segment or head as it is stored: ``size_bytes`` is the content's."""

    header: SegmentHeader
    block: Block
    version: str
    size_bytes: int
    sealed: bool = True


@dataclasses.dataclass(slots=True)
class Survey:
    """What one look at the store found.

    Parameters
    ----------
    segments
        By sequence, those of the ring only.
    dropped
        Names of segments that are no part of the ring any more.
    head, open_version, open_points, open_bytes
        None and empty where they are not there or damaged. See `waiting` for the open points without the closed ones.
    damaged
        Blobs that cannot be read, with the reason.
    set_aside
        Names of damaged blobs that were put aside before.
    missing
        Sequences between the oldest and the newest that are not there, and were not set aside.
    watermark, oldest
        The head's; without one those of the newest segment.
    future
        Name and format of a blob that a later version wrote; empty if there is none.
    written_ms
        When something of it was written last; None if the store does not tell.
    """

    segments: dict[int, Segment] = dataclasses.field(default_factory=dict)
    dropped: list[str] = dataclasses.field(default_factory=list)
    head: Segment | None = None
    open_version: str | None = None
    open_points: dict[bytes, OpenPoint] = dataclasses.field(default_factory=dict)
    open_bytes: int = 0
    damaged: list[tuple[Blob, str]] = dataclasses.field(default_factory=list)
    set_aside: list[str] = dataclasses.field(default_factory=list)
    missing: tuple[int, ...] = ()
    watermark: int = 0
    oldest: int = 1
    future: str = ""
    written_ms: int | None = None

    @property
    def waiting(self) -> dict[bytes, OpenPoint]:
        """The open points that are not closed: a closed one stays among them until their blob is written again."""
        blocks = [segment.block for segment in self.segments.values()]
        if self.head is not None:
            blocks.append(self.head.block)
        closed = self.open_points.keys() & itertools.chain.from_iterable(block.keys() for block in blocks)
        return {key: opened for key, opened in self.open_points.items() if key not in closed}

    @property
    def next_sequence(self) -> int:
        """The sequence of the head that is written next."""
        newest = max(self.segments, default=self.oldest - 1)
        return max(newest + 1, 1, self.head.header.sequence if self.head is not None else 0)


async def survey(store: BlobStore, known: Mapping[int, Segment], also: Iterable[str] = ()) -> Survey:
    """Read the store.

    Parameters
    ----------
    store
        To read.
    known
        Segments that were read before; what is there at the same version is not decoded again.
    also
        Names that are looked for even where a list does not show them.

    Raises
    ------
    engine_ops.history.store.StoreError
        If the store does not answer or refuses.
    """
    for _ in range(_TRIES):
        found = await _look(store, known, also)
        if found is not None:
            return found
    raise StoreUnavailableError("the history changes faster than it can be read")


async def _look(store: BlobStore, known: Mapping[int, Segment], also: Iterable[str]) -> Survey | None:
    result = Survey()
    listed = await _list(store)
    blobs = {blob.name: blob for blob in listed}
    for name in (names.OPEN, names.HEAD, *also):
        if name not in blobs:
            blob = await store.read(name)  # somebody may have taken its labels away
            if blob is not None:
                blobs[name] = blob
    result.written_ms = max((at for blob in blobs.values() if (at := blob.written_ms) is not None), default=None)
    head = blobs.get(names.HEAD)
    decoded = _decode(result, head, decode_segment)
    if head is not None and decoded is not None:
        header, block = decoded
        result.head = Segment(header, block, head.version, len(head.content or b""), head.sealed)
    opened = blobs.get(names.OPEN)
    points = _decode(result, opened, decode_open_points)
    if opened is not None and points is not None:
        result.open_version, result.open_points, result.open_bytes = opened.version, points, len(opened.content or b"")
    result.set_aside = [name for name in blobs if names.is_damaged_name(name)]
    found = {sequence: blob for blob in blobs.values() if (sequence := names.sequence_of(blob.name)) is not None}
    if not await _read_segments(store, result, found, known):
        return None  # one went away while we read: another writer has moved the ring on
    _place(result)
    gaps = _gaps(result)
    for sequence in gaps[:MAX_LOOKED_FOR]:
        hidden = await store.read(names.segment_name(sequence))
        if hidden is not None:
            await _read_segments(store, result, {sequence: hidden}, known)
    lost = {names.sequence_label(blobs[name].labels.get(names.SEQUENCE)) for name in result.set_aside}
    lost |= {names.sequence_of(blob.name) for blob, _ in result.damaged}
    result.missing = tuple(sequence for sequence in _gaps(result) if sequence not in lost)
    return result


async def _list(store: BlobStore) -> list[Blob]:
    if store.lists_whole:
        return await store.list()
    # In this order, what moves from the open points to the head and from the head to a segment is seen at least once.
    first = [await store.read(name) for name in (names.OPEN, names.HEAD)]
    rest = [blob for blob in await store.list(contents=False) if blob.name not in (names.OPEN, names.HEAD)]
    return [*(blob for blob in first if blob is not None), *rest]


async def _read_segments(
    store: BlobStore, result: Survey, found: Mapping[int, Blob], known: Mapping[int, Segment]
) -> bool:
    for sequence in sorted(found):
        blob = found[sequence]
        same = known.get(sequence)
        if same is not None and same.version == blob.version:
            result.segments[sequence] = same
            continue
        if blob.content is None and not store.lists_whole:
            whole = await store.read(blob.name)
            if whole is None:
                return False
            blob = whole
        decoded = _decode(result, blob, decode_segment)
        if decoded is not None:
            header, block = decoded
            if header.sequence != sequence:
                result.damaged.append((blob, f"it says that it is segment {header.sequence}"))
            else:
                result.segments[sequence] = Segment(header, block, blob.version, len(blob.content or b""))
    return True


def _decode(result: Survey, blob: Blob | None, decode: Callable[[bytes], _T]) -> _T | None:
    if blob is None:
        return None
    labelled = names.format_label(blob.labels.get(names.FORMAT_LABEL))
    if labelled is not None and labelled > FORMAT:
        result.future = f"{blob.name} has format {labelled}, this version reads up to {FORMAT}: upgrade the operator"
        return None
    if blob.content is None:
        result.damaged.append((blob, "its content is missing"))
        return None
    try:
        return decode(blob.content)
    except FutureFormatError as error:
        result.future = f"{blob.name}: {error}"
    except DamagedSegmentError as error:
        result.damaged.append((blob, str(error)))
    except Exception as error:  # noqa: BLE001 - the checksum was right, yet nothing may keep the rest from loading
        result.damaged.append((blob, f"it cannot be read: {error!r}"))
    return None


def _place(result: Survey) -> None:
    """Find out which segments are part of the ring."""
    if result.head is not None:
        result.watermark, result.oldest = result.head.header.watermark, result.head.header.oldest
    elif result.segments:
        newest = result.segments[max(result.segments)].header
        result.watermark, result.oldest = newest.watermark, newest.oldest
    for sequence in [one for one in result.segments if one < result.oldest]:
        del result.segments[sequence]
        result.dropped.append(names.segment_name(sequence))


def _gaps(result: Survey) -> list[int]:
    last = max(result.segments, default=0)
    if result.head is not None:
        last = max(last, result.head.header.sequence - 1)
    # A header that says anything else than what we write cannot make this long.
    first = max(result.oldest, 1, last - 100_000)
    return [sequence for sequence in range(first, last + 1) if sequence not in result.segments]
