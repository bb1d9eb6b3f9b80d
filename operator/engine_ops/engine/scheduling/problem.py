"""The problem as arrays: nodes in the order of their ids, amounts as whole numbers, like tasks as one class."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from engine_ops.engine.scheduling.checks import in_percent, tasks_of
from engine_ops.engine.scheduling.model import Node, SchedulingData, Task
from engine_ops.engine.units import base_amount, capacity_units_array, request_units_array

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
    example
        Any task of the class.
    """

    requests: tuple[int, ...]
    needs: tuple[tuple[int, int], ...]
    rules: int
    example: Task


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
    rule_examples
        A task for each index of rules.
    """

    tasks: Sequence[Task]
    nodes: Sequence[Node]
    percent: bool
    resources: tuple[str, ...]
    capacity: IntArray
    load: IntArray
    places: IntArray
    classes: Sequence[TaskClass]
    class_of: Sequence[int]
    rule_examples: Sequence[Task]

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
    rules, rule_examples = _rules(tasks, written)
    classes, class_of = _classes(tasks, requests, rules)
    limits = (NO_LIMIT if node.capacity is None or node.capacity.pods is None else node.capacity.pods for node in nodes)
    places = np.array([limit - node.pod_count for limit, node in zip(limits, nodes, strict=True)], np.int64)
    return Problem(
        tasks=tasks,
        nodes=nodes,
        percent=percent,
        resources=resources,
        capacity=capacity,
        load=load,
        places=places,
        classes=classes,
        class_of=class_of,
        rule_examples=rule_examples,
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


# Models take snake_case names too.
_RULE_FIELDS = (
    "labels", "nodeSelector", "affinity", "tolerations", "topologySpreadConstraints",
    "node_selector", "topology_spread_constraints",
)  # fmt: skip


def _rules(tasks: Sequence[Task], written: Sequence[Mapping[str, Any]]) -> tuple[list[int], list[Task]]:
    # The text of what the user wrote is the key: two spellings of one rule only make two classes of it.
    index: dict[str, int] = {}
    examples: list[Task] = []
    rules = []
    for task, fields in zip(tasks, written, strict=True):
        key = repr([fields.get(name) for name in _RULE_FIELDS])
        number = index.setdefault(key, len(examples))
        if number == len(examples):
            examples.append(task)
        rules.append(number)
    return rules, examples


def _classes(tasks: Sequence[Task], requests: IntArray, rules: Sequence[int]) -> tuple[list[TaskClass], list[int]]:
    index: dict[tuple[int, ...], int] = {}
    classes: list[TaskClass] = []
    class_of = []
    for task, row, rule in zip(tasks, requests.tolist(), rules, strict=True):
        number = index.setdefault((rule, *row), len(classes))
        if number == len(classes):
            needs = tuple((resource, units) for resource, units in enumerate(row) if units > 0)
            classes.append(TaskClass(tuple(row), needs, rule, task))
        class_of.append(number)
    return classes, class_of
