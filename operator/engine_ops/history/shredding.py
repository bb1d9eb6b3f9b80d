"""JSON values of many points as columns: one for each path that many of them have, by kind.

An object's frequent keys become columns of their own, the rest of its entries one list of keys and one column of all
their values: so 500 containers with names of their own are one object's columns still (after Dremel, Melnik et al.
2010, without its nested lists).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from engine_ops.history import columns
from engine_ops.history.columns import Ints, Reader, Spec, Writer

MAX_COLUMNS: Final = 512
"""When a chunk has so many columns, further keys get none of their own."""


class _Missing:
    """The kind of what is not there."""


MISSING: Final = _Missing()

_FREQUENT = 4
"""A key that one in so many objects has gets a column."""
_KINDS: Final[tuple[type, ...]] = (_Missing, type(None), bool, int, float, str, dict, list)
_CODES: Final = {kind: code for code, kind in enumerate(_KINDS)}
ABSENT, NULL, BOOL, INT, FLOAT, TEXT, OBJECT, LIST, MIXED = range(9)
_ENCODE = msgspec.msgpack.Encoder().encode
_DECODE = msgspec.msgpack.Decoder().decode

Rows = npt.NDArray[np.intp]


class Moments:
    """What moments of a point are close to: columns with a value for each row of the chunk."""

    def __init__(self, *bases: Ints) -> None:
        self._bases = bases

    def of(self, rows: Rows | None) -> Sequence[Ints]:
        """Return them for some rows."""
        return self._bases if rows is None else [base[rows] for base in self._bases]


def put_values(values: list[Any], rows: Rows | None, moments: Moments, writer: Writer) -> Spec:
    """Encode JSON values, or `MISSING`, that belong to some rows (None: to all of them in order)."""
    kinds = set(map(type, values))
    if len(kinds) == 1:
        return _put_kind(_CODES[kinds.pop()], values, rows, moments, writer)
    writer.columns += 1
    codes = np.fromiter((_CODES[type(value)] for value in values), dtype=np.int64, count=len(values))
    children: list[Spec] = []
    for code in sorted(map(_CODES.__getitem__, kinds)):
        places = np.flatnonzero(codes == code)
        part = [values[place] for place in places.tolist()]
        part_rows = places if rows is None else rows[places]
        children.append([len(part), _put_kind(code, part, part_rows, moments, writer)])
    return [MIXED, columns.put_ints(codes, writer), children]


def get_values(spec: Spec, count: int, rows: Rows | None, moments: Moments, reader: Reader) -> list[Any]:
    """Decode what `put_values` encoded."""
    if spec[0] != MIXED:
        return _get_kind(spec, count, rows, moments, reader)
    codes = columns.get_ints(spec[1], count, reader)
    values: list[Any] = [MISSING] * count
    for part_count, child in spec[2]:
        if child[0] != ABSENT:
            places = np.flatnonzero(codes == child[0])
            part_rows = places if rows is None else rows[places]
            part = _get_kind(child, part_count, part_rows, moments, reader)
            for place, value in zip(places.tolist(), part, strict=True):
                values[place] = value
    return values


def _put_kind(code: int, values: list[Any], rows: Rows | None, moments: Moments, writer: Writer) -> Spec:
    writer.columns += 1
    spec: Spec = [code]
    if code == BOOL:
        spec.append(columns.put_flags(np.array(values, dtype=np.bool_), writer))
    elif code == INT:
        spec.append(columns.put_ints(np.array(values, dtype=np.int64), writer, moments.of(rows)))
    elif code == FLOAT:
        spec.append(columns.put_floats(np.array(values, dtype=np.float64), writer))
    elif code == TEXT:
        spec.append(columns.put_texts(values, writer))
    elif code == OBJECT:
        spec += _put_objects(values, rows, moments, writer)
    elif code == LIST:
        spec.append(columns.put_blobs([_ENCODE(value) for value in values], writer))
    return spec


def _get_kind(spec: Spec, count: int, rows: Rows | None, moments: Moments, reader: Reader) -> list[Any]:
    code = spec[0]
    values: list[Any] = [None if code == NULL else MISSING] * count
    if code == BOOL:
        values = columns.get_flags(spec[1], count, reader).tolist()
    elif code == INT:
        values = columns.get_ints(spec[1], count, reader, moments.of(rows)).tolist()
    elif code == FLOAT:
        values = columns.get_floats(spec[1], count, reader).tolist()
    elif code == TEXT:
        values = columns.get_texts(spec[1], count, reader)
    elif code == OBJECT:
        values = list(_get_objects(spec, count, rows, moments, reader))
    elif code == LIST:
        # Each point gets a list of its own: whoever changes one changes no other.
        values = [_DECODE(blob) for blob in columns.get_blobs(spec[1], count, reader)]
    return values


def _put_objects(values: list[dict[str, Any]], rows: Rows | None, moments: Moments, writer: Writer) -> Spec:
    shapes = list(map(tuple, values))
    alike = shapes.count(shapes[0]) == len(shapes)
    often = Counter(dict.fromkeys(shapes[0], len(shapes)) if alike else chain.from_iterable(shapes))
    names = [key for key, count in often.items() if count * _FREQUENT >= len(values)]
    names = names[: max(0, MAX_COLUMNS - writer.columns)]
    if alike and len(names) == len(often):
        # The usual case, and most of the time: all objects have the same keys in the same order.
        parts = [list(part) for part in zip(*(value.values() for value in values), strict=True)]
    else:
        parts = [[value.get(name, MISSING) for value in values] for name in names]
    children = [put_values(part, rows, moments, writer) for part in parts]
    rest = _put_rest(values, set(names), rows, moments, writer) if len(names) < len(often) else None
    return [names, children, rest]


def _put_rest(
    values: list[dict[str, Any]], names: set[str], rows: Rows | None, moments: Moments, writer: Writer
) -> Spec:
    entries = [{key: item for key, item in value.items() if key not in names} for value in values]
    counts = np.fromiter(map(len, entries), dtype=np.int64, count=len(entries))
    flat_rows = np.repeat(np.arange(len(entries)) if rows is None else rows, counts)
    keys = columns.put_texts(list(chain.from_iterable(entries)), writer)
    flat = list(chain.from_iterable(entry.values() for entry in entries))
    return [len(flat), columns.put_ints(counts, writer), keys, put_values(flat, flat_rows, moments, writer)]


def _get_objects(spec: Spec, count: int, rows: Rows | None, moments: Moments, reader: Reader) -> list[dict[str, Any]]:
    _, names, children, rest = spec
    parts = [get_values(child, count, rows, moments, reader) for child in children]
    if not names:
        objects: list[dict[str, Any]] = [{} for _ in range(count)]
    elif any(child[0] in (MIXED, ABSENT) for child in children):
        objects = [
            {name: value for name, value in zip(names, row, strict=True) if value is not MISSING}
            for row in zip(*parts, strict=True)
        ]
    else:
        objects = [dict(zip(names, row, strict=True)) for row in zip(*parts, strict=True)]
    if rest is not None:
        total, counts_spec, keys_spec, values_spec = rest
        counts = columns.get_ints(counts_spec, count, reader)
        flat_rows = np.repeat(np.arange(count) if rows is None else rows, counts)
        keys = columns.get_texts(keys_spec, total, reader)
        flat = get_values(values_spec, total, flat_rows, moments, reader)
        entries = zip(keys, flat, strict=True)
        for entry_count, target in zip(counts.tolist(), objects, strict=True):
            for _ in range(entry_count):
                key, value = next(entries)
                target[key] = value
    return objects
