"""The arithmetic of the benchmarks."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from lib.summary import Target, comparison_table, median_of, percentile, ratio, target_table

FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(values=st.lists(FINITE, min_size=1, max_size=50), percent=st.integers(1, 100))
def test_a_percentile_is_the_smallest_value_that_enough_values_do_not_exceed(values: list[float], percent: int) -> None:
    found = percentile(values, percent)
    assert found in values
    assert 100 * sum(value <= found for value in values) >= percent * len(values)
    assert 100 * sum(value < found for value in values) < percent * len(values)


@pytest.mark.parametrize(("values", "percent"), [([], 50), ([1.0], 0), ([1.0], 101)])
def test_a_percentile_of_nothing_or_beyond_everything_is_refused(values: list[float], percent: float) -> None:
    with pytest.raises(ValueError, match="percentile"):
        percentile(values, percent)


def test_what_was_not_measured_gives_no_ratio() -> None:
    assert ratio(3.0, 2.0) == 1.5
    assert ratio(None, 2.0) is None
    assert ratio(3.0, None) is None
    assert ratio(3.0, 0.0) is None


def test_the_median_is_over_the_rounds_that_measured_it() -> None:
    rounds = [{"cpu": 1.0}, {}, {"cpu": 3.0}]
    assert median_of(rounds, "cpu") == 2.0
    assert median_of(rounds, "memory") is None


@pytest.mark.parametrize(
    ("measured", "at_most", "verdict"),
    [
        (2.0, True, "ok"),
        (2.1, True, "short"),
        (2.0, False, "ok"),
        (1.9, False, "short"),
        (None, True, "not measured"),
        (None, False, "not measured"),
    ],
)
def test_a_target_is_reached_up_to_its_limit(measured: float | None, at_most: bool, verdict: str) -> None:
    target = Target("what", measured, 2.0, at_most=at_most)
    assert target.verdict == verdict
    assert target.as_json()["verdict"] == verdict
    assert target_table([target]).splitlines()[-1].split()[-1] == verdict.rsplit(maxsplit=1)[-1]


def test_a_comparison_has_the_ratio_to_each_peer_that_was_measured() -> None:
    systems = {"ours": [{"cpu": 2.0}, {"cpu": 4.0}], "peer": [{"cpu": 6.0}]}
    table = comparison_table(systems, [("cpu", "CPU", "ms"), ("x", "X", "s")], ours="ours", peers=("peer", "absent"))
    headers, _, *lines = table.splitlines()
    assert "ours / peer" in headers
    assert "absent" not in table
    assert [line.split() for line in lines] == [["CPU", "(ms)", "3", "6", "0.50"]]
