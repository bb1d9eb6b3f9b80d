"""What a request's data says in a few numbers and words: bounded, whatever the data is."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from engine_ops.api.quantity import parse_quantity

MAX_FIELDS: Final = 32
"""Fields kept of one request."""
MAX_KEY_LENGTH: Final = 63
"""Characters of a field's name; the rest is cut."""
MAX_STRING_LENGTH: Final = 128
"""Characters of a value; the rest is cut."""

_SUMMED: Final = ("cpu", "memory")
_AMOUNT_HOLDERS: Final = ("requests", "requirements", "resources")
_COUNTS: Final = ("count", "replicas")
_RESOURCES: Final = frozenset({"cpu", "memory", "pods", "ephemeral-storage"})

Field = float | str | bool


def request_fields(request_type: str, data: Any) -> dict[str, Field]:
    """Return the numeric and categorical fields of a request's data.

    They are: scalars at the top (``strategy``) and one level down (``nodeCapacity.cpu``); of a list, its length
    (``items.count``) and, where its entries ask for them, the sums of cpu and memory, each entry times its count
    (``items.cpu``). A quantity of a resource becomes a number: cores, bytes. Nulls and numbers that are not finite are
    left out. Where there are more than `MAX_FIELDS`, scalars at the top are kept first, then lists, then the level
    below, each in the order of their names.

    Parameters
    ----------
    request_type
        The request's type. Every type is read in the same way; it is here so that one may be read in its own.
    data
        The request's data, a mapping; nothing makes this fail, and what is no mapping has no fields.

    Returns
    -------
    dict
        Name to number, string or bool: at most `MAX_FIELDS`, names of at most `MAX_KEY_LENGTH` characters, strings of
        at most `MAX_STRING_LENGTH`.
    """
    del request_type
    if not isinstance(data, Mapping):
        return {}
    top: dict[str, Field] = {}
    lists: dict[str, Field] = {}
    below: dict[str, Field] = {}
    for key, value in _first(data):
        if isinstance(value, Mapping):
            for inner, scalar in _first(value):
                _put(below, f"{key}.{inner}", _scalar(inner, scalar))
        elif isinstance(value, list | tuple):
            _put(lists, f"{key}.count", float(len(value)))
            for resource, total in _sums(value):
                _put(lists, f"{key}.{resource}", total)
        else:
            _put(top, key, _scalar(key, value))
    fields: dict[str, Field] = {}
    for part in (top, lists, below):
        for name in sorted(part):
            if len(fields) == MAX_FIELDS:
                return fields
            fields.setdefault(name, part[name])
    return fields


def _first(mapping: Mapping[Any, Any]) -> list[tuple[str, Any]]:
    # The order of a mapping's keys says nothing; a bound on their number keeps a huge mapping from costing anything.
    keys = heapq.nsmallest(4 * MAX_FIELDS, (key for key in mapping if isinstance(key, str)))
    return [(key, mapping[key]) for key in keys]


def _put(fields: dict[str, Field], name: str, value: Field | None) -> None:
    if value is not None:
        fields.setdefault(_text(name, MAX_KEY_LENGTH), value)


def _text(text: str, length: int) -> str:
    # JSON can hold half a surrogate pair, UTF-8 cannot.
    return text[:length].encode("utf-8", "replace").decode("utf-8")


def _scalar(key: str, value: Any) -> Field | None:
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return finite(value)
    if isinstance(value, str):
        if key in _RESOURCES or "/" in key:
            amount = amount_of(value)
            if not math.isnan(amount):
                return amount
        return _text(value, MAX_STRING_LENGTH)
    return None


def finite(value: float) -> float | None:
    """Return the number as a float, or None where it is not finite or too large for one."""
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def amount_of(value: object) -> float:
    """Return an amount, a number or a Kubernetes quantity, in its base unit; NaN where it is none."""
    try:
        return parse_quantity(value)
    except ValueError:
        return math.nan


def _sums(entries: list[Any] | tuple[Any, ...]) -> Iterator[tuple[str, float]]:
    totals: dict[str, float] = {}
    for entry in entries:
        if not isinstance(entry, Mapping):
            continue
        count = _count(entry)
        amounts = [entry, *(entry[holder] for holder in _AMOUNT_HOLDERS if isinstance(entry.get(holder), Mapping))]
        for resource in _SUMMED:
            found = (amount_of(holder[resource]) for holder in amounts if resource in holder)
            amount = next((amount for amount in found if not math.isnan(amount)), None)
            if amount is not None:
                totals[resource] = totals.get(resource, 0.0) + amount * count
    for resource, total in totals.items():
        if math.isfinite(total):
            yield resource, total


def _count(entry: Mapping[Any, Any]) -> float:
    for name in _COUNTS:
        count = entry.get(name)
        if isinstance(count, int | float) and not isinstance(count, bool):
            number = finite(count)
            return number if number is not None and number >= 0 else 1.0
    return 1.0
