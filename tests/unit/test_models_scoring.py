"""Losses, skill, confidence and drift as they are defined, at their edges."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_ops.ml import WorkloadDataPoint, scoring
from engine_ops.ml.scoring import DURATION, SUCCESS, resource_key

CPU = resource_key("cpu")
AMOUNTS = st.floats(0, 1.7e308)
SIZES = st.sampled_from([DURATION, CPU])


def point(**outcome: object) -> WorkloadDataPoint:
    return WorkloadDataPoint(1, "resource", {"cpu": 2.0, "odd": math.inf}, 5000.0, True, {"outcome": outcome})


def test_values_that_can_be_scored() -> None:
    prediction = {
        "expected_duration": 5000,
        "success_rate": 0.5,
        "recommended_resources": {"cpu": 2, "memory": math.nan, "gpu": "1", 3: 4, "huge": 10**400},
        "confidence": 0.9,
    }
    assert scoring.scored_values(prediction) == {DURATION: 5000.0, SUCCESS: 0.5, CPU: 2.0}


def test_a_prediction_of_scored_values_has_them() -> None:
    values = {DURATION: 1.0, SUCCESS: 0.5, CPU: 2.0, resource_key("nvidia.com/gpu"): 0.0}
    assert scoring.scored_values(scoring.nested(values)) == values
    assert scoring.nested({}) == {}


@pytest.mark.parametrize("value", [None, True, -1, math.inf, "5"])
def test_what_no_outcome_can_be_is_not_scored(value: object) -> None:
    assert scoring.scored_values({"expected_duration": value, "recommended_resources": [1]}) == {}


def test_a_rate_above_one_is_not_scored() -> None:
    assert scoring.scored_values({"success_rate": 1.01}) == {}


def test_values_of_a_point() -> None:
    assert scoring.actual_values(point()) == {DURATION: 5000.0, SUCCESS: 1.0, CPU: 2.0}
    assert scoring.actual_values(point(of="request")) == {SUCCESS: 1.0}
    assert scoring.actual_values(point(state="unknown")) == {}


def test_a_factor_costs_the_same_at_every_size() -> None:
    assert scoring.loss(DURATION, 1e9, 2e9) == pytest.approx(math.log(2), rel=1e-5)
    assert scoring.loss(DURATION, 2e6, 1e6) == pytest.approx(math.log(2), rel=1e-2)
    assert scoring.loss(CPU, 1.0, 2.0) == pytest.approx(math.log(2), rel=1e-2)


def test_below_a_second_a_factor_hardly_counts() -> None:
    assert scoring.loss(DURATION, 1.0, 10.0) < 0.01


@given(SIZES, AMOUNTS, AMOUNTS)
def test_the_median_quantile_costs_what_the_value_costs(key: str, predicted: float, actual: float) -> None:
    assert scoring.pinball_loss(key, predicted, actual, 0.5) == pytest.approx(scoring.loss(key, predicted, actual))


@given(SIZES, AMOUNTS, AMOUNTS, AMOUNTS)
def test_the_loss_is_a_distance(key: str, one: float, other: float, third: float) -> None:
    assert scoring.loss(key, one, one) == 0
    assert scoring.loss(key, one, other) == scoring.loss(key, other, one) >= 0
    assert scoring.loss(key, one, third) <= scoring.loss(key, one, other) + scoring.loss(key, other, third) + 1e-9


@given(SIZES, AMOUNTS)
def test_an_amount_comes_back_from_its_logarithm(key: str, amount: float) -> None:
    again = scoring.from_logarithm(key, scoring.to_logarithm(key, amount))
    assert again == pytest.approx(amount, rel=1e-9) or (amount > 8e307 and again > 8e307)


@given(SIZES, st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))
def test_amounts_rise_with_their_logarithms(key: str, one: float, other: float) -> None:
    low, high = (scoring.from_logarithm(key, each) for each in sorted((one, other)))
    assert 0 <= low <= high < math.inf


def test_a_high_quantile_is_wrong_where_it_is_exceeded() -> None:
    below = scoring.pinball_loss(DURATION, 1e6, 2e6, 0.9)
    assert below == pytest.approx(9 * scoring.pinball_loss(DURATION, 2e6, 1e6, 0.9))


def test_an_honest_rate_loses_least() -> None:
    outcomes = [1.0] * 9 + [0.0]

    def total(rate: float) -> float:
        return sum(scoring.loss(SUCCESS, rate, outcome) for outcome in outcomes)

    assert min((rate / 10 for rate in range(11)), key=total) == 0.9


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="predicted expected_duration"):
        scoring.loss(DURATION, math.nan, 1)
    with pytest.raises(ValueError, match=r"actual success_rate .* to 1"):
        scoring.loss(SUCCESS, 1, 2)
    with pytest.raises(ValueError, match="quantile"):
        scoring.pinball_loss(DURATION, 1, 1, 1)
    with pytest.raises(ValueError, match="no quantiles"):
        scoring.pinball_loss(SUCCESS, 1, 1, 0.5)
    with pytest.raises(ValueError, match="tolerance"):
        scoring.is_within(DURATION, 1, 1, 0.9)


def test_the_tolerance_is_a_factor_both_ways() -> None:
    right = [predicted for predicted in (79, 80, 100, 125, 126) if scoring.is_within(DURATION, predicted, 100)]
    assert right == [80, 100, 125]
    assert scoring.is_within(CPU, 0, 0)
    assert not scoring.is_within(CPU, 0.1, 0)
    assert scoring.is_within(DURATION, 51, 100, tolerance=2)


def test_the_tolerance_of_a_rate_is_that_of_what_happened() -> None:
    assert [scoring.is_within(SUCCESS, rate, 1.0) for rate in (0.79, 0.81)] == [False, True]
    assert [scoring.is_within(SUCCESS, rate, 0.0) for rate in (0.19, 0.21)] == [True, False]


def test_skill() -> None:
    assert scoring.skill([], []) is None
    assert scoring.skill([1.0, 0.0], [2.0, 2.0]) == 0.75
    assert scoring.skill([0.0], [0.0]) == 0
    assert scoring.skill([9.0], [1.0]) == scoring.skill([9.0], [0.0]) == scoring.LOWEST_SKILL
    with pytest.raises(ValueError, match="paired"):
        scoring.skill([1.0], [])


def test_confidence_needs_thirty_and_looks_at_a_hundred() -> None:
    assert scoring.confidence([True] * 29) is None
    assert scoring.confidence([True] * 29 + [False]) == pytest.approx(29 / 30)
    assert scoring.confidence([False] * 50 + [True] * 100) == 1.0


def test_drift_needs_fifty_and_looks_at_the_last() -> None:
    assert not scoring.has_drifted([9.0] * 49, 1.0)
    assert scoring.has_drifted([0.0] * 50 + [1.21] * 50, 1.0)
    assert not scoring.has_drifted([9.0] * 50 + [1.19] * 50, 1.0)


def test_the_baseline_is_the_workloads_median_of_five_then_the_types() -> None:
    baseline = scoring.RecentOutcomes()
    assert baseline.predict("ns/Job/a", "resource", DURATION) is None
    for duration in (9000.0, 1.0, 2.0, 3.0, 4.0, 5.0):
        baseline.observe("ns/Job/a", "resource", {DURATION: duration})
    baseline.observe(None, "resource", {DURATION: 100.0, SUCCESS: 0.0})
    baseline.observe(None, "resource", {SUCCESS: 1.0})
    assert baseline.predict("ns/Job/a", "resource", DURATION) == 3.0
    assert baseline.predict("ns/Job/b", "resource", DURATION) == 4.0
    assert baseline.predict(None, "resource", SUCCESS) == 0.5
    assert baseline.predict("ns/Job/a", "scheduling", DURATION) == 3.0
    assert baseline.predict(None, "scheduling", DURATION) is None


def test_a_median_of_large_values_is_finite() -> None:
    assert scoring.median([1.7e308, 1.7e308]) == 1.7e308


def test_the_baseline_forgets_what_was_observed_longest_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "BASELINE_SIZE", 4)
    baseline = scoring.RecentOutcomes()
    for number in range(100):
        baseline.observe(f"n/Job/{number}", "resource", {scoring.DURATION: float(number)})
        baseline.observe("n/Job/often", "resource", {scoring.DURATION: 7.0})
    assert baseline.predict("n/Job/often", "other", scoring.DURATION) == 7.0
    assert baseline.predict("n/Job/99", "other", scoring.DURATION) == 99.0
    assert baseline.predict("n/Job/0", "other", scoring.DURATION) is None
    assert baseline.predict("n/Job/0", "resource", scoring.DURATION) == 7.0
    assert len(baseline._recent) == 4
