"""What does not fit is cut or left out and counted; what is no JSON value is refused by name."""

from __future__ import annotations

import datetime
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine_ops.history import limits
from engine_ops.history.block import Block
from engine_ops.history.collector import WorkloadCollector
from engine_ops.history.keys import key_of, point_key
from engine_ops.history.limits import CutCounts, InvalidPointError, pack
from engine_ops.ml.data_point import WorkloadDataPoint


def point(metadata: dict[str, Any], usage: dict[str, float] | None = None, kind: str = "t") -> WorkloadDataPoint:
    return WorkloadDataPoint(1, kind, usage or {}, 2.0, True, metadata)


def kept(given: WorkloadDataPoint) -> tuple[dict[str, Any], CutCounts]:
    counts = CutCounts()
    block = Block()
    block.append(given, counts)
    (found,) = block.points()
    return found.metadata, counts


def test_a_long_string_is_cut_and_counted() -> None:
    long = "ä" * (limits.MAX_STRING + 1)
    metadata, counts = kept(point({"a": {"b": [long, long[:-1]]}}))
    assert metadata == {"a": {"b": [long[:-1], long[:-1]]}}
    assert (counts.points, counts.strings, counts.left_out) == (1, 1, 0)


def test_a_long_request_type_is_cut() -> None:
    collector = WorkloadCollector()
    collector.record(point({}, kind="x" * 300))
    assert [each.request_type for each in collector.select().points()] == ["x" * limits.MAX_STRING]
    assert collector.cut_strings == 1


def test_an_entry_with_a_long_key_is_left_out() -> None:
    metadata, counts = kept(point({"k" * (limits.MAX_KEY + 1): 1, "k" * limits.MAX_KEY: 2}))
    assert metadata == {"k" * limits.MAX_KEY: 2}
    assert (counts.points, counts.left_out) == (1, 1)


def test_what_is_too_deep_is_left_out() -> None:
    def nested(depth: int) -> Any:
        return {"d": nested(depth - 1)} if depth else 1

    metadata, counts = kept(point(nested(limits.MAX_DEPTH)))
    assert metadata == nested(limits.MAX_DEPTH)
    assert counts == CutCounts()
    metadata, counts = kept(point(nested(limits.MAX_DEPTH + 1) | {"beside": 1}))
    assert metadata["beside"] == 1
    assert counts.left_out == 1


def test_a_point_that_holds_itself_is_cut_off() -> None:
    metadata: dict[str, Any] = {"x": 1}
    metadata["itself"] = metadata
    found, counts = kept(point(metadata))
    assert found["x"] == 1
    assert counts.left_out > 0


def test_a_large_point_keeps_its_identity_and_its_outcome() -> None:
    many = {f"key-{number}": "v" * 200 for number in range(500)}
    known = {"uid": "u", "generation": 1, "run": 2, "namespace": "shop", "outcome": {"state": "failed"}}
    metadata, counts = kept(point(many | known))
    assert known.items() <= metadata.items()
    assert 0 < len(metadata) < len(many)
    assert counts.left_out == len(many) + len(known) - len(metadata)
    assert counts.points == 1


def test_many_leaves_are_left_out() -> None:
    metadata, counts = kept(point({"list": list(range(limits.MAX_LEAVES + 50)), "uid": "u"}))
    assert metadata["uid"] == "u"
    assert metadata["list"] == list(range(len(metadata["list"])))
    assert len(metadata["list"]) + counts.left_out == limits.MAX_LEAVES + 50


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"a": {"b": [1, 2**63]}}, r"metadata\.a\.b\[1\].*64 bits"),
        ({"a": -(2**63) - 1}, r"metadata\.a .*64 bits"),
        ({"a": 2**300}, r"metadata\.a .*64 bits"),
        ({"when": datetime.date(2026, 1, 1)}, r"metadata\.when.*date"),
        ({"raw": b"x"}, r"metadata\.raw.*bytes"),
        ({"o": {"x": object()}}, r"metadata\.o\.x.*object"),
        ({"o": {1: 2}}, r"metadata\.o.*key 1"),
        ({"s": "\ud800"}, r"metadata\.s.*surrogate"),
        ({"\udfff": 1}, r"surrogate"),
    ],
)
def test_what_no_json_can_hold_is_refused_by_name(metadata: dict[str, Any], words: str) -> None:
    collector = WorkloadCollector()
    with pytest.raises(InvalidPointError, match=words):
        collector.record(point(metadata))
    assert len(collector) == 0
    assert collector.record(point({"fine": True}))
    assert [each.metadata for each in collector.select()] == [{"fine": True}]


def test_a_refused_point_may_come_again_corrected() -> None:
    collector = WorkloadCollector()
    identity = {"uid": "u", "generation": 1, "run": 1}
    with pytest.raises(InvalidPointError):
        collector.record(point(identity | {"bad": b""}))
    assert collector.record(point(identity))
    assert not collector.record(point(identity))


def test_the_key_of_a_long_uid_is_the_key_of_what_is_kept() -> None:
    given = point({"uid": "u" * 300, "generation": 1, "run": 1})
    block = Block()
    key = block.append(given)
    (found,) = block.points()
    assert key == point_key(given) == point_key(found) == key_of("u" * limits.MAX_STRING, 1, 1)


@pytest.mark.parametrize(("uid", "generation", "run"), [("u", 2**63, 1), ("u", 1, -(2**64)), ("\ud800", 1, 1)])
def test_a_key_of_what_cannot_be_kept_is_refused(uid: str, generation: int, run: int) -> None:
    with pytest.raises(ValueError, match=r"64 bits|surrogate"):
        key_of(uid, generation, run)


long_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=400)
values = st.recursive(
    st.none() | st.integers(-(2**63), 2**63 - 1) | long_text | st.integers(0, 3000).map(lambda n: ["v" * 90] * n),
    lambda inner: st.lists(inner, max_size=30) | st.dictionaries(long_text, inner, max_size=8),
    max_leaves=40,
)


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(long_text, values, max_size=30), st.dictionaries(long_text, st.floats(), max_size=40))
def test_no_point_exceeds_its_size_and_cutting_again_cuts_nothing(
    metadata: dict[str, Any], usage: dict[str, float]
) -> None:
    kind, packed = pack(point(metadata, usage), CutCounts())
    assert len(packed) <= limits.MAX_POINT_BYTES
    cut_usage, cut_metadata, _ = msgspec.msgpack.decode(packed)
    counts = CutCounts()
    assert pack(point(cut_metadata, cut_usage, kind), counts) == (kind, packed)
    assert counts == CutCounts()
