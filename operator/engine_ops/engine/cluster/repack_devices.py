"""Which devices the pods of a cluster have, and whether they still find them when they return to their nodes.

kube-scheduler knows the sum of a node's devices only, and nothing in a pod says which it has. That is inferred once, as
`engine_ops.engine.scheduling.state.State` does it for pods that stay: each the tightest that fit, the largest first. A
pod that does not move keeps these; where the pods of a node cannot be shared out, some devices are overcommitted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from engine_ops.engine.cluster.problem import ClusterProblem
from engine_ops.engine.scheduling.devices import DeviceLedger, DevicePool, Devices
from engine_ops.engine.scheduling.problem import IntArray, Problem, TaskClass
from engine_ops.engine.scheduling.state import State


@dataclasses.dataclass(frozen=True, slots=True)
class PodDevices:
    """The devices that pods have now: of each of `Problem.devices` in turn as many as the pod's request needs.

    Where a node has fewer than that, the last one is named again: it is overcommitted.

    Parameters
    ----------
    of_task
        Of each task.
    of_fixed
        Of each of `Problem.fixed`.
    overcommitted
        For each of `Problem.devices` the nodes with an overcommitted device.
    """

    of_task: Sequence[Devices]
    of_fixed: Sequence[Devices]
    overcommitted: Sequence[IntArray]


def infer_devices(cluster: ClusterProblem) -> PodDevices:
    """Say which devices pods have now.

    Parameters
    ----------
    cluster
        From `engine_ops.engine.cluster.problem.repacking_problem`.
    """
    problem = cluster.problem
    fixed = len(problem.fixed)
    if not problem.devices:
        return PodDevices([()] * len(problem.tasks), [()] * fixed, ())
    pods = [*problem.fixed, *zip(problem.class_of, cluster.current, strict=True)]
    rows = [*cluster.fixed_rows, *cluster.task_rows]
    devices: list[Devices] = [()] * len(pods)
    overcommitted = []
    for pool in problem.devices:
        ledger = DeviceLedger(pool)
        units_of = [problem.classes[number].requests[pool.resource] for number, _ in pods]
        asking = [place for place, units in enumerate(units_of) if units]
        # Pods of one size come in the snapshot's order: what may move makes no difference.
        for place in sorted(asking, key=lambda place: (-units_of[place], rows[place])):
            node, units = pods[place][1], units_of[place]
            found = ledger.tightest(node, units)
            found += (found[-1] if found else 0,) * (pool.needed(units) - len(found))
            devices[place] += ledger.place(node, units, found)
        overcommitted.append((ledger.free.min(axis=1) < 0).nonzero()[0])
    return PodDevices(devices[fixed:], devices[:fixed], overcommitted)


def keep_fixed(state: State, devices: PodDevices) -> None:
    """Let the tasks that stay have their devices in a state where nothing else is placed; `State.reset` keeps that."""
    problem = state.problem
    for place, ledger in enumerate(state.ledgers):
        asking = []
        for (number, node), own in zip(problem.fixed, devices.of_fixed, strict=True):
            parts = dict(parts_of(problem, problem.classes[number], own))
            if place in parts:
                asking.append((node, problem.classes[number].requests[ledger.pool.resource], parts[place]))
        for node, units, _ in asking:
            ledger.remove(node, units)
        for node, units, own in asking:
            ledger.place(node, units, own)
        ledger.mark()


def parts_of(problem: Problem, task_class: TaskClass, devices: Devices) -> Iterator[tuple[int, Devices]]:
    """Go through the pools that a task asks of, by index of `Problem.devices`, with its devices of each."""
    start = 0
    for place, pool in enumerate(problem.devices):
        units = task_class.requests[pool.resource]
        if units:
            end = start + pool.needed(units)
            yield place, devices[start:end]
            start = end


def devices_there(problem: Problem, task_class: TaskClass, node: int, devices: Devices) -> list[int]:
    """Return the devices of a task that its node has, each once for each resource."""
    found: list[int] = []
    for place, own in parts_of(problem, task_class, devices):
        count = int(problem.devices[place].counts[node])
        found += [device for device in dict.fromkeys(own) if device < count]
    return found


def holds(ledger: DeviceLedger, node: int, units: int, devices: Devices) -> bool:
    """Whether certain devices of a node hold a request."""
    left = ledger.free[node].copy()
    np.subtract.at(left, list(devices), shares(ledger.pool, units))
    return bool((left[list(devices)] >= 0).all())


def shares(pool: DevicePool, units: int) -> list[int]:
    """Return what a request takes of each of its devices."""
    return [min(pool.size, units - start) for start in range(0, units, pool.size)]
