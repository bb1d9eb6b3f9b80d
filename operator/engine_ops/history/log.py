"""The history of a store: points in memory at once, in the store with the next flush, and nothing lost in between.

What is in the store
--------------------
- segments 1, 2, ...: sealed, never changed; the ring is made of those from ``oldest`` on;
- the head: the points since the last segment, with the watermark and ``oldest``; replaced at each flush;
- the open points: those whose outcome is still to come.

A flush makes the segments that are full, then replaces the head, then the open points, then deletes segments below
``oldest``. Each write is a compare-and-swap; whoever loses reads the store again, puts what it holds on top
(`engine_ops.history.merging`) and tries again. The process may end between any two writes:

- a segment was made, the head still holds its points: they are left out of the head when it is read;
- a closed point is in the head and still among the open ones: it is closed;
- a point that is neither in the store nor in memory has a stamp above the watermark: its status tells of it again.

The watermark is written with the head only. It stays below every stamp that is on its way (`HistoryLog.begin`) or
recorded and not in this very write, so a segment that was made before its head claims nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType

from engine_ops.history.collector import WorkloadCollector
from engine_ops.history.flushing import Flusher
from engine_ops.history.health import HistoryHealth
from engine_ops.history.keys import point_key
from engine_ops.history.limits import CutCounts, pack
from engine_ops.history.open_points import OpenPoint, close_as_unknown, oldest_first
from engine_ops.history.ring import LogCollector
from engine_ops.history.stamps import Stamps, Token
from engine_ops.history.store import BlobStore
from engine_ops.history.writing import LogWriter
from engine_ops.ml.data_point import WorkloadDataPoint
from engine_ops.ml.keys import known_at

logger = logging.getLogger(__name__)

SEGMENT_BYTES = 256 * 1024
BUDGET_BYTES = 8 * 1024 * 1024
BUDGET_BYTES_PER_POINT = 840


def epoch_ms() -> int:
    """Return the time by the system's clock."""
    return time.time_ns() // 1_000_000


class HistoryLog:
    """Points, open points and the store that keeps them. For one thread.

    Parameters
    ----------
    store
        Where they are kept.
    capacity
        Points of the ring.
    segment_points, segment_bytes
        A segment is sealed at so many; its encoded bytes stay below the second.
    open_capacity
        Open points; the oldest are closed without an outcome beyond it.
    budget_bytes
        Of all segments together; the oldest go beyond it. By default 8 MiB, or what the capacity needs.
    clock
        Epoch milliseconds.
    lag_ms
        The watermark stays so far behind the clock: a second writer's stamps are flushed within it.
    writer
        Who writes, for people who look at the store.
    close_pushed_out
        Makes the closed point of an open one that is pushed out; by default with the outcome unknown.

    Attributes
    ----------
    on_recorded : Callable or None
        Called once with each point that enters the ring through `record` or `close`, not with those that are read of
        the store. What it raises is logged.
    """

    def __init__(
        self,
        store: BlobStore,
        *,
        capacity: int = 10_000,
        segment_points: int = 500,
        segment_bytes: int = SEGMENT_BYTES,
        open_capacity: int = 1_000,
        budget_bytes: int | None = None,
        clock: Callable[[], int] = epoch_ms,
        lag_ms: int = 30_000,
        writer: str = "",
        close_pushed_out: Callable[[OpenPoint], WorkloadDataPoint] | None = None,
    ) -> None:
        self.stamps = Stamps(clock, lag_ms)
        self._clock = clock
        self._open_capacity = open_capacity
        self._close_pushed_out = close_pushed_out or (
            lambda opened: close_as_unknown(opened, self._clock(), "PushedOut")
        )
        # Readers see the newest `capacity` points; those that one block more would hold are not in the ring.
        self._collector = LogCollector(capacity, block_points=segment_points, auto_seal=False)
        self._open: dict[bytes, OpenPoint] = {}
        self._numbers = itertools.count()
        self._pushed_out = 0
        self.changed = asyncio.Event()
        """Set by every change that wants a flush; whoever waits for it clears it."""
        self.on_recorded: Callable[[WorkloadDataPoint], None] | None = None
        self._writer = LogWriter(
            store,
            self._collector,
            self._open,
            self.stamps,
            segment_bytes=min(segment_bytes, store.max_blob_bytes // 2),
            budget_bytes=budget_bytes or max(BUDGET_BYTES, capacity * BUDGET_BYTES_PER_POINT),
            writer=writer,
            push_out=self._push_out,
        )
        self._flusher = Flusher(self._writer, clock)

    @property
    def ready(self) -> asyncio.Event:
        """Set once the store was read."""
        return self._flusher.ready

    @property
    def collector(self) -> WorkloadCollector:
        """The points, for readers. Record through the log."""
        return self._collector

    @property
    def open_points(self) -> Mapping[bytes, OpenPoint]:
        """The open points by key; their states may be changed, see `touch`."""
        return MappingProxyType(self._open)

    @property
    def loaded(self) -> bool:
        """Whether the store was read."""
        return self._writer.loaded

    @property
    def dirty(self) -> bool:
        """Whether there is something to flush now."""
        if self._flusher.read_only:
            return False
        return not self.loaded or self._writer.wants_flush

    @property
    def room(self) -> int:
        """How many points can be added before old ones leave the ring."""
        return max(0, self._collector.capacity - len(self._collector))

    @property
    def kept_since_ms(self) -> float | None:
        """When the oldest point of the ring was known, in epoch milliseconds; None as long as none has left it."""
        collector = self._collector
        if self._writer.is_whole and sum(len(block) for block in collector.blocks) <= collector.capacity:
            return None
        oldest = next(iter(collector.select().points()), None)
        return None if oldest is None else known_at(oldest)

    @property
    def health(self) -> HistoryHealth:
        """How the history is."""
        writer, flusher, counts = self._writer, self._flusher, self._collector.counts
        return HistoryHealth(
            loaded=self.loaded,
            points=len(self._collector),
            open_points=len(self._open),
            unflushed=len(self.stamps.unflushed),
            segments=len(writer.segments),
            stored_bytes=writer.stored_bytes,
            damaged=tuple(writer.damaged.values()),
            missing=writer.missing,
            future=writer.future,
            refused=flusher.refused,
            flushed_at_ms=flusher.flushed_at_ms,
            conflicts=flusher.conflicts,
            cut_strings=counts.strings,
            left_out=counts.left_out,
            pushed_out=self._pushed_out,
            dropped_unflushed=writer.dropped_unflushed,
            watermark=self.stamps.watermark,
        )

    async def load(self, *, read_only: bool = False) -> None:
        """Read the store. What was recorded before is kept, unless the store holds it already.

        Parameters
        ----------
        read_only
            Write nothing, now or later; damaged blobs stay where they are. `load` may then be called again.

        Raises
        ------
        StoreError
            If the store does not answer or refuses; it may be called again.
        """
        await self._flusher.load(read_only=read_only)

    async def flush(self) -> None:
        """Bring everything into the store that was recorded before the call.

        Raises
        ------
        StoreError
            If it could not be done. Nothing is lost; it may be called again.
        """
        await self._flusher.flush()

    def stamp(self) -> int:
        """Return the next stamp, in milliseconds: above every earlier one, even where the clock steps back.

        It is held as `begin` does: each stamp ends in `record`, `open` or `abandon`.
        """
        return self.stamps.next()

    def begin(self, stamp: int) -> None:
        """Keep the watermark below a stamp: a status that carries it is on its way."""
        self.stamps.hold(stamp)

    def abandon(self, stamp: int) -> None:
        """End `begin`: the status did not land. It does nothing to a stamp that was recorded."""
        self.stamps.release(stamp)

    def knows(self, key: bytes, stamp: int) -> bool:
        """Whether the point is in the ring or open, or its stamp says that it was flushed."""
        return self._holds(key) or (stamp <= self.stamps.watermark and not self.stamps.is_own(stamp))

    def is_flushed(self, key: bytes, stamp: int) -> bool:
        """Whether the point is in the store, or has left the full ring."""
        if not self.loaded or self.stamps.is_held(stamp) or key in self.stamps.unflushed:
            return False
        return self.knows(key, stamp)

    async def settle(self, key: bytes, stamp: int, timeout_seconds: float) -> bool:
        """Flush now if need be; return whether the point is in the store when that is done or the time is over."""
        if self.is_flushed(key, stamp) or not self.knows(key, stamp):
            return self.is_flushed(key, stamp)
        await self._flusher.flush_until(lambda: self.is_flushed(key, stamp), timeout_seconds)
        return self.is_flushed(key, stamp)

    def record(self, point: WorkloadDataPoint, stamp: int) -> bool:
        """Add a closed point; False if its key is known, or its stamp says that it was flushed and has left the ring.

        Raises
        ------
        engine_ops.history.limits.InvalidPointError
            If it holds something that is no JSON value; it is not added and its stamp holds nothing up.
        """
        key = point_key(point)
        if key is not None and self._is_old(key, stamp):
            self.stamps.release(stamp)
            return False
        try:
            self._collector.record(point)
        except Exception:
            self.stamps.release(stamp)
            raise
        self._recorded(point, next(self._numbers) if key is None else key, stamp)
        return True

    def open(self, opened: OpenPoint) -> bool:
        """Add an open point; False as for `record`.

        Raises
        ------
        ValueError
            If it has no identity, or holds something that is no JSON value; its stamp holds nothing up.
        """
        try:
            key = opened.key
            pack(opened.point, CutCounts())  # what cannot be written is refused now
        except Exception:
            self.stamps.release(opened.stamp)
            raise
        if self._is_old(key, opened.stamp):
            self.stamps.release(opened.stamp)
            return False
        self._open[key] = opened
        self.stamps.record(key, opened.stamp)
        self._writer.opened()
        while len(self._open) > self._open_capacity:
            self._push_out()
        self.changed.set()
        return True

    def touch(self, key: bytes) -> None:
        """Take note that the state of an open point changed. It is written with a later flush."""
        if key in self._open:
            self._writer.touched()

    def close(self, key: bytes, point: WorkloadDataPoint) -> bool:
        """Turn an open point into a closed one; False if it is not open.

        Raises
        ------
        engine_ops.history.limits.InvalidPointError
            If the closed point holds something that is no JSON value; the open one stays.
        ValueError
            If the closed point has another key.
        """
        opened = self._open.get(key)
        if opened is None:
            return False
        if point_key(point) != key:
            raise ValueError("a point keeps its uid, generation and run when it is closed")
        self._collector.record(point)
        del self._open[key]
        self._writer.closed(key, opened)
        self._recorded(point, None, opened.stamp)
        return True

    def _recorded(self, point: WorkloadDataPoint, token: Token | None, stamp: int) -> None:
        if token is not None:
            self.stamps.record(token, stamp)
        self._writer.added()
        self.changed.set()
        if self.on_recorded is not None:
            try:
                self.on_recorded(point)
            except Exception:
                logger.exception("A listener for recorded points failed.")

    def _push_out(self) -> None:
        key = oldest_first(self._open)[0]
        opened = self._open[key]
        self._pushed_out += 1
        try:
            closed = self._close_pushed_out(opened)
        except Exception:
            logger.exception("What was seen of a point that is pushed out cannot be used.")
            closed = close_as_unknown(opened, self._clock(), "PushedOut")
        self.close(key, closed)

    def _holds(self, key: bytes) -> bool:
        return self._collector.knows(key) or key in self._open

    def _is_old(self, key: bytes, stamp: int) -> bool:
        if self._holds(key):
            return True
        return stamp <= self.stamps.watermark and not self.stamps.is_own(stamp) and not self.stamps.is_held(stamp)
