"""The bounded histogram of usage."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_ops.history.outcomes.sketch import COARSE_RELATIVE_ERROR, RELATIVE_ERROR, Sketch

quantiles = st.sampled_from([0.0, 0.1, 0.5, 0.9, 0.95, 1.0])


def sketch_of(values: list[float]) -> Sketch:
    sketch = Sketch()
    for value in values:
        sketch.add(value)
    return sketch


def exact(values: list[float], q: float) -> float:
    return sorted(values)[math.floor(q * (len(values) - 1))]


@given(st.floats(1e-6, 1e12), st.lists(st.floats(0.25, 1.0), min_size=1, max_size=400), quantiles)
def test_values_near_the_peak_are_within_two_percent(scale: float, shares: list[float], q: float) -> None:
    values = [share * scale for share in shares]
    assert sketch_of(values).quantile(q) == pytest.approx(exact(values, q), rel=RELATIVE_ERROR + 1e-9)


@given(st.lists(st.floats(-7.0, 0.0), min_size=1, max_size=600), st.booleans(), quantiles)
def test_values_over_three_decades_are_within_the_wider_bound(logs: list[float], zero: bool, q: float) -> None:
    values = [math.exp(log) for log in logs] + [0.0] * zero
    truth = exact(values, q)
    assert sketch_of(values).quantile(q) == pytest.approx(truth, rel=COARSE_RELATIVE_ERROR + 1e-9)


@given(st.lists(st.floats(0, 1e300), min_size=1, max_size=800))
def test_whatever_comes_it_stays_small_ordered_and_below_the_peak(values: list[float]) -> None:
    sketch = sketch_of(values)
    assert sketch.peak == max(values)
    assert sketch.count == len(values)
    found = [sketch.quantile(q / 20) for q in range(21)]
    assert found == sorted(found)
    assert found[-1] <= sketch.peak
    assert len(json.dumps(sketch.to_json())) < 1024


@given(st.lists(st.floats(1e-6, 1e9)), st.lists(st.floats(1e-6, 1e9)))
def test_it_goes_on_where_it_was_written_down(before: list[float], after: list[float]) -> None:
    whole = sketch_of(before + after)
    resumed = Sketch.from_json(json.loads(json.dumps(sketch_of(before).to_json())))
    for value in after:
        resumed.add(value)
    assert resumed.to_json() == whole.to_json()
    assert resumed.count == whole.count


def test_what_is_no_amount_is_left_out() -> None:
    sketch = sketch_of([math.nan, math.inf, -1.0])
    assert sketch.count == 0
    assert math.isnan(sketch.quantile(0.5))
