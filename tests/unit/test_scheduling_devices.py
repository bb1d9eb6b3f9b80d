"""Shared devices: the ledger against a naive one, and requests, loads and reasons by example."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_ops.api.faults import InvalidDataError
from engine_ops.engine.contract import Answer, Budget, ignore_report
from engine_ops.engine.scheduling.checks import load
from engine_ops.engine.scheduling.devices import DeviceLedger, DevicePool, with_devices
from engine_ops.engine.scheduling.model import MAX_DEVICES_OF_NODE, SharedDevice
from engine_ops.engine.scheduling.problem import build
from engine_ops.engine.scheduling.rulebook import Rulebook
from engine_ops.engine.scheduling.solver import SchedulingSolver
from engine_ops.engine.scheduling.state import State

GPU = "gpu-milli"
SHARED = {"sharedDevices": [{"resource": GPU, "unitsPerDevice": 1000}]}
SIZE = 10
NO_DEVICE = f"node(s) had no device with enough free {GPU}"


def task(name: str, amount: float, **fields: Any) -> dict[str, Any]:
    return {"id": name, "cpuRequired": 1, "memoryRequired": 1, "resourcesRequired": {GPU: amount}, **fields}


def node(name: str = "n", devices: int = 2, **fields: Any) -> dict[str, Any]:
    capacity = {"cpu": 100, "memory": 100, "resources": {GPU: 1000 * devices}}
    return {"id": name, "cpuLoad": 0, "memoryLoad": 0, "capacity": capacity, **fields}


def solve(
    tasks: list[dict[str, Any]], nodes: list[dict[str, Any]], constraints: dict[str, Any] | None = None
) -> Answer:
    data = {"tasks": tasks, "nodes": nodes}
    return SchedulingSolver().solve(data, SHARED if constraints is None else constraints, Budget.of(0.0), ignore_report)


def placed(answer: Answer) -> dict[str, tuple[str | None, list[int] | None]]:
    return {item["taskId"]: (item.get("nodeId"), item.get("devices")) for item in answer.result["placements"]}


def faults(data: dict[str, Any], constraints: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(InvalidDataError) as caught:
        SchedulingSolver().solve(data, constraints, Budget.of(0.0), ignore_report)
    return {fault.path: fault.message for fault in caught.value.faults}


class Naive:
    """Lists of what is free on each node."""

    def __init__(self, counts: list[int]) -> None:
        self.free = [[SIZE] * count for count in counts]

    def fits(self, number: int, units: int) -> bool:
        free = self.free[number]
        if units <= SIZE:
            return any(left >= units for left in free)
        return units % SIZE == 0 and free.count(SIZE) >= units // SIZE

    def change(self, number: int, units: int, devices: tuple[int, ...], sign: int) -> None:
        for device in devices:
            part = min(units, SIZE)
            self.free[number][device] += sign * part
            units -= part


@given(
    counts=st.lists(st.integers(0, 4), min_size=1, max_size=4),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["place", "place", "remove", "mark", "reset"]), st.integers(0, 99), st.integers(1, 45)
        ),
        max_size=40,
    ),
)
def test_the_ledger_agrees_with_a_naive_one(counts: list[int], steps: list[tuple[str, int, int]]) -> None:
    width = max(1, *counts)
    free = np.where(np.arange(width) < np.array(counts)[:, None], SIZE, 0)
    ledger, naive = DeviceLedger(DevicePool(2, SIZE, np.array(counts), free)), Naive(counts)
    held: list[tuple[int, int, tuple[int, ...]]] = []
    marked = ([list(row) for row in naive.free], list(held))
    for step, draw, units in steps:
        number = draw % len(counts)
        if step == "place" and naive.fits(number, units):
            before = list(naive.free[number])
            taken = ledger.place(number, units)
            if units <= SIZE:
                assert len(taken) == 1
                assert before[taken[0]] == min(left for left in before if left >= units)
            else:
                assert len(set(taken)) == units // SIZE
                assert all(before[device] == SIZE for device in taken)
            naive.change(number, units, taken, -1)
            held.append((number, units, taken))
        elif step == "remove" and held:
            gone = held.pop(draw % len(held))
            assert ledger.remove(*gone) == gone[2]
            naive.change(*gone, 1)
        elif step == "mark":
            ledger.mark()
            marked = ([list(row) for row in naive.free], list(held))
        elif step == "reset":
            ledger.reset()
            naive.free, held = [list(row) for row in marked[0]], list(marked[1])
        assert [row[:count] for row, count in zip(ledger.free.tolist(), counts, strict=True)] == naive.free
        for asked in (1, units, SIZE, 2 * SIZE):
            expected = [naive.fits(i, asked) for i in range(len(counts))]
            assert ledger.fits(asked).tolist() == expected
            assert [ledger.fits_on(i, asked) for i in range(len(counts))] == expected


def test_a_ledger_refuses_to_remove_what_is_not_there() -> None:
    ledger = DeviceLedger(DevicePool(2, SIZE, np.array([1]), np.array([[SIZE]])))
    with pytest.raises(ValueError, match="no request of 3 units"):
        ledger.remove(0, 3)


def test_shares_must_fit_a_single_device() -> None:
    answer = solve([task("a", 600), task("b", 600), task("c", 600), task("d", 400)], [node()])
    assert placed(answer) == {"a": ("n", [0]), "b": ("n", [1]), "c": (None, None), "d": ("n", [0])}
    reasons = {item["taskId"]: item.get("reason") for item in answer.result["placements"]}
    assert reasons["c"] == f"0/1 nodes are available: 1 {NO_DEVICE}."


def test_a_sum_that_does_not_do_is_called_insufficient() -> None:
    answer = solve([task("a", 2000), task("b", 100)], [node()])
    assert answer.result["placements"][1]["reason"] == f"0/1 nodes are available: 1 Insufficient {GPU}."


def test_whole_devices_must_be_free() -> None:
    answer = solve([task("a", 100), task("b", 2000), task("c", 1000)], [node(devices=3)])
    assert placed(answer) == {"a": ("n", [0]), "b": ("n", [1, 2]), "c": (None, None)}


def test_a_task_that_asks_for_no_device_names_none() -> None:
    answer = solve([task("a", 0)], [node()])
    assert answer.result["placements"] == [{"taskId": "a", "nodeId": "n"}]


def test_one_task_is_told_its_devices() -> None:
    data = {"task": task("a", 2000), "nodes": [node()]}
    answer = SchedulingSolver().solve(data, SHARED, Budget.of(0.0), ignore_report)
    assert answer.result["devices"] == [0, 1]


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ({"resourceLoads": {GPU: 300}}, [0]),
        ({"resourceLoads": {GPU: 1300}}, [1]),
        ({"deviceLoads": {GPU: [0, 300]}}, [1]),
        ({"deviceLoads": {GPU: [700, 300]}, "resourceLoads": {GPU: 1000}}, [1]),
        ({"resourceLoads": {GPU: 1400}}, None),
    ],
)
def test_loads_are_on_devices(taken: dict[str, Any], expected: list[int] | None) -> None:
    assert placed(solve([task("a", 700)], [node(**taken)]))["a"][1] == expected


def test_device_loads_count_in_the_sum() -> None:
    answer = solve([task("a", 700)], [node(deviceLoads={GPU: [900, 900]})])
    assert answer.result["placements"][0]["reason"] == f"0/1 nodes are available: 1 Insufficient {GPU}."


def test_without_shared_devices_sums_alone_count() -> None:
    answer = solve([task("a", 600), task("b", 600), task("c", 600)], [node()], {})
    assert answer.result["placedCount"] == 3


def with_fixed(amounts: list[float], devices: int) -> State:
    """Return a state where a node runs tasks already."""
    data = {"tasks": [task(f"t{i}", amount) for i, amount in enumerate(amounts)], "nodes": [node(devices=devices)]}
    problem = build(load(data, {})[0], data)
    problem = dataclasses.replace(problem, fixed=[(number, 0) for number in problem.class_of])
    shared = SharedDevice.model_validate(SHARED["sharedDevices"][0])
    problem = with_devices(problem, [shared])
    return State(problem, Rulebook(problem))


@pytest.mark.parametrize(
    ("amounts", "free"),
    [
        ([300, 600, 400], [0, 700]),
        ([500, 2000], [0, 0, 500]),
        ([1500], [0, 500]),
        ([600, 600], [-200]),
        ([100], []),
    ],
)
def test_devices_of_running_tasks_are_inferred(amounts: list[float], free: list[int]) -> None:
    ledger = with_fixed(amounts, len(free)).ledgers[0]
    assert [units // 1000 for units in ledger.free[0].tolist()[: len(free)]] == free


def test_a_running_task_can_be_removed_and_comes_back_with_a_reset() -> None:
    state = with_fixed([300, 600], 1)
    before = state.ledgers[0].free.copy()
    small = next(item for item in state.problem.classes if item.requests[2] == 300_000)
    assert state.remove(small, 0) == (0,)
    assert state.ledgers[0].free[0, 0] == 400_000
    state.reset()
    assert np.array_equal(state.ledgers[0].free, before)


def test_parts_of_several_devices_are_a_reason_where_nobody_wrote_them() -> None:
    state = with_fixed([1500], 4)
    reasons = [reason for reason, nodes in state.obstacles(state.problem.classes[0]) if nodes.any()]
    assert reasons == [f"node(s) cannot give parts of several devices of {GPU}"]
    assert not state.feasible(state.problem.classes[0]).any()


@pytest.mark.parametrize(
    ("constraints", "path"),
    [
        ({"strategy": "fragmentation-aware"}, "constraints.sharedDevices"),
        ({"sharedDevices": [{"resource": "cpu", "unitsPerDevice": 1}]}, "constraints.sharedDevices[0].resource"),
        ({"sharedDevices": SHARED["sharedDevices"] * 2}, "constraints.sharedDevices[1].resource"),
        ({"sharedDevices": [{"resource": GPU, "unitsPerDevice": 0.5}]}, "constraints.sharedDevices[0].unitsPerDevice"),
        ({"sharedDevices": [{"resource": GPU, "unitsPerDevice": "9E"}]}, "constraints.sharedDevices[0].unitsPerDevice"),
        ({"sharedDevices": [{"resource": GPU, "unitsPerDevice": 1}]}, "constraints.sharedDevices[0].unitsPerDevice"),
        ({"sharedDevices": [{"resource": GPU}]}, "constraints.sharedDevices[0].unitsPerDevice"),
    ],
)
def test_faults_of_constraints(constraints: dict[str, Any], path: str) -> None:
    assert MAX_DEVICES_OF_NODE < 1000
    assert list(faults({"tasks": [task("a", 1)], "nodes": [node()]}, constraints)) == [path]


def test_a_part_of_several_devices_is_a_fault() -> None:
    data = {"tasks": [task("a", 1000), task("b", 1500)], "nodes": [node()]}
    assert list(faults(data, SHARED)) == [f"data.tasks[1].resourcesRequired.{GPU}"]
    one = {"task": task("b", 1500), "nodes": [node()]}
    assert list(faults(one, SHARED)) == [f"data.task.resourcesRequired.{GPU}"]


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"deviceLoads": {"other": [1]}}, "deviceLoads.other"),
        ({"deviceLoads": {GPU: [0, 0, 0]}}, f"deviceLoads.{GPU}"),
        ({"deviceLoads": {GPU: [0, 1001]}}, f"deviceLoads.{GPU}[1]"),
        ({"deviceLoads": {GPU: [500]}, "resourceLoads": {GPU: 400}}, f"deviceLoads.{GPU}"),
    ],
)
def test_faults_of_device_loads(fields: dict[str, Any], path: str) -> None:
    assert list(faults({"tasks": [task("a", 1)], "nodes": [node(**fields)]}, SHARED)) == [f"data.nodes[0].{path}"]
