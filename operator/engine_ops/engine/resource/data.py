"""What a ``resource`` request says, checked field by field."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError

from engine_ops.api.base import ApiModel
from engine_ops.api.faults import Fault, InvalidDataError, faults_of
from engine_ops.api.quantity import Amount, parse_quantity
from engine_ops.engine.units import limit_of, too_large_message

MAX_ITEMS = 100_000
"""Entries of ``items``."""

MAX_TOTAL_COUNT = 1_000_000
"""Items in all, each of ``count`` being one."""

MAX_TYPES = 1_000
"""Entries of ``nodeTypes``."""

_CPU_LIMIT = limit_of("cpu")
_MEMORY_LIMIT = limit_of("memory")
_FIELDS_OF_THEIR_OWN = frozenset({"cpu", "memory", "pods"})


def _cpu(value: object) -> float:
    amount = parse_quantity(value)
    if amount >= _CPU_LIMIT:
        raise ValueError(too_large_message("cpu"))
    return amount


def _memory(value: object) -> float:
    amount = parse_quantity(value)
    if amount >= _MEMORY_LIMIT:
        raise ValueError(too_large_message("memory"))
    return amount


def _pods(value: object) -> int:
    amount = parse_quantity(value)
    if amount != int(amount) or not 1 <= amount <= MAX_TOTAL_COUNT:
        raise ValueError(f"must be a whole number from 1 to {MAX_TOTAL_COUNT}")
    return int(amount)


def _resources(amounts: dict[str, float]) -> dict[str, float]:
    for name, amount in amounts.items():
        if name in _FIELDS_OF_THEIR_OWN:
            raise ValueError(f"{name} is a field of its own: write it beside resources")
        if amount >= limit_of(name):
            raise ValueError(too_large_message(name))
    return amounts


Cpu = Annotated[float, BeforeValidator(_cpu)]
Memory = Annotated[float, BeforeValidator(_memory)]
Pods = Annotated[int, BeforeValidator(_pods)]
Name = Annotated[str, Field(min_length=1, max_length=253)]
Resources = Annotated[dict[Name, Amount], Field(max_length=32), AfterValidator(_resources)]


class Item(ApiModel):
    """What is to be placed."""

    id: Name
    """Unique among the items."""
    cpu: Cpu
    """Cores, as a number or a quantity."""
    memory: Memory
    """Bytes, as a number or a quantity."""
    resources: Resources = Field(default_factory=dict)
    """Further resources by name, such as nvidia.com/gpu."""
    count: Annotated[int, Field(ge=1, le=MAX_TOTAL_COUNT, strict=True)] = 1
    """How many of them; they may land on different nodes."""
    priority: Annotated[int, Field(ge=-(2**31), lt=2**31, strict=True)] = 0
    """Where maxima leave items out, a higher priority is placed first."""


class NodeCapacity(ApiModel):
    """What a node offers to items: allocatable, in the words of Kubernetes."""

    cpu: Cpu
    """Cores, as a number or a quantity."""
    memory: Memory
    """Bytes, as a number or a quantity."""
    pods: Pods | None = None
    """Items a node, each of ``count`` being one; no limit where absent."""
    resources: Resources = Field(default_factory=dict)
    """Further resources by name; what is not named is not there."""


class NodeType(NodeCapacity):
    """A kind of node that can be had."""

    name: Name
    """Unique among the types."""
    cost: Amount | None = None
    """Of one node, in any unit of money; on all types or on none."""
    max: Annotated[int, Field(ge=0, le=MAX_TOTAL_COUNT, strict=True)] | None = None
    """How many there are; no limit where absent."""


class ResourceData(ApiModel):
    """Items, and the nodes they are to be placed on."""

    items: Annotated[list[Item], Field(min_length=1, max_length=MAX_ITEMS)]
    """What is to be placed."""
    node_capacity: NodeCapacity | None = None
    """The one kind of node; or ``nodeTypes``."""
    node_types: Annotated[list[NodeType], Field(min_length=1, max_length=MAX_TYPES)] | None = None
    """The kinds of nodes to choose from; or ``nodeCapacity``."""


class ResourceConstraints(ApiModel):
    """What the answer must keep to."""

    max_nodes: Annotated[int, Field(ge=1, le=MAX_TOTAL_COUNT, strict=True)] | None = None
    """At most so many nodes over all types."""


def parse(data: Mapping[str, Any], constraints: Mapping[str, Any]) -> tuple[ResourceData, ResourceConstraints]:
    """Check data and constraints.

    Parameters
    ----------
    data, constraints
        As the user wrote them.

    Raises
    ------
    InvalidDataError
        If anything is wrong; every fault is named, not only the first.
    """
    faults: list[Fault] = []
    parsed_data = parsed_constraints = None
    try:
        parsed_data = ResourceData.model_validate(data)
    except ValidationError as error:
        faults += faults_of(error, root="data")
    # On the raw data, so that these faults are named even where single fields are wrong too.
    faults += _faults_between_fields(data)
    try:
        parsed_constraints = ResourceConstraints.model_validate(constraints)
    except ValidationError as error:
        faults += faults_of(error, root="constraints")
    if faults or parsed_data is None or parsed_constraints is None:
        raise InvalidDataError(faults)
    return parsed_data, parsed_constraints


def _faults_between_fields(data: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield what no single field shows. Must stand any JSON value: the models have not passed yet."""
    items = data.get("items")
    if isinstance(items, list):
        yield from _duplicates(items, "id", "data.items")
        counts = (entry.get("count", 1) for entry in items if isinstance(entry, dict))
        total = sum(count for count in counts if isinstance(count, int))
        if total > MAX_TOTAL_COUNT:
            yield Fault("data.items", f"the counts add up to {total}: at most {MAX_TOTAL_COUNT} items in all")
    capacity = data.get("nodeCapacity", data.get("node_capacity"))
    types = data.get("nodeTypes", data.get("node_types"))
    if (capacity is None) == (types is None):
        problem = "both are given" if capacity is not None else "both are absent"
        yield Fault("data", f"exactly one of nodeCapacity and nodeTypes is needed: {problem}")
    if isinstance(capacity, dict) and _is_empty(capacity):
        yield Fault("data.nodeCapacity", "a node of size zero holds nothing: cpu and memory are both 0")
    if isinstance(types, list):
        yield from _duplicates(types, "name", "data.nodeTypes")
        entries = [(number, entry) for number, entry in enumerate(types) if isinstance(entry, dict)]
        priced = sum(entry.get("cost") is not None for _, entry in entries)
        for number, entry in entries:
            if _is_empty(entry):
                yield Fault(f"data.nodeTypes[{number}]", "a node of size zero holds nothing: cpu and memory are both 0")
            if priced and entry.get("cost") is None:
                yield Fault(f"data.nodeTypes[{number}].cost", "required, but absent: other node types have a cost")


def _duplicates(entries: list[Any], key: str, path: str) -> Iterator[Fault]:
    names = [entry.get(key) if isinstance(entry, dict) else None for entry in entries]
    texts = [name for name in names if isinstance(name, str)]
    if len(set(texts)) == len(texts):
        return
    first: dict[str, int] = {}
    repeated = {name for name, times in collections.Counter(texts).items() if times > 1}
    for number, name in enumerate(names):
        if not isinstance(name, str) or name not in repeated:
            continue
        if name in first:
            yield Fault(f"{path}[{number}].{key}", f"{name!r} is already the {key} of {path}[{first[name]}]")
        else:
            first[name] = number


def _is_empty(capacity: dict[str, Any]) -> bool:
    try:
        return parse_quantity(capacity["cpu"]) == 0 == parse_quantity(capacity["memory"])
    except (KeyError, ValueError):
        return False  # Named by the models.
