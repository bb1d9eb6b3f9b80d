"""The strategy fragmentation-aware: its gradient by brute force, what it keeps, and what it chooses."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from engine_ops.engine.contract import Budget, ignore_report
from engine_ops.engine.scheduling.checks import load
from engine_ops.engine.scheduling.devices import with_devices
from engine_ops.engine.scheduling.fragmentation import MAX_KINDS, Nodes, Workload, expected_fragmentation, gradient
from engine_ops.engine.scheduling.problem import build
from engine_ops.engine.scheduling.rulebook import Rulebook
from engine_ops.engine.scheduling.solver import SchedulingSolver
from engine_ops.engine.scheduling.state import State

STRATEGY = "fragmentation-aware"
CONSTRAINTS = {"strategy": STRATEGY, "sharedDevices": [{"resource": "gpu", "unitsPerDevice": 10}]}
SIZE = 10_000
"""Units of a device."""

amounts = st.sampled_from([0, 1, 3, 4, 5, 7, 10, 20])
tasks = st.lists(
    st.fixed_dictionaries(
        {"cpuRequired": st.integers(1, 4), "memoryRequired": st.integers(0, 3), "gpu": amounts},
        optional={"nodeSelector": st.just({"model": "x"})},
    ),
    min_size=1,
    max_size=12,
)
nodes = st.lists(
    st.fixed_dictionaries(
        {
            "cpu": st.integers(1, 12),
            "memory": st.integers(1, 9),
            "gpus": st.integers(0, 3),
            "model": st.sampled_from(["x", "y"]),
            "pods": st.sampled_from([None, 1, 3]),
        }
    ),
    min_size=1,
    max_size=4,
)


def document(task_list: list[dict[str, Any]], node_list: list[dict[str, Any]]) -> dict[str, Any]:
    written = []
    for i, item in enumerate(task_list):
        rest = {key: value for key, value in item.items() if key != "gpu"}
        written.append({"id": f"t{i}", "resourcesRequired": {"gpu": item["gpu"]}, **rest})
    offered = []
    for i, item in enumerate(node_list):
        capacity = {"cpu": item["cpu"], "memory": item["memory"], "resources": {"gpu": 10 * item["gpus"]}}
        if item["pods"] is not None:
            capacity["pods"] = item["pods"]
        labels = {"model": item["model"]}
        offered.append({"id": f"n{i}", "cpuLoad": 0, "memoryLoad": 0, "capacity": capacity, "labels": labels})
    return {"tasks": written, "nodes": offered}


def state_of(data: dict[str, Any]) -> State:
    model, chosen = load(data, CONSTRAINTS)
    problem = with_devices(build(model, data), chosen.shared_devices, model.nodes)
    return State(problem, Rulebook(problem))


def fragmentation_by_hand(state: State, node: int) -> float:
    """Return the expected fragmentation of a node as the paper defines it, one kind of task after the other."""
    problem, ledger = state.problem, state.ledgers[0]
    pool = ledger.pool
    counts = np.bincount(problem.class_of, minlength=len(problem.classes))
    ranked = sorted(range(len(counts)), key=lambda i: (-counts[i], problem.classes[i].requests, i))
    kept, total = [], 0
    for number in ranked:
        kept.append(number)
        total += counts[number]
        if total >= 0.95 * counts.sum():
            break
    free = ledger.free[node, : pool.counts[node]].tolist()
    weighted = weights = 0.0
    for number in kept:
        item = problem.classes[number]
        units = item.requests[pool.resource]
        weight = counts[number] / (units / SIZE if units else 1)
        part, count = min(units, SIZE), -(-units // SIZE)
        fits = units > 0 and bool(state.rule_of(item).static[node]) and state.places[node] >= 1
        fits = fits and all(
            state.free[r][node] >= asked for r, asked in enumerate(item.requests) if r != pool.resource and asked
        )
        fits = fits and sum(left >= part for left in free) >= count
        weighted += weight * (sum(left for left in free if left < part) if fits else sum(free))
        weights += weight
    return weighted / weights


@settings(max_examples=60)
@given(task_list=tasks, node_list=nodes, turns=st.lists(st.integers(0, 99), max_size=8))
def test_the_gradient_is_what_a_placement_adds(
    task_list: list[dict[str, Any]], node_list: list[dict[str, Any]], turns: list[int]
) -> None:
    state = state_of(document(task_list, node_list))
    assume(state.ledgers)
    problem = state.problem
    for turn in turns:
        item = problem.classes[turn % len(problem.classes)]
        where = state.feasible(item).nonzero()[0]
        if len(where):
            state.place(item, int(where[turn % len(where)]))
    pool = state.ledgers[0].pool
    workload = Workload(problem, pool, [rule.static for rule in Rulebook(problem).rules])
    everywhere = np.arange(len(problem.nodes))
    others = np.array([state.free[r] for r in workload.others], np.int64).reshape(len(workload.others), -1).T
    now = Nodes(everywhere, others, state.places, state.ledgers[0].free)
    by_hand = [fragmentation_by_hand(state, i) for i in everywhere]
    assert expected_fragmentation(now, workload) == pytest.approx(by_hand)
    for item in problem.classes:
        needs = np.array([item.requests[r] for r in workload.others], np.int64)
        units = item.requests[pool.resource]
        added, device = gradient(now, workload, pool, needs, units)
        for node in state.feasible(item).nonzero()[0].tolist():
            free = state.ledgers[0].free[node, : pool.counts[node]].tolist()
            part = 0 < units < SIZE
            options = [(i,) for i, left in enumerate(free) if left >= units] if part else [None]
            after = {}
            for option in options:
                taken = state.place(item, node, option)
                after[option] = fragmentation_by_hand(state, node) - by_hand[node]
                state.remove(item, node, taken)
            best = min(after.values())
            assert added[node] == pytest.approx(best, abs=1e-3)
            if part:
                assert after[int(device[node]),] == pytest.approx(best, abs=1e-3)


@settings(max_examples=60)
@given(task_list=tasks, node_list=nodes, turns=st.lists(st.integers(0, 99), max_size=15))
def test_what_is_kept_equals_what_a_fresh_state_works_out(
    task_list: list[dict[str, Any]], node_list: list[dict[str, Any]], turns: list[int]
) -> None:
    data = document(task_list, node_list)
    state = state_of(data)
    problem = state.problem
    done: list[tuple[Any, int, tuple[int, ...]]] = []
    for turn in turns:
        item = problem.classes[turn % len(problem.classes)]
        if turn % 7 == 6 and done:
            state.remove(*done.pop(turn % len(done)))
        elif turn % 11 == 10:
            state.reset()
            done.clear()
        else:
            node = state.choose(item, STRATEGY)
            if node >= 0:
                done.append((item, node, state.place(item, node, state.devices_for(item, node, STRATEGY))))
        fresh = state_of(data)
        for one, where, devices in done:
            fresh.place(one, where, devices)
        for one in problem.classes:
            chosen = state.choose(one, STRATEGY)
            assert chosen == fresh.choose(one, STRATEGY)
            for node in range(len(problem.nodes)):
                assert 0.0 <= state.score(one, node, STRATEGY) <= 1.0
                assert state.score(one, node, STRATEGY) == fresh.score(one, node, STRATEGY)
            if chosen >= 0:
                assert state.devices_for(one, chosen, STRATEGY) == fresh.devices_for(one, chosen, STRATEGY)


def test_running_tasks_are_expected_too() -> None:
    task_list = [{"cpuRequired": 1, "memoryRequired": 0, "gpu": amount} for amount in (3, 10)]
    data = document(task_list, [{"cpu": 9, "memory": 9, "gpus": 2, "model": "x", "pods": None}])
    problem = state_of(data).problem
    large = next(number for number, item in enumerate(problem.classes) if item.requests[2] == SIZE)
    running = dataclasses.replace(problem, fixed=[(large, 0)] * 38, class_of=[1 - large, 1 - large])
    workload = Workload(running, problem.devices[0], [np.ones(1, bool)])
    assert workload.of_one.tolist() == [SIZE]


def test_many_kinds_are_cut_off() -> None:
    task_list = [{"cpuRequired": 1 + i, "memoryRequired": 0, "gpu": 1} for i in range(MAX_KINDS + 50)]
    state = state_of(document(task_list, [{"cpu": 9, "memory": 9, "gpus": 2, "model": "x", "pods": None}]))
    rules = Rulebook(state.problem).rules
    assert len(Workload(state.problem, state.problem.devices[0], [rule.static for rule in rules]).weights) == MAX_KINDS


def test_a_share_goes_where_the_rest_stays_useful() -> None:
    """On n0 a share of 3 leaves 4, which nobody asks for; on n1 it fills a device up."""
    gpus = {"gpu": [3]}
    data = {
        "tasks": [
            {"id": f"t{i}", "cpuRequired": 1, "memoryRequired": 1, "resourcesRequired": {"gpu": amount}}
            for i, amount in enumerate([3, *[7] * 6, *[10] * 6])
        ],
        "nodes": [
            {
                "id": name,
                "cpuLoad": 0,
                "memoryLoad": 0,
                "capacity": {"cpu": 99, "memory": 99, "resources": {"gpu": 20}},
                "deviceLoads": loads,
            }
            for name, loads in (("n0", gpus), ("n1", {"gpu": [0, 7]}))
        ],
    }
    answer = SchedulingSolver().solve(data, CONSTRAINTS, Budget.of(0.0), ignore_report)
    assert answer.result["placements"][0] == {"taskId": "t0", "nodeId": "n1", "devices": [1]}
    assert answer.score is not None


def test_where_nobody_asks_for_devices_all_nodes_are_equal() -> None:
    data = document([{"cpuRequired": 1, "memoryRequired": 0, "gpu": 0}], [
        {"cpu": 9, "memory": 9, "gpus": 0, "model": "x", "pods": None}
    ])  # fmt: skip
    data["tasks"][0].pop("resourcesRequired")
    answer = SchedulingSolver().solve(data, CONSTRAINTS, Budget.of(0.0), ignore_report)
    assert (answer.result["placements"][0]["nodeId"], answer.score) == ("n0", 0.5)
