"""Which keys are there: a set of the latest, one sorted array of the many before them."""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt

from engine_ops.history.keys import KEY_BYTES

MERGE_AT: Final = 50_000
"""So many keys in the set become part of the array: 16 bytes each there, about 110 in the set."""

_Halves = npt.NDArray[np.uint64]
_split = struct.Struct("=QQ").unpack


class KeyIndex:
    """Keys as `engine_ops.history.keys` makes them: 16 bytes, two halves of 64 bits.

    Parameters
    ----------
    merge_at
        When the set has so many, they go into the array.
    """

    def __init__(self, merge_at: int = MERGE_AT) -> None:
        self._merge_at = merge_at
        self._recent: set[bytes] = set()
        self._keep(np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.uint64))

    def __len__(self) -> int:
        return len(self._recent) + len(self._high)

    def __contains__(self, key: object) -> bool:
        if key in self._recent:
            return True
        if not isinstance(key, bytes) or len(key) != KEY_BYTES:
            return False
        high, low = _split(key)
        # One key at a time, plain bisection is five times as fast as numpy's.
        place = bisect_left(self._highs, high)
        while place < len(self._highs) and self._highs[place] == high:
            if self._lows[place] == low:
                return True
            place += 1
        return False

    def add(self, key: bytes) -> None:
        """Add a key that is not there yet."""
        self._recent.add(key)
        if len(self._recent) >= self._merge_at:
            self._merge()

    def update(self, keys: Iterable[bytes | None]) -> None:
        """Add every key that is not None and not there yet."""
        for key in keys:
            if key is not None and key not in self:
                self.add(key)

    def discard(self, keys: Iterable[bytes | None]) -> None:
        """Forget keys."""
        gone = {key for key in keys if key is not None}
        rest = list(gone - self._recent)
        self._recent -= gone
        if rest and len(self._high):
            high, low = _halves(rest)
            kept = np.ones(len(self._high), dtype=bool)
            first = np.searchsorted(self._high, high)
            last = np.searchsorted(self._high, high, side="right")
            # Nearly always one row: two keys of one high half are a matter of chance.
            for begin, end, half in zip(first.tolist(), last.tolist(), low, strict=True):
                kept[begin:end] &= self._low[begin:end] != half
            self._keep(self._high[kept], self._low[kept])

    def _merge(self) -> None:
        high, low = _halves(list(self._recent))
        high, low = np.concatenate([self._high, high]), np.concatenate([self._low, low])
        order = np.argsort(high, kind="stable")
        self._keep(high[order], low[order])
        self._recent = set()

    def _keep(self, high: _Halves, low: _Halves) -> None:
        self._high, self._low = high, low
        # Views of the same memory whose items are Python's numbers.
        self._highs, self._lows = high.data, low.data


def _halves(keys: list[bytes]) -> tuple[_Halves, _Halves]:
    both = np.frombuffer(b"".join(keys), dtype=np.uint64).reshape(-1, 2)
    return both[:, 0], both[:, 1]
