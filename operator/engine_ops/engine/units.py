"""Amounts as whole numbers, so that sums are exact and comparisons need no tolerance.

Memory, ephemeral storage and huge pages count in bytes, everything else (cpu, GPUs, ...) in thousandths, as Kubernetes
keeps them. What is asked for is rounded up and what is offered is rounded down: an answer in these units is feasible
in the user's own numbers.
"""

from __future__ import annotations

import math

MAX_UNITS = 2**53
"""Amounts whose scaled value is at or above this are refused: below it every whole number is exact in a float64."""

_BYTE_RESOURCES = frozenset({"memory", "ephemeral-storage"})
ULPS = 4
"""A decimal such as 0.57 is off by half an ulp as a float and by another after scaling; anything within this many ulps
of a whole number was meant as that number."""


def scale_of(resource: str) -> int:
    """Return how many units one of ``resource``'s base unit has: 1 for what counts in bytes, else 1000.

    >>> scale_of("cpu"), scale_of("memory"), scale_of("hugepages-2Mi"), scale_of("nvidia.com/gpu")
    (1000, 1, 1, 1000)
    """
    return 1 if resource in _BYTE_RESOURCES or resource.startswith("hugepages-") else 1000


def limit_of(resource: str) -> float:
    """Return the amount of ``resource``, in its base unit, at and above which it is refused."""
    return MAX_UNITS / scale_of(resource)


def too_large_message(resource: str) -> str:
    """Return the sentence for an amount of ``resource`` that is refused for its size."""
    unit = "bytes" if scale_of(resource) == 1 else "thousandths"
    return f"too large: an amount of {resource} must be below 2^53 {unit}"


def request_units(resource: str, amount: float) -> int:
    """Scale an amount that is asked for, rounding up.

    Parameters
    ----------
    resource
        Its name, such as ``cpu``.
    amount
        In the base unit (cores, bytes, ...); finite and at least 0.

    Returns
    -------
    int
        Milli, or bytes; see `scale_of`.

    Raises
    ------
    ValueError
        If it is 2**53 units or more.

    Examples
    --------
    >>> request_units("cpu", 0.57), request_units("cpu", 0.0001), request_units("memory", 0.5)
    (570, 1, 1)
    """
    return _scale(resource, amount, up=True)


def capacity_units(resource: str, amount: float) -> int:
    """Scale an amount that is offered, rounding down. See `request_units`.

    >>> capacity_units("cpu", 0.57), capacity_units("cpu", 0.0001), capacity_units("memory", 1.5)
    (570, 0, 1)
    """
    return _scale(resource, amount, up=False)


def base_amount(resource: str, units: float) -> float:
    """Return units in the resource's base unit again: cores for milli-cpu, bytes for bytes. Whole numbers stay int.

    >>> base_amount("cpu", 1500), base_amount("cpu", 2000), base_amount("memory", 1024)
    (1.5, 2, 1024)
    """
    scale = scale_of(resource)
    whole, rest = divmod(units, scale)
    return int(whole) if rest == 0 else units / scale


def _scale(resource: str, amount: float, *, up: bool) -> int:
    scaled = amount * scale_of(resource)
    if not scaled < MAX_UNITS:
        raise ValueError(too_large_message(resource))
    nearest = round(scaled)
    if abs(scaled - nearest) <= ULPS * math.ulp(scaled):
        return nearest
    return math.ceil(scaled) if up else math.floor(scaled)
