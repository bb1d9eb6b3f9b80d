"""Reading fields of a plugin's JSON, each refusal with its path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeGuard

from engine_ops.plugins.json_values import RefusedError, quoted

MAX_NAME: Final = 253
"""Characters of an id."""

ABSENT: Final = "required, but absent"


def entries(value: Mapping[str, Any], name: str, path: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the objects of a list with their paths.

    Raises
    ------
    RefusedError
        If the field is absent, no list, or has something in it that is no object.
    """
    if name not in value:
        raise RefusedError(f"{path}.{name}", ABSENT)
    found = value[name]
    if not isinstance(found, list):
        raise RefusedError(f"{path}.{name}", f"must be a list, not {quoted(found)}")
    pairs: list[tuple[str, Mapping[str, Any]]] = []
    for number, item in enumerate(found):
        here = f"{path}.{name}[{number}]"
        if not isinstance(item, dict):
            raise RefusedError(here, f"must be an object, not {quoted(item)}")
        pairs.append((here, item))
    return pairs


def text(value: Mapping[str, Any], name: str, path: str) -> str:
    """Return an id: a string of 1 to `MAX_NAME` characters.

    Raises
    ------
    RefusedError
        If it is absent or something else.
    """
    found = value.get(name)
    if found is None:
        raise RefusedError(f"{path}.{name}", ABSENT)
    if not isinstance(found, str) or not 1 <= len(found) <= MAX_NAME:
        raise RefusedError(f"{path}.{name}", f"must be a text of 1 to {MAX_NAME} characters, not {quoted(found)}")
    return found


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a JSON value is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_whole(value: object) -> TypeGuard[int]:
    """Whether a JSON value is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)
