"""How the history is, for a status and for metrics."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Damage:
    """A blob that could not be read: its name, why, and where it was put (empty if it is where it was)."""

    name: str
    why: str
    set_aside: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class HistoryHealth:
    """How the history is.

    Parameters
    ----------
    loaded
        Whether the store was read; until then nothing is written.
    points, open_points
        In memory, closed ones and those whose outcome is still to come.
    unflushed
        Points that are not in the store yet.
    segments, stored_bytes
        Sealed segments in the store, and the bytes of all blobs of the ring.
    damaged
        Blobs that could not be read since the start, and those that were set aside before.
    missing
        Sequences that are not there though they should be.
    future
        Which blob a later version wrote; empty if none. Nothing is written as long as it is there.
    refused
        Why the store took the last write not; empty if it did.
    flushed_at_ms
        When the last flush ended; None before the first.
    conflicts
        How often somebody else had written since the start.
    cut_strings, left_out
        What was cut off points since the start.
    pushed_out
        Open points that were closed without their outcome, for want of room, since the start.
    dropped_unflushed
        Points that left the full ring before they could be written, since the start.
    watermark
        Every stamp up to it is in the store.
    """

    loaded: bool
    points: int
    open_points: int
    unflushed: int
    segments: int
    stored_bytes: int
    damaged: tuple[Damage, ...]
    missing: tuple[int, ...]
    future: str
    refused: str
    flushed_at_ms: int | None
    conflicts: int
    cut_strings: int
    left_out: int
    pushed_out: int
    dropped_unflushed: int
    watermark: int
