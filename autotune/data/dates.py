"""Dates as numbers: seconds since 1970, and the parts of the calendar that may matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy
import pandas

ISO = "ISO8601"

# In this order; a column of dates such as 03/04/2024 is read month first unless that cannot be.
FORMATS = (
    ISO,
    *(f"{day}{time}" for day in ("%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y") for time in ("", " %H:%M", " %H:%M:%S")),
)


def seconds(values: Sequence[Any] | numpy.ndarray | pandas.Series, written: str | None) -> numpy.ndarray:
    """Seconds since 1970, in UTC where a zone is given; NaN for what is no such date.

    Args:
        values: Text, or dates.
        written: The format of the text, one of `FORMATS` or strptime's; None where the values are dates.
    """
    series = pandas.Series(values).reset_index(drop=True)
    if written is not None and not pandas.api.types.is_datetime64_any_dtype(series.dtype):
        found = pandas.to_datetime(series, format=written, utc=True, errors="coerce")
    else:
        found = pandas.to_datetime(series, utc=True, errors="coerce")
    moments = found.dt.tz_localize(None).astype("datetime64[us]").to_numpy()
    ticks = moments.astype(numpy.int64).astype(float) / 1e6
    ticks[numpy.isnat(moments)] = numpy.nan
    return ticks


def parts(ticks: numpy.ndarray) -> Mapping[str, numpy.ndarray]:
    """The numbers that stand for dates given in seconds since 1970; NaN stays NaN."""
    missing = numpy.isnan(ticks)
    moments = numpy.where(missing, 0, ticks).astype("datetime64[s]")
    days = moments.astype("datetime64[D]")
    months = days.astype("datetime64[M]")
    since = days.astype(numpy.int64)
    found = {
        "seconds": ticks,
        "year": days.astype("datetime64[Y]").astype(numpy.int64) + 1970,
        "month": months.astype(numpy.int64) % 12 + 1,
        "day": (days - months).astype(numpy.int64) + 1,
        "weekday": (since + 3) % 7,  # 1 January 1970 was a Thursday; Monday is 0
        "hour": (moments - days).astype(numpy.int64) // 3600,
    }
    return {name: numpy.where(missing, numpy.nan, numbers) for name, numbers in found.items()}


def text(ticks: float, written: str | None) -> str | None:
    """A date as a file holds it."""
    if numpy.isnan(ticks):
        return None
    moment = pandas.Timestamp(ticks, unit="s")
    return moment.isoformat() if written in (None, ISO) else moment.strftime(str(written))
