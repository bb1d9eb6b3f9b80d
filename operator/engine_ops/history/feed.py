"""The history for processes of plugins: all of it once, then what is new.

What a receiver has never seen goes in the form in which it is kept anyway: nothing is compressed for it, and nothing
decompressed. `engine_ops.history.view.HistoryView` is the other side. This module loads no numpy: whoever reads the
messages needs none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from engine_ops.history.runs import Run, encoded_run, packed_runs, size_of

if TYPE_CHECKING:
    from engine_ops.history.block import Block, Kept
    from engine_ops.history.collector import WorkloadCollector

UPDATE_BYTES: Final = 8 * 2**20
"""Of one update, about."""


class HistoryUpdate(msgspec.Struct, tag_field="kind", tag=True, omit_defaults=True, frozen=True):
    """What has changed of the history since the last update to the same receiver.

    Parameters
    ----------
    size
        When the runs are added, the newest so many points are the history.
    reset
        Forget first what came before.
    runs
        New points, oldest first.
    """

    size: int
    reset: bool = False
    runs: tuple[Run, ...] = ()


@dataclasses.dataclass(slots=True)
class Cursor:
    """How much a receiver has; for `HistoryFeed` only. A new receiver gets a new one."""

    era: int = -1
    position: int = 0
    count: int = 0
    # The newest points of the head as they were packed: when it is sealed meanwhile, they need no decompressing.
    block: Block | None = None
    first: int = 0
    packed: Sequence[bytes] = ()


class HistoryFeed:
    """Tells receivers of a collector's points, each from where it is.

    Parameters
    ----------
    collector
        Its newest points, at most its capacity, are the history. To be used on the collector's thread.
    limit_bytes
        Of one update.
    """

    def __init__(self, collector: WorkloadCollector, *, limit_bytes: int = UPDATE_BYTES) -> None:
        self._collector = collector
        self._limit_bytes = limit_bytes

    def cursor(self) -> Cursor:
        """Return the cursor of a receiver that has nothing."""
        return Cursor()

    def updates_for(self, cursor: Cursor) -> Iterator[HistoryUpdate]:
        """Yield what the receiver lacks; nothing where it lacks nothing.

        The collector may change between two of them: each one is of the collector as it is then.

        Parameters
        ----------
        cursor
            The receiver's. It is moved on by each update that is taken, which must reach the receiver.
        """
        while (update := self.update_for(cursor)) is not None:
            yield update

    def update_for(self, cursor: Cursor) -> HistoryUpdate | None:
        """Return the next update, and move the cursor on; None where the receiver lacks nothing.

        A new receiver is told of an empty history, too: that there is one.

        Parameters
        ----------
        cursor
            As for `updates_for`.
        """
        collector = self._collector
        recorded, size = collector.recorded, len(collector)
        oldest = recorded - size
        reset = cursor.era != collector.era or cursor.position < oldest
        had = cursor.count or cursor.era < 0
        if reset:
            cursor.era, cursor.position, cursor.count = collector.era, oldest, 0
        if cursor.position == recorded and cursor.count == size and not (reset and had):
            return None
        runs: list[Run] = []
        total = 0
        for run in self._runs(cursor):
            total += run.size_bytes
            if runs and total > self._limit_bytes:
                break
            runs.append(run)
        new = sum(map(len, runs))
        cursor.position += new
        cursor.count = min(size, cursor.count + new)
        self._remember_head(cursor)
        return HistoryUpdate(size, reset, tuple(runs))

    def _runs(self, cursor: Cursor) -> Iterator[Run]:
        position = cursor.position
        start = self._collector.dropped
        for block in self._collector.blocks:
            if start + len(block) > position:
                yield from self._runs_of(block, position - start, cursor)
            start += len(block)

    def _runs_of(self, block: Block, row: int, cursor: Cursor) -> Iterator[Run]:
        first = 0
        for kept in block.kept():
            last = first + kept.number
            if last > row:
                skip = max(0, row - first)
                packed = self._packed(block, first, kept, skip, cursor)
                if packed is None:
                    yield encoded_run(block, first, last, skip, kept.chunk, kept.squeezed)
                else:
                    yield from packed_runs(block, first + skip, packed, self._limit_bytes)
            first = last

    def _packed(self, block: Block, first: int, kept: Kept, skip: int, cursor: Cursor) -> Sequence[bytes] | None:
        """Return the points one by one, where that is cheaper or they are too many for one update."""
        if kept.packed:
            return kept.packed[skip:]
        if block is cursor.block and first == cursor.first and kept.number == len(cursor.packed):
            return cursor.packed[skip:]
        if size_of(kept.number, len(kept.chunk) + len(kept.squeezed)) <= self._limit_bytes:
            return None
        from engine_ops.history.limits import CutCounts, pack

        return [pack(point, CutCounts())[1] for point in block.points(range(first + skip, first + kept.number))]

    def _remember_head(self, cursor: Cursor) -> None:
        head = self._collector.head
        cursor.block, cursor.packed = None, ()
        for kept in head.kept()[-1:]:
            if kept.packed:  # the list itself, which grows with the head
                cursor.block, cursor.first, cursor.packed = head, len(head) - kept.number, kept.packed
