"""The saved form of a trained model: JSON values and arrays of numbers, never a pickle.

A state is read in processes that must not trust it: it may come from anybody who can write the cluster's ConfigMaps.
Nothing in it is code, names a type to be made, or stands for more memory than is allowed.

The form is a header (`MAGIC`) and zlib over one msgpack map; an array is an extension of type `ARRAY_EXT` that holds
its kind of numbers, its shape, and its little-endian bytes in C order.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import numpy as np

MAGIC: Final = b"EOMS\x01"
ARRAY_EXT: Final = 1
MAX_DEPTH: Final = 64
"""Of objects and lists in one another."""
MAX_DIMENSIONS: Final = 16
MAX_UNPACKED_BYTES: Final = 256 * 2**20
"""Of a state once it is unpacked."""

_WHOLE = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
_KINDS: Final[Mapping[str, np.dtype[Any]]] = {
    name: np.dtype(name).newbyteorder("<") for name in ("bool", *_WHOLE, "float16", "float32", "float64")
}
_INT64: Final = 2**63


class _Array(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    kind: str
    shape: tuple[int, ...]
    data: bytes


_decode_array = msgspec.msgpack.Decoder(_Array).decode


def encode_state(state: Mapping[str, Any]) -> bytes:
    """Return the saved form of what `engine_ops.ml.BaseMLModel.save` returned.

    The same state gives the same bytes. Tuples become lists, numpy's scalars plain numbers.

    Parameters
    ----------
    state
        Strings to JSON values (integers of 64 bits, no NaN) or numpy arrays of booleans, integers or floats (in which
        NaN may be), nested as needed.

    Raises
    ------
    ValueError
        If there is anything else in it, or too much; the message names the place.
    """
    if not isinstance(state, Mapping):
        raise ValueError(f"a state must be an object, not {type(state).__name__}")
    packed = msgspec.msgpack.encode(_Packer().pack(state, "state", 0))
    if len(packed) > MAX_UNPACKED_BYTES:
        raise ValueError(f"the state has {len(packed)} bytes, and at most {MAX_UNPACKED_BYTES} are kept")
    return MAGIC + zlib.compress(packed)


def decode_state(encoded: bytes) -> dict[str, Any]:
    """Read what `encode_state` wrote; arrays own their memory and can be written to.

    Raises
    ------
    ValueError
        If it is none, or was changed since.
    """
    if not encoded.startswith(MAGIC):
        raise ValueError("it is no saved state of a model, or one of another version")
    try:
        value = msgspec.msgpack.decode(_unpacked(encoded[len(MAGIC) :]), ext_hook=_read_extension)
    except (msgspec.MsgspecError, RecursionError, zlib.error, OverflowError, TypeError) as error:
        raise ValueError(f"the saved state of a model is damaged: {error}") from error
    if not isinstance(value, dict):
        raise ValueError("the saved state of a model must be an object")
    _check(value, "state", 0)
    return value


def digest_of(encoded: bytes) -> str:
    """Return what a state is named by: ``sha256:`` and 64 hexadecimal digits."""
    return f"sha256:{hashlib.sha256(encoded).hexdigest()}"


class _Packer:
    """Copies a state into what msgpack can say, and keeps count of its size."""

    def __init__(self) -> None:
        self._left = MAX_UNPACKED_BYTES

    def pack(self, value: Any, path: str, depth: int) -> Any:
        self._charge(1, path)
        if isinstance(value, np.ndarray):
            return self._array(value, path)
        if isinstance(value, np.generic) and value.dtype.name in _KINDS:
            value = value.item()
        if isinstance(value, Mapping | list | tuple):
            if depth >= MAX_DEPTH:
                raise ValueError(f"{path[:200]}: nested more than {MAX_DEPTH} levels deep")
            if isinstance(value, Mapping):
                return {
                    _key(key, path): self.pack(item, f"{path}.{key}"[:1000], depth + 1) for key, item in value.items()
                }
            return [self.pack(item, f"{path}[{index}]"[:1000], depth + 1) for index, item in enumerate(value)]
        return self._plain(value, path)

    def _plain(self, value: Any, path: str) -> Any:
        if isinstance(value, str):
            self._charge(len(value), path)
            value.encode()  # a lone surrogate raises a ValueError
            return str(value)
        if isinstance(value, bool) or value is None:
            return value
        if isinstance(value, int | float):
            number = int(value) if isinstance(value, int) else float(value)
            _check_number(number, path)
            return number
        raise ValueError(f"{path}: neither a JSON value nor an array of numbers but {type(value).__name__}")

    def _array(self, array: np.ndarray[Any, Any], path: str) -> msgspec.msgpack.Ext:
        kind = array.dtype.name
        if type(array) not in {np.ndarray, np.memmap} or kind not in _KINDS:
            raise ValueError(f"{path}: a {type(array).__name__} of {kind} cannot be kept; kept are {', '.join(_KINDS)}")
        if array.ndim > MAX_DIMENSIONS:
            raise ValueError(f"{path}: an array of more than {MAX_DIMENSIONS} dimensions")
        self._charge(array.nbytes, path)
        data = array.astype(_KINDS[kind], copy=False).tobytes()
        return msgspec.msgpack.Ext(ARRAY_EXT, msgspec.msgpack.encode(_Array(kind, array.shape, data)))

    def _charge(self, size: int, path: str) -> None:
        self._left -= size
        if self._left < 0:
            raise ValueError(f"{path}: with it the state has more than {MAX_UNPACKED_BYTES} bytes")


def _unpacked(packed: bytes) -> bytes:
    inflating = zlib.decompressobj()
    unpacked = inflating.decompress(packed, MAX_UNPACKED_BYTES)
    if not inflating.eof or inflating.unused_data:
        raise ValueError(f"the saved state of a model is cut, or has more than {MAX_UNPACKED_BYTES} bytes")
    return unpacked


def _read_extension(code: int, data: memoryview) -> np.ndarray[Any, Any]:
    if code != ARRAY_EXT:
        raise ValueError(f"the saved state of a model holds an extension of the unknown type {code}")
    read = _decode_array(data)
    kind = _KINDS.get(read.kind)
    if kind is None:
        raise ValueError(f"the saved state of a model holds an array of {read.kind[:40]!r}")
    # An empty array may claim any other size, which numpy itself does not take.
    if len(read.shape) > MAX_DIMENSIONS or any(not 0 <= size <= MAX_UNPACKED_BYTES for size in read.shape):
        raise ValueError("the saved state of a model holds an array of an impossible shape")
    if math.prod(read.shape) * kind.itemsize != len(read.data):
        raise ValueError("the saved state of a model holds an array whose shape does not fit its bytes")
    flat = np.frombuffer(read.data, dtype=kind).astype(kind.newbyteorder("="))
    if read.kind == "bool":
        # Any byte but 0 and 1 would be a boolean that is neither.
        flat = np.frombuffer(read.data, dtype=np.uint8) != 0
    try:
        return flat.reshape(read.shape)
    except ValueError as error:
        raise ValueError("the saved state of a model holds an array of an impossible shape") from error


def _check(value: Any, path: str, depth: int) -> None:
    """Check that there is nothing in a decoded value that no state could have held."""
    if depth > MAX_DEPTH:
        raise ValueError(f"{path[:200]}: nested more than {MAX_DEPTH} levels deep")
    if isinstance(value, dict):
        for key, item in value.items():
            _check(item, f"{path}.{_key(key, path)}"[:1000], depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check(item, f"{path}[{index}]"[:1000], depth + 1)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        _check_number(value, path)
    elif not isinstance(value, bool | str | np.ndarray | None):
        raise ValueError(f"{path}: {type(value).__name__} is no value of a state")


def _check_number(value: float, path: str) -> None:
    if isinstance(value, int):
        if not -_INT64 <= value < _INT64:
            raise ValueError(f"{path}: a whole number of more than 64 bits")
    elif not math.isfinite(value):
        raise ValueError(f"{path}: {value} is no JSON value; in an array it may be")


def _key(key: object, path: str) -> str:
    if not isinstance(key, str):
        raise ValueError(f"{path}: the key {key!r:.80} must be a string")
    key.encode()
    return str(key)
