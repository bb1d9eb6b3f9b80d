"""A bounded histogram of usage, from which quantiles can be read.

Buckets of logarithmic width as in DDSketch (C. Masson, J. E. Rim, H. K. Lee: "DDSketch: a fast and fully-mergeable
quantile sketch with relative-error guarantees", VLDB 2019). Where DDSketch collapses all that is low into one bucket,
this one keeps wider buckets there: cpu often spans three decades, and its median must not become nonsense.
"""

from __future__ import annotations

import math
from typing import Any, Final

RELATIVE_ERROR: Final = 0.02
"""Of a quantile within the highest `FINE_BUCKETS` buckets that hold anything: down to a quarter of the peak."""

COARSE_RELATIVE_ERROR: Final = 0.16
"""Of a quantile below those, as long as there are no more than `COARSE_BUCKETS` (down to a thousandth of those)."""

FINE_BUCKETS: Final = 40
COARSE_BUCKETS: Final = 24

_GAMMA: Final = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_LOG_GAMMA: Final = math.log(_GAMMA)
_WIDTH: Final = 8  # fine buckets in a coarse one
_SMALLEST: Final = 1e-9  # less is counted as nothing


class Sketch:
    """What was seen of one amount: how often about how much, and the highest value exactly.

    Nothing is ever taken out. Memory is bounded by `FINE_BUCKETS` and `COARSE_BUCKETS`.
    """

    __slots__ = ("_coarse", "_fine", "_floor", "_zeros", "count", "peak")

    def __init__(self) -> None:
        self.count = 0
        self.peak = 0.0
        self._zeros = 0
        self._fine: dict[int, int] = {}
        self._coarse: dict[int, int] = {}
        self._floor: int | None = None  # fine buckets below it were given up

    def add(self, value: float) -> None:
        """Count a value. One that is no amount (negative, infinite, not a number) is left out."""
        if not 0 <= value < math.inf:
            return
        self.count += 1
        self.peak = max(self.peak, value)
        if value < _SMALLEST:
            self._zeros += 1
            return
        index = math.ceil(math.log(value) / _LOG_GAMMA)
        if self._floor is not None and index < self._floor:
            self._add_coarse(index, 1)
            return
        self._fine[index] = self._fine.get(index, 0) + 1
        if len(self._fine) > FINE_BUCKETS:
            lowest = min(self._fine)
            self._add_coarse(lowest, self._fine.pop(lowest))
            self._floor = lowest + 1

    def _add_coarse(self, index: int, count: int) -> None:
        bucket = index // _WIDTH
        self._coarse[bucket] = self._coarse.get(bucket, 0) + count
        if len(self._coarse) > COARSE_BUCKETS:
            lowest = min(self._coarse)
            self._coarse[min(other for other in self._coarse if other != lowest)] += self._coarse.pop(lowest)

    def quantile(self, q: float) -> float:
        """Return about the value of rank ``floor(q * (count - 1))``, counted from 0; NaN if there is none.

        Parameters
        ----------
        q
            From 0 to 1.
        """
        if not self.count:
            return math.nan
        rank = math.floor(q * (self.count - 1))
        seen = self._zeros
        if rank < seen:
            return 0.0
        for bucket in sorted(self._coarse):
            seen += self._coarse[bucket]
            if rank < seen:
                return min(_middle(bucket * _WIDTH, _WIDTH), self.peak)
        for index in sorted(self._fine):
            seen += self._fine[index]
            if rank < seen:
                return min(_middle(index, 1), self.peak)
        return self.peak

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values, below 1 KiB."""
        data: dict[str, Any] = {"m": self.peak, "f": _packed(self._fine)}
        if self._zeros:
            data["z"] = self._zeros
        if self._floor is not None:
            data |= {"b": self._floor, "c": _packed(self._coarse)}
        return data

    @classmethod
    def from_json(cls, data: Any) -> Sketch:
        """Return what `to_json` gave.

        Raises
        ------
        TypeError, ValueError, KeyError, AttributeError
            If it is something else.
        """
        sketch = cls()
        sketch.peak = float(data["m"])
        sketch._zeros = int(data.get("z", 0))
        sketch._fine = _unpacked(data["f"], FINE_BUCKETS)
        if "b" in data:
            sketch._floor = int(data["b"])
            sketch._coarse = _unpacked(data["c"], COARSE_BUCKETS)
        sketch.count = sketch._zeros + sum(sketch._fine.values()) + sum(sketch._coarse.values())
        return sketch


def _middle(first: int, width: int) -> float:
    """Return the value with the same relative distance to both ends of buckets ``first`` to ``first + width - 1``."""
    low = math.exp((first - 1) * _LOG_GAMMA)
    high = math.exp(min((first + width - 1) * _LOG_GAMMA, 709.0))
    return 2 * low / (1 + low / high)


def _packed(buckets: dict[int, int]) -> list[int]:
    """Return each bucket's distance from the one before, and its count: short numbers, as JSON is."""
    packed, before = [], 0
    for index in sorted(buckets):
        packed += [index - before, buckets[index]]
        before = index
    return packed


def _unpacked(packed: Any, most: int) -> dict[int, int]:
    if len(packed) > 2 * most:
        raise ValueError(f"a sketch has at most {most} such buckets")
    buckets, index = {}, 0
    for step, count in zip(packed[::2], packed[1::2], strict=True):
        index += int(step)
        buckets[index] = int(count)
    return buckets
