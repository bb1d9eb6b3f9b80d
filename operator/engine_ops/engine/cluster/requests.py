"""What a pod takes and what a node offers, as kube-scheduler 1.36 counts them.

The rules are those of ``PodRequests`` in ``k8s.io/component-helpers/resource`` with the options that the scheduler's
``NodeInfo`` sets: containers are summed, init containers are a minimum, sidecars count with both, a resize in progress
counts with the larger of what is desired and what is allocated, pod-level resources replace the sum, the overhead comes
on top. Defaults that the API server writes into pods (a request absent beside a limit is the limit) are applied here
too: templates of workloads do not have them.

Amounts are summed in thousandths, the precision that the API server keeps, and brought to the units of
`engine_ops.engine.units` at the end. Both sides are rounded up to those units, as the scheduler does.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

from engine_ops.api.quantity import QUANTITY_PATTERN, parse_quantity
from engine_ops.engine.cluster.apiobjects import Container, ContainerStatus, PodCondition, PodSpec, PodStatus, is_set
from engine_ops.engine.units import MAX_UNITS, scale_of

LARGEST: Final = MAX_UNITS - 1
"""Amounts beyond are counted as this many units."""

_QUANTITY: Final = re.compile(QUANTITY_PATTERN)
_CACHED: Final = 2048
_NATIVE: Final = frozenset({"cpu", "memory", "ephemeral-storage"})
# Below this a float's thousandths are exact enough to tell a whole number of them from one that must be rounded up.
_ULPS: Final = 4

Milli = Mapping[str, int]
"""Thousandths of the base unit by resource."""

_Quantities = dict[str, str | int | float] | None


class _Requirements(msgspec.Struct, gc=False):
    requests: _Quantities = None
    limits: _Quantities = None


class Amounts(NamedTuple):
    """A resource list that was read. Shared, never to be changed."""

    milli: Milli
    """Thousandths by resource; never negative."""
    odd: tuple[str, ...]
    """Resources whose amount was negative, unreadable or out of range, and was brought into it."""


class _Requests(NamedTuple):
    requests: Amounts
    limits: Amounts


_EMPTY: Final = Amounts({}, ())
_NONE: Final = _Requests(_EMPTY, _EMPTY)
_LIST: Final[msgspec.json.Decoder[_Quantities]] = msgspec.json.Decoder(_Quantities)
_REQUIREMENTS: Final[msgspec.json.Decoder[_Requirements | None]] = msgspec.json.Decoder(_Requirements | None)
_CONDITIONS: Final[msgspec.json.Decoder[list[PodCondition] | None]] = msgspec.json.Decoder(list[PodCondition] | None)


def effective_requests(spec: PodSpec, status: PodStatus | None) -> tuple[dict[str, int], bool]:
    """Return what a pod takes of a node.

    Parameters
    ----------
    spec, status
        Of the pod.

    Returns
    -------
    requests
        Units by resource, no zeros.
    sound
        False if an amount was unreadable, negative or beyond `MAX_UNITS`; it is then counted as 0 or as `LARGEST`.

    Raises
    ------
    msgspec.DecodeError
        If a part is not of its shape.
    """
    pod = _PodSums(spec, status)
    total = pod.total()
    requests = {}
    for resource, milli in total.items():
        if milli > 0 and is_counted(resource):
            units = units_of(resource, milli)
            if units > LARGEST:
                units, pod.sound = LARGEST, False
            requests[resource] = units
    return requests, pod.sound


def resize_is_infeasible(status: PodStatus | None) -> bool:
    """Whether the pod asks its node for a resize that the node can never grant."""
    if status is None or b"PodResizePending" not in bytes(status.conditions):
        return False
    for condition in _CONDITIONS.decode(status.conditions) or ():
        if condition.type == "PodResizePending":
            return condition.reason == "Infeasible"
    return False


def allocatable_units(raw: bytes) -> tuple[dict[str, int], tuple[str, ...]]:
    """Return what a node offers, from its ``status.allocatable``.

    Returns
    -------
    allocatable
        Units by resource, ``pods`` as a plain count.
    clamped
        Resources whose amount was negative, unreadable (both count as 0) or beyond `MAX_UNITS`; sorted.

    Raises
    ------
    msgspec.DecodeError
        If it is no resource list.
    """
    amounts = _read_list(raw)
    clamped = {resource for resource in amounts.odd if resource == "pods" or is_counted(resource)}
    allocatable = {}
    for resource, milli in amounts.milli.items():
        if resource == "pods" or is_counted(resource):
            units = units_of(resource, milli)
            if units > LARGEST:
                units = LARGEST
                clamped.add(resource)
            allocatable[resource] = units
    return allocatable, tuple(sorted(clamped))


def is_counted(resource: str) -> bool:
    """Whether the scheduler compares a resource's requests with a node: native, extended and prefixed ones.

    >>> is_counted("cpu"), is_counted("hugepages-2Mi"), is_counted("nvidia.com/gpu"), is_counted("storage")
    (True, True, True, False)
    """
    return (
        resource in _NATIVE
        or resource.startswith(("hugepages-", "attachable-volumes-"))
        or ("/" in resource and not resource.startswith("requests."))
    )


def units_of(resource: str, milli: int) -> int:
    """Return thousandths in the units of `engine_ops.engine.units`, rounded up as ``Quantity.Value`` does.

    Only cpu has fractions; ``pods`` is a plain count.

    >>> units_of("cpu", 1500), units_of("memory", 1500), units_of("nvidia.com/gpu", 2000), units_of("pods", 110000)
    (1500, 2, 2000, 110)
    """
    if resource == "cpu":
        return milli
    whole = -(-milli // 1000)
    return whole if resource == "pods" else whole * scale_of(resource)


class _PodSums:
    """One pod's sums, step by step as in ``AggregateContainerRequests`` and ``PodRequests``."""

    def __init__(self, spec: PodSpec, status: PodStatus | None) -> None:
        self._spec = spec
        self._status = status
        self.sound = True
        self._statuses: dict[str, ContainerStatus] = {}
        if status is not None:
            for states in (status.container_statuses, status.init_container_statuses):
                for state in states or ():
                    if is_set(state.resources):
                        self._statuses[state.name] = state

    def total(self) -> dict[str, int]:
        spec = self._spec
        total: dict[str, int] = {}
        for container in spec.containers or ():
            _add(total, self._container(container, resizable=True))
        if spec.init_containers:
            self._init_containers(total, spec.init_containers)
        if is_set(spec.resources):
            self._pod_level(total)
        if is_set(spec.overhead):
            _add(total, self._checked(_read_list(bytes(spec.overhead))))
        return total

    def _init_containers(self, total: dict[str, int], containers: Iterable[Container]) -> None:
        sidecars: dict[str, int] = {}
        needed: dict[str, int] = {}
        for container in containers:
            requests = self._container(container, resizable=container.sidecar)
            if container.sidecar:
                _add(total, requests)
                _add(sidecars, requests)
                _raise_to(needed, sidecars)
            else:
                during = dict(sidecars)
                _add(during, requests)
                _raise_to(needed, during)
        _raise_to(total, needed)

    def _container(self, container: Container, *, resizable: bool) -> Milli:
        requests = self._checked(_read_requirements(bytes(container.resources)).requests)
        if resizable and (state := self._statuses.get(container.name)) is not None:
            actuated = self._checked(_read_requirements(bytes(state.resources)).requests)
            allocated = self._checked(_read_list(bytes(state.allocated_resources)))
            return self._larger(requests, actuated, allocated)
        return requests

    def _pod_level(self, total: dict[str, int]) -> None:
        read = _read_requirements(bytes(self._spec.resources), defaults=False)
        desired = dict(self._checked(read.requests))
        limits = self._checked(read.limits)
        if limits:
            # The API server's defaults: the containers' own sum, else the pod's limit (huge pages: only the limit).
            for resource, milli in total.items():
                if _is_pod_level(resource) and not resource.startswith("hugepages-"):
                    desired.setdefault(resource, milli)
            for resource, milli in limits.items():
                if _is_pod_level(resource):
                    desired.setdefault(resource, milli)
        effective: Milli = desired
        if self._status is not None and is_set(self._status.resources):
            actuated = self._checked(_read_requirements(bytes(self._status.resources)).requests)
            allocated = self._checked(_read_list(bytes(self._status.allocated_resources)))
            effective = self._larger(desired, actuated, allocated)
        for resource in desired:
            if _is_pod_level(resource):
                total[resource] = effective.get(resource, 0)

    def _larger(self, desired: Milli, actuated: Milli, allocated: Milli) -> Milli:
        if desired == actuated == allocated:
            return desired
        # A resize that the node can never grant does not count.
        larger = {} if resize_is_infeasible(self._status) else dict(desired)
        _raise_to(larger, actuated)
        _raise_to(larger, allocated)
        return larger

    def _checked(self, amounts: Amounts) -> Milli:
        if amounts.odd:
            self.sound = False
        return amounts.milli


def _is_pod_level(resource: str) -> bool:
    return resource in {"cpu", "memory"} or resource.startswith("hugepages-")


def _add(total: dict[str, int], more: Milli) -> None:
    for resource, milli in more.items():
        total[resource] = total.get(resource, 0) + milli


def _raise_to(total: dict[str, int], least: Milli) -> None:
    for resource, milli in least.items():
        if milli > total.get(resource, -1):
            total[resource] = milli


# Cached by their bytes: a cluster has few distinct ones, and their text is short.
@functools.lru_cache(maxsize=_CACHED)
def _read_list(raw: bytes) -> Amounts:
    return _amounts(_LIST.decode(raw)) if raw else _EMPTY


@functools.lru_cache(maxsize=_CACHED)
def _read_requirements(raw: bytes, *, defaults: bool = True) -> _Requests:
    requirements = _REQUIREMENTS.decode(raw) if raw else None
    if requirements is None:
        return _NONE
    requests = requirements.requests or {}
    if defaults and requirements.limits:
        requests = requirements.limits | requests
    return _Requests(_amounts(requests), _amounts(requirements.limits))


def _amounts(quantities: _Quantities) -> Amounts:
    milli = {}
    odd = []
    for resource, quantity in (quantities or {}).items():
        milli[resource], sound = _milli(quantity)
        if not sound:
            odd.append(resource)
    return Amounts(milli, tuple(odd))


@functools.lru_cache(maxsize=_CACHED)
def _milli(quantity: str | float) -> tuple[int, bool]:
    try:
        amount = parse_quantity(quantity)
    except ValueError:
        text = str(quantity)
        too_large = not text.startswith("-") and _QUANTITY.fullmatch(text)
        return (MAX_UNITS * 1000 if too_large else 0), False
    if amount.is_integer():
        return int(amount) * 1000, True
    # The API server rounds every quantity up to thousandths.
    scaled = amount * 1000
    nearest = round(scaled)
    return (nearest if abs(scaled - nearest) <= _ULPS * math.ulp(scaled) else math.ceil(scaled)), True
