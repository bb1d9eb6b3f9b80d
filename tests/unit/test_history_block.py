"""A block grows while it is read; the index of keys forgets what it is told to."""

from __future__ import annotations

import random
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_ops.history import block as blocks
from engine_ops.history.block import Block
from engine_ops.history.codec import SegmentHeader, decode_segment, encode_segment
from engine_ops.history.key_index import KeyIndex
from engine_ops.history.keys import key_of
from engine_ops.ml.data_point import WorkloadDataPoint

KEYS = [key_of("uid", number, 0) for number in range(30)]


def point(number: int) -> WorkloadDataPoint:
    return WorkloadDataPoint(number, "t", {}, 1.0, True, {"uid": f"uid-{number}", "generation": 1, "run": 1})


def test_whoever_reads_sees_the_block_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "CHUNK_POINTS", 4)
    block = Block()
    for number in range(6):
        block.append(point(number))
    columns, reader = block.columns(), block.points()
    seen = [next(reader).timestamp]
    for number in range(6, 20):
        block.append(point(number))
    seen += [each.timestamp for each in reader]
    assert seen == list(range(6))
    assert columns.timestamps.tolist() == list(range(6))
    assert block.columns().timestamps.tolist() == list(range(20))


def test_a_full_block_takes_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "MAX_BLOCK_POINTS", 2)
    block = Block()
    block.append(point(1))
    block.append(point(2))
    with pytest.raises(ValueError, match="at most 2"):
        block.append(point(3))
    assert len(block) == 2


def test_without_keys_that_it_does_not_hold_it_is_the_same_block() -> None:
    block = Block()
    block.append(point(1))
    assert block.without({key_of("other", 1, 1)}) is block
    assert len(block.without({key_of("uid-1", 1, 1)})) == 0


def test_the_estimate_is_near_the_length_of_the_segment() -> None:
    rng = random.Random(1)
    block = Block()
    for number in range(500):
        uid = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        metadata = {"uid": uid, "generation": 1, "run": 1, "request": {"items.cpu": rng.random()}}
        block.append(WorkloadDataPoint(number, "t", {"cpu": rng.random()}, 1.0, True, metadata))
    length = len(encode_segment(block, SegmentHeader(1, 0, 0, 0)))
    assert length / 2 < block.encoded_bytes_estimate < 3 * length
    block.seal()
    assert length / 2 < block.encoded_bytes_estimate < 3 * length


@pytest.mark.parametrize(("field", "wrong"), [("timestamp", 1.5), ("duration", "long"), ("duration", None)])
def test_a_point_that_was_changed_into_none_is_refused_whole(field: str, wrong: object) -> None:
    block = Block()
    block.append(point(1))
    broken = point(2)
    setattr(broken, field, wrong)
    with pytest.raises((TypeError, ValueError)):
        block.append(broken)
    block.append(point(3))
    assert list(block.points()) == [point(1), point(3)]
    assert [len(column) for column in (block.columns().timestamps, block.columns().durations)] == [2, 2]


def test_a_sealed_block_is_the_same_before_and_after_it_was_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "CHUNK_POINTS", 4)
    block = Block()
    for number in range(6):
        block.append(point(number))
    expected, keys = list(block.points()), list(block.keys())
    block.seal()
    reader = block.points()
    seen = [next(reader)]
    assert (list(block.points()), list(block.points([1, 5]))) == (expected, [expected[1], expected[5]])
    first = encode_segment(block, SegmentHeader(1, 0, 0, 0))
    assert encode_segment(block, SegmentHeader(1, 0, 0, 0)) == first
    assert seen + list(reader) == expected
    assert (list(block.points()), list(block.points([1, 5]))) == (expected, [expected[1], expected[5]])
    _, decoded = decode_segment(first)
    assert (list(decoded.points()), list(decoded.keys())) == (expected, keys)


@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from(KEYS)), max_size=80),
    st.integers(1, 12),
)
def test_the_index_of_keys_is_a_set(steps: list[tuple[bool, bytes]], merge_at: int) -> None:
    index, expected = KeyIndex(merge_at), set[bytes]()
    for adds, key in steps:
        if adds and key not in index:
            index.add(key)
            expected.add(key)
        elif not adds:
            index.discard([key, None])
            expected.discard(key)
        assert len(index) == len(expected)
    assert {key for key in KEYS if key in index} == expected
    index.discard(KEYS)
    assert len(index) == 0


def test_keys_that_share_a_half_are_different() -> None:
    index = KeyIndex(1)
    first, second = bytes(16), bytes(8) + b"12345678"
    index.update([first, None, second])
    assert first in index
    assert bytes(8) + b"87654321" not in index
    index.discard([first])
    assert (first in index, second in index) == (False, True)
    assert "no key" not in index
    assert b"no key" not in index
