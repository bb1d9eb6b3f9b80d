"""Field types that both resources use, each with its bounds and its notes for the CRD."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Final

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, PlainSerializer

from engine_ops.api.quantity import MAX_LENGTH, QUANTITY_PATTERN, parse_quantity

INT32_MAX: Final = 2**31 - 1
MAX_COUNT: Final = 2**53 - 1
"""The largest integer that JSON readers keep exact; the API server stores bounds as 64-bit floats."""
YEAR_SECONDS: Final = 365 * 24 * 3600
"""The upper bound of every duration that has no tighter one."""

DNS_SUBDOMAIN: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
"""What Kubernetes asks of most names."""
DNS_LABEL: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
"""What Kubernetes asks of a namespace's name."""
CONFIG_MAP_KEY: Final = r"^[-._a-zA-Z0-9]+$"

ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=DNS_SUBDOMAIN)]
NamespaceName = Annotated[str, Field(min_length=1, max_length=63, pattern=DNS_LABEL)]
ConfigMapKey = Annotated[str, Field(min_length=1, max_length=253, pattern=CONFIG_MAP_KEY)]
Measure = Annotated[float, Field(strict=True, ge=0, le=MAX_COUNT)]
"""A number in the unit of an objective: nodes, or money."""
Share = Annotated[float, Field(strict=True, ge=0, le=1)]
LabelText = Annotated[str, Field(max_length=63)]
"""The value of a label."""
Word = Annotated[str, Field(max_length=256)]
"""A short text, such as a version or an identifier."""


def _to_whole(value: object) -> object:
    """Read 30.0 as 30, as kubectl does. The API server takes no "30" and no true for a number; nor do we."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


INTEGRAL: Final = BeforeValidator(_to_whole)
"""Stands last on a strict integer, after its bounds."""
Flag = Annotated[bool, Field(strict=True)]
Count = Annotated[int, Field(strict=True, ge=0, le=MAX_COUNT), INTEGRAL]

ATOMIC_LIST: Final[dict[str, Any]] = {"x-kubernetes-list-type": "atomic"}
"""Note for the CRD: whoever applies the list owns the whole of it."""

FREE_FORM: Final[dict[str, Any]] = {
    "x-kubernetes-map-type": "atomic",
    "x-kubernetes-preserve-unknown-fields": True,
}
"""Note for the CRD: whoever applies the object owns the whole value, and no field of it is pruned."""

EMPTY_DEFAULT: Final[dict[str, Any]] = {"default": {}}
"""Note for the CRD on an object with a default for each of its fields: the API server fills an absent one in."""

FreeForm = Annotated[dict[str, Any], Field(json_schema_extra=FREE_FORM)]
"""An object whose fields are not the API server's business."""


def _check_timestamp(value: object) -> object:
    if not isinstance(value, str | dt.datetime):
        # pydantic would read a number as seconds since 1970.
        raise ValueError("must be a time such as 2026-01-02T03:04:05Z")
    return value


def _to_utc_seconds(moment: dt.datetime) -> dt.datetime:
    return moment.astimezone(dt.UTC).replace(microsecond=0)


def format_timestamp(moment: dt.datetime) -> str:
    """Write a moment as Kubernetes does: RFC 3339, UTC, whole seconds.

    >>> format_timestamp(dt.datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=dt.UTC))
    '2026-01-02T03:04:05Z'
    """
    return _to_utc_seconds(moment).replace(tzinfo=None).isoformat() + "Z"


Timestamp = Annotated[
    AwareDatetime,
    BeforeValidator(_check_timestamp),
    AfterValidator(_to_utc_seconds),
    PlainSerializer(format_timestamp, return_type=str, when_used="json"),
]
"""A moment, cut to whole seconds in UTC as metav1.Time is."""


POSITIVE_QUANTITY_MESSAGE: Final = "must be a Kubernetes quantity above 0 and below 1Ei, such as 512Mi"
_QUANTITY_END: Final = 2.0**60


def _check_positive_quantity(value: object) -> object:
    value = _to_whole(value)
    try:
        # int-or-string: the API server refuses a fraction.
        fits = not isinstance(value, float) and 0 < parse_quantity(value) < _QUANTITY_END
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(POSITIVE_QUANTITY_MESSAGE)
    return value


# matches() goes first: the grammar bounds the exponent, and comparing 1e999999999 would cost the API server gigabytes.
_POSITIVE_QUANTITY_RULE: Final = (
    f"string(self).matches('{QUANTITY_PATTERN}') && isQuantity(string(self))"
    " && quantity(string(self)).isGreaterThan(quantity('0')) && quantity(string(self)).isLessThan(quantity('1Ei'))"
).replace("\\", "\\\\")

PositiveQuantity = Annotated[
    int | str,
    BeforeValidator(_check_positive_quantity),
    Field(
        json_schema_extra={
            "x-kubernetes-int-or-string": True,
            "maxLength": MAX_LENGTH,
            "x-kubernetes-validations": [
                {
                    "rule": _POSITIVE_QUANTITY_RULE,
                    "message": POSITIVE_QUANTITY_MESSAGE,
                    "reason": "FieldValueInvalid",
                }
            ],
        }
    ),
]
"""A quantity kept as it was written: an integer or a string, above 0 and below 1Ei."""
