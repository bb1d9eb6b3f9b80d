"""What makes a point that is imported the same point when it is imported again."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

import msgspec

from engine_ops.ml.data_point import WorkloadDataPoint

_ENCODER: Final = msgspec.msgpack.Encoder(order="deterministic")


def identify(point: WorkloadDataPoint) -> WorkloadDataPoint:
    """Give a point an identity unless it has one, and return it.

    A point without ``metadata.uid`` gets a uid made of all that it holds (blake2b, 16 bytes, written as UUIDs are) with
    generation 1 and run 1. Two points that are equal in everything are therefore one. A point that says nothing of its
    outcome gets ``metadata.outcome.of = "import"``.

    Parameters
    ----------
    point
        Changed in place.
    """
    metadata = point.metadata
    if not metadata.get("uid"):
        digest = hashlib.blake2b(_content(point), digest_size=16).hexdigest()
        metadata["uid"] = f"{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:]}"
        metadata["generation"] = metadata["run"] = 1
    else:
        metadata.setdefault("generation", 1)
        metadata.setdefault("run", 1)
    if not metadata.get("outcome"):
        metadata["outcome"] = {"of": "import"}
    return point


def _content(point: WorkloadDataPoint) -> bytes:
    content: tuple[Any, ...] = (
        point.timestamp,
        point.request_type,
        point.resource_usage,
        point.duration,
        point.success,
        point.metadata,
    )
    try:
        return _ENCODER.encode(content)
    except (OverflowError, TypeError, ValueError):  # a whole number beyond 64 bits, a character that is half of one
        return json.dumps(content, sort_keys=True, default=str).encode()
