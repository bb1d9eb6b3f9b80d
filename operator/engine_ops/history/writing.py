"""The writes of a log, in the order in which the process may end between any two of them."""

from __future__ import annotations

import dataclasses
import logging
from collections import deque
from collections.abc import Callable, Iterable

from engine_ops.history import names
from engine_ops.history.block import Block
from engine_ops.history.codec import SegmentHeader, encode_segment
from engine_ops.history.health import Damage
from engine_ops.history.merging import merge, restorable
from engine_ops.history.open_blob import OpenBlob, put
from engine_ops.history.open_points import OpenPoint
from engine_ops.history.reading import Segment, Survey, survey
from engine_ops.history.ring import LogCollector
from engine_ops.history.setting_aside import set_aside
from engine_ops.history.stamps import Stamps, Token
from engine_ops.history.store import BlobStore, ConflictError, StoreRefusedError

logger = logging.getLogger(__name__)

OPEN_BYTES = 512 * 1024
"""Of the blob of open points; the oldest are pushed out beyond it."""


class LogWriter:
    """What is in the store, and what is to be written. For `engine_ops.history.log.HistoryLog` only, which locks.

    Parameters
    ----------
    store, collector, open_points, stamps
        The log's.
    segment_bytes, budget_bytes
        Of one segment, and of all.
    writer
        Put into headers.
    push_out
        Closes the oldest open point.
    """

    def __init__(
        self,
        store: BlobStore,
        collector: LogCollector,
        open_points: dict[bytes, OpenPoint],
        stamps: Stamps,
        *,
        segment_bytes: int,
        budget_bytes: int,
        writer: str,
        push_out: Callable[[], None],
    ) -> None:
        self._store = store
        self._collector = collector
        self._open = open_points
        self._stamps = stamps
        self._segment_bytes = segment_bytes
        self._open_bytes_limit = min(OPEN_BYTES, store.max_blob_bytes // 2)
        self._budget_bytes = budget_bytes
        self._writer = writer
        self._push_out = push_out
        self.loaded = False
        self.is_behind = False
        self.segments: dict[int, Segment] = {}
        self.damaged: dict[str, Damage] = {}
        self.missing: tuple[int, ...] = ()
        self.future = ""
        self.dropped_unflushed = 0
        self._blocked: str = ""
        self._oldest = 1
        self._next_sequence = 1
        self._waiting: deque[Block] = deque()
        self._restore: dict[int, Segment] = {}
        self._to_delete: list[str] = []
        self._look_for: set[str] = set()
        self._head_version: str | None = None
        self._head_bytes = 0
        self._head_dirty = False
        self._open_blob = OpenBlob(store, open_points, stamps, writer)

    @property
    def stored_bytes(self) -> int:
        """Of all blobs of the ring."""
        return (
            sum(segment.size_bytes for segment in self.segments.values())
            + self._head_bytes
            + self._open_blob.size_bytes
        )

    @property
    def is_whole(self) -> bool:
        """Whether nothing has ever left the ring."""
        return self._oldest <= 1 and not self.dropped_unflushed

    @property
    def wants_flush(self) -> bool:
        """Whether something is to be written now."""
        return bool(self._head_dirty or self._waiting or self._restore or self._wants_open())

    def added(self) -> None:
        """Take note that the collector's head has grown."""
        self._head_dirty = True
        if len(self._collector.head) >= self._collector.block_points:
            self._seal()
            self._evict()

    def opened(self) -> None:
        """Take note of a new open point."""
        self._open_blob.dirty = True

    def touched(self) -> None:
        """Take note that the state of an open point changed."""
        self._open_blob.touched = True

    def closed(self, key: bytes, opened: OpenPoint) -> None:
        """Take note that an open point was closed; it is in the collector."""
        self._open_blob.closed(key, opened)

    async def read(self, *, read_only: bool = False) -> None:
        """Read the store and put what we hold on top of it."""
        found = await survey(self._store, self.segments, self._look_for)
        if found.future and found.future != self.future:
            logger.error("The history is not written any more, it is kept in memory only: %s.", found.future)
        self.future = found.future
        moved = {} if read_only or self.future else await set_aside(self._store, found)
        # Nothing waits from here on: what is recorded meanwhile would get lost between reading and replacing.
        self._note_damage(found, moved)
        self._restore = {}
        if self.loaded and not read_only:
            blocked = {blob.name for blob, _ in found.damaged if blob.name not in moved}
            lost = restorable(found, self.segments).items()
            self._restore = {n: segment for n, segment in lost if names.segment_name(n) not in blocked}
        self._note_missing(tuple(sequence for sequence in found.missing if sequence not in self._restore))
        known = set(self.segments)
        found.segments.update(self._restore)
        self._merge(found, known)
        self._look_for = set()
        self.loaded, self.is_behind = True, bool(self._blocked)

    def _merge(self, found: Survey, known: set[int]) -> None:
        stale: set[bytes] = set()

        def is_stale(key: bytes) -> bool:
            # Recorded before the store was read: its stamp says now that it had been flushed, and has left the ring.
            stamp = self._stamps.unflushed.get(key)
            if self.loaded or stamp is None or stamp > found.watermark or self._stamps.is_own(stamp):
                return False
            stale.add(key)
            return True

        ours = [*self._waiting, self._collector.head]
        merged = merge(found, known, ours, block_points=self._collector.block_points, is_stale=is_stale)
        *full, head = merged.open
        for block in full:
            block.seal()
        self._collector.rebuild([*merged.sealed, *full], head)
        self._waiting = deque(full)
        self._stamps.forget(merged.found | stale)
        self._stamps.found(found.watermark)
        self.segments = found.segments
        self._oldest, self._next_sequence = found.oldest, found.next_sequence
        self._to_delete = found.dropped
        self._head_version = found.head.version if found.head is not None else None
        self._head_bytes = found.head.size_bytes if found.head is not None else 0
        # A head whose points are in segments claims too little and is written again, though nothing would be lost.
        outdated = self._next_sequence > found.head.header.sequence if found.head is not None else bool(self.segments)
        self._head_dirty = bool(merged.unsaved or full or outdated)
        self._open_blob.found(found, self._collector.knows, is_stale)
        self._evict()

    async def write(self) -> None:
        """Write what is to be written.

        Raises
        ------
        ConflictError
            If another writer was faster: `read`, then try again.
        StoreError
            If the store does not answer or refuses.
        """
        if self.future or self._blocked:
            self.is_behind = True  # so that it is seen when somebody has put it right
            raise StoreRefusedError(self.future or self._blocked)
        await self._write_restored()
        await self._write_head()
        await self._write_open()
        await self._delete_dropped()

    async def _write_restored(self) -> None:
        for sequence, segment in sorted(self._restore.items()):
            header = segment.header
            content = encode_segment(segment.block, header)
            version = await self._create_segment(header, content)
            self.segments[sequence] = dataclasses.replace(segment, version=version)
            del self._restore[sequence]
            logger.info("Segment %d of the history was deleted or damaged; it is written again.", sequence)

    async def _write_segments(self) -> None:
        while self._waiting:
            block = self._waiting[0]
            # Its points may be flushed by this head's successor only, so it claims no more than the last head did.
            header = self._header(block, self._stamps.watermark, self._oldest)
            content = encode_segment(block, header)
            if len(content) > self._segment_bytes and len(block) > 1:
                halves = _halves(block)
                self._waiting.popleft()
                self._waiting.extendleft(reversed(halves))
                self._collector.split(block, halves)  # one that leaves the ring is looked for among the waiting
                continue
            version = await self._create_segment(header, content)
            if self._waiting and self._waiting[0] is block:  # else it left the ring meanwhile
                self._waiting.popleft()
            self.segments[header.sequence] = Segment(header, block, version, len(content))
            self._next_sequence += 1
            self._head_dirty = True

    async def _create_segment(self, header: SegmentHeader, content: bytes) -> str:
        name = names.segment_name(header.sequence)
        try:
            return await self._store.create(name, content, names.segment_labels("segment", header), sealed=True)
        except ConflictError:
            self._look_for.add(name)
            raise

    async def _write_head(self) -> None:
        while True:
            await self._write_segments()
            if not self._head_dirty:
                return
            # Nothing waits until the write has begun: the watermark speaks of what is in this very content.
            head = self._collector.head
            covered = [token for token in self._stamps.unflushed if token not in self._open]
            oldest = self._next_oldest(len(head))
            header = self._header(head, self._stamps.raised(covered), oldest)
            content = encode_segment(head, header)
            if len(content) <= self._segment_bytes or len(head) <= 1:
                break
            self._seal()
        closing = self._open_blob.closing
        self._head_dirty = False
        try:
            labels = names.segment_labels("head", header)
            self._head_version = await put(self._store, names.HEAD, content, labels, self._head_version)
        except BaseException:
            self._head_dirty = True
            raise
        self._head_bytes, self._oldest = len(content), oldest
        self._stamps.watermark = header.watermark
        self._stamps.forget(covered)
        self._open_blob.settled(closing)

    async def _write_open(self) -> None:
        if not self._wants_open():
            return
        blob = self._open_blob
        if blob.version is None and not self._open:
            blob.dirty = blob.touched = False
            return
        while True:
            content, points = blob.content()
            if len(content) <= self._open_bytes_limit or not self._open:
                break
            for _ in range(1 + len(self._open) // 10):
                self._push_out()
            await self._write_head()  # what was pushed out leaves the open points only when it is there
        await blob.write(content, points)

    async def _delete_dropped(self) -> None:
        self._to_delete += [names.segment_name(one) for one in sorted(self.segments) if one < self._oldest]
        self.segments = {one: segment for one, segment in self.segments.items() if one >= self._oldest}
        while self._to_delete:
            await self._store.delete(self._to_delete[-1])
            self._to_delete.pop()

    def _header(self, block: Block, watermark: int, oldest: int) -> SegmentHeader:
        return SegmentHeader(
            sequence=self._next_sequence,
            count=len(block),
            start_ms=block.start_ms,
            end_ms=block.end_ms,
            watermark=watermark,
            oldest=oldest,
            writer=self._writer,
        )

    def _wants_open(self) -> bool:
        return self._open_blob.wants_write(leaving=any(sequence < self._oldest for sequence in self.segments))

    def _next_oldest(self, head_points: int) -> int:
        points = head_points + sum(len(segment.block) for segment in self.segments.values())
        size = sum(segment.size_bytes for segment in self.segments.values())
        oldest = self._oldest
        for sequence in sorted(self.segments):
            segment = self.segments[sequence]
            if sequence in self._restore:
                break
            if points - len(segment.block) < self._collector.capacity and size <= self._budget_bytes:
                break
            points -= len(segment.block)
            size -= segment.size_bytes
            oldest = sequence + 1
        return oldest

    def _seal(self) -> None:
        block = self._collector.seal()
        if len(block):
            self._waiting.append(block)

    def _evict(self) -> None:
        collector = self._collector
        sizes = [block.encoded_bytes_estimate for block in collector.blocks[:-1]]
        # What is in memory may be more than in the store, by what could not be written: by as much at most.
        excess = sum(sizes) - 2 * self._budget_bytes
        count = collector.evictable()
        while count < len(sizes) - 1 and sum(sizes[:count]) < excess:
            count += 1
        for _ in range(count):
            block = collector.drop_oldest()
            self._open_blob.dropped(block.keys())
            if self._waiting and self._waiting[0] is block:
                self._waiting.popleft()
                self._forget_dropped(block.keys())

    def _forget_dropped(self, keys: Iterable[bytes | None]) -> None:
        plain = iter([token for token in self._stamps.unflushed if isinstance(token, int)])
        tokens: list[Token] = []
        for key in keys:
            token = key if key is not None else next(plain, None)
            if token is not None and token in self._stamps.unflushed:
                tokens.append(token)
        self._stamps.forget(tokens)
        self.dropped_unflushed += len(tokens)

    def _note_damage(self, found: Survey, moved: dict[str, str]) -> None:
        self._blocked = ""
        for blob, why in found.damaged:
            place = moved.get(blob.name, "")
            known = self.damaged.get(blob.name)
            if known is None or (known.why, known.set_aside) != (why, place):
                where = f"it was set aside as {place}" if place else "it stays where it is"
                logger.error("A part of the history cannot be read: %s: %s; %s.", blob.name, why, where)
            self.damaged[blob.name] = Damage(blob.name, why, place)
            if not place and blob.name in (names.HEAD, names.OPEN):
                self._blocked = f"{blob.name} is damaged and could not be set aside: {why}"
        for name in found.set_aside:
            if all(damage.set_aside != name for damage in self.damaged.values()):
                self.damaged[name] = Damage(name, "it was set aside before", name)

    def _note_missing(self, missing: tuple[int, ...]) -> None:
        if missing and missing != self.missing:
            listed = ", ".join(map(str, missing[:10]))
            logger.error("%d segments of the history are missing: %s.", len(missing), listed)
        self.missing = missing


def _halves(block: Block) -> list[Block]:
    middle = len(block) // 2
    halves = [block.take(range(middle)), block.take(range(middle, len(block)))]
    for half in halves:
        half.seal()
    return halves
