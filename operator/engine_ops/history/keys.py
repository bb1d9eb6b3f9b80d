"""The identity of a point: at most one of each (uid, generation, run)."""

from __future__ import annotations

import struct
from hashlib import blake2b
from typing import Final

from engine_ops.history.limits import MAX_STRING
from engine_ops.ml.data_point import WorkloadDataPoint

KEY_BYTES: Final = 16

_NUMBERS = struct.Struct("<qq").pack


def key_of(uid: str, generation: int, run: int) -> bytes:
    """Return the key of a request's solve, 16 bytes.

    The uid counts up to `MAX_STRING` characters, as it is stored.

    Raises
    ------
    ValueError
        If a number does not fit 64 bits or the uid is no Unicode text.
    """
    try:
        # The numbers stand first, of fixed width, so that no two triples give the same bytes.
        return blake2b(_NUMBERS(generation, run) + uid[:MAX_STRING].encode(), digest_size=KEY_BYTES).digest()
    except struct.error:
        raise ValueError(f"generation {generation} and run {run} must be whole numbers of 64 bits") from None


def point_key(point: WorkloadDataPoint) -> bytes | None:
    """Return the key of a point, or None if it has no identity: no string uid, no whole generation or run."""
    get = point.metadata.get
    uid, generation, run = get("uid"), get("generation"), get("run")
    if type(uid) is not str or type(generation) is not int or type(run) is not int:
        return None
    try:
        return key_of(uid, generation, run)
    except ValueError:
        return None
