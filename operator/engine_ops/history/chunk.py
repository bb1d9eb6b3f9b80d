"""Up to a few thousand points' values as compressed columns.

A chunk has two sections, so that the keys of a history can be had without decompressing the rest: identity (uid,
generation and run of the points that have a key) and content (everything else, without the namespace, which the block
has as a column).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from engine_ops.history import columns
from engine_ops.history.columns import Floats, Ints, Reader, Writer
from engine_ops.history.keys import key_of
from engine_ops.history.shredding import Moments, get_values, put_values
from engine_ops.workers.garbage import collector_waits

Content = tuple[dict[str, float], dict[str, Any], dict[str, Any]]
"""Resource usage, metadata, and further keys of a point."""

unpack = msgspec.msgpack.Decoder(Content).decode
"""Read what `engine_ops.history.limits.pack` returned for a point."""


class Frame(msgspec.Struct, frozen=True):
    """What a block knows of the points of a chunk: arrays of one length.

    Parameters
    ----------
    timestamps, durations
        Milliseconds.
    namespaces
        Of each point, empty where it has none.
    """

    timestamps: Ints
    durations: Floats
    namespaces: Sequence[str]

    def moments(self) -> Moments:
        """When each point began, and about when it ended."""
        with np.errstate(invalid="ignore"):
            usual = np.abs(self.durations) < 2.0**53
            lasted = np.rint(np.where(usual, self.durations, 0.0)).astype(np.int64)
        return Moments(self.timestamps, self.timestamps + lasted)


def encode_chunk(packed: Sequence[bytes], keyed: Sequence[bool], frame: Frame) -> bytes:
    """Encode what `engine_ops.history.limits.pack` returned for some points; ``keyed`` says which have a key."""
    with collector_waits():
        return _encode_chunk(packed, keyed, frame)


def _encode_chunk(packed: Sequence[bytes], keyed: Sequence[bool], frame: Frame) -> bytes:
    contents = [unpack(each) for each in packed]
    identities: list[tuple[str, int, int]] = []
    for (_, metadata, _), has_key, namespace in zip(contents, keyed, frame.namespaces, strict=True):
        if has_key:
            identities.append((metadata.pop("uid"), metadata.pop("generation"), metadata.pop("run")))
        if namespace:
            metadata.pop("namespace", None)
    return msgspec.msgpack.encode((_put_identities(identities, keyed), _put_contents(contents, frame)))


def _put_identities(identities: Sequence[tuple[str, int, int]], keyed: Sequence[bool]) -> bytes:
    writer = Writer()
    flags = columns.put_flags(np.array(keyed, dtype=np.bool_), writer)
    if not identities:
        return writer.finish([flags])
    uids, generations, runs = zip(*identities, strict=True)
    spec = [
        flags,
        columns.put_texts(uids, writer),
        columns.put_ints(np.array(generations, dtype=np.int64), writer),
        columns.put_ints(np.array(runs, dtype=np.int64), writer),
    ]
    return writer.finish(spec)


def _put_contents(contents: list[Content], frame: Frame) -> bytes:
    writer = Writer()
    moments = frame.moments()
    parts = [list(part) for part in zip(*contents, strict=True)]
    return writer.finish([put_values(part, None, moments, writer) for part in parts])


def get_identities(section: bytes, count: int) -> tuple[npt.NDArray[np.bool_], list[tuple[str, int, int]]]:
    """Return which of a chunk's points have a key, and the uid, generation and run of these."""
    reader = Reader(section)
    keyed = columns.get_flags(reader.spec[0], count, reader)
    total = int(keyed.sum())
    if not total:
        return keyed, []
    uids = columns.get_texts(reader.spec[1], total, reader)
    generations = columns.get_ints(reader.spec[2], total, reader).tolist()
    runs = columns.get_ints(reader.spec[3], total, reader).tolist()
    return keyed, list(zip(uids, generations, runs, strict=True))


def decode_keys(body: bytes, count: int) -> list[bytes | None]:
    """Return the keys of a chunk's points."""
    identity, _ = msgspec.msgpack.decode(body, type=tuple[bytes, bytes])
    keyed, identities = get_identities(identity, count)
    keys = iter(identities)
    return [key_of(*next(keys)) if flag else None for flag in keyed.tolist()]


def decode_chunk(body: bytes, frame: Frame) -> list[Content]:
    """Return the content of every point of a chunk, identity first."""
    with collector_waits():
        return _decode_chunk(body, frame)


def _decode_chunk(body: bytes, frame: Frame) -> list[Content]:
    count = len(frame.timestamps)
    identity, content = msgspec.msgpack.decode(body, type=tuple[bytes, bytes])
    keyed, identities = get_identities(identity, count)
    reader = Reader(content)
    moments = frame.moments()
    usages, rests, furthers = (get_values(spec, count, None, moments, reader) for spec in reader.spec)
    keys = iter(identities)
    points: list[Content] = []
    rows = zip(usages, rests, furthers, keyed.tolist(), frame.namespaces, strict=True)
    for usage, rest, further, flag, namespace in rows:
        metadata: dict[str, Any] = {}
        if flag:
            metadata["uid"], metadata["generation"], metadata["run"] = next(keys)
        if namespace:
            metadata["namespace"] = namespace
        metadata.update(rest)
        points.append((usage, metadata, further))
    return points
