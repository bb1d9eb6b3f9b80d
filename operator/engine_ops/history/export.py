"""Points as JSON, in pieces.

JSON has no word for NaN and infinities: they become null, so that any reader can read it. `WorkloadDataset.load` takes
a null duration or amount for NaN. (A data set's own file, `WorkloadDataset.save`, keeps them apart as Python's ``json``
spells them.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

from engine_ops.history.block import Block, Rows
from engine_ops.history.json_points import lines_of_columns
from engine_ops.history.json_values import encode, joined

PIECE_POINTS: Final = 200
"""Points in a piece: some hundred kilobytes."""

Document = Mapping[str, Any]
"""What `WorkloadDataPoint.to_dict` returns."""


def json_lines(documents: Iterable[Document]) -> Iterator[bytes]:
    """Yield points as JSON lines, one object a line, in pieces of `PIECE_POINTS`."""
    return _pieces(map(b"%b\n".__mod__, map(encode, documents)))


def block_lines(block: Block, rows: Rows | None = None) -> Iterator[bytes]:
    """Yield the points of a block, or those of some rows in ascending order, as `json_lines` does their documents.

    Where they are columns, in a fifth of its time.
    """
    for run in block.runs(rows):
        pieces = lines_of_columns(run)
        if pieces is None:
            yield from json_lines(block.documents(run.rows))
        else:
            yield from _pieces(joined(pieces, len(run.rows)))


def json_array(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield pieces of JSON lines as one JSON array: no line has a line break within."""
    before = b"["
    for piece in lines:
        yield before + piece.removesuffix(b"\n").replace(b"\n", b",\n")
        before = b",\n"
    yield b"[]\n" if before == b"[" else b"]\n"


def _pieces(lines: Iterator[bytes]) -> Iterator[bytes]:
    while piece := b"".join(islice(lines, PIECE_POINTS)):
        yield piece
