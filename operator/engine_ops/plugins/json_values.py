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

    def copy(self, value: object, path: tuple[str | int, ...]) -> Any:
        self.left -= 1
        if isinstance(value, np.generic):
            value = value.item()
        elif isinstance(value, np.ndarray):
            # tolist() makes all values at once: their number is looked at first.
            self._charge(value.size, path)
            value = value.tolist()
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self._text(value, path)
        if isinstance(value, int):
            whole = int.__index__(value)
            if not -_LARGEST_INT <= whole < _LARGEST_INT:
                raise RefusedError(format_path(path), "a whole number of more than 64 bits")
            return whole
        if isinstance(value, float):
            number = float.__float__(value)
            if not math.isfinite(number):
                raise RefusedError(format_path(path), f"{number} is not a finite number")
            return number
        if not isinstance(value, dict | list | tuple):
            raise RefusedError(format_path(path), f"a value of type {type(value).__name__} is no JSON value")
        if len(path) >= MAX_DEPTH:
            raise RefusedError(format_path(path[:3]), f"nested more than {MAX_DEPTH} levels deep")
        return self._container(value, path)

    def _container(self, value: dict[Any, Any] | list[Any] | tuple[Any, ...], path: tuple[str | int, ...]) -> Any:
        # The types' own iteration: a subclass may have another that never ends.
        if isinstance(value, dict):
            copied = {}
            for key, item in dict.items(value):
                if not isinstance(key, str):
                    raise RefusedError(format_path(path), f"the key {type(key).__name__} {_shown(key)} is no string")
                name = self._text(key, path)
                copied[name] = self.copy(item, (*path, name))
            return copied
        entries = list.__iter__(value) if isinstance(value, list) else tuple.__iter__(value)
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


def _shown(key: object) -> str:
    """Write a key that is no string, without calling what is not known."""
    return repr(key) if type(key) in {int, float, bool, type(None)} else "that the plugin made"
