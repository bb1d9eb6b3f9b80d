"""Predictions whose outcome is known, and how they are kept in little memory: there are thousands for each model."""

from __future__ import annotations

import dataclasses
import math
import struct
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Self

_BYTES: Final = 8
"""Of a number."""


@dataclasses.dataclass(frozen=True, slots=True)
class Scored:
    """One prediction whose outcome is known.

    Parameters
    ----------
    point
        The request's key; the same for every model that was asked.
    losses, baseline_losses
        By scored key; see `engine_ops.ml.scoring`. Both have the same keys, at least one.
    within
        By scored key, whether the prediction was within the tolerance.
    """

    point: str
    losses: Mapping[str, float]
    baseline_losses: Mapping[str, float]
    within: Mapping[str, bool]


class Pairs(NamedTuple):
    """Two numbers for each of some keys: the model's and the baseline's. A quarter of what dictionaries take.

    Parameters
    ----------
    keys
        One object for all pairs with the same keys; see `Names`.
    numbers
        The model's in the order of the keys, then the baseline's: little-endian float64.
    """

    keys: tuple[str, ...]
    numbers: bytes

    @classmethod
    def of(cls, keys: tuple[str, ...], ours: Mapping[str, float], theirs: Mapping[str, float]) -> Self:
        """Pack two mappings that both have the keys."""
        values = [*(ours[key] for key in keys), *(theirs[key] for key in keys)]
        return cls(keys, struct.pack(f"<{len(values)}d", *values))

    @property
    def values(self) -> tuple[float, ...]:
        """The numbers."""
        return struct.unpack(f"<{len(self.numbers) // _BYTES}d", self.numbers)

    @property
    def mappings(self) -> tuple[dict[str, float], dict[str, float]]:
        """The model's and the baseline's, by key."""
        values, count = self.values, len(self.keys)
        return dict(zip(self.keys, values[:count], strict=True)), dict(zip(self.keys, values[count:], strict=True))

    @property
    def is_sound(self) -> bool:
        """Whether there are two finite numbers for each key; what was saved may be anything."""
        return len(self.numbers) == 2 * _BYTES * len(self.keys) and all(map(math.isfinite, self.values))


class Kept(NamedTuple):
    """A `Scored` in little memory.

    Parameters
    ----------
    point
        As there.
    losses
        The model's and the baseline's.
    within
        A bit for each key, the lowest for the first.
    """

    point: str
    losses: Pairs
    within: int

    @classmethod
    def of(cls, scored: Scored, keys: tuple[str, ...]) -> Self:
        """Pack what has these keys."""
        bits = sum(1 << place for place, key in enumerate(keys) if scored.within[key])
        return cls(scored.point, Pairs.of(keys, scored.losses, scored.baseline_losses), bits)

    @property
    def scored(self) -> Scored:
        """What was packed."""
        ours, theirs = self.losses.mappings
        within = {key: bool(self.within >> place & 1) for place, key in enumerate(self.losses.keys)}
        return Scored(self.point, ours, theirs, within)


class Names:
    """Has one tuple for all that are equal, as long as they are few."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], tuple[str, ...]] = {}

    def of(self, keys: Sequence[str]) -> tuple[str, ...]:
        """Return the keys in their order."""
        found = tuple(sorted(keys))
        if len(self._known) >= 64:  # a plugin that predicts something else each time
            self._known.clear()
        return self._known.setdefault(found, found)
