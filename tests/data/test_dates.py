from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.data import dates

DATES = st.datetimes(datetime(1700, 1, 1), datetime(2500, 12, 31)).map(lambda moment: moment.replace(microsecond=0))
EPOCH = datetime(1970, 1, 1)


def since(moment: datetime) -> float:
    return (moment - EPOCH) / timedelta(seconds=1)


@given(DATES)
def test_the_parts_are_those_of_the_calendar(moment: datetime) -> None:
    parts = {name: float(values[0]) for name, values in dates.parts(numpy.array([since(moment)])).items()}
    assert parts == {
        "seconds": since(moment),
        "year": moment.year,
        "month": moment.month,
        "day": moment.day,
        "weekday": moment.weekday(),
        "hour": moment.hour,
    }


def test_a_missing_date_has_missing_parts() -> None:
    assert all(numpy.isnan(values[1]) for values in dates.parts(numpy.array([0.0, numpy.nan])).values())


@given(DATES, st.sampled_from([each for each in dates.FORMATS if each == dates.ISO or each.endswith("%S")]))
def test_a_date_is_read_as_it_is_written(moment: datetime, written: str) -> None:
    text = dates.text(since(moment), written)
    assert dates.seconds([text], written).tolist() == [since(moment)]


@pytest.mark.parametrize(
    ("text", "written", "expected"),
    [
        ("2024-02-29", dates.ISO, datetime(2024, 2, 29)),
        ("2024-02-29 13:05", dates.ISO, datetime(2024, 2, 29, 13, 5)),
        ("2024-02-29T13:05:07+02:00", dates.ISO, datetime(2024, 2, 29, 11, 5, 7)),
        ("9999-12-31", dates.ISO, datetime(9999, 12, 31)),
        ("29.02.2024", "%d.%m.%Y", datetime(2024, 2, 29)),
        ("3/4/2024", "%m/%d/%Y", datetime(2024, 3, 4)),
        ("3/4/2024 5:06", "%d/%m/%Y %H:%M", datetime(2024, 4, 3, 5, 6)),
    ],
)
def test_common_ways_to_write_dates(text: str, written: str, expected: datetime) -> None:
    assert dates.seconds([text], written).tolist() == [since(expected)]


@pytest.mark.parametrize("nonsense", ["soon", "2024-02-30", "", None, float("nan")])
def test_what_is_no_date_is_missing(nonsense: object) -> None:
    assert numpy.isnan(dates.seconds([nonsense, "2024-01-01"], dates.ISO)).tolist() == [True, False]


@pytest.mark.parametrize("written", [None, dates.ISO])
def test_what_is_a_date_already_is_taken_as_it_is(written: str | None) -> None:
    moment = datetime(2024, 2, 29, 12)
    zoned = pandas.Timestamp(moment, tz=UTC)
    assert dates.seconds(pandas.Series([moment, None]), written).tolist()[0] == since(moment)
    assert dates.seconds([zoned, None], written).tolist()[0] == since(moment)
    assert dates.seconds([date(2024, 2, 29)], None).tolist() == [since(datetime(2024, 2, 29))]


def test_a_missing_date_is_written_as_none() -> None:
    assert dates.text(float("nan"), dates.ISO) is None
