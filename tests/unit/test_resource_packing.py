"""Invariants of answers to ``resource`` requests."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine_ops.api.reasons import Reason
from engine_ops.engine.contract import Answer, Budget, ignore_report
from engine_ops.engine.resource.data import parse
from engine_ops.engine.resource.first_fit_decreasing import first_fit, first_fit_decreasing, first_fit_few
from engine_ops.engine.resource.packing import Packing, cost_of, left_by_priority, value_of
from engine_ops.engine.resource.problem import build_problem
from engine_ops.engine.resource.solver import ResourceSolver

Data = dict[str, Any]


def solve(data: Data, constraints: Data | None = None, steps: int = 30, seed: int = 0) -> Answer:
    budget = Budget(math.inf, max_steps=steps, seed=seed)
    return ResourceSolver().solve(data, constraints or {}, budget, ignore_report)


@st.composite
def requests(draw: st.DrawFn, max_items: int = 12, max_count: int = 9) -> tuple[Data, Data]:
    small = st.integers(0, 12)
    names = draw(st.lists(st.sampled_from(["nvidia.com/gpu", "ephemeral-storage"]), unique=True))

    def amounts() -> Data:
        return {name: draw(st.integers(0, 4)) for name in names}

    items = [
        {
            "id": f"i{number}",
            "cpu": f"{draw(small) * 250}m",
            "memory": f"{draw(small)}Gi",
            "resources": amounts(),
            "count": draw(st.integers(1, max_count)),
            "priority": draw(st.integers(0, 2)),
        }
        for number in range(draw(st.integers(1, max_items)))
    ]

    def capacity() -> Data:
        entry: Data = {
            "cpu": draw(st.integers(1, 8)),
            "memory": f"{draw(st.integers(1, 16))}Gi",
            "resources": amounts(),
        }
        if draw(st.booleans()):
            entry["pods"] = draw(st.integers(1, 6))
        return entry

    constraints = {"maxNodes": draw(st.integers(1, 8))} if draw(st.booleans()) else {}
    if draw(st.booleans()):
        return {"items": items, "nodeCapacity": capacity()}, constraints
    priced = draw(st.booleans())
    types = []
    for number in range(draw(st.integers(1, 3))):
        entry = capacity() | {"name": f"t{number}"}
        if priced:
            entry["cost"] = draw(st.sampled_from([0, 0.1, 0.3, 1, 2.5, 3.5, 7]))
        if draw(st.booleans()):
            entry["max"] = draw(st.integers(0, 3))
        types.append(entry)
    return {"items": items, "nodeTypes": types}, constraints


def check(data: Data, constraints: Data, answer: Answer) -> None:
    """Check an answer in the user's own numbers, without the solver's."""
    result = answer.result
    asked = {item["id"]: item for item in data["items"]}
    kinds = {kind["name"]: kind for kind in data.get("nodeTypes", ())}
    seen: Counter[str] = Counter()
    of_type: Counter[str] = Counter()
    for node in result["nodes"]:
        kind = kinds[node["type"]] if kinds else data["nodeCapacity"]
        assert ("type" in node) == bool(kinds)
        of_type[node.get("type", "")] += 1
        here = Counter({entry["id"]: entry["count"] for entry in node["items"]})
        assert len(here) == len(node["items"])
        assert here
        assert min(here.values()) >= 1
        seen += here
        assert here.total() <= kind.get("pods", math.inf)
        cpu_milli = sum(int(asked[name]["cpu"][:-1]) * count for name, count in here.items())
        memory = sum(int(asked[name]["memory"][:-2]) * 2**30 * count for name, count in here.items())
        assert node["cpuAvailable"] * 1000 == kind["cpu"] * 1000 - cpu_milli >= 0
        assert node["memoryAvailable"] == int(kind["memory"][:-2]) * 2**30 - memory >= 0
        for name, offered in kind["resources"].items():
            assert sum(asked[item]["resources"][name] * count for item, count in here.items()) <= offered
    assert len({node["id"] for node in result["nodes"]}) == len(result["nodes"]) == result["nodeCount"]
    for entry in result["unplacedItems"]:
        assert entry["count"] >= 1
        assert entry["reason"]
        seen[entry["id"]] += entry["count"]
    assert seen == Counter({name: item["count"] for name, item in asked.items()})
    assert result["nodeCount"] <= constraints.get("maxNodes", math.inf)
    for name, kind in kinds.items():
        assert of_type[name] <= kind.get("max", math.inf)
    objective: float = result["nodeCount"]
    if any("cost" in kind for kind in kinds.values()):
        objective = result["totalCost"]
        assert objective == pytest.approx(sum(kinds[name]["cost"] * number for name, number in of_type.items()))
    else:
        assert "totalCost" not in result
    assert 0 <= result["lowerBound"] <= objective == answer.objective
    assert answer.score is not None
    assert 0 <= answer.score <= 1
    assert answer.reason is (Reason.UNPLACEABLE if result["unplacedItems"] else Reason.SOLVED)
    if result["gap"] is not None:
        assert result["gap"] * result["lowerBound"] == pytest.approx(objective - result["lowerBound"])
    assert set(answer.summary) <= {*result, "unplacedCount"}
    assert answer.summary["unplacedCount"] == sum(entry["count"] for entry in result["unplacedItems"])


@settings(max_examples=200)
@given(requests())
def test_answers_are_feasible_complete_and_consistent(request_: tuple[Data, Data]) -> None:
    check(*request_, solve(*request_))


@settings(max_examples=40)
@given(requests(), st.integers(0, 3))
def test_equal_seeds_give_equal_answers(request_: tuple[Data, Data], seed: int) -> None:
    assert solve(*request_, seed=seed).result == solve(*request_, seed=seed).result


@settings(max_examples=60)
@given(requests())
def test_never_worse_than_first_fit_decreasing(request_: tuple[Data, Data]) -> None:
    problem = build_problem(*parse(*request_))
    if not len(problem.count):
        return
    peer = first_fit_decreasing(problem)
    left, cost, nodes = value_of(problem, peer)
    answer = solve(*request_, steps=0)
    unplaced = {entry["id"]: entry["count"] for entry in answer.result["unplacedItems"]}
    ours = problem.count * 0
    for item, group in enumerate(problem.group_of_item.tolist()):
        if group >= 0:
            ours[group] += unplaced.get(problem.item_ids[item], 0)
    unit = float(problem.money) if problem.money is not None else 1.0
    objective = round((answer.objective or 0.0) / unit) if unit else 0
    assert (left_by_priority(problem, ours), objective) <= (left, cost)
    if problem.money is None:
        assert cost_of(problem, peer) == nodes


@settings(max_examples=100)
@given(requests(), st.randoms())
def test_first_fit_is_the_same_in_plain_numbers_and_in_arrays(request_: tuple[Data, Data], random: Random) -> None:
    problem = build_problem(*parse(*request_))
    order = np.array(random.sample(range(len(problem.count)), len(problem.count)), dtype=np.int64)
    arrays = first_fit(problem, order, Packing((), problem.count))
    plain = first_fit_few(problem, order)
    assert plain.left.tolist() == arrays.left.tolist()
    assert [(kind, groups.tolist(), counts.tolist()) for kind, groups, counts in plain.nodes] == [
        (kind, groups.tolist(), counts.tolist()) for kind, groups, counts in arrays.nodes
    ]


@settings(max_examples=40)
@given(requests())
def test_reports_get_better_and_end_with_the_answer(request_: tuple[Data, Data]) -> None:
    builds: list[Callable[[], Answer]] = []
    answer = ResourceSolver().solve(*request_, Budget(math.inf, max_steps=20), builds.append)
    answers = [build() for build in builds]
    for reported in answers:
        check(*request_, reported)
    if answers:
        assert answers[-1].result == answer.result
    else:
        assert answer.result["nodeCount"] == 0


def test_identical_items_are_one_group() -> None:
    item = {"cpu": "1", "memory": "1Gi", "count": 3}
    items = [item | {"id": "a", "priority": 1}, item | {"id": "b", "cpu": "1000m"}, item | {"id": "c", "memory": 2**30}]
    data = {"items": items, "nodeCapacity": {"cpu": 4, "memory": "64Gi"}}
    assert build_problem(*parse(data, {})).count.tolist() == [9]
    # Priority tells items apart only where some may be left out.
    assert build_problem(*parse(data, {"maxNodes": 2})).count.tolist() == [6, 3]
    assert solve(data).result["nodeCount"] == 3


def test_a_higher_priority_is_placed_first() -> None:
    items = [
        {"id": "low", "cpu": 1, "memory": 0, "count": 8},
        {"id": "high", "cpu": 3, "memory": 0, "count": 2, "priority": 10},
    ]
    answer = solve({"items": items, "nodeCapacity": {"cpu": 4, "memory": "1Gi"}}, {"maxNodes": 2})
    (unplaced,) = answer.result["unplacedItems"]
    assert (unplaced["id"], unplaced["count"]) == ("low", 6)
    assert answer.gap is None
    assert answer.score == pytest.approx(4 / 10)


def test_the_number_of_items_counts_not_their_size() -> None:
    items = [{"id": "small", "cpu": 1, "memory": 0, "count": 4}, {"id": "large", "cpu": 4, "memory": 0}]
    answer = solve({"items": items, "nodeCapacity": {"cpu": 4, "memory": "1Gi"}}, {"maxNodes": 1})
    assert [entry["id"] for entry in answer.result["unplacedItems"]] == ["large"]


SMALL_AND_LARGE = [
    {"name": "small", "cpu": 4, "memory": "16Gi", "cost": 1},
    {"name": "large", "cpu": 16, "memory": "64Gi", "cost": 3.5},
]


@pytest.mark.parametrize(
    ("cores", "cost"), [(4, 1), (12, 3), (13, 3.5), (16, 3.5), (20, 4.5), (32, 7), (36, 8), (49, 11.5)]
)
def test_a_sensible_mix_of_types_is_chosen(cores: int, cost: float) -> None:
    data = {"items": [{"id": "a", "cpu": 1, "memory": "1Gi", "count": cores}], "nodeTypes": SMALL_AND_LARGE}
    answer = solve(data, steps=200)
    assert answer.result["totalCost"] == cost


def test_a_maximum_makes_items_overflow_to_the_other_type() -> None:
    types = [SMALL_AND_LARGE[0] | {"cost": 0.5, "max": 2}, SMALL_AND_LARGE[1]]
    data = {"items": [{"id": "a", "cpu": 2, "memory": "1Gi", "count": 12}], "nodeTypes": types}
    answer = solve(data)
    assert Counter(node["type"] for node in answer.result["nodes"]) == {"small": 2, "large": 1}
    assert answer.result["totalCost"] == 4.5
    assert answer.reason is Reason.SOLVED


@pytest.mark.parametrize("most", [0, 1, 2, 3])
def test_a_maximum_on_the_only_type_is_kept(most: int) -> None:
    kind = {"name": "t", "cpu": 1, "memory": "1Gi", "max": most}
    data = {"items": [{"id": "a", "cpu": 1, "memory": 0, "count": 3}], "nodeTypes": [kind]}
    answer = solve(data)
    assert answer.result["nodeCount"] == most
    assert sum(entry["count"] for entry in answer.result["unplacedItems"]) == 3 - most


def test_few_nodes_are_large_ones_even_where_small_ones_are_cheaper() -> None:
    types = [SMALL_AND_LARGE[0] | {"cost": 0.1}, SMALL_AND_LARGE[1]]
    data = {"items": [{"id": "a", "cpu": 2, "memory": "1Gi", "count": 16}], "nodeTypes": types}
    assert solve(data).result["totalCost"] == pytest.approx(0.8)
    limited = solve(data, {"maxNodes": 2})
    assert limited.reason is Reason.SOLVED
    assert limited.result["totalCost"] == 7


def test_an_item_too_big_for_every_type_is_named_with_the_resource() -> None:
    items = [
        {"id": "ok", "cpu": 1, "memory": "1Gi"},
        {"id": "big", "cpu": 64, "memory": "1Gi", "count": 2},
        {"id": "gpu", "cpu": 1, "memory": "1Gi", "resources": {"nvidia.com/gpu": 1}},
    ]
    answer = solve({"items": items, "nodeCapacity": {"cpu": 16, "memory": "64Gi"}})
    assert answer.result["unplacedItems"] == [
        {"id": "big", "count": 2, "reason": "cpu 64 exceeds the largest node's 16"},
        {"id": "gpu", "count": 1, "reason": "nvidia.com/gpu 1 exceeds the largest node's 0"},
    ]
    assert answer.reason is Reason.UNPLACEABLE
    assert answer.result["nodeCount"] == answer.result["lowerBound"] == 1
    assert answer.result["gap"] == 0
    assert answer.score == pytest.approx(1 / 4)
    assert answer.message.startswith("packed 1 of 4 items onto 1 node")


def test_an_item_that_no_single_type_holds_is_named() -> None:
    types = [{"name": "c", "cpu": 16, "memory": "1Gi"}, {"name": "m", "cpu": 1, "memory": "64Gi"}]
    answer = solve({"items": [{"id": "a", "cpu": 8, "memory": "8Gi"}], "nodeTypes": types})
    assert answer.result["nodes"] == []
    assert answer.score == 0
    assert answer.gap is None
    assert answer.result["unplacedItems"][0]["reason"] == "no node type offers cpu 8, memory 8Gi together"


def test_free_nodes_have_no_gap() -> None:
    types = [{"name": "owned", "cpu": 4, "memory": "16Gi", "cost": 0}]
    answer = solve({"items": [{"id": "a", "cpu": 3, "memory": 0, "count": 5}], "nodeTypes": types})
    assert (answer.result["totalCost"], answer.result["lowerBound"], answer.gap, answer.score) == (0, 0, 0, 1)
    assert answer.result["nodeCount"] == 5


def test_items_that_ask_for_nothing_share_a_node() -> None:
    answer = solve({"items": [{"id": "a", "cpu": 0, "memory": 0, "count": 7}], "nodeCapacity": {"cpu": 1, "memory": 1}})
    assert answer.result["nodeCount"] == answer.result["lowerBound"] == 1


def test_many_copies_are_packed_without_looking_at_each() -> None:
    items = [
        {"id": f"i{n}", "cpu": f"{100 + 37 * n}m", "memory": f"{64 + 91 * n}Mi", "count": 100_000} for n in range(9)
    ]
    answer = solve({"items": items, "nodeCapacity": {"cpu": 16, "memory": "64Gi", "pods": 110}}, steps=0)
    assert answer.reason is Reason.SOLVED
    assert answer.gap is not None
    assert answer.gap < 0.05


def test_extreme_amounts_do_not_overflow() -> None:
    largest = 2**53 - 1
    items = [{"id": "a", "cpu": 1, "memory": largest // 2, "count": 100_000}]
    answer = solve({"items": items, "nodeCapacity": {"cpu": 1e12, "memory": largest}}, steps=5)
    assert answer.result["nodeCount"] == answer.result["lowerBound"] == 50_000


@pytest.mark.parametrize("k", [1, 2, 13])
def test_the_search_improves_what_the_greedy_left(k: int) -> None:
    items = [
        {"id": str(n), "cpu": 20 + (n * n * k * 7 + 13 * n) % 61, "memory": 10 + (n * 17 * k) % 53} for n in range(60)
    ]
    data = {"items": items, "nodeCapacity": {"cpu": 150, "memory": 150}}
    first, last = solve(data, steps=0), solve(data, steps=1000)
    assert last.result["nodeCount"] == last.result["lowerBound"] < first.result["nodeCount"]
    assert last.algorithm.endswith("+exchange")


def test_one_scarce_resource_is_filled_exactly() -> None:
    items = [{"id": str(size), "cpu": size, "memory": 0, "count": 10} for size in (60, 50, 45, 40, 30, 25)]
    answer = solve({"items": items, "nodeCapacity": {"cpu": 100, "memory": "1Gi"}}, steps=0)
    assert answer.result["nodeCount"] == answer.result["lowerBound"]
