"""The result cache: what it holds, what it lets go, and which questions are one to it."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_ops.server.cache import ResultCache, cache_key
from engine_ops.server.nesting import is_too_deep
from engine_ops.server.problems import ProblemError
from engine_ops.server.question_reading import CANONICAL_BYTES, ReadQuestion, read_question

texts = st.text(alphabet='ab[]{}"\\:,é', max_size=6)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=12,
)
objects = st.dictionaries(texts, values, max_size=4)


def read(request: Any, **how: Any) -> ReadQuestion:
    body = request if isinstance(request, bytes) else json.dumps(request, **how).encode()
    return read_question(body, namespace="shop", username="ada")


def key(request: Any, *, lineup: str = "", namespace: str = "shop", **how: Any) -> bytes:
    asked = read(request, **how)
    question = dataclasses.replace(asked.question, namespace=namespace)
    return cache_key(question, content=asked.content, lineup=lineup)


def request(**changes: Any) -> dict[str, Any]:
    return {"id": "a", "type": "resource", "data": {"items": [1, {"b": 1, "a": 2}]}} | changes


def shuffled(value: Any) -> Any:
    """Return a value whose objects have their keys the other way round."""
    if isinstance(value, dict):
        return {name: shuffled(item) for name, item in reversed(value.items())}
    return [shuffled(item) for item in value] if isinstance(value, list) else value


@given(
    puts=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 600), st.booleans()), max_size=60),
    max_entries=st.integers(0, 4),
    max_bytes=st.integers(0, 8000),
)
def test_it_stays_within_its_bounds_and_lets_the_least_recently_used_go(
    puts: list[tuple[str, int, bool]], max_entries: int, max_bytes: int
) -> None:
    cache = ResultCache(max_entries=max_entries, max_bytes=max_bytes)
    used: list[str] = []  # the most recently used last; what a simple model keeps
    for name, size, reads in puts:
        if reads:
            found = cache.get(name.encode())
            assert (found is not None) == (name in used)
            if found is not None:
                used.remove(name)
                used.append(name)
            continue
        cache.put(name.encode(), b"x" * size)
        stats = cache.stats()
        assert len(cache) <= max_entries
        assert stats["bytes"] <= max_bytes
        if stats["stores"] and cache._answers and next(reversed(cache._answers)) == name.encode():
            used = [other for other in used if other != name] + [name]
        used = used[len(used) - len(cache) :]
        assert [kept.decode() for kept in cache._answers] == used
        assert stats["bytes"] == sum(len(entry.answer) for entry in cache._answers.values()) + 400 * len(cache)


def test_an_answer_that_would_push_out_the_others_is_not_kept() -> None:
    cache = ResultCache(max_entries=10, max_bytes=10_000)
    cache.put(b"small", b"x" * 100)
    cache.put(b"large", b"x" * 9_000)
    assert cache.get(b"small") is not None
    assert cache.get(b"large") is None
    assert cache.stats()["tooLarge"] == 1


def test_an_answer_in_the_place_of_another_counts_once() -> None:
    cache = ResultCache(max_entries=10, max_bytes=10_000)
    cache.put(b"a", b"x" * 1000)
    cache.put(b"a", b"y" * 10)
    assert cache.get(b"a") == b"y" * 10
    assert (cache.stats()["bytes"], cache.stats()["entries"]) == (410, 1)


def test_an_answer_that_is_good_for_some_time_only() -> None:
    now = 100.0
    cache = ResultCache(max_entries=10, max_bytes=10_000, clock=lambda: now)
    cache.put(b"plugin", b"x", 60)
    cache.put(b"other", b"y")
    now += 59
    assert cache.get(b"plugin") == b"x"
    now += 1
    assert cache.get(b"plugin") is None
    assert cache.get(b"other") == b"y"
    assert (cache.stats()["entries"], cache.stats()["bytes"], cache.stats()["misses"]) == (1, 401, 1)


def test_what_is_counted() -> None:
    cache = ResultCache(max_entries=1, max_bytes=10_000)
    assert cache.stats()["hitRatio"] is None
    cache.put(b"a", b"1")
    cache.put(b"b", b"1")
    cache.get(b"a")
    cache.get(b"b")
    cache.bypass()
    stats = cache.stats()
    assert {name: stats[name] for name in ("hits", "misses", "hitRatio", "bypasses", "evictions", "entries")} == {
        "hits": 1,
        "misses": 1,
        "hitRatio": 0.5,
        "bypasses": 1,
        "evictions": 1,
        "entries": 1,
    }


@given(data=objects, constraints=objects)
def test_it_does_not_matter_how_a_question_is_written(data: dict[str, Any], constraints: dict[str, Any]) -> None:
    asked = request(data=data, constraints=constraints)
    assert key(asked) == key(shuffled(asked), indent=2) == key(asked | {"id": "b"}, ensure_ascii=False)


@given(one=objects, other=objects)
def test_different_data_are_different_questions(one: dict[str, Any], other: dict[str, Any]) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (key(request(data=one)) == key(request(data=other))) == same
    assert (key(request(constraints=one)) == key(request(constraints=other))) == same


def test_what_else_makes_a_question_another() -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"type": "scheduling"},
        {"plugin": "none"},
        {"plugin": "p"},
        {"searchSeconds": 0},
        {"constraints": {"a": 1}},
    ]
    keys = {key(request(**change)) for change in changes}
    keys |= {key(request(), lineup="trees/1"), key(request(), lineup="trees/2")}
    assert len(keys) == len(changes) + 2
    assert key(request(type="genetic")) == key(request()) == key(request(constraints=None, plugin=None))
    assert key(request(timeoutSeconds=9)) == key(request())


@pytest.mark.parametrize("lineup", ["", "p"])
def test_no_namespace_shares_an_answer_with_another(lineup: str) -> None:
    assert key(request(), namespace="a", lineup=lineup) == key(request(), namespace="a", lineup=lineup)
    assert key(request(), namespace="a", lineup=lineup) != key(request(), namespace="b", lineup=lineup)


def test_parts_of_a_key_do_not_run_into_each_other() -> None:
    assert key(request(data={"a": 1}, constraints={})) != key(request(data={}, constraints={"a": 1}))


def test_long_data_are_compared_as_they_are_written() -> None:
    long = {"a": "x" * CANONICAL_BYTES, "b": 1}
    assert read(request(data=long), indent=1).content != read(request(data=long)).content
    assert key(request(data=long)) == key(request(id="b", data=long))
    body = json.dumps(request(data=long)).encode().replace(b'"b"', b'"\xff"')
    with pytest.raises(ProblemError, match="utf-8"):
        read(body)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@given(value=values, limit=st.integers(0, 4), ascii_=st.booleans())
def test_the_depth_of_json_is_exact(value: Any, limit: int, ascii_: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_).encode()
    assert is_too_deep(text, limit) == (depth(value) > limit)


@given(text=st.binary(max_size=60) | st.text(alphabet='[]{}"\\,', max_size=30).map(str.encode))
def test_the_depth_of_anything_can_be_asked(text: bytes) -> None:
    assert is_too_deep(text, 1) in {True, False}
