from __future__ import annotations

from collections.abc import Sequence

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autotune.data import rows as rows_module
from autotune.data.columns import Column
from autotune.data.encoder import Category, Encoder, Numbers, Scale
from autotune.data.fitting import TableEncoding, fit_encoder
from autotune.data.rows import SelectedRows

NUMBER = Column("x", "number", ".")
DATE = Column("d", "date", "ISO8601")
CITY = Column("c", "category", None, ("a", "b", "c", "d"))
NAN = numpy.nan
DAY = 86400.0


def fit(columns: Sequence[Column], *values: Sequence[float], levels: int = 9) -> Encoder:
    return fit_encoder(columns, numpy.array(values, float).T, levels, ("", "NA"))


def test_numbers_are_standardised() -> None:
    assert fit([NUMBER], [1, 3, 5, 7]).numbers == (
        Numbers("x", "number", ".", (Scale("value", 4.0, 4.0, 5**0.5),), False),
    )


def test_a_missing_number_becomes_the_median_and_is_counted_in_mean_and_spread() -> None:
    (fitted,) = fit([NUMBER], [0, NAN, 2, 10]).numbers
    (scale,) = fitted.scales
    filled = numpy.array([0, 2, 2, 10])
    assert fitted.missing
    assert (scale.median, scale.mean, scale.std) == pytest.approx((2.0, filled.mean(), filled.std()))


def test_a_date_becomes_its_parts_that_vary() -> None:
    # 1 January 1970 was a Thursday; 1970-01-02, 1970-02-02 and 1970-02-09 have the same year and hour.
    (fitted,) = fit([DATE], [DAY, 32 * DAY, 39 * DAY]).numbers
    assert [scale.part for scale in fitted.scales] == ["seconds", "month", "day", "weekday"]
    assert fitted.width == 4
    (hours,) = fit([DATE], [DAY, DAY + 7200]).numbers
    assert [scale.part for scale in hours.scales] == ["seconds", "hour"]


def test_categories_have_codes_for_what_is_rare_and_for_what_is_missing() -> None:
    encoder = fit([CITY], [0, 0, 2, 2, 3, NAN])
    assert encoder.categories == (Category("c", ("a", "c"), True),)
    assert encoder.categories[0].codes() == {None: 1, "a": 2, "c": 3}
    assert encoder.cardinalities == (4,)


def test_the_most_frequent_levels_are_told_apart() -> None:
    assert fit([CITY], [0, 0, 1, 1, 1, 2, 2], levels=1).categories == (Category("c", ("b",), False),)
    assert fit([CITY], [0, 0, 1, 1, 1, 2, 2], levels=2).categories == (Category("c", ("a", "b"), False),)


@pytest.mark.parametrize(
    ("column", "values"),
    [(NUMBER, [3, 3, 3]), (NUMBER, [NAN, NAN]), (DATE, [DAY, DAY]), (CITY, [1, 1, 1]), (CITY, [0, 1, 2, 3])],
    ids=["number", "missing", "date", "category", "all rare"],
)
def test_what_does_not_vary_has_no_place(column: Column, values: list[float]) -> None:
    assert fit([column], values).names == ()


def test_that_a_value_is_missing_may_be_all_that_varies() -> None:
    (fitted,) = fit([NUMBER], [3, NAN, 3]).numbers
    assert (fitted.scales, fitted.missing) == ((), True)
    assert fit([CITY], [1, 1, NAN]).categories == (Category("c", ("b",), True),)


def test_numbers_too_large_to_be_scaled_have_no_place() -> None:
    assert fit([NUMBER], [-1e300, 1e300]).names == ()


COLUMNS = [NUMBER, CITY, DATE]
TABLES = st.lists(
    st.tuples(
        st.floats(-1e9, 1e9) | st.just(NAN),
        st.sampled_from([0.0, 1.0, 2.0, 3.0, NAN]),
        st.integers(-(10**9), 10**10).map(float) | st.just(NAN),
    ),
    min_size=2,
    max_size=30,
)


@given(TABLES, st.integers(0, 99))
def test_it_hears_of_the_rows_it_is_given_alone(table: list[tuple[float, ...]], seed: int) -> None:
    values = numpy.array(table)
    train = numpy.random.default_rng(seed).permutation(len(values))[: len(values) // 2 + 1]
    others = numpy.setdiff1d(numpy.arange(len(values)), train)
    honest = fit_encoder(COLUMNS, SelectedRows(values, train), 9, ())
    values[others] = [7e7, 3.0, 1e9]
    assert fit_encoder(COLUMNS, SelectedRows(values, train), 9, ()) == honest


@given(TABLES, st.integers(1, 7))
def test_it_is_the_same_whether_the_rows_are_in_memory(table: list[tuple[float, ...]], length: int) -> None:
    values = numpy.array(table)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows_module.chunks, "__defaults__", (length,))
        there = fit_encoder(COLUMNS, values, 9, ())
        assert fit_encoder(COLUMNS, SelectedRows(values, numpy.arange(len(values))), 9, ()) == there


@given(TABLES)
def test_a_table_s_row_is_encoded_as_the_row_that_a_user_has(table: list[tuple[float, ...]]) -> None:
    values = torch.tensor(table, dtype=torch.float64)
    encoder = fit_encoder(COLUMNS, values.numpy(), 9, ("", "NA"))
    encoding = TableEncoding(COLUMNS, encoder)
    assert encoding.cardinalities == encoder.cardinalities
    made = encoding(values)
    assert torch.equal(torch.from_numpy(encoder.encode_frame(encoding.frame(values))), made)
    assert made.dtype == torch.float32
    assert bool(made.isfinite().all())


def test_the_numbers_of_the_training_part_have_mean_0_and_spread_1() -> None:
    values = numpy.random.default_rng(0).normal(50.0, 9.0, (200, 1))
    made = TableEncoding([NUMBER], fit_encoder([NUMBER], values, 9, ()))(torch.tensor(values))
    assert float(made.mean()) == pytest.approx(0.0, abs=1e-5)
    assert float(made.std(correction=0)) == pytest.approx(1.0, abs=1e-5)
