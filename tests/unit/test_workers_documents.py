"""What a ConfigMap may hold: JSON, or the YAML that JSON can say."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from engine_ops.api.faults import Fault, InvalidDataError
from engine_ops.workers import documents
from engine_ops.workers.documents import read_json, read_json_or_yaml, rename_root

PATH = "spec.dataFrom.configMapKeyRef(problem/data)"

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(st.text(max_size=8), plain, max_size=5)


def fault_of(text: bytes, read: Any = read_json_or_yaml) -> str:
    with pytest.raises(InvalidDataError) as caught:
        read(text, PATH)
    (fault,) = caught.value.faults
    assert fault.path == PATH
    return fault.message


@given(objects)
def test_json_is_read_as_it_was_written(value: dict[str, Any]) -> None:
    text = json.dumps(value).encode()
    assert read_json(text, PATH) == value
    assert read_json_or_yaml(text, PATH) == value


@given(objects)
def test_yaml_is_read_as_it_was_written(value: dict[str, Any]) -> None:
    # A dump without anchors: equal parts of the value would get one.
    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, _data: object) -> bool:
            return True

    text = yaml.dump(value, Dumper=Dumper).encode()
    assert read_json_or_yaml(text, PATH) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_with_the_path(text: bytes) -> None:
    for read in (read_json, read_json_or_yaml):
        try:
            assert isinstance(read(text, PATH), dict)
        except InvalidDataError as error:
            assert [fault.path for fault in error.faults] == [PATH]  # noqa: PT017 -- it may also be read


def test_quantities_and_dates_stay_text() -> None:
    text = b"memory: 8Gi\ncpu: 500m\nday: 2024-01-31\ncores: 2\n"
    assert read_json_or_yaml(text, PATH) == {"memory": "8Gi", "cpu": "500m", "day": "2024-01-31", "cores": 2}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"[1, 2]", "must be an object, is a list"),
        (b"- 1\n- 2\n", "must be an object, is a list"),
        (b"hello", "must be an object, is a string"),
        (b"", "must be an object, is nothing"),
        (b"3", "must be an object, is a number"),
        (b"true", "must be an object, is a boolean"),
        (b'{"a": 1', "neither JSON"),
        (b"a: [1\n", "at line 2"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"1: one\n", "a key must be a string, quote it at line 1, column 1"),
        (b"a: 1\nb: 2\na: 3\n", "the key 'a' is there twice at line 3, column 1"),
        (b"a: 1\n---\nb: 2\n", "neither JSON"),
        (b"when: !!timestamp 2024-01-01\n", "could not determine a constructor"),
        (b"blob: !!binary aGVsbG8=\n", "could not determine a constructor"),
        (b"code: !!python/object/apply:os.system [id]\n", "could not determine a constructor"),
    ],
)
def test_what_is_refused_says_why(text: bytes, said: str) -> None:
    assert said in fault_of(text)


def test_a_bomb_of_aliases_is_refused_before_it_is_built() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    assert "the alias *a0 is not supported, write out what it stands for at line 2" in fault_of(
        "\n".join(lines).encode()
    )


@pytest.mark.parametrize("depth", [documents.MAX_DEPTH + 1, 50_000])
def test_deep_nesting_is_refused_and_does_not_exhaust_the_stack(depth: int) -> None:
    assert "nested deeper" in fault_of(b"a: " + b"[" * depth + b"]" * depth)
    if depth > documents.MAX_DEPTH + 1:
        deep = b'{"a": ' + b"[" * depth + b"]" * depth + b"}"
        assert "is not JSON" in fault_of(deep, read_json)


def test_long_yaml_is_refused_and_long_json_is_not() -> None:
    long = b"x" * documents.MAX_YAML_BYTES
    assert "write it as JSON" in fault_of(b"a: " + long)
    assert len(read_json_or_yaml(b'{"a": "' + long + b'"}', PATH)["a"]) == documents.MAX_YAML_BYTES


def test_json_is_not_mistaken_for_yaml() -> None:
    assert "is not JSON" in fault_of(b"a: 1", read_json)


@pytest.mark.parametrize(
    ("path", "renamed"),
    [
        ("data", "spec.data"),
        ("data.items[3].cpu", "spec.data.items[3].cpu"),
        ("data[0]", "spec.data[0]"),
        ("dataset.x", "dataset.x"),
        ("constraints.strategy", "spec.constraints.strategy"),
        ("", ""),
    ],
)
def test_only_the_first_word_of_a_path_is_renamed(path: str, renamed: str) -> None:
    roots = {"data": "spec.data", "constraints": "spec.constraints"}
    assert rename_root((Fault(path, "wrong"),), roots) == [Fault(renamed, "wrong")]
