"""JSON text of many points' values straight from their columns: no Python object for a value in between.

The text of a point is cut where it differs from its neighbours' (names, brackets and values that all have are one
piece of bytes, each column's values are a list of bytes), and points are joined of these pieces. The text says what
`engine_ops.history.shredding.get_values` returns: the same entries in the same order, NaN and infinities as null.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, repeat
from typing import Final

import msgspec
import numpy as np

from engine_ops.history import columns, shredding
from engine_ops.history.columns import Reader, Spec
from engine_ops.history.shredding import Moments, Rows

Piece = bytes | list[bytes]
"""Text that all rows have, or that of each."""
Pieces = list[Piece]
"""The texts of rows, one beside the other."""

encode: Final = msgspec.json.Encoder().encode
_FLAGS: Final = (b"false", b"true")
_UNPACK: Final = msgspec.msgpack.Decoder().decode


def joined(pieces: Iterable[Piece], count: int) -> Iterator[bytes]:
    """Yield the text of each row."""
    parts = [repeat(piece, count) if isinstance(piece, bytes) else piece for piece in pieces]
    return map(b"".join, zip(*parts, strict=True))


def of_rows(pieces: Iterable[Piece], rows: Sequence[int]) -> Pieces:
    """Return the pieces of some rows, what all have in one piece where it stands together."""
    chosen: Pieces = []
    for piece in pieces:
        if isinstance(piece, list):
            chosen.append(list(map(piece.__getitem__, rows)))
        elif chosen and isinstance(chosen[-1], bytes):
            chosen[-1] += piece
        else:
            chosen.append(piece)
    return chosen


def numbers(values: list[int] | list[float]) -> Piece:
    """Return the text of each number."""
    # The text of a number has no comma, and one call for all takes a tenth of the time of one for each.
    return _folded(encode(values)[1:-1].split(b",") if values else [])


def flags(values: Iterable[int]) -> Piece:
    """Return the text of each yes or no."""
    return _folded([_FLAGS[value] for value in values])


def coded(table: Iterable[str], codes: Iterable[int]) -> Piece:
    """Return the text of strings of a table; one piece where the table has only one."""
    texts = [encode(text) for text in table]
    return texts[0] if len(texts) == 1 else [texts[code] for code in codes]


def entry(name: str, value: Pieces) -> Pieces:
    """Return an entry of an object, after a comma."""
    return [b",%b:" % encode(name), *value]


def closed(entries: Pieces, count: int) -> Pieces:
    """Return the object of entries that begin with a comma each."""
    if not entries:
        return [b"{}"]
    first = entries[0]
    if isinstance(first, bytes) and first:  # then every row has it
        return [b"{" + first[1:], *entries[1:], b"}"]
    return [[b"{%b}" % text[1:] for text in joined(entries, count)]]


def values_text(spec: Spec, count: int, rows: Rows | None, moments: Moments, reader: Reader) -> Pieces:
    """Return the text of what `engine_ops.history.shredding.get_values` returns; nothing where a value is missing."""
    code = spec[0]
    if code == shredding.MIXED:
        return [_mixed(spec, count, rows, moments, reader)]
    if code == shredding.OBJECT:
        return closed(entries_text(spec, count, rows, moments, reader), count)
    return [_leaves(spec, count, rows, moments, reader)]


def _leaves(spec: Spec, count: int, rows: Rows | None, moments: Moments, reader: Reader) -> Piece:
    code = spec[0]
    if code == shredding.BOOL:
        return flags(columns.get_flags(spec[1], count, reader).tolist())
    if code == shredding.INT:
        return numbers(columns.get_ints(spec[1], count, reader, moments.of(rows)).tolist())
    if code == shredding.FLOAT:
        return numbers(columns.get_floats(spec[1], count, reader).tolist())
    if code == shredding.TEXT:
        return coded(*columns.get_coded_texts(spec[1], count, reader))
    if code == shredding.LIST:
        blobs, codes = columns.get_coded_blobs(spec[1], count, reader)
        texts = [encode(_UNPACK(blob)) for blob in blobs]
        return [texts[place] for place in codes]
    return b"null" if code == shredding.NULL else b""


def _folded(texts: list[bytes]) -> Piece:
    return texts[0] if texts and texts.count(texts[0]) == len(texts) else texts


def _mixed(spec: Spec, count: int, rows: Rows | None, moments: Moments, reader: Reader) -> list[bytes]:
    codes = columns.get_ints(spec[1], count, reader)
    texts = [b""] * count
    for part_count, child in spec[2]:
        places = np.flatnonzero(codes == child[0])
        part = values_text(child, part_count, places if rows is None else rows[places], moments, reader)
        for place, text in zip(places.tolist(), joined(part, part_count), strict=True):
            texts[place] = text
    return texts


def entries_text(spec: Spec, count: int, rows: Rows | None, moments: Moments, reader: Reader) -> Pieces:
    """Return the text of the entries of objects, each after a comma."""
    _, names, children, rest = spec
    entries: Pieces = []
    for name, child in zip(names, children, strict=True):
        value = values_text(child, count, rows, moments, reader)
        if child[0] == shredding.MIXED:
            before = b",%b:" % encode(name)
            entries.append([before + text if text else b"" for text in joined(value, count)])
        elif child[0] != shredding.ABSENT:
            entries += entry(name, value)
    if rest is not None:
        entries.append(_rest(rest, count, rows, moments, reader))
    return entries


def _rest(rest: Spec, count: int, rows: Rows | None, moments: Moments, reader: Reader) -> list[bytes]:
    total, counts_spec, keys_spec, values_spec = rest
    counts = columns.get_ints(counts_spec, count, reader)
    flat_rows = np.repeat(np.arange(count) if rows is None else rows, counts)
    keys = coded(*columns.get_coded_texts(keys_spec, total, reader))
    values = values_text(values_spec, total, flat_rows, moments, reader)
    texts = joined([b",", keys, b":", *values], total)
    return [b"".join(islice(texts, size)) for size in counts.tolist()]
