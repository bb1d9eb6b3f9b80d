"""From what a user wrote to a checked model; every fault is named with its path."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pydantic

from engine_ops.api.faults import Fault, InvalidDataError, faults_of
from engine_ops.engine.scheduling.model import MAX_PERCENT, Node, SchedulingConstraints, SchedulingData, Task
from engine_ops.engine.units import limit_of, too_large_message

_STANDARD_RESOURCES = frozenset({"cpu", "memory", "pods"})
_NO_CAPACITY = "needs capacity on the nodes: without it everything is in percent of a node"


def load(data: Mapping[str, Any], constraints: Mapping[str, Any]) -> tuple[SchedulingData, SchedulingConstraints]:
    """Check the data and the constraints.

    Raises
    ------
    InvalidDataError
        With every fault that was found.
    """
    faults: list[Fault] = []
    model: SchedulingData | None = None
    chosen: SchedulingConstraints | None = None
    try:
        model = SchedulingData.model_validate(data)
    except pydantic.ValidationError as error:
        faults += faults_of(error, root="data")
    try:
        chosen = SchedulingConstraints.model_validate(constraints)
    except pydantic.ValidationError as error:
        faults += faults_of(error, root="constraints")
    if model is not None:
        faults += _cross_faults(model, data)
    if faults or model is None or chosen is None:
        raise InvalidDataError(faults)
    return model, chosen


def tasks_of(data: SchedulingData) -> tuple[Task, ...]:
    """Return the tasks, one or many."""
    if data.tasks is not None:
        return data.tasks
    return () if data.task is None else (data.task,)


def in_percent(data: SchedulingData) -> bool:
    """Whether loads and requirements are percent of a node."""
    return data.nodes[0].capacity is None


def _cross_faults(data: SchedulingData, raw: Mapping[str, Any]) -> Iterator[Fault]:
    if (data.task is None) == (data.tasks is None):
        yield Fault("data", "give either task or tasks" + ("" if data.task is None else ", not both"))
    tasks = tasks_of(data)
    if data.tasks is not None:
        yield from _duplicates("data.tasks", [task.id for task in data.tasks])
    yield from _duplicates("data.nodes", [node.id for node in data.nodes])
    with_capacity = sum(node.capacity is not None for node in data.nodes)
    if with_capacity not in {0, len(data.nodes)}:
        index = next(i for i, node in enumerate(data.nodes) if node.capacity is None)
        missing = len(data.nodes) - with_capacity
        yield Fault(
            f"data.nodes[{index}].capacity",
            f"absent here, present on other nodes ({missing} of {len(data.nodes)} lack it): "
            "give it on all nodes, or on none for percentages",
        )
        return
    check_task: Callable[[str, Task, Mapping[str, Any]], Iterator[Fault]]
    check_node: Callable[[str, Node, Mapping[str, Any]], Iterator[Fault]]
    if with_capacity:
        check_task, check_node = _amount_faults_of_task, _amount_faults_of_node
    else:
        check_task, check_node = _percent_faults_of_task, _percent_faults_of_node
    written = [raw["task"]] if data.tasks is None and tasks else raw.get("tasks", ())
    for i, task in enumerate(tasks):
        path = f"data.tasks[{i}]" if data.tasks is not None else "data.task"
        yield from check_task(path, task, written[i])
    for i, node in enumerate(data.nodes):
        yield from check_node(f"data.nodes[{i}]", node, raw["nodes"][i])


def _duplicates(path: str, ids: list[str]) -> Iterator[Fault]:
    first: dict[str, int] = {}
    for i, name in enumerate(ids):
        seen = first.setdefault(name, i)
        if seen != i:
            yield Fault(f"{path}[{i}].id", f"{name!r} is the id of {path}[{seen}] already; ids must be unique")


def _percent_faults_of_task(path: str, task: Task, written: Mapping[str, Any]) -> Iterator[Fault]:
    yield from _percent(path, "cpuRequired", task.cpu_required, written)
    yield from _percent(path, "memoryRequired", task.memory_required, written)
    if task.resources_required:
        yield Fault(f"{path}.resourcesRequired", _NO_CAPACITY)


def _percent_faults_of_node(path: str, node: Node, written: Mapping[str, Any]) -> Iterator[Fault]:
    yield from _percent(path, "cpuLoad", node.cpu_load, written)
    yield from _percent(path, "memoryLoad", node.memory_load, written)
    if node.resource_loads:
        yield Fault(f"{path}.resourceLoads", _NO_CAPACITY)


def _percent(path: str, name: str, amount: float, written: Mapping[str, Any]) -> Iterator[Fault]:
    if amount > MAX_PERCENT:
        yield Fault(
            f"{path}.{name}",
            f"{amount:g} is no percentage: without capacity on the nodes it is percent of a node, "
            f"at most {MAX_PERCENT:g}",
        )
    elif isinstance(written.get(name), str) and not written[name].replace(".", "", 1).isdigit():
        yield Fault(
            f"{path}.{name}",
            f"{written[name]!r} is a quantity, but without capacity on the nodes it must be a percentage, a number",
        )


def _amount_faults_of_task(path: str, task: Task, _written: Mapping[str, Any]) -> Iterator[Fault]:
    yield from _size(f"{path}.cpuRequired", "cpu", task.cpu_required)
    yield from _size(f"{path}.memoryRequired", "memory", task.memory_required)
    yield from _sizes(f"{path}.resourcesRequired", task.resources_required)


def _amount_faults_of_node(path: str, node: Node, _written: Mapping[str, Any]) -> Iterator[Fault]:
    yield from _size(f"{path}.cpuLoad", "cpu", node.cpu_load)
    yield from _size(f"{path}.memoryLoad", "memory", node.memory_load)
    yield from _sizes(f"{path}.resourceLoads", node.resource_loads)
    if node.capacity is None:
        return
    for name, amount in (("cpu", node.capacity.cpu), ("memory", node.capacity.memory)):
        # One unit is a milli-core or a byte: less than that is nothing.
        if math.floor(amount * (1000 if name == "cpu" else 1) + 1e-9) < 1:
            yield Fault(f"{path}.capacity.{name}", "must be above 0: a node without it cannot hold anything")
        yield from _size(f"{path}.capacity.{name}", name, amount)
    yield from _sizes(f"{path}.capacity.resources", node.capacity.resources)


def _sizes(path: str, amounts: Mapping[str, float]) -> Iterator[Fault]:
    for name, amount in amounts.items():
        if name in _STANDARD_RESOURCES:
            yield Fault(f"{path}.{name}", f"{name} has a field of its own")
        yield from _size(f"{path}.{name}", name, amount)


def _size(path: str, resource: str, amount: float) -> Iterator[Fault]:
    if amount >= limit_of(resource):
        yield Fault(path, too_large_message(resource))
