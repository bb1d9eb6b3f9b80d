"""Points as JSON, in pieces.

JSON has no word for NaN and infinities: they become null, so that any reader can read it. `WorkloadDataset.load` takes
a null duration or amount for NaN. (A data set's own file, `WorkloadDataset.save`, keeps them apart as Python's ``json``
spells them.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

import msgspec

PIECE_POINTS: Final = 200
"""Points in a piece: some hundred kilobytes."""

_ENCODE = msgspec.json.Encoder().encode


Document = Mapping[str, Any]
"""What `WorkloadDataPoint.to_dict` returns."""


def json_lines(documents: Iterable[Document]) -> Iterator[bytes]:
    """Yield points as JSON lines, one object a line, in pieces of `PIECE_POINTS`."""
    for piece in _pieces(documents):
        yield b"".join(b"%b\n" % text for text in piece)


def json_array(documents: Iterable[Document]) -> Iterator[bytes]:
    """Yield points as one JSON array, in pieces of `PIECE_POINTS`."""
    before = b"["
    for piece in _pieces(documents):
        yield before + b",\n".join(piece)
        before = b",\n"
    yield b"[]\n" if before == b"[" else b"]\n"


def _pieces(documents: Iterable[Document]) -> Iterator[list[bytes]]:
    texts = map(_ENCODE, documents)
    while piece := list(islice(texts, PIECE_POINTS)):
        yield piece
