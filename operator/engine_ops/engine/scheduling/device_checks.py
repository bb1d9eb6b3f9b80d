"""Faults in what a user wrote about devices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from engine_ops.api.faults import Fault
from engine_ops.engine.scheduling.model import FRAGMENTATION_AWARE, Node, SchedulingConstraints, SharedDevice, Task
from engine_ops.engine.units import capacity_units, limit_of, request_units, too_large_message

_STANDARD_RESOURCES = frozenset({"cpu", "memory", "pods"})
_SHARED = "constraints.sharedDevices"


def constraint_faults(constraints: SchedulingConstraints) -> Iterator[Fault]:
    """Find what is wrong with the shared devices, and with a strategy that needs them."""
    shared = constraints.shared_devices
    if constraints.strategy == FRAGMENTATION_AWARE and len(shared) != 1:
        message = (
            f"strategy {FRAGMENTATION_AWARE} needs exactly one entry, the devices to keep whole: {len(shared)} given"
        )
        yield Fault(_SHARED, message)
    first: dict[str, int] = {}
    for i, item in enumerate(shared):
        path = f"{_SHARED}[{i}]"
        if item.resource in _STANDARD_RESOURCES:
            yield Fault(f"{path}.resource", f"{item.resource} does not come in devices: name a further resource")
        seen = first.setdefault(item.resource, i)
        if seen != i:
            message = f"{item.resource!r} is the resource of {_SHARED}[{seen}] already; resources must be unique"
            yield Fault(f"{path}.resource", message)
        if item.units_per_device < 1:
            yield Fault(f"{path}.unitsPerDevice", "must be at least 1")
        elif item.units_per_device >= limit_of(item.resource):
            yield Fault(f"{path}.unitsPerDevice", too_large_message(item.resource))


def task_faults(tasks: Sequence[Task], constraints: SchedulingConstraints, *, many: bool) -> Iterator[Fault]:
    """Find tasks that ask for more than one device, but not for whole ones.

    Parameters
    ----------
    tasks, constraints
        Without faults of their own.
    many
        Whether the tasks are of ``data.tasks`` rather than ``data.task``.
    """
    sizes = {item.resource: item.units() for item in constraints.shared_devices}
    for i, task in enumerate(tasks):
        for name in sizes.keys() & task.resources_required.keys():
            amount, size = task.resources_required[name], sizes[name]
            units = request_units(name, amount)
            if units > size and units % size:
                path = f"data.tasks[{i}]" if many else "data.task"
                message = f"{amount:g} is more than one device, which has {_per_device(constraints, name):g}, "
                yield Fault(f"{path}.resourcesRequired.{name}", message + "and so must be a whole multiple of that")


def node_faults(nodes: Sequence[Node], constraints: SchedulingConstraints) -> Iterator[Fault]:
    """Find device loads that do not belong to the node's devices. See `task_faults`."""
    shared = {item.resource: item for item in constraints.shared_devices}
    for i, node in enumerate(nodes):
        for name, loads in node.device_loads.items():
            path = f"data.nodes[{i}].deviceLoads.{name}"
            item = shared.get(name)
            if item is None:
                yield Fault(path, f"{_SHARED} does not say that {name} comes in devices")
            elif node.capacity is None:
                yield Fault(path, "needs capacity on the nodes: without it everything is in percent of a node")
            else:
                yield from _load_faults(path, node, item, loads, node.capacity.resources)


def _load_faults(
    path: str, node: Node, item: SharedDevice, loads: Sequence[float], capacity: Mapping[str, float]
) -> Iterator[Fault]:
    name, size = item.resource, item.units()
    devices = capacity_units(name, capacity.get(name, 0.0)) // size
    if len(loads) > devices:
        yield Fault(path, f"{len(loads)} devices, but the node has {devices} by its capacity")
    for device, load in enumerate(loads):
        if load > item.units_per_device:
            yield Fault(f"{path}[{device}]", f"{load:g} is more than a device has, {item.units_per_device:g}")
    total = node.resource_loads.get(name)
    if total is not None and request_units(name, total) != sum(
        request_units(name, load) for load in loads if load <= item.units_per_device
    ):
        yield Fault(path, f"the loads add up to {sum(loads):g}, but resourceLoads says {total:g}: leave that out")


def _per_device(constraints: SchedulingConstraints, name: str) -> float:
    return next(item.units_per_device for item in constraints.shared_devices if item.resource == name)
