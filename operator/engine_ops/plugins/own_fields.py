"""Whose a request's data is: the built-in's, or a plugin's alone. Importing it loads no numpy."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

OWN_FIELDS: Final[Mapping[str, frozenset[str]]] = {
    "resource": frozenset({"items", "nodeCapacity", "node_capacity", "nodeTypes", "node_types"}),
    "scheduling": frozenset({"task", "tasks", "nodes"}),
    "performance": frozenset({"samples", "workload", "objective"}),
}
"""The fields of ``data`` that a built-in reads, by type; there is no built-in for the types that are not in it."""

_YAML_KEY: Final = re.compile(rb"""^([ \t]*)["']?([A-Za-z_]\w*)["']?[ \t]*:(?:\s|$)""", re.MULTILINE)

_KEYS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def has_own_field(request_type: str, names: Iterable[str]) -> bool:
    """Whether any of these fields is the built-in's to read."""
    own = OWN_FIELDS.get(request_type)
    return own is not None and not own.isdisjoint(names)


def needs_prediction(request_type: str, data: bytes) -> bool:
    """Whether only a plugin can answer: there is nothing in the data that the built-in could solve.

    A cheap look that reads no values. It may be wrong for YAML of unusual shape; who solves the request finds out.

    Parameters
    ----------
    request_type
        One of `engine_ops.engine.solvers.TYPES`.
    data
        JSON or YAML of an object.
    """
    if request_type not in OWN_FIELDS:
        return True
    try:
        names: Iterable[str] = _KEYS.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = list(_YAML_KEY.finditer(data))
        if not found:
            return False  # what cannot be read is the user's to mend, and the built-in says what is wrong
        outermost = min(len(match[1]) for match in found)
        names = [match[2].decode() for match in found if len(match[1]) == outermost]
    return not has_own_field(request_type, names)
