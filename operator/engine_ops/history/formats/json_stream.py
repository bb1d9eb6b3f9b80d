"""The objects of one array in a JSON document, one after the other, without the whole document in memory."""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Collection, Iterator
from typing import Any, BinaryIO, Final

from engine_ops.history.formats.faults import FieldError

MAX_VALUE_CHARS: Final = 16 * 1024 * 1024
"""A longer element of the array is taken for a document that is broken."""

_CHUNK: Final = 256 * 1024
_SPACE: Final = re.compile(r"[ \t\r\n]*")


class _MoreNeededError(Exception):
    """The text ends within a value."""


class ArrayStream:
    """Reads the elements of the array that is a document, or that one of its keys holds.

    Parameters
    ----------
    file
        UTF-8.
    path
        Keys on the way to the array, each a set of names of which the first that is met is taken; empty where only the
        document itself may be the array.
    """

    def __init__(self, file: BinaryIO, path: tuple[Collection[str], ...]) -> None:
        self._file = file
        self._path = path
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._decoder = json.JSONDecoder(parse_int=_whole, parse_float=float)
        self._text = ""
        self._at = 0
        self._depth = 0
        self._ended = False
        self._lines_before = 1
        self._counted_to = 0

    @property
    def line(self) -> int:
        """The line that is being read, from 1."""
        if self._counted_to < self._at:
            self._lines_before += self._text.count("\n", self._counted_to, self._at)
            self._counted_to = self._at
        return self._lines_before

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        """Yield each element and the line at which it begins.

        Raises
        ------
        FieldError
            If the document is no JSON, or holds no such array. `line` says where.
        """
        if not self._find():
            raise FieldError("", "holds no array of points: a JSON array, or an object with one in data")
        self._expect("[")
        last = ","
        if self._peek() == "]":
            last = self._expect("]")
        while last != "]":
            self._peek()
            yield self.line, self._value()
            last = self._expect(",]")
        self._finish()

    def _find(self) -> bool:
        """Go to the array's opening bracket; return whether there is one."""
        if self._peek() == "[":
            return True
        for names in self._path:
            if self._peek() != "{" or not self._enter(names):
                return False
        return self._peek() == "["

    def _enter(self, names: Collection[str]) -> bool:
        """Go into an object, to the value of one of these keys."""
        self._expect("{")
        if self._peek() == "}":
            return False
        while True:
            key = self._value()
            self._expect(":")
            self._peek()
            if key in names:
                self._depth += 1
                return True
            self._value()
            if self._expect(",}") == "}":
                return False

    def _finish(self) -> None:
        """Read what stands behind the array: only what is whole to its end is not cut."""
        for _ in range(self._depth):
            while self._expect(",}") == ",":
                self._value()
                self._expect(":")
                self._value()
        if self._peek():
            raise FieldError("", "goes on behind the end of the JSON document; one point a line is the format jsonl")

    def _peek(self) -> str:
        """Return the next character that is no space; empty at the end."""
        while True:
            found = _SPACE.match(self._text, self._at)
            if found is not None:
                self._at = found.end()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read():
                return ""

    def _expect(self, characters: str) -> str:
        found = self._peek()
        if not found:
            raise FieldError("", "the JSON ends too early: the file is cut")
        if found not in characters:
            raise FieldError("", f"is no JSON: {' or '.join(map(repr, characters))} expected, found {found!r}")
        self._at += 1
        return found

    def _value(self) -> Any:
        if not self._peek():
            raise FieldError("", "the JSON ends too early: the file is cut")
        while True:
            try:
                return self._decoded()
            except _MoreNeededError:
                self._grow()
            except RecursionError:
                raise FieldError("", "is nested too deeply") from None

    def _decoded(self) -> Any:
        try:
            value, end = self._decoder.raw_decode(self._text, self._at)
        except json.JSONDecodeError as error:
            # Only what reaches the end of the text may be whole with more of it.
            if self._ended:
                raise FieldError("", f"is no JSON: {error.msg}") from None
            raise _MoreNeededError from None
        if end == len(self._text) and not self._ended and isinstance(value, int | float):
            raise _MoreNeededError  # there may be more digits
        self._at = end
        return value

    def _grow(self) -> None:
        waiting = len(self._text) - self._at
        if waiting > MAX_VALUE_CHARS:
            raise FieldError("", f"is no JSON, or one value of it is longer than {MAX_VALUE_CHARS:,} characters")
        # Twice as much each time: else a long value would be tried again for every few bytes of it.
        self._read(max(_CHUNK, waiting))

    def _read(self, size: int = _CHUNK) -> bool:
        """Read on; return whether there was more."""
        if self._ended:
            return False
        content = self._file.read(size)
        try:
            more = self._decode(content, final=not content)
        except UnicodeDecodeError:
            raise FieldError("", "is not UTF-8") from None
        self._ended = not content
        _ = self.line
        self._text = self._text[self._at :] + more
        self._at = self._counted_to = 0
        return not self._ended


def _whole(text: str) -> int | float:
    # A number of thousands of digits: Python refuses to read it as a whole one.
    return int(text) if len(text) <= 4000 else math.copysign(math.inf, -1 if text.startswith("-") else 1)
