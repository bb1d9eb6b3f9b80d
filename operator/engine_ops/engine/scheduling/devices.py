"""Resources that come in devices, such as thousandths of GPUs: what is free on every single one.

A request of less than one device must fit one device; a larger one takes whole devices, all of them fully free.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from engine_ops.api.faults import Fault, InvalidDataError
from engine_ops.engine.scheduling.model import MAX_DEVICES_OF_NODE, Node, SharedDevice
from engine_ops.engine.unit_arrays import request_units_array

if TYPE_CHECKING:
    from engine_ops.engine.scheduling.problem import BoolArray, IntArray, Problem

Devices = tuple[int, ...]
"""Indices of devices of one node, ascending."""


@dataclasses.dataclass(frozen=True, slots=True)
class DevicePool:
    """The devices of one resource on all nodes.

    Parameters
    ----------
    resource
        Index of the resource, as in `Problem.resources`.
    size
        Units of one device.
    counts
        Devices of each node.
    free
        Free units, nodes x devices, before any task is placed; 0 where a node has no such device. May be negative.
    """

    resource: int
    size: int
    counts: IntArray
    free: IntArray

    def needed(self, units: int) -> int:
        """Return how many devices a request takes; 0 if it asks for nothing.

        >>> pool = DevicePool(2, 1000, np.array([2]), np.array([[1000, 1000]]))
        >>> pool.needed(0), pool.needed(300), pool.needed(1000), pool.needed(2000)
        (0, 1, 1, 2)
        """
        return -(-units // self.size)

    def divides(self, units: int) -> bool:
        """Whether a request is at most one device or a number of whole ones."""
        return units <= self.size or units % self.size == 0


def with_devices(problem: Problem, shared: Sequence[SharedDevice], nodes: Sequence[Node] | None = None) -> Problem:
    """Return the problem with the devices of shared resources.

    Parameters
    ----------
    problem
        Amounts must not be in percent.
    shared
        Which resources come in devices. One that is not among the problem's resources is asked for by no task, and is
        left out.
    nodes
        The nodes as the user wrote them, in any order, for what is taken of each device. Where that is not said, loads
        take whole devices first. None if nothing is taken but by `Problem.fixed`.

    Raises
    ------
    InvalidDataError
        If a node would have more than `MAX_DEVICES_OF_NODE` devices.
    """
    written = {node.id: node for node in nodes or ()}
    pools = []
    load = problem.load.copy()
    for number, item in enumerate(shared):
        if item.resource not in problem.resources:
            continue
        resource = problem.resources.index(item.resource)
        size = item.units()
        counts = problem.capacity[resource] // size
        _check_counts(problem, item, counts, f"constraints.sharedDevices[{number}].unitsPerDevice")
        index = np.arange(max(int(counts.max(initial=0)), 1))
        taken = np.clip(load[resource][:, None] - index * size, 0, size)
        for i, node in enumerate(problem.nodes):
            loads = written[node.id].device_loads.get(item.resource) if node.id in written else None
            if loads is not None:
                taken[i] = 0
                taken[i, : len(loads)] = request_units_array(item.resource, loads)
                load[resource, i] = taken[i].sum()
        free = np.where(index < counts[:, None], size - taken, 0)
        pools.append(DevicePool(resource, size, counts, free))
    return dataclasses.replace(problem, load=load, devices=pools) if pools else problem


def _check_counts(problem: Problem, item: SharedDevice, counts: IntArray, path: str) -> None:
    most = int(counts.max(initial=0))
    if most > MAX_DEVICES_OF_NODE:
        node = problem.nodes[int(counts.argmax())].id
        message = f"node {node} would have {most} devices of {item.resource}, at most {MAX_DEVICES_OF_NODE} are allowed"
        raise InvalidDataError([Fault(path, message)])


class DeviceLedger:
    """What is free on each device while tasks are placed and taken away.

    Parameters
    ----------
    pool
        The devices, and what is free of them at first.
    """

    def __init__(self, pool: DevicePool) -> None:
        self.pool = pool
        self._here: BoolArray = np.arange(pool.free.shape[1]) < pool.counts[:, None]
        self.free = pool.free.copy()
        """Units, nodes x devices."""
        self._held: dict[tuple[int, int], list[Devices]] = defaultdict(list)
        self.mark()
        self.reset()

    def mark(self) -> None:
        """Make what is placed now what `reset` goes back to."""
        self._marked = (self.free.copy(), {key: list(taken) for key, taken in self._held.items()})

    def reset(self) -> None:
        """Take away what was placed after `mark`, and put back what was removed."""
        self.free[:] = self._marked[0]
        self._held = defaultdict(list, {key: list(taken) for key, taken in self._marked[1].items()})
        self._largest: IntArray = np.where(self._here, self.free, -1).max(axis=1)
        self._whole: IntArray = ((self.free == self.pool.size) & self._here).sum(axis=1)

    def fits(self, units: int) -> BoolArray:
        """Return the nodes whose devices can hold a request; none can if it is more than one device and not whole."""
        if units < self.pool.size:
            return self._largest >= units
        if not self.pool.divides(units):
            return np.zeros(len(self.free), bool)
        return self._whole >= self.pool.needed(units)

    def fits_on(self, node: int, units: int) -> bool:
        """Whether a node's devices can hold a request."""
        if units < self.pool.size:
            return bool(self._largest[node] >= units)
        return self.pool.divides(units) and bool(self._whole[node] >= self.pool.needed(units))

    def tightest(self, node: int, units: int) -> Devices:
        """Return the devices that a request takes where nothing else chooses: the fullest that can hold it.

        Equally full ones are taken in order. Where none can hold it, the emptiest ones are overcommitted; a node with
        fewer devices gives all that it has.
        """
        free, size = self.free[node, : self.pool.counts[node]].tolist(), self.pool.size
        count = min(self.pool.needed(units), len(free))
        if count == 1:
            holding = [device for device, left in enumerate(free) if left >= units]
            if holding:
                return (min(holding, key=free.__getitem__),)
        last = units - (self.pool.needed(units) - 1) * size
        if count > 1 and last < size:
            # Only a task that runs already asks for this: whole devices, and a part of another.
            whole = sorted(range(len(free)), key=lambda device: -free[device])[: count - 1]
            rest = [device for device in range(len(free)) if device not in whole]
            holding = [device for device in rest if free[device] >= last]
            chosen = min(holding, key=free.__getitem__) if holding else max(rest, key=free.__getitem__)
            return (*sorted(whole), chosen)
        return tuple(sorted(sorted(range(len(free)), key=lambda device: -free[device])[:count]))

    def place(self, node: int, units: int, devices: Sequence[int] | None = None) -> Devices:
        """Place a request on a node, whether or not its devices can hold it.

        Parameters
        ----------
        node, units
            Where, and how much.
        devices
            Which devices; by default the `tightest`.

        Returns
        -------
        Devices
            Those that were taken; the last one is the one of which only a part may be.
        """
        taken = self.tightest(node, units) if devices is None else tuple(devices)
        self._held[node, units].append(taken)
        self._change(node, units, taken, -1)
        return taken

    def remove(self, node: int, units: int, devices: Sequence[int] | None = None) -> Devices:
        """Take a request off a node.

        Parameters
        ----------
        node, units
            As they were placed.
        devices
            Which devices it had; by default those of the last such request.

        Returns
        -------
        Devices
            Those that are free again.

        Raises
        ------
        ValueError
            If there is no such request on these devices.
        """
        held = self._held[node, units]
        if not held:
            raise ValueError(f"node {node} has no request of {units} units")
        if devices is None:
            taken = held.pop()
        else:
            taken = tuple(devices)
            held.remove(taken)
        self._change(node, units, taken, 1)
        return taken

    def _change(self, node: int, units: int, taken: Devices, sign: int) -> None:
        row, size = self.free[node], self.pool.size
        for device in taken:
            part = min(units, size)
            row[device] += sign * part
            units -= part
        own = row[: self.pool.counts[node]]
        self._largest[node] = own.max(initial=-1)
        self._whole[node] = (own == size).sum()
