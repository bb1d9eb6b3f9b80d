"""From files, directories and standard input to documents: YAML or JSON objects, each with where it stands."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from engine_ops.api.faults import Fault, InvalidDataError, format_path
from engine_ops.cli.stdin import STDIN
from engine_ops.workers.documents import read_json_or_yaml

SUFFIXES: Final = (".yaml", ".yml", ".json")
"""What is read of a directory, as kubectl does."""

_MARKER: Final = re.compile(rb"^---(?=\s|$)", re.MULTILINE)
# YAML can say what JSON, and so the API server, cannot. Only texts that look like it are searched for it.
_SUSPICIOUS: Final = re.compile(rb"\.inf|\.nan|[0-9]{19}", re.IGNORECASE)


@dataclasses.dataclass(frozen=True, slots=True)
class Document:
    """One object that a user wrote.

    Parameters
    ----------
    where
        The file, and the number of the document in it, from 1.
    body
        JSON values.
    """

    where: str
    body: dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Unreadable:
    """What was found in place of a document.

    Parameters
    ----------
    where
        The file, and the number of the document if it is one.
    fault
        What is wrong.
    """

    where: str
    fault: Fault


def read_documents(names: Sequence[str], stdin: bytes) -> Iterator[Document | Unreadable]:
    """Read every document of every file, in order.

    Parameters
    ----------
    names
        Files, directories (their own ``*.yaml``, ``*.yml`` and ``*.json``, by name), or ``-`` for standard input.
    stdin
        What standard input said.
    """
    for name in names:
        if name == STDIN:
            yield from _split("stdin", stdin)
            continue
        path = Path(name)
        try:
            if path.is_dir():
                files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES and file.is_file())
                if not files:
                    yield Unreadable(name, Fault("", f"the directory has no {', '.join(SUFFIXES)} file"))
            else:
                files = [path]
        except OSError as error:
            yield Unreadable(name, Fault("", _reason(error)))
            continue
        for file in files:
            try:
                text = file.read_bytes()
            except OSError as error:
                yield Unreadable(str(file), Fault("", _reason(error)))
            else:
                yield from _split(str(file), text)


def _split(source: str, text: bytes) -> Iterator[Document | Unreadable]:
    """Read each document by itself, so that a fault in one leaves the others."""
    number = 0
    for first_line, chunk in _chunks(text.removeprefix(b"\xef\xbb\xbf")):
        number += 1
        where = f"{source}: document {number}"
        try:
            # Empty lines before it make the line numbers in messages those of the file.
            body = read_json_or_yaml(b"\n" * first_line + chunk, "")
        except InvalidDataError as error:
            yield Unreadable(where, error.faults[0])
            continue
        faults = list(_unspeakable(body, ())) if _SUSPICIOUS.search(chunk) else []
        if faults:
            yield from (Unreadable(where, fault) for fault in faults)
        else:
            yield Document(where, body)
    if number == 0:
        yield Unreadable(source, Fault("", "there is no document in it"))


def _chunks(text: bytes) -> Iterator[tuple[int, bytes]]:
    """Cut a stream at its document markers; yield the line (from 0) and the text of what is not blank.

    A line that begins with ``---`` is a marker wherever it stands: YAML allows it inside of no value.
    """
    cuts = [0, *(match.start() for match in _MARKER.finditer(text)), len(text)]
    line = 0
    for start, end in itertools.pairwise(cuts):
        chunk = text[start:end]
        lines = chunk.count(b"\n")
        head, _, rest = chunk.partition(b"\n")
        if head.rstrip() == b"---":
            # Without its marker a document of JSON is read as such, which is a hundred times as fast.
            chunk, shift = rest, 1
        else:
            shift = 0
        if any(_says_something(row) for row in chunk.splitlines()):
            yield line + shift, chunk
        line += lines


def _says_something(line: bytes) -> bool:
    bare = line.strip()
    return bool(bare) and not bare.startswith((b"#", b"%")) and bare not in (b"...", b"---")


def _unspeakable(value: object, location: tuple[str | int, ...]) -> Iterator[Fault]:
    """Name the numbers that JSON has no word for."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _unspeakable(item, (*location, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unspeakable(item, (*location, index))
    elif isinstance(value, float) and not math.isfinite(value):
        yield Fault(format_path(location), f"must be a finite number, is {value}")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        yield Fault(format_path(location), "a whole number must fit into 64 bits")


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
