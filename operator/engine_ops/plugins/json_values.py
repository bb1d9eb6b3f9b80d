"""What a plugin returned, as plain JSON values: finite, bounded, and nothing that runs when it is read."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Final

import numpy as np

from engine_ops.api.faults import format_path

MAX_BYTES: Final = 16 * 1024 * 1024
"""Of what a plugin returns, as JSON, roughly: 100,000 placements are some 6 MiB."""

MAX_DEPTH: Final = 32
"""Of containers in containers; a value that contains itself is found by it."""

_LARGEST_INT: Final = 2**63


class RefusedError(ValueError):
    """What a plugin returned cannot be used.

    Parameters
    ----------
    path
        The field, such as ``result.nodes[3].items``; empty for the whole of it.
    problem
        What is wrong with it.
    """

    def __init__(self, path: str, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"{path or 'what the plugin returned'}: {problem}")


def json_value(value: object, *, max_bytes: int = MAX_BYTES) -> Any:
    """Copy a value into plain dicts, lists, strings, numbers, booleans and None.

    numpy's scalars and arrays become numbers and lists, tuples become lists. Nothing else is converted: a generator,
    a set or an object of the plugin's own is refused, none of its methods is called.

    Parameters
    ----------
    value
        Anything.
    max_bytes
        Of the copy as JSON, estimated from below; at least one for each value.

    Raises
    ------
    RefusedError
        Naming the first field that is no JSON, not finite or too much.
    """
    return _Copier(max_bytes).copy(value, ())


def quoted(value: object, length: int = 80) -> str:
    """Write a JSON value into a sentence, cut where it is long."""
    text = repr(value)
    return text if len(text) <= length else text[: length - 3] + "..."


@dataclasses.dataclass(slots=True)
class _Copier:
    left: int

    def copy(self, value: Any, path: tuple[str | int, ...]) -> Any:
        self.left -= 1
        # Not isinstance: it asks an object for its __class__, which may be a property of the plugin's.
        kind = type(value)
        if issubclass(kind, np.generic):
            value = value.item()
        elif issubclass(kind, np.ndarray):
            # tolist() makes all values at once: their number is looked at first.
            self._charge(value.size, path)
            value = np.ndarray.tolist(value)
        kind = type(value)
        if value is None or kind is bool:
            return value
        if issubclass(kind, str):
            return self._text(value, path)
        if issubclass(kind, int):
            whole = int.__index__(value)
            if not -_LARGEST_INT <= whole < _LARGEST_INT:
                raise RefusedError(format_path(path), "a whole number of more than 64 bits")
            return whole
        if issubclass(kind, float):
            number = float.__float__(value)
            if not math.isfinite(number):
                raise RefusedError(format_path(path), f"{number} is not a finite number")
            return number
        if not issubclass(kind, dict | list | tuple):
            raise RefusedError(format_path(path), f"a value of type {_name_of(value)} is no JSON value")
        if len(path) >= MAX_DEPTH:
            raise RefusedError(format_path(path[:3]), f"nested more than {MAX_DEPTH} levels deep")
        return self._container(value, kind, path)

    def _container(self, value: Any, kind: type, path: tuple[str | int, ...]) -> Any:
        # The types' own iteration: a subclass may have another that never ends.
        if issubclass(kind, dict):
            copied = {}
            for key, item in dict.items(value):
                if not issubclass(type(key), str):
                    raise RefusedError(format_path(path), f"a key of type {_name_of(key)} is no string")
                name = self._text(key, path)
                copied[name] = self.copy(item, (*path, name))
            return copied
        entries = list.__iter__(value) if issubclass(kind, list) else tuple.__iter__(value)
        items = []
        for place, item in enumerate(entries):
            items.append(self.copy(item, (*path, place)))
        return items

    def _text(self, value: str, path: tuple[str | int, ...]) -> str:
        text = str.__str__(value)
        self._charge(len(text), path)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise RefusedError(format_path(path), "a text that is no valid Unicode") from error
        return text

    def _charge(self, size: int, path: tuple[str | int, ...]) -> None:
        self.left -= size
        if self.left < 0:
            raise RefusedError(format_path(path[:3]), "with it the whole is too large; return less")


def _name_of(value: object) -> str:
    """Return the name of a value's type, without asking the value or its type's own type."""
    name: str = type.__getattribute__(type(value), "__name__")
    return name
