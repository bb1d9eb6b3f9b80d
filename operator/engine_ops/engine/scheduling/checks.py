"""From what a user wrote to a checked model; every fault is named with its path."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, TypeVar

import pydantic
from pydantic import Field

from engine_ops.api.base import ApiModel
from engine_ops.api.faults import Fault, InvalidDataError, faults_of
from engine_ops.engine.scheduling.device_checks import constraint_faults, node_faults, task_faults
from engine_ops.engine.scheduling.model import (
    MAX_PERCENT,
    MAX_TASKS,
    Node,
    SchedulingConstraints,
    SchedulingData,
    Task,
)
from engine_ops.engine.scheduling.rules import Affinity, NotEmpty
from engine_ops.engine.units import limit_of, too_large_message

_STANDARD_RESOURCES = frozenset({"cpu", "memory", "pods"})
_CheckTask = Callable[[str, Task, Mapping[str, Any]], Iterator[Fault]]
_WHEN = "DuringSchedulingIgnoredDuringExecution"
_EITHER = "give either task or tasks"
_NO_CAPACITY = "needs capacity on the nodes: without it everything is in percent of a node"


class GivenTasks(ApiModel):
    """The tasks of a request whose nodes are those of a live cluster; none means its pending pods."""

    task: Task | None = None
    """One task; not with ``tasks``."""
    tasks: Annotated[tuple[Task, ...], Field(max_length=MAX_TASKS), NotEmpty] | None = None
    """Many tasks; not with ``task``."""


def load_given(
    data: Mapping[str, Any], constraints: Mapping[str, Any]
) -> tuple[tuple[Task, ...], SchedulingConstraints]:
    """Check the data and the constraints of a request on a live cluster.

    Returns
    -------
    tuple of tuple and SchedulingConstraints
        No tasks if ``data`` is empty.

    Raises
    ------
    InvalidDataError
        With every fault that was found.
    """
    faults: list[Fault] = []
    if "nodes" in data:
        faults.append(Fault("data.nodes", "not with dataFrom.cluster: the nodes are those of the cluster"))
        data = {key: value for key, value in data.items() if key != "nodes"}
    model = _validated(GivenTasks, data, "data", faults)
    chosen = _validated(SchedulingConstraints, constraints, "constraints", faults)
    tasks: tuple[Task, ...] = ()
    if model is not None:
        if model.task is not None and model.tasks is not None:
            faults.append(Fault("data", _EITHER + ", not both"))
        tasks = model.tasks if model.tasks is not None else () if model.task is None else (model.task,)
        faults += _task_faults(tasks, many=model.tasks is not None, check=_amount_faults_of_task, raw=data)
    if chosen is not None:
        faults += constraint_faults(chosen)
    if faults or chosen is None:
        raise InvalidDataError(faults)
    _raise(task_faults(tasks, chosen, many="tasks" in data))
    return tasks, chosen


_M = TypeVar("_M", bound=ApiModel)


def _validated(model: type[_M], value: Mapping[str, Any], root: str, faults: list[Fault]) -> _M | None:
    try:
        return model.model_validate(value)
    except pydantic.ValidationError as error:
        faults += faults_of(error, root=root)
        return None


def load(data: Mapping[str, Any], constraints: Mapping[str, Any]) -> tuple[SchedulingData, SchedulingConstraints]:
    """Check the data and the constraints.

    Raises
    ------
    InvalidDataError
        With every fault that was found.
    """
    faults: list[Fault] = []
    model = _validated(SchedulingData, data, "data", faults)
    chosen = _validated(SchedulingConstraints, constraints, "constraints", faults)
    if model is not None:
        faults += _cross_faults(model, data)
    if chosen is not None:
        faults += constraint_faults(chosen)
    if faults or model is None or chosen is None:
        raise InvalidDataError(faults)
    _raise(task_faults(tasks_of(model), chosen, many=model.tasks is not None))
    _raise(node_faults(model.nodes, chosen))
    return model, chosen


def _raise(faults: Iterable[Fault]) -> None:
    found = list(faults)
    if found:
        raise InvalidDataError(found)


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
        yield Fault("data", _EITHER + ("" if data.task is None else ", not both"))
    tasks = tasks_of(data)
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
    check_task: _CheckTask
    check_node: Callable[[str, Node, Mapping[str, Any]], Iterator[Fault]]
    if with_capacity:
        check_task, check_node = _amount_faults_of_task, _amount_faults_of_node
    else:
        check_task, check_node = _percent_faults_of_task, _percent_faults_of_node
    yield from _task_faults(tasks, many=data.tasks is not None, check=check_task, raw=raw)
    for i, task in enumerate(tasks):
        if task.affinity is not None:
            path = f"data.tasks[{i}]" if data.tasks is not None else "data.task"
            yield from _namespace_faults(f"{path}.affinity", task.affinity)
    for i, node in enumerate(data.nodes):
        yield from check_node(f"data.nodes[{i}]", node, raw["nodes"][i])


def _task_faults(tasks: tuple[Task, ...], *, many: bool, check: _CheckTask, raw: Mapping[str, Any]) -> Iterator[Fault]:
    if many:
        yield from _duplicates("data.tasks", [task.id for task in tasks])
    written = raw["tasks"] if many else [raw["task"]] if tasks else ()
    for i, task in enumerate(tasks):
        yield from check(f"data.tasks[{i}]" if many else "data.task", task, written[i])


def _namespace_faults(path: str, affinity: Affinity) -> Iterator[Fault]:
    """Without a cluster there is one namespace only: a term that names others would choose nothing, unnoticed."""
    for side, name in ((affinity.pod_affinity, "podAffinity"), (affinity.pod_anti_affinity, "podAntiAffinity")):
        if side is None:
            continue
        required = side.required_during_scheduling_ignored_during_execution
        preferred = side.preferred_during_scheduling_ignored_during_execution
        terms = [(f"required{_WHEN}[{i}]", term) for i, term in enumerate(required)]
        terms += [
            (f"preferred{_WHEN}[{i}].podAffinityTerm", item.pod_affinity_term) for i, item in enumerate(preferred)
        ]
        for where, term in terms:
            for field, value in (
                ("namespaces", term.namespaces or None),
                ("namespaceSelector", term.namespace_selector),
            ):
                if value is not None:
                    yield Fault(
                        f"{path}.{name}.{where}.{field}",
                        "needs dataFrom.cluster: tasks given with their nodes have no namespaces",
                    )


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
