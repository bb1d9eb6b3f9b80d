"""Amounts as whole numbers."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_ops.engine import unit_arrays, units

RESOURCES = ("cpu", "memory", "ephemeral-storage", "hugepages-2Mi", "nvidia.com/gpu")
AMOUNTS = st.floats(0, 2.0**43, allow_nan=False) | st.integers(0, 10**6).map(lambda n: n / 1000)


@given(st.sampled_from(RESOURCES), AMOUNTS)
def test_requests_round_up_and_capacities_down(resource: str, amount: float) -> None:
    exact = Fraction(amount) * units.scale_of(resource)
    noise = Fraction(4 * math.ulp(float(exact)))
    up, down = units.request_units(resource, amount), units.capacity_units(resource, amount)
    assert exact - noise <= up < exact + 1
    assert exact - 1 < down <= exact + noise
    assert up - down in (0, 1)


@given(st.integers(0, 10**9))
def test_decimal_milli_amounts_are_exact(milli: int) -> None:
    assert units.request_units("cpu", milli / 1000) == units.capacity_units("cpu", milli / 1000) == milli


@given(st.sampled_from(RESOURCES), st.lists(AMOUNTS, max_size=20))
def test_arrays_agree_with_scalars(resource: str, amounts: list[float]) -> None:
    ups, downs = unit_arrays.request_units_array(resource, amounts), unit_arrays.capacity_units_array(resource, amounts)
    assert ups.dtype == downs.dtype == np.int64
    assert ups.tolist() == [units.request_units(resource, amount) for amount in amounts]
    assert downs.tolist() == [units.capacity_units(resource, amount) for amount in amounts]


@pytest.mark.parametrize(("resource", "amount"), [("memory", 2.0**53), ("cpu", 2.0**53 / 1000 + 1), ("cpu", math.inf)])
def test_huge_amounts_are_refused(resource: str, amount: float) -> None:
    for scale in (units.request_units, units.capacity_units):
        with pytest.raises(ValueError, match=r"too large: an amount of .* must be below 2\^53"):
            scale(resource, amount)
    for scale_all in (unit_arrays.request_units_array, unit_arrays.capacity_units_array):
        with pytest.raises(ValueError, match="too large"):
            scale_all(resource, [1.0, amount])


def test_the_smallest_request_takes_a_whole_unit() -> None:
    assert units.request_units("cpu", 1e-9) == 1
    assert units.request_units("cpu", 0) == 0


@pytest.mark.parametrize("resource", RESOURCES)
def test_base_amounts_come_back(resource: str) -> None:
    assert units.request_units(resource, units.base_amount(resource, 1234)) == 1234
