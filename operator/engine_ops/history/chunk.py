"""A few thousand points' resource usage and metadata as compressed bytes."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import msgspec


def encode_chunk(packed: Sequence[bytes]) -> bytes:
    """Compress what `engine_ops.history.limits.pack` returned for some points."""
    return zlib.compress(msgspec.msgpack.encode(packed))


def decode_chunk(body: bytes) -> list[tuple[dict[str, float], dict[str, Any]]]:
    """Return resource usage and metadata of every point of a chunk."""
    return [tuple(msgspec.msgpack.decode(item)) for item in msgspec.msgpack.decode(zlib.decompress(body))]
