"""JSON lines of a block's points straight from its columns; see `engine_ops.history.json_values`."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from engine_ops.history.block import Run
from engine_ops.history.chunk import get_identities
from engine_ops.history.columns import Reader, Spec
from engine_ops.history.json_values import (
    Pieces,
    closed,
    coded,
    encode,
    entries_text,
    entry,
    flags,
    joined,
    numbers,
    of_rows,
    values_text,
)
from engine_ops.history.shredding import OBJECT


def lines_of_columns(run: Run) -> Pieces | None:
    """Return the lines of a run's points, one for each of its rows; None where they are no columns.

    So it is, too, where a point has keys that are none of a point: they might be those of a field.
    """
    if not run.kept.chunk:
        return None
    frame = run.frame()
    count = run.kept.number
    identity, content = msgspec.msgpack.decode(run.kept.chunk, type=tuple[bytes, bytes])
    reader = Reader(content)
    usage, rest, further = reader.spec
    if not _is_empty(further):
        return None
    moments = frame.moments()
    metadata = _identity(identity, count) + _namespace(frame.namespaces)
    metadata += entries_text(rest, count, None, moments, reader)
    block, first, last = run.block, run.first, run.first + count
    entries = [
        *entry("timestamp", [numbers(frame.timestamps.tolist())]),
        *entry("requestType", [coded(block.type_codes, block.types[first:last])]),
        *entry("resourceUsage", values_text(usage, count, None, moments, reader)),
        *entry("duration", [numbers(frame.durations.tolist())]),
        *entry("success", [flags(block.successes[first:last])]),
        *entry("metadata", closed(metadata, count)),
    ]
    return of_rows([*closed(entries, count), b"\n"], [row - first for row in run.rows])


def _is_empty(spec: Spec) -> bool:
    return bool(spec[0] == OBJECT and not spec[1] and spec[3] is None)


def _identity(section: bytes, count: int) -> Pieces:
    keyed, identities = get_identities(section, count)
    if not identities:
        return []
    uids, generations, runs = map(list, zip(*identities, strict=True))
    entries = entry("uid", [list(map(encode, uids))])
    entries += entry("generation", [numbers(generations)]) + entry("run", [numbers(runs)])
    if keyed.all():
        return entries
    texts = joined(entries, len(identities))
    return [[next(texts) if flag else b"" for flag in keyed.tolist()]]


def _namespace(names: Sequence[str]) -> Pieces:
    texts = {name: encode(name) for name in set(names)}
    if all(texts):
        return entry("namespace", [[texts[name] for name in names]])
    return [[b',"namespace":%b' % texts[name] if name else b"" for name in names]]
