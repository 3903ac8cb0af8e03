"""Small tables as a user might have them, written for one test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pandas

from autotune.data.csv import Csv

# As conf/data/csv.yaml has it, in short.
MISSING = ("", "NA", "NaN", "?")


def rows(samples: int = 60, seed: int = 0) -> pandas.DataFrame:
    """A number, a whole number, text, a flag and a date, some of them missing; price follows from the first two."""
    random = numpy.random.default_rng(seed)
    area, rooms = random.normal(100, 30, samples).round(2), random.integers(1, 6, samples)
    city = random.choice(["Bonn", "Köln", "Trier"], samples)
    days = pandas.to_timedelta(random.integers(0, 1500, samples), unit="D")
    frame = pandas.DataFrame(
        {
            "area": area,
            "rooms": rooms,
            "city": city,
            "garden": random.choice(["True", "False"], samples),
            "sold": (pandas.Timestamp("2020-01-01") + days).strftime("%Y-%m-%d"),
            "price": (area * 3 + rooms * 20 + (city == "Köln") * 150).round(1),
        }
    )
    for name in ("area", "city", "sold"):
        frame.loc[random.random(samples) < 0.15, name] = None
    return frame


def written(folder: Path, frame: pandas.DataFrame | str | bytes, name: str = "rows.csv", **how: Any) -> Path:
    """A file of these rows, or of this text."""
    path = folder / name
    if isinstance(frame, bytes):
        path.write_bytes(frame)
    elif isinstance(frame, str):
        path.write_text(frame, encoding="utf-8")
    elif name.endswith(".parquet"):
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, **how)
    return path


def csv(path: Path, target: Any = "price", **settings: Any) -> Csv:
    """The source of a file."""
    return Csv(path=str(path), target=target, **{"missing": MISSING, **settings})
