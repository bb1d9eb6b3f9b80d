"""The saved form of models: what goes in comes out, and nothing else ever does."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_ops.ml.models import QuantileBoostingModel, SeasonalNaiveModel
from engine_ops.ml.testing import sample_history
from engine_ops.plugins import model_state
from engine_ops.plugins.model_state import ARRAY_EXT, MAGIC, decode_state, digest_of, encode_state

KINDS = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
KINDS += ["float16", "float32", "float64"]


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    """Draw arrays of every kind, byte order and layout."""
    dtype = np.dtype(draw(st.sampled_from(KINDS))).newbyteorder(draw(st.sampled_from("<>=")))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    size = int(np.prod(shape, dtype=np.int64))
    raw = draw(st.binary(min_size=size * dtype.itemsize, max_size=size * dtype.itemsize))
    if dtype.kind == "b":
        raw = bytes(byte & 1 for byte in raw)
    array = np.frombuffer(raw, dtype=dtype).reshape(shape)
    return array.T if draw(st.booleans()) else array


leaves = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
leaves |= st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
states = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=10),
    st.recursive(
        leaves | arrays(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
        max_leaves=12,
    ),
    max_size=6,
)


def same(left: Any, right: Any) -> bool:
    if isinstance(left, np.ndarray) or isinstance(right, np.ndarray):
        if type(left) is not np.ndarray or type(right) is not np.ndarray or left.dtype.name != right.dtype.name:
            return False
        # By their bytes: NaN is like NaN, and 0.0 unlike -0.0.
        plain = [each.astype(each.dtype.newbyteorder("=")) for each in (left, right)]
        return left.shape == right.shape and plain[0].tobytes() == plain[1].tobytes()
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


@given(states)
def test_what_goes_in_comes_out(state: dict[str, Any]) -> None:
    encoded = encode_state(state)
    decoded = decode_state(encoded)
    assert same(decoded, state)
    assert encode_state(decoded) == encoded
    assert digest_of(encode_state(state)) == digest_of(encoded)


@given(arrays())
def test_arrays_can_be_written_to_and_are_in_the_machines_order(array: np.ndarray[Any, Any]) -> None:
    decoded = decode_state(encode_state({"a": array}))["a"]
    assert decoded.flags.writeable
    assert decoded.flags.owndata or decoded.base.flags.owndata
    assert decoded.dtype.isnative


@given(states, st.data())
def test_damage_is_found_or_does_none(state: dict[str, Any], data: st.DataObject) -> None:
    encoded = bytearray(encode_state(state))
    place = data.draw(st.integers(0, len(encoded) - 1))
    encoded[place] ^= data.draw(st.integers(1, 255))
    try:
        decoded = decode_state(bytes(encoded))
    except ValueError:
        return
    assert same(decoded, state)  # zlib's last byte has bits that mean nothing


@given(states, st.data())
def test_a_part_is_no_state(state: dict[str, Any], data: st.DataObject) -> None:
    encoded = encode_state(state)
    with pytest.raises(ValueError, match="state"):
        decode_state(encoded[: data.draw(st.integers(0, len(encoded) - 1))])
    with pytest.raises(ValueError, match="state"):
        decode_state(encoded + b"x")


def packed(value: Any) -> bytes:
    return MAGIC + zlib.compress(value if isinstance(value, bytes) else msgspec.msgpack.encode(value))


@given(st.binary(max_size=200))
def test_whatever_is_inside_is_a_state_or_refused(inside: bytes) -> None:
    try:
        decoded = decode_state(packed(inside))
    except ValueError:
        return
    assert same(decode_state(encode_state(decoded)), decoded)


def array_of(kind: Any, shape: Any, data: Any) -> msgspec.msgpack.Ext:
    return msgspec.msgpack.Ext(ARRAY_EXT, msgspec.msgpack.encode((kind, shape, data)))


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (["a"], "must be an object"),
        ({1: "a"}, "must be a string"),
        ({"a": b"bytes"}, "bytes is no value"),
        ({"a": float("nan")}, "no JSON value"),
        ({"a": 2**63}, "64 bits"),
        ({"a": msgspec.msgpack.Ext(-1, struct.pack(">I", 0))}, "datetime is no value"),
        ({"a": msgspec.msgpack.Ext(7, b"")}, "unknown type 7"),
        ({"a": array_of("object", (1,), bytes(8))}, "array of 'object'"),
        ({"a": array_of("O", (1,), bytes(8))}, "array of 'O'"),
        ({"a": array_of("complex128", (1,), bytes(16))}, "array of 'complex128'"),
        ({"a": array_of("<U4", (1,), bytes(16))}, "array of '<U4'"),
        ({"a": array_of("float64", (2,), bytes(8))}, "does not fit"),
        ({"a": array_of("float64", (-1, -1), bytes(8))}, "impossible shape"),
        ({"a": array_of("uint8", (1,) * 17, bytes(1))}, "impossible shape"),
        ({"a": array_of("uint8", (0, 2**62, 2**62), b"")}, "impossible shape"),
        ({"a": array_of("uint8", (0, 2**63), b"")}, "impossible shape"),
        ({"a": array_of("uint8", (0, *[2**28] * 3), b"")}, "impossible shape"),
        ({"a": array_of(7, (1,), bytes(8))}, "damaged"),
        ({"a": array_of("uint8", "1", bytes(8))}, "damaged"),
        ({"a": array_of("uint8", (1,), "12")}, "damaged|does not fit"),
        ({"a": nested(70)}, "levels deep"),
        (b"\x81\xa1a" + b"\x91" * 100_000 + b"\xc0", "damaged"),
    ],
)
def test_what_no_state_can_hold_is_refused(value: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        decode_state(packed(value))


def test_a_boolean_of_another_byte_is_a_boolean() -> None:
    decoded = decode_state(packed({"a": array_of("bool", (3,), b"\x00\x01\x07")}))["a"]
    assert decoded.tobytes() == b"\x00\x01\x01"


class Cyclic(dict[str, Any]):
    pass


CYCLE = Cyclic()
CYCLE["again"] = CYCLE


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        (None, "must be an object"),
        ([1], "must be an object"),
        ({1: 2}, "must be a string"),
        ({"a": [{"b": {1, 2}}]}, r"state\.a\[0\]\.b: neither .* but set"),
        ({"a": object()}, "but object"),
        ({"a": lambda: 0}, "but function"),
        ({"a": b"bytes"}, "but bytes"),
        ({"a": np.array([object()])}, "ndarray of object"),
        ({"a": np.array(["text"])}, "ndarray of str"),
        ({"a": np.array([1j])}, "complex128"),
        ({"a": np.array([0], "datetime64[s]")}, "datetime64"),
        ({"a": np.zeros(2, [("x", "i4")])}, "void"),
        ({"a": np.ma.masked_array([1, 2], [True, False])}, "MaskedArray"),
        ({"a": np.zeros((1,) * 17)}, "dimensions"),
        ({"a": float("nan")}, r"state\.a: nan"),
        ({"a": np.float64("inf")}, r"state\.a: inf"),
        ({"a": 2**63}, "64 bits"),
        ({"a": "\ud800"}, "surrogates"),
        ({"\ud800": 1}, "surrogates"),
        (CYCLE, "levels deep"),
    ],
)
def test_what_cannot_be_kept_is_refused(state: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        encode_state(state)


def test_tuples_and_numpys_numbers_become_plain() -> None:
    state = {"a": (np.float32(0.5), np.int8(3), np.bool_(True)), "b": np.array(7), "c": np.zeros((0, 3))}
    decoded = decode_state(encode_state(state))
    assert same(decoded["a"], [0.5, 3, True])
    assert same(decoded["b"], np.array(7))
    assert decoded["c"].shape == (0, 3)


def test_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    good = encode_state({"a": np.zeros(100_000)})
    assert len(good) < 5000
    monkeypatch.setattr(model_state, "MAX_UNPACKED_BYTES", 10_000)
    with pytest.raises(ValueError, match="more than 10000"):
        decode_state(good)  # it is found before it is unpacked
    for state in ({"a": np.zeros(100_000)}, {"a": "x" * 20_000}, {"a": [0] * 20_000}):
        with pytest.raises(ValueError, match="10000 bytes"):
            encode_state(state)


def test_another_version_is_not_read() -> None:
    with pytest.raises(ValueError, match="another version"):
        decode_state(b"EOMS\x02" + encode_state({})[5:])


@pytest.mark.parametrize("make", [SeasonalNaiveModel, QuantileBoostingModel])
def test_the_models_that_come_with_it_are_kept(make: Any) -> None:
    model = make("m")
    model.train(sample_history(120))
    other = make("m")
    other.load(decode_state(encode_state(model.save())))
    request = {"type": "ml-driven", "workload_size": 100, "timestamp": 1_767_614_400_000}
    for each in (model, other):
        each.use_history(sample_history(120))
    assert other.predict(request).prediction == model.predict(request).prediction
    assert digest_of(encode_state(other.save())) == digest_of(encode_state(model.save()))
