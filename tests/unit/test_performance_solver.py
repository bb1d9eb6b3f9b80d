"""Type performance: quantiles, intervals, bounds, back-test, bad input."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine_ops.api.faults import InvalidDataError
from engine_ops.api.quantity import parse_quantity
from engine_ops.api.reasons import Reason
from engine_ops.engine.contract import Answer, Budget, ignore_report
from engine_ops.engine.performance.backtest import loss_ratio, pinball_loss
from engine_ops.engine.performance.model import Objective
from engine_ops.engine.performance.quantiles import estimate, interval_ranks, quantile
from engine_ops.engine.performance.sizing import Goal
from engine_ops.engine.performance.solver import PerformanceSolver

MI = 2**20


def solve(data: dict[str, Any], constraints: dict[str, Any] | None = None) -> Answer:
    return PerformanceSolver().solve(data, constraints or {}, Budget.of(0), ignore_report)


def container(name: str = "web", **fields: Any) -> dict[str, Any]:
    return {"name": name, "cpu": [0.1, 0.2], "memory": [100 * MI], **fields}


def sized(cpu: list[Any], memory: list[Any], **objective: Any) -> dict[str, Any]:
    data = {"samples": {"containers": [container(cpu=cpu, memory=memory)]}, "objective": objective}
    answer: dict[str, Any] = solve(data).result["containers"][0]
    return answer


def faults(data: Any, constraints: dict[str, Any] | None = None) -> list[str]:
    with pytest.raises(InvalidDataError) as caught:
        solve(data, constraints)
    return [fault.path for fault in caught.value.faults]


def test_defaults_by_hand() -> None:
    # The 95th of 100 samples is 0.95 cores; the peak of memory is 200 Mi; both and 15 %.
    answer = sized([i / 100 for i in range(1, 101)], [f"{i}Mi" for i in range(101, 201)])
    assert answer["requests"] == {"cpu": "1093m", "memory": "230Mi"}
    assert answer["limits"] == {"memory": "230Mi"}
    # Ranks 90 and 99 enclose the 95th percentile of 100 independent samples; these samples only ever rise.
    assert answer["basis"]["cpu"]["rule"] == "p95 x 1.15"
    assert answer["basis"]["memory"]["rule"] == "peak x 1.15"
    assert answer["basis"]["cpu"]["effectiveSamples"] < 20
    assert answer["basis"]["cpu"]["thin"] is True


def test_interval_of_independent_samples() -> None:
    samples = np.random.default_rng(3).permutation(np.arange(1.0, 1001.0))
    found = estimate(samples, 0.5, 0.95)
    assert found.value == 500
    # Binomial(1000, 0.5): 1.96 standard deviations are 31 ranks; a little wider where neighbours look alike.
    assert 460 <= found.lower <= 470
    assert found.upper is not None
    assert 531 <= found.upper <= 541


def test_lists_and_limits_by_request() -> None:
    data = {"samples": [container()], "objective": {"cpuLimit": "request", "memoryLimit": "none", "margin": 0}}
    assert solve(data).result["containers"][0]["limits"] == {"cpu": "200m"}


def test_few_samples_are_answered_and_called_thin() -> None:
    answer = solve({"samples": [container()]})
    assert answer.reason is Reason.SOLVED
    assert answer.score is None
    assert "web cpu (2 samples)" in answer.message
    assert answer.result["containers"][0]["basis"]["cpu"]["thin"] is True
    assert "cpu" not in answer.result["containers"][0]["upperBound"]


def test_bounds_hold_even_after_rounding_up() -> None:
    answer = sized([5.0], [300.5 * MI], bounds={"maxCpu": "2", "maxMemory": int(1.5 * MI)}, cpuLimit="peak")
    assert answer["requests"] == {"cpu": "2", "memory": str(int(1.5 * MI))}
    assert answer["limits"] == {"cpu": "2", "memory": str(int(1.5 * MI))}
    assert answer["basis"]["cpu"]["bound"] == "max"
    assert sized([0.0], [1.0], bounds={"minMemory": "64Mi"})["requests"] == {"cpu": "10m", "memory": "64Mi"}


amounts = st.lists(st.floats(0, 100), min_size=1, max_size=60)
levels = st.floats(0.01, 1)


@settings(max_examples=150)
@given(amounts, levels, levels, st.floats(0, 2), st.floats(0, 2))
def test_more_is_asked_for_with_a_higher_quantile_and_margin(
    samples: list[float], level: float, other: float, margin: float, wider: float
) -> None:
    def request(quantile_level: float, extra: float) -> float:
        answer = sized(samples, [x * MI for x in samples], cpuQuantile=quantile_level, margin=extra)
        return parse_quantity(answer["requests"]["cpu"])

    low, high = sorted((level, other))
    small, large = sorted((margin, wider))
    assert request(low, small) <= request(high, small)
    assert request(low, small) <= request(low, large)


@settings(max_examples=150)
@given(
    amounts, levels, st.sampled_from(("none", "request", "peak")), st.tuples(st.floats(0.01, 50), st.floats(0.01, 50))
)
@example([3.0], 0.5, "none", (1.0, 1.999999999999993))
def test_interval_limits_and_bounds_are_in_order(
    samples: list[float], level: float, rule: str, bounds: tuple[float, float]
) -> None:
    least, most = sorted(bounds)
    answer = sized(
        samples,
        [x * MI for x in samples],
        cpuQuantile=level,
        memoryQuantile=level,
        cpuLimit=rule,
        memoryLimit=rule,
        bounds={"minCpu": least, "maxCpu": most, "minMemory": least * MI, "maxMemory": most * MI},
    )
    for resource, unit in (("cpu", 1), ("memory", MI)):
        request = parse_quantity(answer["requests"][resource])
        assert parse_quantity(answer["lowerBound"][resource]) <= request
        if resource in answer["upperBound"]:
            assert request <= parse_quantity(answer["upperBound"][resource]) <= most * unit
        assert request <= most * unit
        # Between milli-cores and bytes the upper bound wins.
        assert request >= min(least, most) * unit - (1e-3 if resource == "cpu" else 1)
        assert (resource in answer["limits"]) is (rule != "none")
        assert parse_quantity(answer["limits"].get(resource, "1E")) >= request


@settings(max_examples=100)
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=80), levels)
def test_quantile_is_numpys_inverse_distribution(samples: list[float], level: float) -> None:
    ordered = np.sort(np.array(samples))
    expected = np.quantile(ordered, level, method="inverted_cdf")
    # At whole ranks the last bit of n * level decides for numpy; here a billionth does not count.
    if abs(len(samples) * level - round(len(samples) * level)) > 1e-8:
        assert quantile(ordered, level) == expected
    assert np.mean(ordered <= quantile(ordered, level)) >= level - 1e-9


@pytest.mark.parametrize(("level", "count"), [(0.5, 60), (0.9, 200), (0.95, 400)])
def test_interval_covers_the_true_quantile(level: float, count: int) -> None:
    random = np.random.default_rng(11)
    truth = -math.log(1 - level)
    found = [estimate(random.exponential(size=count), level, 0.95) for _ in range(600)]
    covered = np.mean([e.lower <= truth <= (math.inf if e.upper is None else e.upper) for e in found])
    # At least 0.95 by construction; 600 draws have a standard error of 0.009.
    assert covered >= 0.93
    # And not by being boundless.
    assert all(e.upper is not None for e in found)


def test_interval_is_wider_where_neighbours_resemble_each_other() -> None:
    random = np.random.default_rng(5)
    truth, covered, naive = 0.0, 0, 0
    for _ in range(200):
        steps = random.normal(size=400)
        series = np.empty(400)
        series[0] = steps[0]
        for i in range(1, 400):
            series[i] = 0.8 * series[i - 1] + 0.6 * steps[i]
        found = estimate(series, 0.5, 0.95)
        assert found.upper is not None
        covered += found.lower <= truth <= found.upper
        lower, upper = interval_ranks(400, 0.5, 0.95)
        ordered = np.sort(series)
        naive += ordered[lower - 1] <= truth <= ordered[upper - 1]
    assert covered / 200 > 0.85
    assert naive / 200 < 0.75


def test_pinball_loss_by_hand() -> None:
    assert pinball_loss(np.array([0.0, 10.0]), 4.0, 0.9) == pytest.approx((0.1 * 4 + 0.9 * 6) / 2)


def test_score_rewards_what_is_tighter_than_the_peak() -> None:
    random = np.random.default_rng(2)
    cpu = random.lognormal(0, 1, 400)
    goal = Goal.of(Objective(), "cpu")
    ratio = loss_ratio(cpu, goal)
    assert ratio is not None
    assert 0 < ratio < 1
    memory = random.uniform(50, 60, 400) * MI
    # The peak and 15 % is its own baseline: ratio 1.
    assert loss_ratio(memory, Goal.of(Objective(), "memory")) == pytest.approx(1)
    answer = solve({"samples": [container(cpu=cpu.tolist(), memory=memory.tolist())]})
    assert answer.score == pytest.approx(1 - (ratio + 1) / 2, abs=1e-6)


def test_explain_has_a_row_for_each_container_and_resource() -> None:
    data = {"samples": [container(current={"requests": {"cpu": 2}, "limits": {"memory": "1Gi"}}), container("db")]}
    explanation = PerformanceSolver().explain(data, {}, solve(data).result)
    assert [tuple(row[:4]) for row in explanation.rows] == [
        ("web", "cpu", "2/-", "230m"),
        ("web", "memory", "-/1Gi", "115Mi"),
        ("db", "cpu", "-", "230m"),
        ("db", "memory", "-", "115Mi"),
    ]
    with pytest.raises(InvalidDataError, match=r"result.containers: container 'db' is not in it"):
        PerformanceSolver().explain(data, {}, {"containers": [{"name": "web"}]})


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({}, "data.samples"),
        ({"samples": []}, "data.samples"),
        ({"samples": {"containers": []}}, "data.samples.containers"),
        ({"samples": [container(cpu=[])]}, "data.samples[0].cpu"),
        ({"samples": {"containers": [container(memory=[])]}}, "data.samples.containers[0].memory"),
        ({"samples": [container(cpu=[1, math.nan])]}, "data.samples[0].cpu[1]"),
        ({"samples": [container(cpu=[-1])]}, "data.samples[0].cpu[0]"),
        ({"samples": [container(cpu=["much"])]}, "data.samples[0].cpu[0]"),
        ({"samples": [container(memory=[2.0**63])]}, "data.samples[0].memory[0]"),
        ({"samples": [container(), container()]}, "data.samples[1].name"),
        ({"samples": {"containers": [container(), container()]}}, "data.samples.containers[1].name"),
        ({"samples": [container(disk=[1])]}, "data.samples[0].disk"),
        ({"workload": {"name": "web"}}, "data.workload"),
        ({"samples": [container()], "objective": {"cpuQuantile": 1.5}}, "data.objective.cpuQuantile"),
        ({"samples": [container()], "objective": {"margin": -1}}, "data.objective.margin"),
        ({"samples": [container()], "objective": {"bounds": {"minCpu": 2, "maxCpu": 1}}}, "data.objective.bounds"),
        ({"samples": {"containers": [container()], "intervalSeconds": 0}}, "data.samples.intervalSeconds"),
    ],
)
def test_bad_data_is_named_by_path(data: dict[str, Any], path: str) -> None:
    assert faults(data) == [path]


def test_unknown_constraints_are_faults() -> None:
    assert faults({"samples": [container()]}, {"strategy": "least-loaded"}) == ["constraints.strategy"]
