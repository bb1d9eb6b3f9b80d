"""Quantities mean what they mean to Kubernetes."""

from __future__ import annotations

import math
import re
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from engine_ops.api.quantity import (
    MAX_AMOUNT,
    MAX_LENGTH,
    QUANTITY_PATTERN,
    Amount,
    format_bytes,
    format_cpu,
    parse_quantity,
)

FACTORS = {
    "": Fraction(1),
    **{suffix: Fraction(10) ** power for suffix, power in zip("num", (-9, -6, -3), strict=True)},
    **{suffix: Fraction(10) ** power for suffix, power in zip("kMGTPE", range(3, 21, 3), strict=True)},
    **{f"{suffix}i": Fraction(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)},
}

# What apimachinery's resource.ParseQuantity (v0.36.3) makes of these, by AsDec().
APIMACHINERY = {
    "0": "0", "1": "1", "+1": "1", "-0": "0", ".5": "0.5", "5.": "5", "0.5": "0.5", "1.5": "1.5", "0001": "1",
    "1n": "0.000000001", "1u": "0.000001", "1m": "0.001", "1k": "1000", "1M": "1000000", "1G": "1000000000",
    "1T": "1000000000000", "1P": "1000000000000000", "1E": "1000000000000000000", "1Ki": "1024", "1Mi": "1048576",
    "1Gi": "1073741824", "1Ti": "1099511627776", "1Pi": "1125899906842624", "1Ei": "1152921504606846976",
    "7Ei": "8070450532247928832", "0.5Gi": "536870912", "1.5Gi": "1610612736", ".5Ki": "512", "2.5m": "0.0025",
    "1e3": "1000", "1E3": "1000", "1e-3": "0.001", "1e+3": "1000", "1E-9": "0.000000001", "1.5e3": "1500",
    "12e6": "12000000", "0.1n": "0.000000001", "0.5n": "0.000000001", "1.5n": "0.000000002", "1e-12": "0.000000001",
    "0Ki": "0", "500m": "0.5", "8Gi": "8589934592", "250M": "250000000", "123456789.987654321": "123456789.987654321",
    "9.2E": "9200000000000000000", "1e18": "1000000000000000000",
}  # fmt: skip

REFUSED_BY_APIMACHINERY = [
    *("1K", "1mi", "1ki", "1gi", "1GI", "1KI", "1B", "1e", "1Ee", "1E5Ki", "1i", "1.5.2", "1_0", "0x10", "1,5", "1%"),
    *("Inf", "NaN", "inf", "nan", "-inf", "--1", "+-1", "1e1.5", "1e3m", "1m3", " 1", "1 ", "1 Gi", "", "1\n", "１"),
]

# Its parser takes these for zero, against its own documented grammar.
WITHOUT_DIGITS = ["-", "+", ".", "m", "Ki", "e3", "+k"]


@pytest.mark.parametrize(("text", "expected"), APIMACHINERY.items())
def test_reads_what_apimachinery_reads(text: str, expected: str) -> None:
    assert parse_quantity(text) == float(expected)


@pytest.mark.parametrize("text", [*REFUSED_BY_APIMACHINERY, *WITHOUT_DIGITS])
def test_refuses_what_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a Kubernetes quantity: write it like 500m"):
        parse_quantity(text)


@pytest.mark.parametrize("value", [-1, -0.5, -math.inf, "-1", "-500m", "-1e999", "-8Ei"])
def test_refuses_negative_amounts(value: object) -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        parse_quantity(value)


@pytest.mark.parametrize("value", [2**63, 1e300, 10**400, math.inf, "8Ei", "9.3E", "1e19", "1e999", "9" * 64])
def test_refuses_amounts_that_no_quantity_holds(value: object) -> None:
    with pytest.raises(ValueError, match=r"below 2\^63"):
        parse_quantity(value)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (True, "not a boolean"),
        (math.nan, "not NaN"),
        (None, "must be a number or a Kubernetes quantity"),
        ([1], "must be a number or a Kubernetes quantity"),
        (b"1", "must be a number or a Kubernetes quantity"),
        ("1" * (MAX_LENGTH + 1), f"at most {MAX_LENGTH} characters"),
    ],
)
def test_refuses_other_types(value: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_quantity(value)


@pytest.mark.parametrize("value", [0, 0.0, -0.0, "-0", "-0.0Gi", "-0e3"])
def test_zero_has_no_sign(value: object) -> None:
    assert math.copysign(1, parse_quantity(value)) == 1


numbers = st.from_regex(r"([0-9]{1,15}|[0-9]{1,9}\.[0-9]{0,9}|\.[0-9]{1,9})", fullmatch=True)
exponents = st.integers(-30, 30)


def _fraction(number: str) -> Fraction:
    return Fraction(number + "0" if number.endswith(".") else number)


def _expected(exact: Fraction) -> float:
    """Round up to whole nanos, then to the nearest float."""
    return float(Fraction(math.ceil(exact * 10**9), 10**9))


@given(numbers, st.sampled_from(sorted(FACTORS)))
@example("0.0000000001", "")
def test_a_suffix_multiplies_exactly(number: str, suffix: str) -> None:
    exact = _fraction(number) * FACTORS[suffix]
    if exact < 2**62:
        assert parse_quantity(number + suffix) == parse_quantity(f"+{number}{suffix}") == _expected(exact)


@given(numbers, exponents, st.sampled_from("eE"))
def test_an_exponent_multiplies_exactly(number: str, exponent: int, letter: str) -> None:
    exact = _fraction(number) * Fraction(10) ** exponent
    if exact < 2**62:
        assert parse_quantity(f"{number}{letter}{exponent}") == _expected(exact)


@given(st.one_of(st.integers(), st.floats(), st.text(max_size=80), st.from_regex(QUANTITY_PATTERN), st.booleans()))
def test_never_returns_what_is_not_an_amount(value: object) -> None:
    try:
        amount = parse_quantity(value)
    except ValueError:
        return
    assert isinstance(amount, float)
    assert 0 <= amount < MAX_AMOUNT


@given(st.floats(0, 1e15))
def test_a_number_is_taken_as_it_is(value: float) -> None:
    assert parse_quantity(value) == value


@given(st.text(max_size=10) | st.from_regex(QUANTITY_PATTERN, fullmatch=True))
def test_the_pattern_is_the_grammar(text: str) -> None:
    try:
        parse_quantity(text)
        is_quantity = True
    except ValueError as error:
        is_quantity = "is not a Kubernetes quantity" not in str(error) and len(text) <= MAX_LENGTH
    assert is_quantity == (re.fullmatch(QUANTITY_PATTERN, text) is not None and len(text) <= MAX_LENGTH)


@given(st.integers(0, 10**9), st.sampled_from(["m", ""]))
def test_whole_milli_cores_survive_a_round_trip(number: int, suffix: str) -> None:
    cores = parse_quantity(f"{number}{suffix}")
    assert parse_quantity(format_cpu(cores)) == pytest.approx(cores, rel=1e-15)


@given(st.floats(0, 1e6))
@example(0.1)
@example(1e-9)
def test_cpu_is_rounded_up_to_the_next_milli_core(cores: float) -> None:
    written = parse_quantity(format_cpu(cores))
    assert cores - 1e-9 <= written < cores + 0.001 + 1e-9
    assert re.fullmatch(r"[0-9]+m?", format_cpu(cores))


@given(st.floats(0, 2.0**60))
def test_bytes_are_rounded_up_by_less_than_a_mebibyte(amount: float) -> None:
    written = parse_quantity(format_bytes(amount))
    unit = 1 if amount <= 2**20 - 1 else 2**20
    assert amount - 0.001 <= written
    assert written - amount < unit or written == pytest.approx(amount, rel=1e-15)


@given(st.integers(1, 1023), st.sampled_from(["Ki", "Mi", "Gi", "Ti"]))
def test_bytes_use_the_largest_exact_suffix(number: int, suffix: str) -> None:
    assert format_bytes(parse_quantity(f"{number}{suffix}")) == f"{number}{suffix}" or (
        suffix == "Ki" and number > 1023
    )


@pytest.mark.parametrize(
    ("amount", "written"),
    [(0, "0"), (1000, "1000"), (1025, "1025"), (2**20 + 1, "2Mi"), (1536 * 2**20, "1536Mi"), (2**60, "1048576Ti")],
)
def test_bytes_as_written(amount: int, written: str) -> None:
    assert format_bytes(amount) == written


@pytest.mark.parametrize(("cores", "written"), [(0, "0"), (0.25, "250m"), (1.0, "1"), (1.0001, "1001m"), (64, "64")])
def test_cpu_as_written(cores: float, written: str) -> None:
    assert format_cpu(cores) == written


def test_amount_is_a_field_type() -> None:
    adapter = TypeAdapter(Amount)
    assert adapter.validate_python("1500m") == 1.5
    with pytest.raises(ValidationError, match="must not be negative"):
        adapter.validate_python("-1")
