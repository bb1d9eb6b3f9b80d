"""A segment gives back every point bit for bit, or says that it cannot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_points import any_float, decimals, exact, int64, moments, points, scalars

from engine_ops.history import limits
from engine_ops.history.block import Block
from engine_ops.history.codec import (
    FORMAT,
    DamagedSegmentError,
    FutureFormatError,
    SegmentHeader,
    decode_segment,
    encode_segment,
    wrap,
)
from engine_ops.ml.data_point import WorkloadDataPoint

relaxed = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def exactly(points: Sequence[WorkloadDataPoint]) -> list[Any]:
    return [exact(point.to_dict()) for point in points]


def block_of(points: Sequence[WorkloadDataPoint]) -> Block:
    block = Block()
    for point in points:
        block.append(point)
    return block


HEADER = SegmentHeader(sequence=7, count=0, start_ms=0, end_ms=0, watermark=-5, oldest=3, writer="Pod ä")


@relaxed
@given(st.lists(points, max_size=12))
def test_every_point_comes_back_bit_for_bit(points: list[WorkloadDataPoint]) -> None:
    block = block_of(points)
    content = encode_segment(block, HEADER)
    header, decoded = decode_segment(content)
    assert exactly(list(decoded.points())) == exactly(points)
    assert exactly(list(block.points())) == exactly(points)
    assert list(decoded.keys()) == list(block.keys())
    assert (header.sequence, header.watermark, header.oldest, header.writer) == (7, -5, 3, "Pod ä")
    assert header.count == len(decoded) == len(points)
    if points:
        times = [point.timestamp for point in points]
        assert (header.start_ms, header.end_ms) == (min(times), max(times)) == (decoded.start_ms, decoded.end_ms)
    # What was sealed or read gives the same segment.
    block.seal()
    assert encode_segment(block, HEADER) == content == encode_segment(decoded, HEADER)


@relaxed
@given(st.lists(st.lists(scalars, min_size=1, max_size=1), min_size=1, max_size=1), st.integers(1, 80))
def test_like_points_come_back(pattern: list[list[Any]], count: int) -> None:
    made = [
        WorkloadDataPoint(1_700_000_000_000 + 17 * n, "t", {}, n * 0.5, True, {"v": pattern[0][0], "n": n, "f": n / 7})
        for n in range(count)
    ]
    _, decoded = decode_segment(encode_segment(block_of(made), HEADER))
    assert exactly(list(decoded.points())) == exactly(made)


@relaxed
@given(st.lists(any_float | decimals, min_size=1, max_size=40), st.lists(int64 | moments, min_size=1, max_size=40))
def test_columns_of_numbers_come_back(floats: list[float], ints: list[int]) -> None:
    made = [WorkloadDataPoint(0, "t", {"f": value}, value, True) for value in floats]
    made += [WorkloadDataPoint(value, "t", {}, math.nan, False, {"closedAt": value}) for value in ints]
    _, decoded = decode_segment(encode_segment(block_of(made), HEADER))
    assert exactly(list(decoded.points())) == exactly(made)


def typical(count: int = 40) -> list[WorkloadDataPoint]:
    return [
        WorkloadDataPoint(
            1_700_000_000_000 + 1_000 * n,
            "resource",
            {"cpu": n / 8, "memory": 4096.0 * n},
            60_000.0 + n,
            n % 9 > 0,
            {
                "uid": f"00000000-0000-4000-8000-{n * 7919:012x}",
                "generation": 1,
                "run": n % 2,
                "namespace": f"team-{n % 3}",
                "containers": {f"app-{n % 30}": {"cpu": {"p50": n / 16}, "restarts": n % 2}},
                "censored": ["memory"] if n % 5 == 0 else [],
            },
        )
        for n in range(count)
    ]


def test_a_thousand_keys_come_back() -> None:
    made = [
        WorkloadDataPoint(n, "t", {f"r{n}": 1.0}, 0.0, True, {f"key {n}": n, "containers": {f"c{n}": {"x": n}}})
        for n in range(300)
    ]
    _, decoded = decode_segment(encode_segment(block_of(made), HEADER))
    assert exactly(list(decoded.points())) == exactly(made)
    wide = WorkloadDataPoint(1, "t", {}, 0.0, True, {f"k{n}": n for n in range(1000)})
    _, decoded = decode_segment(encode_segment(block_of([wide, *typical()]), HEADER))
    assert exactly(list(decoded.points())) == exactly([wide, *typical()])


def test_points_of_several_chunks_come_back_and_single_rows_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine_ops.history.block.CHUNK_POINTS", 16)
    made = typical()
    _, decoded = decode_segment(encode_segment(block_of(made), HEADER))
    for block in (block_of(made), decoded):
        assert exactly(list(block.points())) == exactly(made)
        rows = [0, 15, 16, 33, 39]
        assert exactly(list(block.points(rows))) == exactly([made[row] for row in rows])
        assert exactly(list(block.take(rows).points())) == exactly([made[row] for row in rows])


def test_no_flipped_bit_and_no_truncation_is_taken_for_points() -> None:
    content = encode_segment(block_of(typical(5)), HEADER)
    for position in range(len(content)):
        for bit in range(8):
            damaged = bytearray(content)
            damaged[position] ^= 1 << bit
            with pytest.raises(DamagedSegmentError):
                decode_segment(bytes(damaged))
    for length in range(len(content)):
        with pytest.raises(DamagedSegmentError):
            decode_segment(content[:length])
    with pytest.raises(DamagedSegmentError):
        decode_segment(content + b"\0")


@relaxed
@given(st.binary(max_size=200))
def test_content_that_no_encoder_wrote_is_damage(content: bytes) -> None:
    with pytest.raises(DamagedSegmentError):
        decode_segment(wrap(content))
    with pytest.raises(DamagedSegmentError):
        decode_segment(content)


def test_a_format_of_the_future_has_its_own_error() -> None:
    content = wrap(b"whatever it will be", FORMAT + 1)
    with pytest.raises(FutureFormatError, match="upgrade") as error:
        decode_segment(content)
    assert error.value.format == FORMAT + 1


def test_lists_of_different_points_are_different_objects() -> None:
    made = [WorkloadDataPoint(n, "t", {}, 0.0, True, {"censored": ["cpu"], "o": {}}) for n in range(3)]
    _, decoded = decode_segment(encode_segment(block_of(made), HEADER))
    first, second, _ = decoded.points()
    first.metadata["censored"].append("memory")
    first.metadata["o"]["x"] = 1
    assert second.metadata == {"censored": ["cpu"], "o": {}}


def test_a_point_is_kept_as_it_was_when_it_was_recorded() -> None:
    point = typical(1)[0]
    block = block_of([point])
    point.metadata["containers"]["app-0"]["cpu"]["p50"] = 99.0
    assert exactly(list(block.points())) == exactly(typical(1))


def test_numpy_numbers_tuples_and_sets_become_plain() -> None:
    numpy = pytest.importorskip("numpy")
    point = WorkloadDataPoint(
        1, "t", {}, 0.0, True, {"i": numpy.int32(3), "f": numpy.float32(0.5), "b": numpy.bool_(True), "t": (1, {2})}
    )
    (kept,) = block_of([point]).points()
    assert exact(kept.metadata) == exact({"i": 3, "f": 0.5, "b": True, "t": [1, [2]]})


def test_what_is_left_out_never_breaks_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_POINT_BYTES", 300)
    monkeypatch.setattr(limits, "MAX_LEAVES", 10)
    made = [WorkloadDataPoint(1, "t", {}, 0.0, True, {"uid": {"x": "y" * 250}, "namespace": "n" * 100, "z": 1})]
    _, decoded = decode_segment(encode_segment(block_of([*made, *typical()]), HEADER))
    assert exactly(list(decoded.points()))[0]["metadata"]["namespace"] == ("str", "n" * 100)
    assert [point.metadata["uid"] for point in decoded.points([1])] == [typical()[0].metadata["uid"]]
