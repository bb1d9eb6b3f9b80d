"""The collector as the log has it: its blocks can be put in place of all that were there."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import chain

from engine_ops.history.block import Block
from engine_ops.history.collector import WorkloadCollector
from engine_ops.history.key_index import KeyIndex


class LogCollector(WorkloadCollector):
    """A ring whose blocks the log seals, keeps in a store and drops."""

    def rebuild(self, sealed: Iterable[Block], head: Block) -> None:
        """Hold these blocks and no others. No key may be in two of them.

        Parameters
        ----------
        sealed
            Oldest first.
        head
            An open block.
        """
        blocks = [block for block in sealed if len(block)]
        keys = KeyIndex()
        for block in (*blocks, head):
            keys.update(block.keys())
        self._sealed = deque(blocks)
        self._sealed_points = sum(map(len, blocks))
        self._keys = keys
        self.head = head
        self.era += 1
        self.dropped = 0

    def split(self, block: Block, parts: Sequence[Block]) -> None:
        """Put blocks that hold the points of a sealed one, in their order, in its place."""
        self._sealed = deque(chain.from_iterable(parts if each is block else (each,) for each in self._sealed))
