from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.data.numbers import NumberFormat, is_unit, obstacle

FORMATS = [
    NumberFormat(decimal, thousands, unit)
    for decimal in ".,"
    for thousands in ("", ",", ".", " ", "'", "\u00a0")
    for unit in ("", "$", "€", "%", "CHF", "R$")
    if thousands != decimal
]


def written(cents: int, number_format: NumberFormat) -> str:
    """A number of two decimals as the format has it."""
    text = f"{abs(cents) / 100:,.2f}".replace(",", "t").replace(".", number_format.decimal)
    text = ("-" if cents < 0 else "") + text.replace("t", number_format.thousands)
    return f"{text} {number_format.unit}".strip()


@given(st.sampled_from(FORMATS), st.integers(-(10**13), 10**13))
def test_a_format_reads_what_is_written_in_it(number_format: NumberFormat, cents: int) -> None:
    assert number_format.parse(written(cents, number_format)) == cents / 100


@given(st.sampled_from(FORMATS))
def test_a_code_names_its_format(number_format: NumberFormat) -> None:
    assert NumberFormat.from_code(number_format.code) == number_format


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (".", "1_000"),
        (".", "1,000"),
        (".,", "1,00"),
        (".,", "1,0000"),
        (".,", "0,123"),
        (".,", ",123"),
        (".,", "1,234,5"),
        (",.", "192.168.1.1"),
        (",", "1.5"),
        (".$", "$5$"),
        (".$", "$"),
        (".$", "($5"),
        (".$", "€5"),
        (".%", "5"),
        (".,$", "--5"),
        (".,", "inf dollars"),
        (".,", ""),
    ],
)
def test_what_is_no_number_of_a_format_is_refused(code: str, text: str) -> None:
    assert not NumberFormat.from_code(code).reads(text)


@pytest.mark.parametrize(
    ("text", "known"), [("$", True), ("₹", True), ("%", True), ("USD", True), ("kg", False), ("", False), ("x", False)]
)
def test_currencies_and_per_cent_are_units(text: str, known: bool) -> None:
    assert is_unit(text) == known


def test_names_are_not_held_for_numbers_with_an_obstacle() -> None:
    assert obstacle(["anna", "bob 7", "carl"], FORMATS) is None
    assert obstacle(["2024-01-05", "2024-02-07", "2024-03-05"], FORMATS) is None
