"""The ring of points in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from engine_ops.history.block import MAX_BLOCK_POINTS, Block
from engine_ops.history.export import json_array
from engine_ops.history.key_index import KeyIndex
from engine_ops.history.keys import point_key
from engine_ops.history.limits import CutCounts
from engine_ops.history.selection import Selection
from engine_ops.history.training import training_format
from engine_ops.ml.data_point import WorkloadDataPoint

if TYPE_CHECKING:
    from engine_ops.ml.dataset import WorkloadDataset


class WorkloadCollector:
    """The newest points, each key once, in blocks of columns.

    Parameters
    ----------
    capacity
        Readers see the newest so many points.
    block_points
        A block is sealed when it holds so many.
    auto_seal
        Seal the head when it is full, and drop blocks that lie outside the capacity. Whoever keeps the blocks in a
        store turns it off and calls `seal` and `drop_oldest`.

    Attributes
    ----------
    era : int
        Counts how often other points were put in place of all that were there. Within an era points come at the new
        end and go at the old one only, so that a position (`recorded`) says which ones somebody has seen.
    dropped : int
        Points that were dropped in this era.
    """

    def __init__(self, capacity: int = 10_000, *, block_points: int = 500, auto_seal: bool = True) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, is {capacity}")
        if not 1 <= block_points <= MAX_BLOCK_POINTS:
            raise ValueError(f"block_points must be 1 to {MAX_BLOCK_POINTS}, is {block_points}")
        self.capacity = capacity
        self.block_points = block_points
        self.auto_seal = auto_seal
        self.counts = CutCounts()
        self.era = 0
        self.dropped = 0
        self.head = Block()
        self._sealed: deque[Block] = deque()
        self._sealed_points = 0
        self._keys = KeyIndex()

    def __len__(self) -> int:
        return min(self.capacity, self._sealed_points + len(self.head))

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Every block that is kept, oldest first; the head is the last."""
        return (*self._sealed, self.head)

    @property
    def recorded(self) -> int:
        """How many points this era has had: the position after the newest one."""
        return self.dropped + self._sealed_points + len(self.head)

    @property
    def cut_strings(self) -> int:
        """How many strings were cut so far."""
        return self.counts.strings

    def knows(self, key: bytes) -> bool:
        """Whether a point of this key is kept."""
        return key in self._keys

    def record(self, point: WorkloadDataPoint) -> bool:
        """Add a point at the new end; False if its key is there already.

        Raises
        ------
        InvalidPointError
            If it holds something that is no JSON value; nothing was added.
        """
        key = point_key(point)
        if key is not None and key in self._keys:
            return False
        self.head.append(point, self.counts, key)
        if key is not None:
            self._keys.add(key)
        if self.auto_seal and len(self.head) >= self.block_points:
            self.seal()
            while self.evictable():
                self.drop_oldest()
        return True

    def record_many(self, points: Iterable[WorkloadDataPoint]) -> int:
        """Add points and return how many were new."""
        return sum(map(self.record, points))

    def seal(self) -> Block:
        """Close the head, begin another one, and return the closed one. An empty head is not kept."""
        block = self.head
        block.seal()
        self.head = Block()
        if len(block):
            self._sealed.append(block)
            self._sealed_points += len(block)
        return block

    def evictable(self) -> int:
        """How many of the oldest blocks lie wholly outside the capacity."""
        beyond = self._sealed_points + len(self.head) - self.capacity
        count = 0
        for block in self._sealed:
            beyond -= len(block)
            if beyond < 0:
                break
            count += 1
        return count

    def drop_oldest(self) -> Block:
        """Forget the oldest sealed block, its keys too, and return it.

        Raises
        ------
        IndexError
            If there is none.
        """
        block = self._sealed.popleft()
        self._sealed_points -= len(block)
        self.dropped += len(block)
        self._keys.discard(block.keys())
        return block

    def select(
        self,
        type: str | None = None,  # noqa: A002 - the name of the field
        namespace: str | None = None,
        start: int | None = None,
        end: int | None = None,
        newest: int | None = None,
    ) -> Selection:
        """Return the points that match, as they are now: later changes do not show.

        Parameters
        ----------
        type
            Only points of this request type.
        namespace
            Only points whose ``metadata.namespace`` is this one.
        start, end
            Only timestamps from ``start`` to ``end``, both inclusive, in epoch milliseconds.
        newest
            Of these, the ones recorded last.
        """
        hidden = max(0, self._sealed_points + len(self.head) - self.capacity)
        return Selection.of(self.blocks, hidden, type, namespace, start, end, newest)

    def statistics(self, **filters: Any) -> dict[str, Any]:
        """Return what `WorkloadDataset.get_statistics` returns; filters are those of `select`."""
        return self.select(**filters).statistics()

    def export_jsonl(self, **filters: Any) -> Iterator[bytes]:
        """Yield JSON lines in pieces of many points; filters are those of `select`."""
        return self.select(**filters).json_lines()

    def export_json(self, **filters: Any) -> Iterator[bytes]:
        """Yield one JSON array in pieces of many points; filters are those of `select`."""
        return json_array(self.select(**filters).json_lines())

    def training_format(self, **filters: Any) -> dict[str, Any]:
        """Return columns with names and units; see `engine_ops.history.training`."""
        return training_format(self.select(**filters).points())

    def dataset(self, **filters: Any) -> WorkloadDataset:
        """Return the points as the SDK's data set; filters are those of `select`."""
        from engine_ops.ml.dataset import WorkloadDataset

        return WorkloadDataset(list(self.select(**filters).points()))
