from __future__ import annotations

import datetime
import json
from typing import Any

import numpy
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.data.encoder import LARGEST, Category, Encoder, Numbers, Scale

ENCODER = Encoder(
    (
        Numbers("area", "number", ".", (Scale("value", 90.0, 100.0, 20.0),), True),
        Numbers("price", "number", ",", (Scale("value", 0.0, 1.0, 0.5),), False),
        Numbers("sold", "date", "ISO8601", (Scale("year", 2020.0, 2020.0, 2.0), Scale("month", 6.0, 0.0, 1.0)), True),
    ),
    (Category("city", ("Bonn", "Köln"), True), Category("garden", ("false", "true"), False)),
    ("", "NA"),
)
ROW: dict[str, Any] = {"area": 120.0, "price": "1,5", "sold": "2022-03-01", "city": "Köln", "garden": True}


def encoded(**changes: Any) -> list[float]:
    return ENCODER.encode_frame(pandas.DataFrame([{**ROW, **changes}], dtype=object))[0].tolist()


def test_numbers_come_first_and_codes_last() -> None:
    # area and whether it is missing; price; year, month and whether the date is missing; city; garden
    assert encoded() == [1.0, 0.0, 1.0, 1.0, 3.0, 0.0, 3.0, 2.0]
    assert ENCODER.cardinalities == (4, 3)
    assert ENCODER.names == ("area", "price", "sold", "city", "garden")


@pytest.mark.parametrize("missing", [None, numpy.nan, pandas.NA, pandas.NaT, "", " NA "], ids=repr)
def test_a_missing_value_is_its_median_and_says_so(missing: object) -> None:
    # (90 - 100) / 20; (0 - 1) / 0.5; (2020 - 2020) / 2 and 6; 1 is the code of missing, where it was seen before.
    row = encoded(**dict.fromkeys(ROW, missing))
    assert row == [-0.5, 1.0, -2.0, 0.0, 6.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize("nonsense", ["large", [1], float("inf"), "-inf", "1_0", datetime.datetime(2020, 1, 1)])
def test_what_is_no_number_is_missing(nonsense: object) -> None:
    assert encoded(area=nonsense)[:2] == [-0.5, 1.0]


@pytest.mark.parametrize("nonsense", ["soon", 7, "2022-13-01"])
def test_what_is_no_date_is_missing(nonsense: object) -> None:
    assert encoded(sold=nonsense)[3:6] == [0.0, 6.0, 1.0]


@pytest.mark.parametrize("city", ["Trier", 7, True, "köln"])
def test_a_level_that_was_not_seen_has_the_code_0(city: object) -> None:
    assert encoded(city=city)[6] == 0.0


@pytest.mark.parametrize(
    ("name", "value", "at", "expected"),
    [
        ("area", "120", 0, 1.0),
        ("area", 120, 0, 1.0),
        ("area", numpy.float32(120), 0, 1.0),
        ("price", 1.5, 2, 1.0),
        ("sold", pandas.Timestamp("2022-03-01"), 3, 1.0),
        ("sold", datetime.date(2022, 3, 1), 4, 3.0),
        ("sold", "2022-03-01T12:00:00Z", 4, 3.0),
        ("garden", "TRUE", 7, 2.0),
        ("garden", numpy.False_, 7, 1.0),
        ("city", " Bonn", 6, 2.0),
    ],
)
def test_a_value_may_come_in_several_ways(name: str, value: object, at: int, expected: float) -> None:
    assert encoded(**{name: value})[at] == expected


def test_numbers_stay_within_what_float32_can_hold() -> None:
    tiny = Encoder((Numbers("x", "number", ".", (Scale("value", 0.0, 0.0, 1e-300),), False),), ())
    rows = tiny.encode_frame(pandas.DataFrame({"x": [1e300, -1e300]}))
    assert rows[:, 0].tolist() == [LARGEST, -LARGEST]


CELLS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.dates(), st.just(pandas.NA)
)


@given(st.lists(st.fixed_dictionaries(dict.fromkeys(ROW, CELLS)), min_size=1, max_size=6), st.permutations(list(ROW)))
def test_whatever_comes_in_whatever_order_finite_numbers_come_out(rows: list[dict[str, Any]], order: list[str]) -> None:
    frame = pandas.DataFrame(rows, dtype=object)
    made = ENCODER.encode_frame(frame)
    assert made.shape == (len(rows), 8)
    assert made.dtype == numpy.float32
    assert numpy.isfinite(made).all()
    assert (made[:, 6:] >= 0).all()
    assert (made[:, 6:] < ENCODER.cardinalities).all()
    assert numpy.array_equal(ENCODER.encode_frame(frame[order].assign(more=1)), made)


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(KeyError, match="city"):
        ENCODER.encode_frame(pandas.DataFrame([ROW]).drop(columns="city"))


def test_no_rows_are_no_rows() -> None:
    assert ENCODER.encode_frame(pandas.DataFrame([ROW])[:0]).shape == (0, 8)


def test_it_is_kept_as_plain_json_to_the_last_digit() -> None:
    exact = Encoder((Numbers("ä", "number", None, (Scale("value", 0.1, 1 / 3, 1e-17),), False),), ENCODER.categories)
    for encoder in (ENCODER, exact):
        assert Encoder.from_json(json.loads(json.dumps(encoder.to_json(), allow_nan=False))) == encoder


def test_rows_have_numbers_as_the_file_had_them() -> None:
    scale = Scale("value", 0.0, 0.0, 1.0)
    encoder = Encoder((Numbers("price", "number", ".,$", (scale,), True),), ())
    frame = pandas.DataFrame({"price": ["$1,234.50", " 7 ", "", "7 apples", None, 8]})
    assert encoder.encode_frame(frame).tolist() == [[1234.5, 0], [7, 0], [0, 1], [0, 1], [0, 1], [8, 0]]
