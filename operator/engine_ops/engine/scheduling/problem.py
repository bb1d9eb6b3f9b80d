"""The problem as arrays: nodes in the order of their ids, amounts as whole numbers, like tasks as one class."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from engine_ops.engine.scheduling.checks import in_percent, tasks_of
from engine_ops.engine.scheduling.devices import DevicePool
from engine_ops.engine.scheduling.model import Node, SchedulingData, Task
from engine_ops.engine.scheduling.subjects import NodeRef, Rules, TaskRef, rules_key
from engine_ops.engine.unit_arrays import capacity_units_array, request_units_array
from engine_ops.engine.units import base_amount

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]

PERCENT_UNITS = 10**9
"""Units of one percent. Percentages are rounded to the nearest unit, so that three thirds make a whole."""

NO_LIMIT = 2**62
"""Free places of a node that does not limit its tasks."""


@dataclasses.dataclass(frozen=True, slots=True)
class TaskClass:
    """Tasks that differ in nothing but id and priority.

    Parameters
    ----------
    requests
        Units of each resource, in the order of `Problem.resources`.
    needs
        The indices and units of the resources that are asked for at all; the others cannot rule a node out.
    rules
        The index of its rules; classes with the same index differ in ``requests`` only.
    """

    requests: tuple[int, ...]
    needs: tuple[tuple[int, int], ...]
    rules: int

    @classmethod
    def of(cls, requests: Sequence[int], rules: int) -> TaskClass:
        """Return the class of tasks with these requests and rules."""
        needs = tuple((resource, units) for resource, units in enumerate(requests) if units > 0)
        return cls(tuple(requests), needs, rules)


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """A scheduling problem.

    Parameters
    ----------
    tasks
        As given.
    nodes
        In the order of their ids: the first of equally good nodes is the one with the smallest id.
    percent
        Whether amounts are percent of a node.
    resources
        Names; cpu and memory come first.
    capacity, load
        Units, resources x nodes. A load may exceed the capacity.
    places
        How many more tasks a node can hold by their number; at most 0 where it is full.
    classes
        The distinct kinds of task.
    class_of
        The class of each task, an index of ``classes``.
    rules
        The distinct rules; `TaskClass.rules` is an index of it.
    fixed
        Class and node of each task that is placed from the start and stays; not among ``tasks``, nor in ``load`` and
        ``places``.
    closed
        Nodes that the question leaves out: tasks that are there count, new ones are not placed there. None for none.
    namespaces
        The labels of each namespace.
    devices
        Resources that come in devices; see `engine_ops.engine.scheduling.devices.with_devices`.
    """

    tasks: Sequence[TaskRef]
    nodes: Sequence[NodeRef]
    percent: bool
    resources: tuple[str, ...]
    capacity: IntArray
    load: IntArray
    places: IntArray
    classes: Sequence[TaskClass]
    class_of: Sequence[int]
    rules: Sequence[Rules]
    fixed: Sequence[tuple[int, int]] = ()
    closed: BoolArray | None = None
    namespaces: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)
    devices: Sequence[DevicePool] = ()

    def amount(self, resource: int, units: int) -> float:
        """Return units as users write them: cores, bytes or percent; whole numbers as int."""
        if not self.percent:
            return base_amount(self.resources[resource], units)
        return units // PERCENT_UNITS if units % PERCENT_UNITS == 0 else units / PERCENT_UNITS


def build(data: SchedulingData, raw: Mapping[str, Any]) -> Problem:
    """Turn checked data into arrays.

    Parameters
    ----------
    data
        The checked model.
    raw
        What it was made from: equal rules are found by comparing what the user wrote.
    """
    tasks = tasks_of(data)
    nodes = sorted(data.nodes, key=lambda node: node.id)
    percent = in_percent(data)
    extra = sorted({name for task in tasks for name, amount in task.resources_required.items() if amount > 0})
    resources = ("cpu", "memory", *extra)
    requests = _requests(tasks, resources, percent=percent)
    capacity, load = _nodes(nodes, resources, percent=percent)
    written = [raw["task"]] if data.tasks is None else raw["tasks"]
    rule_of, rules = _rules(tasks, written)
    classes, class_of = classify(requests, rule_of)
    limits = (NO_LIMIT if node.capacity is None or node.capacity.pods is None else node.capacity.pods for node in nodes)
    places = np.array([limit - node.pod_count for limit, node in zip(limits, nodes, strict=True)], np.int64)
    return Problem(
        tasks=[TaskRef(task.id, task.priority) for task in tasks],
        nodes=[NodeRef(node.id, node.labels, node.taints, node.unschedulable) for node in nodes],
        percent=percent,
        resources=resources,
        capacity=capacity,
        load=load,
        places=places,
        classes=classes,
        class_of=class_of,
        rules=rules,
    )


def _percent_units(amounts: Sequence[float]) -> IntArray:
    return np.rint(np.asarray(amounts, np.float64) * PERCENT_UNITS).astype(np.int64)


def _requests(tasks: Sequence[Task], resources: Sequence[str], *, percent: bool) -> IntArray:
    columns = [[task.cpu_required for task in tasks], [task.memory_required for task in tasks]]
    columns += [[task.resources_required.get(name, 0.0) for task in tasks] for name in resources[2:]]
    if percent:
        return np.stack([_percent_units(column) for column in columns], axis=1)
    scaled = [request_units_array(name, column) for name, column in zip(resources, columns, strict=True)]
    return np.stack(scaled, axis=1)


def _nodes(nodes: Sequence[Node], resources: Sequence[str], *, percent: bool) -> tuple[IntArray, IntArray]:
    loads = [[node.cpu_load for node in nodes], [node.memory_load for node in nodes]]
    loads += [[node.resource_loads.get(name, 0.0) for node in nodes] for name in resources[2:]]
    if percent:
        return np.full((2, len(nodes)), 100 * PERCENT_UNITS, np.int64), np.stack([_percent_units(c) for c in loads])
    offers = [node.capacity for node in nodes if node.capacity is not None]
    capacities = [[offer.cpu for offer in offers], [offer.memory for offer in offers]]
    capacities += [[offer.resources.get(name, 0.0) for offer in offers] for name in resources[2:]]
    capacity = np.stack([capacity_units_array(name, c) for name, c in zip(resources, capacities, strict=True)])
    load = np.stack([request_units_array(name, c) for name, c in zip(resources, loads, strict=True)])
    return capacity, load


def _rules(tasks: Sequence[Task], written: Sequence[Mapping[str, Any]]) -> tuple[list[int], list[Rules]]:
    index: dict[str, int] = {}
    distinct: list[Rules] = []
    rule_of = []
    for task, fields in zip(tasks, written, strict=True):
        number = index.setdefault(rules_key(fields), len(distinct))
        if number == len(distinct):
            distinct.append(Rules.of(task))
        rule_of.append(number)
    return rule_of, distinct


def classify(requests: IntArray, rule_of: Sequence[int]) -> tuple[list[TaskClass], list[int]]:
    """Group tasks into classes.

    Parameters
    ----------
    requests
        Units, tasks x resources.
    rule_of
        The index of each task's rules.

    Returns
    -------
    tuple of list and list
        The classes, and the class of each task.
    """
    index: dict[tuple[int, ...], int] = {}
    classes: list[TaskClass] = []
    class_of = []
    for row, rule in zip(requests.tolist(), rule_of, strict=True):
        number = index.setdefault((rule, *row), len(classes))
        if number == len(classes):
            classes.append(TaskClass.of(row, rule))
        class_of.append(number)
    return classes, class_of
