"""Columns of one kind as few bytes: numbers, yes or no, text.

Every encoder returns a description (JSON-able) and hands bytes to a `Writer`; its decoder gives back the same values,
floats bit for bit. What compresses well is brought into that form, zlib does the rest: numbers as differences to the
least one, divided by what divides all of them, their bytes shuffled (first all lowest bytes, then all second ones, as
Blosc and HDF5 do); floats that are short decimals as whole numbers.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Spec = list[Any]

ZLIB_LEVEL: Final = 6

_EPOCH_MS = 10**11
"""Whole numbers beyond it (the year 1973) may be moments."""
_POWERS = np.array([10.0**decimals for decimals in range(13)])
_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
# Names with a number at their end, as CronJobs and CI systems give them.
_NUMBERED = re.compile(r"(.*?)([0-9]{1,18})", re.DOTALL).fullmatch
_NUMBERED_FROM = 16
_UUIDS = re.compile(f"(?:{_UUID})*").fullmatch


class Writer:
    """Takes the bytes of columns; equal ones are kept once."""

    def __init__(self) -> None:
        self.columns = 0
        self._buffers: list[bytes] = []
        self._random: list[bytes] = []
        self._places: dict[bytes, int] = {}

    def put(self, data: bytes) -> int:
        """Keep some bytes and return their number."""
        place = self._places.setdefault(data, len(self._buffers))
        if place == len(self._buffers):
            self._buffers.append(data)
        return place

    def put_random(self, data: bytes) -> int:
        """Keep bytes that no compression makes smaller."""
        self._random.append(data)
        return len(self._random) - 1

    def finish(self, spec: Spec) -> bytes:
        """Return everything, with its description."""
        described = msgspec.msgpack.encode((spec, self._buffers))
        return msgspec.msgpack.encode((zlib.compress(described, ZLIB_LEVEL), self._random))


class Reader:
    """What a `Writer` wrote: its description and its buffers."""

    def __init__(self, content: bytes) -> None:
        described, self.random = msgspec.msgpack.decode(content, type=tuple[bytes, list[bytes]])
        self.spec, self.buffers = msgspec.msgpack.decode(zlib.decompress(described), type=tuple[list[Any], list[bytes]])


def put_ints(values: Ints, writer: Writer, bases: Sequence[Ints] = ()) -> Spec:
    """Encode whole numbers of 64 bits; moments as distances from the closest of some bases of the same length."""
    if not len(values):
        return ["c", 0]
    low, high = int(values.min()), int(values.max())
    if low == high:
        return ["c", low]
    spread = high - low
    if low > _EPOCH_MS and bases:
        spreads = [_spread(values - base) for base in bases]
        nearest = int(np.argmin(spreads))
        if spreads[nearest] < spread:
            return ["b", nearest, put_ints(values - bases[nearest], writer)]
    if spread > 0xFF and len(values) > 4:
        steps = np.diff(values)
        if _spread(steps) < spread // 4:
            return ["p", int(values[0]), put_ints(steps, writer)]
        table = np.unique(values)
        codes = 1 if len(table) <= 0x100 else 2 if len(table) <= 0x10000 else 8
        width = _width(spread)
        if len(table) * width + len(values) * codes < len(values) * width:
            return ["d", len(table), put_ints(table, writer), _put_frame(np.searchsorted(table, values), 0, writer)]
    return _put_frame(values, low, writer)


def get_ints(spec: Spec, count: int, reader: Reader, bases: Sequence[Ints] = ()) -> Ints:
    """Decode what `put_ints` encoded."""
    kind = spec[0]
    if kind == "c":
        return np.full(count, spec[1], dtype=np.int64)
    if kind == "b":
        return get_ints(spec[2], count, reader) + bases[spec[1]]
    if kind == "p":
        values = np.empty(count, dtype=np.int64)
        values[0] = spec[1]
        values[1:] = get_ints(spec[2], count - 1, reader)
        return np.cumsum(values, dtype=np.int64)
    if kind == "d":
        return get_ints(spec[2], spec[1], reader)[get_ints(spec[3], count, reader)]
    _, low, divisor, width, place = spec
    data = np.frombuffer(reader.buffers[place], dtype=np.uint8).reshape(width, count)
    whole = np.zeros((count, 8), dtype=np.uint8)
    whole[:, :width] = data.T
    scaled = whole.view("<u8").ravel() * np.uint64(divisor)
    return scaled.astype(np.uint64).view(np.int64) + np.int64(low)


def _put_frame(values: npt.NDArray[Any], low: int, writer: Writer) -> Spec:
    # Differences of 64-bit numbers may need 64 bits: unsigned arithmetic wraps and is right.
    offsets = (values.astype(np.int64) - np.int64(low)).view(np.uint64)
    divisor = int(np.gcd.reduce(offsets)) or 1
    if divisor > 1:
        offsets = offsets // np.uint64(divisor)
    width = _width(int(offsets.max()))
    shuffled = offsets.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :width].T.tobytes()
    return ["f", low, divisor, width, writer.put(shuffled)]


def _spread(values: Ints) -> int:
    return int(values.max()) - int(values.min())


def _width(largest: int) -> int:
    return max(1, (largest.bit_length() + 7) // 8)


def put_floats(values: Floats, writer: Writer) -> Spec:
    """Encode floats: as whole numbers over a power of ten where nearly all of them are, else by their bits."""
    bits = values.view(np.int64)
    if not len(values) or (bits == bits[0]).all():
        return ["r", put_ints(bits, writer)]
    decimals = _decimals(values[:: max(1, len(values) // 32)])
    if decimals is not None:
        wholes, exact = _scaled(values, _POWERS[decimals])
        odd = np.flatnonzero(~exact)
        if len(odd) <= len(values) // 8:
            wholes[odd] = wholes[np.argmax(exact)]
            spec = ["x", decimals, put_ints(wholes, writer)]
            if len(odd):
                spec += [len(odd), put_ints(odd.astype(np.int64), writer), put_ints(bits[odd], writer)]
            return spec
    return ["r", put_ints(bits, writer)]


def get_floats(spec: Spec, count: int, reader: Reader) -> Floats:
    """Decode what `put_floats` encoded."""
    if spec[0] == "r":
        return get_ints(spec[1], count, reader).view(np.float64)
    values: Floats = get_ints(spec[2], count, reader) / _POWERS[spec[1]]
    if len(spec) > 3:
        bits = values.view(np.int64)
        bits[get_ints(spec[4], spec[3], reader)] = get_ints(spec[5], spec[3], reader)
    return values


def _decimals(sample: Floats) -> int | None:
    """How many decimals nearly all of these have; None if they have too many."""
    _, exact = _scaled(sample[np.newaxis], _POWERS[:, np.newaxis])
    enough = np.flatnonzero(exact.sum(axis=1) * 8 >= len(sample) * 7)
    return int(enough[0]) if len(enough) else None


def _scaled(values: Floats, power: Any) -> tuple[Ints, npt.NDArray[np.bool_]]:
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = np.rint(values * power)
        # A whole number below 2^53 over an exact power of ten is rounded once, as the text of a decimal is.
        small = np.abs(scaled) < 2.0**53
        wholes = np.where(small, scaled, 0.0).astype(np.int64)
    exact = small & ((wholes / power).view(np.int64) == values.view(np.int64))
    return wholes, exact


def put_flags(values: npt.NDArray[np.bool_], writer: Writer) -> Spec:
    """Encode yes and no, a bit each."""
    if values.all() or not values.any():
        return ["c", bool(len(values) and values[0])]
    return ["f", writer.put(np.packbits(values).tobytes())]


def get_flags(spec: Spec, count: int, reader: Reader) -> npt.NDArray[np.bool_]:
    """Decode what `put_flags` encoded."""
    if spec[0] == "c":
        return np.full(count, spec[1], dtype=np.bool_)
    packed = np.frombuffer(reader.buffers[spec[1]], dtype=np.uint8)
    return np.unpackbits(packed, count=count).astype(np.bool_)


def put_texts(values: Sequence[str], writer: Writer) -> Spec:
    """Encode strings: as a table of the different ones and a code each, or one after the other.

    UUIDs take 16 bytes; names that end in a number become the rest, by the same rules, and the number.
    """
    if values and values.count(values[0]) == len(values):
        return ["d", 1, _put_table(values[:1], writer), put_ints(np.zeros(1, dtype=np.int64), writer)]
    table = list(dict.fromkeys(values))
    if len(table) > len(values) // 2 and len(table) > 1:
        return ["t", _put_table(values, writer)]
    return ["d", len(table), _put_table(table, writer), _put_codes(values, table, writer)]


def get_texts(spec: Spec, count: int, reader: Reader) -> list[str]:
    """Decode what `put_texts` encoded."""
    if spec[0] == "t":
        return _get_table(spec[1], count, reader)
    table, codes = get_coded_texts(spec, count, reader)
    return [table[code] for code in codes]


def get_coded_texts(spec: Spec, count: int, reader: Reader) -> tuple[list[str], Sequence[int]]:
    """Decode what `put_texts` encoded as a table of strings and the place in it of each."""
    if spec[0] == "t":
        return _get_table(spec[1], count, reader), range(count)
    return _get_table(spec[2], spec[1], reader), get_ints(spec[3], count, reader).tolist()


def put_blobs(values: Sequence[bytes], writer: Writer) -> Spec:
    """Encode short runs of bytes that repeat: a table of the different ones and a code each."""
    table = list(dict.fromkeys(values))
    return [writer.put(msgspec.msgpack.encode(table)), _put_codes(values, table, writer)]


def get_blobs(spec: Spec, count: int, reader: Reader) -> list[bytes]:
    """Decode what `put_blobs` encoded."""
    table, codes = get_coded_blobs(spec, count, reader)
    return [table[code] for code in codes]


def get_coded_blobs(spec: Spec, count: int, reader: Reader) -> tuple[list[bytes], list[int]]:
    """Decode what `put_blobs` encoded as a table of bytes and the place in it of each."""
    table = msgspec.msgpack.decode(reader.buffers[spec[0]], type=list[bytes])
    return table, get_ints(spec[1], count, reader).tolist()


def _put_codes(values: Sequence[Any], table: Sequence[Any], writer: Writer) -> Spec:
    codes = {value: code for code, value in enumerate(table)}
    return put_ints(np.fromiter(map(codes.__getitem__, values), np.int64, len(values)), writer)


def _put_table(values: Sequence[str], writer: Writer) -> Spec:
    whole = "".join(values)
    lengths = np.fromiter(map(len, values), dtype=np.int64, count=len(values))
    if whole and (lengths == 36).all() and _UUIDS(whole):
        return ["u", writer.put_random(bytes.fromhex(whole.replace("-", "")))]
    if len(values) > _NUMBERED_FROM and all(map(_NUMBERED, values[:4])):
        matches = list(map(_NUMBERED, values))
        if all(matches):
            stems, digits = zip(*(match.groups() for match in matches if match), strict=True)
            widths = np.fromiter(map(len, digits), dtype=np.int64, count=len(digits))
            numbers = np.fromiter(map(int, digits), dtype=np.int64, count=len(digits))
            return ["n", put_texts(stems, writer), put_ints(widths, writer), put_ints(numbers, writer)]
    return ["s", put_ints(lengths, writer), writer.put(whole.encode())]


def _get_table(spec: Spec, count: int, reader: Reader) -> list[str]:
    if spec[0] == "u":
        return _get_uuids(reader.random[spec[1]], count)
    if spec[0] == "n":
        stems = get_texts(spec[1], count, reader)
        widths, numbers = get_ints(spec[2], count, reader).tolist(), get_ints(spec[3], count, reader).tolist()
        return [f"{stem}{number:0{width}d}" for stem, width, number in zip(stems, widths, numbers, strict=True)]
    whole = reader.buffers[spec[2]].decode()
    ends = np.cumsum(get_ints(spec[1], count, reader)).tolist()
    return [whole[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _get_uuids(data: bytes, count: int) -> list[str]:
    if len(data) != 16 * count:
        raise ValueError(f"{count} UUIDs in {len(data)} bytes")
    digits = np.frombuffer(data.hex().encode(), dtype=np.uint8).reshape(count, 32)
    dashes = np.full((count, 1), ord("-"), dtype=np.uint8)
    groups = [digits[:, :8], digits[:, 8:12], digits[:, 12:16], digits[:, 16:20], digits[:, 20:]]
    apart = [part for group in groups for part in (dashes, group)]
    text = np.hstack(apart[1:]).tobytes().decode()
    return [text[start : start + 36] for start in range(0, 36 * count, 36)]
