"""One workload of the past: what it used, how long it took, whether it succeeded."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any, Self

_FIELDS = ("timestamp", "request_type", "resource_usage", "duration", "success")
_CAMEL = {"request_type": "requestType", "resource_usage": "resourceUsage"}
_KEYS = frozenset((*_FIELDS, *_CAMEL.values(), "metadata"))
_INT64 = 2**63


class WorkloadDataPoint:
    """What became of one request, or of one workload that was observed.

    Parameters
    ----------
    timestamp
        When it was asked for or began: epoch milliseconds, a whole number.
    request_type
        Such as ``resource`` or ``ml-driven``.
    resource_usage
        Amount by resource, as the point's writer meant them: the operator writes cores and bytes.
    duration
        How long it took, in milliseconds; NaN where it is not known.
    success
        Whether it succeeded.
    metadata
        Anything else, as JSON values. What the operator puts there is described in the user guide, page history.

    Raises
    ------
    TypeError, ValueError
        If a value is not of its kind; the message names the field.

    Attributes
    ----------
    further : dict
        Keys that `from_dict` did not know, which `to_dict` gives back.
    """

    __slots__ = ("duration", "further", "metadata", "request_type", "resource_usage", "success", "timestamp")

    def __init__(
        self,
        timestamp: int,
        request_type: str,
        resource_usage: Mapping[str, float],
        duration: float,
        success: bool,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.timestamp = _whole(timestamp)
        if not isinstance(request_type, str):
            raise TypeError(f"request_type must be a string, not {type(request_type).__name__}")
        self.request_type = request_type
        if not isinstance(resource_usage, Mapping):
            raise TypeError(f"resource_usage must be a mapping of numbers, not {type(resource_usage).__name__}")
        self.resource_usage = {_name(name): _amount(name, amount) for name, amount in resource_usage.items()}
        self.duration = _number("duration", duration)
        self.success = _flag(success)
        if metadata is not None and not isinstance(metadata, Mapping):
            raise TypeError(f"metadata must be a mapping, not {type(metadata).__name__}")
        self.metadata: dict[str, Any] = dict(metadata) if metadata is not None else {}
        self.further: dict[str, Any] = {}

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values: timestamp, requestType, resourceUsage, duration, success, metadata.

        Keys that `from_dict` did not know follow them, as they were.
        """
        return {
            "timestamp": self.timestamp,
            "requestType": self.request_type,
            "resourceUsage": dict(self.resource_usage),
            "duration": self.duration,
            "success": self.success,
            "metadata": dict(self.metadata),
            **self.further,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Make one of what `to_dict` returned; the names may be ``requestType`` or ``request_type``.

        Raises
        ------
        TypeError, ValueError
            If a field is missing or of another kind; the message names it.
        """
        if not isinstance(data, Mapping):
            raise TypeError(f"a data point must be an object, not {type(data).__name__}")
        values: dict[str, Any] = {"metadata": data.get("metadata")}
        for field in _FIELDS:
            camel = _CAMEL.get(field, field)
            if camel in data:
                values[field] = data[camel]
            elif field in data:
                values[field] = data[field]
            else:
                raise ValueError(f"{camel} is missing")
        point = cls(**values)
        point.further = {key: value for key, value in data.items() if key not in _KEYS}
        return point

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, WorkloadDataPoint):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]  # it can be changed, and holds dictionaries

    def __repr__(self) -> str:
        return (
            f"WorkloadDataPoint(timestamp={self.timestamp!r}, request_type={self.request_type!r}, "
            f"resource_usage={self.resource_usage!r}, duration={self.duration!r}, success={self.success!r}, "
            f"metadata={self.metadata!r})"
        )


def _whole(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError("timestamp must be epoch milliseconds, not a bool")
    if isinstance(value, float):
        if not value.is_integer():
            raise ValueError(f"timestamp must be whole epoch milliseconds, not {value}")
        value = int(value)
    try:
        whole = operator.index(value)
    except TypeError:
        raise TypeError(f"timestamp must be epoch milliseconds, not {type(value).__name__}") from None
    if not -_INT64 <= whole < _INT64:
        raise ValueError(f"timestamp must fit 64 bits, is {whole}")
    return whole


def _name(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"resource_usage must have strings for keys, not {name!r}")
    return name


def _amount(name: Any, amount: Any) -> float:
    return _number(f"resource_usage[{name!r}]", amount)


def _number(field: str, value: Any) -> float:
    if isinstance(value, bool | str | bytes):
        raise TypeError(f"{field} must be a number, not {type(value).__name__}")
    try:
        return float(value)
    except (TypeError, OverflowError) as error:
        raise TypeError(f"{field} must be a number: {error}") from None


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    # A numpy bool is no bool; nothing else that is true or false by accident is taken for an outcome.
    if type(value).__module__ == "numpy" and type(value).__name__ in ("bool", "bool_"):
        return bool(value)
    raise TypeError(f"success must be true or false, not {type(value).__name__}")
