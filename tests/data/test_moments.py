from __future__ import annotations

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.data.moments import Moments

NUMBERS = st.lists(st.floats(-1e6, 1e6) | st.just(float("nan")), max_size=40)


@given(st.lists(NUMBERS, min_size=1, max_size=5))
def test_they_are_those_of_all_portions_together(portions: list[list[float]]) -> None:
    seen = Moments()
    for portion in portions:
        seen = seen.and_these(numpy.array(portion, float))
    whole = numpy.concatenate([numpy.array(portion, float) for portion in portions])
    present = whole[~numpy.isnan(whole)]
    assert (seen.count, seen.missing) == (len(present), len(whole) - len(present))
    if len(present):
        assert seen.mean == pytest.approx(present.mean(), rel=1e-9, abs=1e-6)
        assert seen.std == pytest.approx(present.std(), rel=1e-6, abs=1e-4)
        assert (seen.low, seen.high) == (present.min(), present.max())


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), st.integers(0, 30), st.floats(-1e6, 1e6))
def test_one_number_many_times_more(numbers: list[float], count: int, value: float) -> None:
    seen = Moments().and_these(numpy.array(numbers)).with_constant(count, value)
    whole = numpy.array([*numbers, *[value] * count])
    assert seen.count == len(whole)
    assert seen.mean == pytest.approx(whole.mean(), rel=1e-9, abs=1e-6)
    assert seen.std == pytest.approx(whole.std(), rel=1e-6, abs=1e-4)


def test_numbers_whose_squares_float64_cannot_hold_have_no_finite_spread() -> None:
    assert not numpy.isfinite(Moments().and_these(numpy.array([-1e300, 1e300])).std)


def test_of_nothing_they_are_0() -> None:
    assert (Moments().std, Moments().mean) == (0.0, 0.0)
