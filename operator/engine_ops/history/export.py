"""Points as JSON, in pieces.

JSON has no word for NaN and infinities: they become null, so that any reader can read it. `WorkloadDataset.load` takes
a null duration or amount for NaN. (A data set's own file, `WorkloadDataset.save`, keeps them apart as Python's ``json``
spells them.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

import msgspec

from engine_ops.ml.data_point import WorkloadDataPoint

PIECE_POINTS: Final = 200
"""Points in a piece: some hundred kilobytes."""

_ENCODE = msgspec.json.Encoder().encode


def json_lines(points: Iterable[WorkloadDataPoint]) -> Iterator[bytes]:
    """Yield points as JSON lines, one object a line, in pieces of `PIECE_POINTS`."""
    for piece in _pieces(points):
        yield b"".join(b"%b\n" % text for text in piece)


def json_array(points: Iterable[WorkloadDataPoint]) -> Iterator[bytes]:
    """Yield points as one JSON array, in pieces of `PIECE_POINTS`."""
    before = b"["
    for piece in _pieces(points):
        yield before + b",\n".join(piece)
        before = b",\n"
    yield b"[]\n" if before == b"[" else b"]\n"


def _pieces(points: Iterable[WorkloadDataPoint]) -> Iterator[list[bytes]]:
    texts = (_ENCODE(point.to_dict()) for point in points)
    while piece := list(islice(texts, PIECE_POINTS)):
        yield piece
