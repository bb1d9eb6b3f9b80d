"""The ring: the newest points, each key once; filters; blocks that come and go."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_ops.history.collector import WorkloadCollector
from engine_ops.history.keys import key_of, point_key
from engine_ops.ml.data_point import WorkloadDataPoint


def point(number: int, uid: str | None = None, kind: str = "resource", namespace: str = "shop") -> WorkloadDataPoint:
    metadata = {"namespace": namespace, "number": number}
    if uid is not None:
        metadata |= {"uid": uid, "generation": 1, "run": 1}
    return WorkloadDataPoint(1_000 * number, kind, {"cpu": 0.1 * number}, float(number), number % 2 == 0, metadata)


def numbers(points: Sequence[WorkloadDataPoint]) -> list[int]:
    return [each.metadata["number"] for each in points]


@given(count=st.integers(0, 60), capacity=st.integers(1, 40), block_points=st.integers(1, 12))
def test_the_ring_keeps_the_newest(count: int, capacity: int, block_points: int) -> None:
    collector = WorkloadCollector(capacity, block_points=block_points)
    for number in range(count):
        assert collector.record(point(number, f"uid-{number}"))
    kept = list(range(count))[-capacity:]
    assert len(collector) == len(kept)
    assert numbers(list(collector.select().points())) == kept
    assert sum(map(len, collector.blocks)) < capacity + 2 * block_points
    assert all(collector.knows(key_of(f"uid-{number}", 1, 1)) for number in kept)
    oldest = count - sum(map(len, collector.blocks))
    assert not any(collector.knows(key_of(f"uid-{number}", 1, 1)) for number in range(oldest))


def test_a_key_is_recorded_once_and_points_without_one_always() -> None:
    collector = WorkloadCollector(block_points=2)
    assert [collector.record(point(number, "same")) for number in range(5)] == [True, False, False, False, False]
    assert [collector.record(point(number)) for number in range(3)] == [True, True, True]
    assert numbers(list(collector.select().points())) == [0, 0, 1, 2]


@pytest.mark.parametrize("field", ["uid", "generation", "run"])
def test_an_identity_that_is_not_whole_gives_no_key(field: str) -> None:
    whole = point(1, "uid-1")
    assert point_key(whole) == key_of("uid-1", 1, 1)
    for wrong in (None, True, 1.0, 2**64, "\ud800"):
        whole.metadata[field] = wrong
        assert point_key(whole) is None


def test_without_auto_seal_the_caller_seals_and_drops() -> None:
    collector = WorkloadCollector(3, block_points=2, auto_seal=False)
    for number in range(5):
        collector.record(point(number, f"uid-{number}"))
    assert len(collector.head) == 5
    assert collector.evictable() == 0
    sealed = collector.seal()
    assert (len(sealed), len(collector.head)) == (5, 0)
    with pytest.raises(ValueError, match="sealed"):
        sealed.append(point(9))
    assert collector.seal() is not sealed
    for number in range(5, 8):
        collector.record(point(number, f"uid-{number}"))
    assert numbers(list(collector.select())) == [5, 6, 7]
    assert collector.knows(key_of("uid-0", 1, 1))
    assert collector.evictable() == 1
    assert collector.drop_oldest() is sealed
    assert not collector.knows(key_of("uid-0", 1, 1))
    assert numbers(list(collector.select())) == [5, 6, 7]


@pytest.mark.parametrize(("capacity", "block_points"), [(0, 1), (-1, 1), (1, 0), (1, 65_536)])
def test_sizes_that_cannot_be_are_refused(capacity: int, block_points: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        WorkloadCollector(capacity, block_points=block_points)
