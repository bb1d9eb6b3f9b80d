"""Kubernetes quantities.

The grammar is that of apimachinery's ``resource.Quantity``: a signed decimal number followed by a binary suffix
(Ki to Ei), a decimal suffix (n, u, m, k to E) or a decimal exponent (``1e3``).
"""

from __future__ import annotations

import decimal
import functools
import math
import re
from typing import Annotated, Final

from pydantic import BeforeValidator, WithJsonSchema

QUANTITY_PATTERN: Final = r"^[+-]?([0-9]+|[0-9]+\.[0-9]*|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]{1,3})?$"
"""The grammar as a regular expression, usable in an OpenAPI schema."""

MAX_LENGTH: Final = 64
"""Longer strings are refused before they are parsed."""

MAX_AMOUNT: Final = 2.0**63
"""Amounts at or above this are refused: apimachinery's quantities end there too."""

_QUANTITY: Final = re.compile(QUANTITY_PATTERN)
_BINARY: Final = {suffix: 1024 ** (power + 1) for power, suffix in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"))}
_DECIMAL: Final = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_SUFFIXES: Final = {
    **{suffix: decimal.Decimal(factor) for suffix, factor in _BINARY.items()},
    **{suffix: decimal.Decimal(1).scaleb(exponent) for suffix, exponent in _DECIMAL.items()},
}
_NANO: Final = decimal.Decimal("1e-9")
_END: Final = decimal.Decimal(2**63)
# Wide enough to be exact: at most MAX_LENGTH digits times the 19 of Ei, and nine places. Only the step to float rounds.
_CONTEXT: Final = decimal.Context(prec=MAX_LENGTH + 30)


def parse_quantity(value: object) -> float:
    """Read an amount: a number, or a Kubernetes quantity such as ``500m`` or ``8Gi``.

    Parameters
    ----------
    value
        A number is taken as it is: cores for cpu, bytes for memory.

    Returns
    -------
    float
        The amount in the resource's base unit; finite and not negative.

    Raises
    ------
    ValueError
        If it is no quantity, negative, not finite, or 2**63 and above.
    """
    amount: float
    if isinstance(value, bool):
        raise ValueError("must be a number or a Kubernetes quantity such as 500m or 8Gi, not a boolean")
    if isinstance(value, int | float):
        try:
            amount = float(value)
        except OverflowError:
            amount = math.inf
    elif isinstance(value, str):
        amount = _parse_text(value)
    else:
        raise ValueError("must be a number or a Kubernetes quantity such as 500m or 8Gi")
    if math.isnan(amount):
        raise ValueError("must be a number, not NaN")
    if amount < 0:
        raise ValueError(f"must not be negative: {value}")
    if amount >= MAX_AMOUNT:
        raise ValueError("too large: an amount must be below 2^63")
    return abs(amount)  # -0.0 is 0.0


@functools.lru_cache(maxsize=4096)
def _parse_text(text: str) -> float:
    # Cached, because the same few amounts stand in thousands of items. Errors are not.
    if len(text) > MAX_LENGTH:
        raise ValueError(f"must be a Kubernetes quantity of at most {MAX_LENGTH} characters")
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a Kubernetes quantity: write it like 500m, 1.5, 8Gi or 1e3")
    number, suffix = match.group(1), match.group(2) or ""
    if suffix in _SUFFIXES:
        amount = _CONTEXT.multiply(decimal.Decimal(number), _SUFFIXES[suffix])
    else:
        amount = decimal.Decimal(number + suffix)
    # As apimachinery does: rounded up to whole nanos, so that a trace of something is never nothing.
    if amount < _END:
        amount = amount.quantize(_NANO, decimal.ROUND_UP, _CONTEXT)
    return -float(amount) if text.startswith("-") else float(amount)


Amount = Annotated[
    float,
    BeforeValidator(parse_quantity),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}),
]
"""A pydantic field type: a finite amount of at least 0, from a number or a quantity."""


def format_cpu(cores: float) -> str:
    """Write an amount of cpu as Kubernetes does, in milli-cores rounded up when it is not whole.

    >>> format_cpu(0.25), format_cpu(2.0)
    ('250m', '2')
    """
    milli = math.ceil(round(cores * 1000, 6))
    return str(milli // 1000) if milli % 1000 == 0 else f"{milli}m"


def format_bytes(amount: float) -> str:
    """Write an amount of memory as Kubernetes does, with the largest binary suffix that is exact after rounding up.

    Amounts of at least a mebibyte are rounded up to whole mebibytes.

    >>> format_bytes(8 * 2**30), format_bytes(100 * 2**20 + 1), format_bytes(1000)
    ('8Gi', '101Mi', '1000')
    """
    whole = math.ceil(round(amount, 3))
    if whole >= _BINARY["Mi"]:
        whole = -(-whole // _BINARY["Mi"]) * _BINARY["Mi"]
    for suffix in ("Ti", "Gi", "Mi", "Ki"):
        unit = _BINARY[suffix]
        if whole >= unit and whole % unit == 0:
            return f"{whole // unit}{suffix}"
    return str(whole)
