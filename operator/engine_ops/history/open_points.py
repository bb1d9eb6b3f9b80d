"""Points whose outcome is still to come, and the blob that keeps them."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from engine_ops.history.block import Block
from engine_ops.history.codec import (
    FORMAT,
    DamagedSegmentError,
    FutureFormatError,
    SegmentHeader,
    decode_segment,
    encode_segment,
    unwrap,
    wrap,
)
from engine_ops.history.keys import point_key
from engine_ops.ml.data_point import WorkloadDataPoint


@dataclasses.dataclass(slots=True)
class OpenPoint:
    """A point that waits for its outcome.

    Parameters
    ----------
    point
        What is known; ``metadata`` holds uid, generation and run, and names the workload.
    stamp
        Of the status that told of it; see `engine_ops.history.log.HistoryLog.stamp`.
    closes_at_ms
        When it is closed with what is known then.
    state
        JSON values of whoever looks for the outcome; tell `HistoryLog.touch` after a change.
    """

    point: WorkloadDataPoint
    stamp: int
    closes_at_ms: int
    state: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def key(self) -> bytes:
        """The point's key.

        Raises
        ------
        ValueError
            If the point has no identity: nothing could be joined to it later.
        """
        key = point_key(self.point)
        if key is None:
            raise ValueError("an open point needs metadata.uid, metadata.generation and metadata.run")
        return key


def close_as_unknown(opened: OpenPoint, now_ms: int, reason: str) -> WorkloadDataPoint:
    """Return the point closed without an outcome.

    Parameters
    ----------
    opened
        The open point; it is not changed.
    now_ms
        When it is known that nothing will be known.
    reason
        One CamelCase word.
    """
    point = opened.point
    metadata = {name: value for name, value in point.metadata.items() if name != "workloadSelector"}
    metadata["outcome"] = {"of": "workload", "state": "unknown", "reason": reason, "closedAt": now_ms}
    return WorkloadDataPoint(
        point.timestamp, point.request_type, point.resource_usage, point.duration, point.success, metadata
    )


class _Body(msgspec.Struct, array_like=True):
    segment: bytes
    rest: bytes


def encode_open_points(points: Iterable[OpenPoint], writer: str) -> bytes:
    """Return the blob of open points: a segment of the points, and what else belongs to them, checksummed.

    Raises
    ------
    engine_ops.history.limits.InvalidPointError
        If a point holds what is no JSON value.
    TypeError
        If a state does.
    """
    block, rest = Block(), []
    for opened in points:
        block.append(opened.point)
        rest.append((opened.stamp, opened.closes_at_ms, opened.state))
    segment = encode_segment(block, SegmentHeader(sequence=0, count=0, start_ms=0, end_ms=0, writer=writer))
    return wrap(msgspec.msgpack.encode(_Body(segment, zlib.compress(msgspec.msgpack.encode(rest)))), FORMAT)


def decode_open_points(content: bytes) -> dict[bytes, OpenPoint]:
    """Return the open points of a blob by key.

    Raises
    ------
    DamagedSegmentError, FutureFormatError
        If it cannot be read.
    """
    number, inner = unwrap(content)
    if number > FORMAT:
        raise FutureFormatError(number)
    try:
        body = msgspec.msgpack.decode(inner, type=_Body)
        _, block = decode_segment(body.segment)
        rest = msgspec.msgpack.decode(zlib.decompress(body.rest), type=list[tuple[int, int, dict[str, Any]]])
    except (msgspec.DecodeError, zlib.error) as error:
        raise DamagedSegmentError(f"its content is not what the format says: {error}") from None
    if len(rest) != len(block):
        raise DamagedSegmentError(f"{len(block)} open points have {len(rest)} states")
    opened = (OpenPoint(point, *kept) for point, kept in zip(block.points(), rest, strict=True))
    return {one.key: one for one in opened if point_key(one.point) is not None}


def oldest_first(points: Mapping[bytes, OpenPoint]) -> list[bytes]:
    """Return the keys in the order in which they are pushed out."""
    return sorted(points, key=lambda key: points[key].stamp)
