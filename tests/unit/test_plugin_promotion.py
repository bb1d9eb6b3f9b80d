"""Who takes over from whom, and how sure one must be."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine_ops.plugins.promotion import (
    MAXIMUM_OUTCOMES,
    MINIMUM_OUTCOMES,
    compare,
    decide_demotion,
    decide_promotion,
    latest_look,
)

losses = st.lists(st.floats(0, 1e6), min_size=1, max_size=200)


def noisy(mean: float, count: int, seed: int = 0) -> list[float]:
    rng = np.random.default_rng(seed)
    return np.abs(rng.normal(mean, 0.2, count)).tolist()


def test_a_better_model_is_promoted() -> None:
    decision = decide_promotion(noisy(0.5, 60), noisy(1.0, 60, 1), noisy(0.9, 60, 2))
    assert decision.passed
    assert decision.message.startswith("better than the current model by 0.4")
    assert "; better than the baseline by 0.4" in decision.message


def test_it_must_be_better_than_both() -> None:
    better, worse = noisy(0.5, 60, 1), noisy(1.5, 60, 2)
    assert not decide_promotion(noisy(1.0, 60), better, worse).passed
    assert not decide_promotion(noisy(1.0, 60), worse, better).passed
    assert decide_promotion(noisy(1.0, 60), worse, None).passed
    assert "not better than the baseline with 90% confidence" in decide_promotion(noisy(1.0, 60), better).message


def test_nothing_passes_before_thirty_outcomes() -> None:
    few = MINIMUM_OUTCOMES - 1
    decision = decide_promotion([0.0] * few, [9.0] * few)
    assert (decision.passed, decision.message) == (False, "29 of 30 outcomes since the last training")
    assert not decide_demotion([9.0] * few, [0.0] * few).passed
    assert decide_promotion([0.0] * 30, [9.0] * 30).passed
    assert decide_demotion([9.0] * 30, [0.0] * 30).passed


@given(losses)
def test_like_models_change_nothing(values: list[float]) -> None:
    assert not decide_promotion(values, values, values).passed
    assert not decide_demotion(values, values).passed


@given(st.integers(0, 10**6))
def test_looks_double(count: int) -> None:
    look = latest_look(count)
    assert look <= count
    assert look == 0 if count < 30 else (look % 30 == 0 and 2 * look > count and math.log2(look // 30).is_integer())


@settings(max_examples=50)
@given(st.integers(30, 119), st.integers(0, 3))
def test_between_two_looks_the_decision_stands(count: int, seed: int) -> None:
    ours, theirs = noisy(0.95, 120), noisy(1.0, 120, 1)
    look = latest_look(count)
    assert decide_promotion(ours[:count], theirs[:count], seed=seed) == decide_promotion(
        ours[:look], theirs[:look], seed=seed
    )


@settings(max_examples=100)
@given(losses, st.data())
def test_a_bound_is_above_the_mean_and_scales_with_the_losses(ours: list[float], data: st.DataObject) -> None:
    theirs = data.draw(st.lists(st.floats(0, 1e6), min_size=len(ours), max_size=len(ours)))
    found = compare(ours, theirs)
    assert found == compare(ours, theirs)
    assert found.mean_difference == pytest.approx(np.mean(np.subtract(ours, theirs)), rel=1e-9, abs=1e-9)
    assert found.mean_difference <= found.upper_bound
    assert len(ours) == 1 or found.upper_bound <= max(np.subtract(ours, theirs)) + 1e-9
    twice = compare([2 * value for value in ours], [2 * value for value in theirs])
    assert twice.upper_bound == pytest.approx(2 * found.upper_bound, rel=1e-9, abs=1e-9)
    # In both directions at once nobody is better.
    assert not (found.is_better and compare(theirs, ours).is_better)


def test_one_outcome_proves_nothing() -> None:
    assert compare([0.0], [1.0]).upper_bound == math.inf


def test_losses_that_resemble_their_neighbours_prove_less() -> None:
    rng = np.random.default_rng(3)
    difference = rng.normal(-0.5, 1.0, 120)
    zeros = np.zeros(120)
    in_runs = compare(np.sort(difference).tolist(), zeros.tolist())
    shuffled = compare(difference.tolist(), zeros.tolist())
    assert in_runs.mean_difference == pytest.approx(shuffled.mean_difference)
    assert in_runs.upper_bound > shuffled.upper_bound + 0.1


def test_only_the_newest_outcomes_count() -> None:
    old, new = [9.0] * 1000, [0.0] * MAXIMUM_OUTCOMES
    assert compare(old + new, [1.0] * (1000 + MAXIMUM_OUTCOMES)).mean_difference == -1


def test_the_bound_holds_about_nine_times_in_ten() -> None:
    # Without any difference the bound is below 0 one time in ten; seeded, so this is no game of chance.
    rng = np.random.default_rng(5)
    passed = [
        compare(rng.exponential(size=60).tolist(), rng.exponential(size=60).tolist()).is_better for _ in range(400)
    ]
    assert 0.05 < np.mean(passed) < 0.15


@pytest.mark.parametrize(
    ("ours", "theirs", "message"),
    [
        ([1.0], [1.0, 2.0], "1 and 2 are not as many"),
        ([math.nan], [1.0], "must be finite"),
        ([], [], "nothing to compare"),
    ],
)
def test_what_is_no_pair_is_an_error(ours: list[float], theirs: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare(ours, theirs)
