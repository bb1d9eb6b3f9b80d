"""What is kept of a request's data is bounded, and making it never fails."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine_ops.ml.request_fields import MAX_FIELDS, MAX_KEY_LENGTH, MAX_STRING_LENGTH, amount_of, request_fields

NAMES = st.sampled_from(["cpu", "memory", "count", "items", "requests", "nvidia.com/gpu", "replicas"]) | st.text()
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=200)
    | st.sampled_from(["500m", "8Gi", "-1", "1e999", "NaN", 10**400, -(10**400), "\ud800", "1" * 70])
)
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner), max_leaves=30)


@given(JSON)
@example({"items": [{"cpu": 1e308, "count": 10**300}, {"cpu": "8", "memory": None, "requests": {"cpu": 1}}]})
@example({"a": [[]], "b": {"c": {"d": 1}}, "\udfff" * 100: "\udfff" * 200})
@example(None)
def test_it_never_fails_and_is_bounded(data: Any) -> None:
    fields = request_fields("ml-driven", data)
    assert len(fields) <= MAX_FIELDS
    for name, value in fields.items():
        assert len(name) <= MAX_KEY_LENGTH
        assert type(value) in (float, str, bool)
        if isinstance(value, str):
            assert len(value) <= MAX_STRING_LENGTH
        elif not isinstance(value, bool):
            assert math.isfinite(value)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(fields)) == fields


@given(st.dictionaries(NAMES, JSON))
def test_the_order_of_keys_says_nothing(data: dict[str, Any]) -> None:
    turned = dict(reversed(data.items()))
    # As text: what is equal in Python (True and 1.0) is told apart.
    assert json.dumps(request_fields("resource", turned)) == json.dumps(request_fields("resource", data))


def test_scalars_are_kept_at_the_top_and_one_level_down() -> None:
    data = {"strategy": "least-loaded", "spread": True, "n": 3, "node": {"zone": "a", "deep": {"x": 1}}, "no": None}
    assert request_fields("scheduling", data) == {
        "n": 3.0,
        "spread": True,
        "strategy": "least-loaded",
        "node.zone": "a",
    }


def test_lists_are_counted_and_summed_times_their_counts() -> None:
    items = [
        {"id": "a", "cpu": "500m", "memory": "1Gi", "count": 4},
        {"id": "b", "cpu": 1, "memory": "1Gi"},
        {"requests": {"cpu": 2}, "replicas": 3},
        "no item",
        {"cpu": "nonsense"},
    ]
    fields = request_fields("resource", {"items": items, "tags": ["x", "y"]})
    assert fields == {"items.count": 5.0, "items.cpu": 2.0 + 1.0 + 6.0, "items.memory": 5.0 * 2**30, "tags.count": 2.0}


def test_a_quantity_of_a_resource_is_a_number_and_of_anything_else_a_word() -> None:
    data = {"nodeCapacity": {"cpu": "16", "memory": "64Gi", "nvidia.com/gpu": "8", "name": "5"}, "cpu": "lots"}
    assert request_fields("resource", data) == {
        "cpu": "lots",
        "nodeCapacity.cpu": 16.0,
        "nodeCapacity.memory": 64.0 * 2**30,
        "nodeCapacity.name": "5",
        "nodeCapacity.nvidia.com/gpu": 8.0,
    }


def test_the_top_goes_before_lists_and_lists_before_what_is_below() -> None:
    data = {"below": {f"b{n:02}": n for n in range(40)}, "list": [1], **{f"top{n:02}": n for n in range(30)}}
    fields = request_fields("ml-driven", data)
    assert list(fields) == [*(f"top{n:02}" for n in range(30)), "list.count", "below.b00"]


@pytest.mark.parametrize(("value", "amount"), [("250m", 0.25), (3, 3.0), ("-1", None), (True, None), ([], None)])
def test_amounts(value: Any, amount: float | None) -> None:
    found = amount_of(value)
    assert math.isnan(found) if amount is None else found == amount
