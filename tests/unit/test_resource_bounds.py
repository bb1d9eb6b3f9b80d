"""The lower bound against the truth."""

from __future__ import annotations

import itertools
import math
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine_ops.engine.contract import Budget, ignore_report
from engine_ops.engine.resource import dff
from engine_ops.engine.resource.bounds import lower_bound
from engine_ops.engine.resource.data import parse
from engine_ops.engine.resource.first_answer import first_answers
from engine_ops.engine.resource.linear_program import maximise
from engine_ops.engine.resource.packing import cost_of
from engine_ops.engine.resource.problem import Problem, build_problem
from engine_ops.engine.resource.proof import Proof
from engine_ops.engine.resource.solver import ResourceSolver


def optimum(problem: Problem) -> int | None:
    """Return the least cost of placing everything, trying every set of items for the next node; None if impossible."""
    items = [group for group, count in enumerate(problem.count.tolist()) for _ in range(count)]
    whole = (1 << len(items)) - 1
    holds: list[list[bool]] = []
    for mask in range(whole + 1):
        load = sum((problem.demand[items[i]] for i in range(len(items)) if mask >> i & 1), 0 * problem.capacity[0])
        holds.append([bool((load <= capacity).all()) for capacity in problem.capacity])

    @cache
    def least(left: int, free: tuple[int, ...], nodes: int) -> float:
        if not left:
            return 0
        if not nodes:
            return math.inf
        first = left & -left
        rest = left ^ first
        best = math.inf
        subset = rest
        while True:
            chosen = subset | first
            for kind, number in enumerate(free):
                if number and holds[chosen][kind]:
                    spare = (*free[:kind], number - 1, *free[kind + 1 :])
                    best = min(best, problem.cost[kind] + least(left ^ chosen, spare, nodes - 1))
            if not subset:
                return best
            subset = (subset - 1) & rest

    cost = least(whole, problem.limit, problem.max_nodes)
    return None if cost == math.inf else int(cost)


@st.composite
def tiny(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    items: list[dict[str, Any]] = []
    total = 0
    while total < 7 and (not items or draw(st.booleans())):
        count = draw(st.integers(1, min(3, 7 - total)))
        total += count
        amounts = {"cpu": draw(st.integers(0, 10)), "memory": draw(st.integers(0, 10))}
        items.append({"id": str(len(items)), "count": count, **amounts})
    types = []
    priced = draw(st.booleans())
    for number in range(draw(st.integers(1, 3))):
        kind: dict[str, Any] = {
            "name": str(number),
            "cpu": draw(st.integers(1, 12)),
            "memory": draw(st.integers(1, 12)),
        }
        if draw(st.booleans()):
            kind["pods"] = draw(st.integers(1, 4))
        if draw(st.booleans()):
            kind["max"] = draw(st.integers(0, 3))
        if priced:
            kind["cost"] = draw(st.sampled_from([0, 0.1, 0.7, 1, 1.5, 3.5]))
        types.append(kind)
    constraints = {"maxNodes": draw(st.integers(1, 5))} if draw(st.booleans()) else {}
    return {"items": items, "nodeTypes": types}, constraints


@settings(max_examples=150)
@given(tiny())
def test_the_bound_is_never_above_the_truth(request_: tuple[dict[str, Any], dict[str, Any]]) -> None:
    problem = build_problem(*parse(*request_))
    best = optimum(problem)
    bound = lower_bound(problem, problem.count)
    if best is not None:
        assert bound.cost <= best
        assert bound.basis


@settings(max_examples=50)
@given(tiny())
def test_the_truth_is_never_below_the_bound_nor_above_the_answer(
    request_: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    problem = build_problem(*parse(*request_))
    best = optimum(problem)
    answer = ResourceSolver().solve(*request_, Budget(math.inf, max_steps=50), ignore_report)
    if best is None or answer.gap is None:
        return
    unit = float(problem.money) if problem.money is not None else 1.0
    assert answer.result["lowerBound"] <= best * unit + 1e-9
    assert answer.result["lowerBound"] == pytest.approx(lower_bound(problem, problem.count).cost * unit)
    assert (answer.objective or 0.0) >= best * unit - 1e-9


@settings(max_examples=100)
@given(tiny(), st.integers(0, 12))
def test_a_bound_that_is_enough_is_still_one_and_no_weaker_than_asked(
    request_: tuple[dict[str, Any], dict[str, Any]], enough: int
) -> None:
    problem = build_problem(*parse(*request_))
    whole = lower_bound(problem, problem.count).cost
    assert min(enough, whole) <= lower_bound(problem, problem.count, enough=enough).cost <= whole


@settings(max_examples=100)
@given(tiny())
def test_only_complete_packings_at_the_bound_are_settled(request_: tuple[dict[str, Any], dict[str, Any]]) -> None:
    problem = build_problem(*parse(*request_))
    whole = lower_bound(problem, problem.count).cost
    proof = Proof(problem)
    for _, packing in first_answers(problem):
        cost = cost_of(problem, packing)
        assert proof.settles(packing) == (not packing.left.any() and cost == whole)


FAMILIES = [dff.rounding, dff.cutting, dff.counting]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("capacity", [2, 3, 7, 12, 30])
def test_functions_are_superadditive_and_do_not_decrease(family: Any, capacity: int) -> None:
    sizes = np.arange(capacity + 1)
    largest = 9 if family is dff.rounding else capacity // 2
    for parameter in range(1, largest + 1):
        image = family(sizes, capacity, np.asarray(parameter))
        assert image[0] == 0
        assert (np.diff(image) >= 0).all()
        for one, other in itertools.product(range(capacity + 1), repeat=2):
            if one + other <= capacity:
                assert image[one] + image[other] <= image[one + other]


@settings(max_examples=200)
@given(st.integers(2, 2**53 - 1), st.data())
@example(2**53 - 1, None)
def test_functions_stay_exact_for_the_largest_amounts(capacity: int, data: Any) -> None:
    size = capacity // 3 if data is None else data.draw(st.integers(0, capacity))
    parameter = dff.MAX_PARAMETERS if data is None else data.draw(st.integers(1, dff.MAX_PARAMETERS))
    scaled = size * (parameter + 1)
    exact = size * parameter if scaled % capacity == 0 else scaled // capacity * capacity
    assert int(dff.rounding(np.array([size]), capacity, np.asarray(parameter))[0]) == exact


def _bound(items: list[tuple[int, int, int]], cpu: int, memory: int = 100) -> int:
    data = {
        "items": [{"id": str(n), "cpu": c, "memory": m, "count": k} for n, (c, m, k) in enumerate(items)],
        "nodeCapacity": {"cpu": cpu, "memory": memory},
    }
    problem = build_problem(*parse(data, {}))
    return lower_bound(problem, problem.count).cost


def test_items_above_half_need_a_node_each() -> None:
    assert _bound([(51, 0, 10)], 100) == 10


def test_items_above_a_third_share_by_two() -> None:
    assert _bound([(34, 0, 10)], 100) == 5


def test_items_that_clash_in_different_resources_are_seen_together() -> None:
    # Neither resource alone needs more than 6 nodes; an item of one kind and one of the other never share.
    assert _bound([(90, 30, 5), (30, 90, 5)], 100) == 10


def test_the_greatest_common_divisor_tightens_the_capacity() -> None:
    assert _bound([(3, 0, 33)], 10) == 11


def test_pods_bound_the_nodes() -> None:
    data = {
        "items": [{"id": "a", "cpu": 0, "memory": 0, "count": 25}],
        "nodeCapacity": {"cpu": 1, "memory": 1, "pods": 10},
    }
    problem = build_problem(*parse(data, {}))
    assert lower_bound(problem, problem.count).cost == 3


def test_a_maximum_on_the_cheap_type_raises_the_bound() -> None:
    types = [
        {"name": "cheap", "cpu": 10, "memory": 10, "cost": 1, "max": 2},
        {"name": "dear", "cpu": 10, "memory": 10, "cost": 5},
    ]
    data = {"items": [{"id": "a", "cpu": 1, "memory": 1, "count": 50}], "nodeTypes": types}
    problem = build_problem(*parse(data, {}))
    assert lower_bound(problem, problem.count).cost == 2 * 1 + 3 * 5


def test_items_that_only_a_dear_type_holds_raise_the_bound() -> None:
    types = [
        {"name": "plain", "cpu": 10, "memory": 10, "cost": 1},
        {"name": "gpu", "cpu": 10, "memory": 10, "cost": 9, "resources": {"gpu": 1}},
    ]
    items = [{"id": "g", "cpu": 1, "memory": 1, "count": 3, "resources": {"gpu": 1}}]
    problem = build_problem(*parse({"items": items, "nodeTypes": types}, {}))
    assert lower_bound(problem, problem.count).cost == 27


@settings(max_examples=100)
@given(st.integers(1, 4), st.integers(1, 4), st.data())
def test_the_simplex_stays_feasible_and_is_optimal_on_boxes(rows: int, columns: int, data: Any) -> None:
    number = st.integers(0, 9)
    matrix = np.array([[data.draw(number) for _ in range(columns)] for _ in range(rows)], dtype=np.float64)
    limits = np.array([data.draw(number) for _ in range(rows)], dtype=np.float64)
    box = np.vstack([matrix, np.eye(columns)])
    bounds = np.concatenate([limits, np.full(columns, 5.0)])
    objective = np.array([data.draw(st.integers(-3, 9)) for _ in range(columns)], dtype=np.float64)
    point = maximise(objective, box, bounds)
    assert (point >= 0).all()
    assert (box @ point <= bounds + 1e-7).all()
    # Whole-number points are feasible points: none may be better than the optimum.
    grid = np.array(list(itertools.product(range(6), repeat=columns)), dtype=np.float64)
    feasible = grid[(grid @ box.T <= bounds).all(axis=1)]
    assert float(objective @ point) >= float((feasible @ objective).max()) - 1e-7
