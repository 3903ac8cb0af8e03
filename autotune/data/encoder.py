"""From the columns of a table to what a model is given: fitted on the training part, kept as JSON, no code in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

import numpy
import pandas

from autotune.data import dates
from autotune.data.columns import label
from autotune.data.numbers import NumberFormat

LARGEST = float(numpy.finfo(numpy.float32).max)


@dataclass(frozen=True)
class Scale:
    """How a number is scaled: ``(x - mean) / std``, where `median` stands for a missing one.

    Attributes:
        part: What it is of its column: ``value``, or a part of a date (`autotune.data.dates.parts`).
    """

    part: str
    median: float
    mean: float
    std: float

    def apply(self, values: numpy.ndarray) -> numpy.ndarray:
        """Scaled values, within what float32 can hold."""
        with numpy.errstate(over="ignore"):
            scaled = (numpy.where(numpy.isfinite(values), values, self.median) - self.mean) / self.std
        return numpy.clip(scaled, -LARGEST, LARGEST)


@dataclass(frozen=True)
class Numbers:
    """The numbers a column becomes.

    Attributes:
        name: Of the column.
        kind: ``number`` or ``date``.
        written: See `Column`.
        scales: Of its value, or of the parts of its dates that vary.
        missing: Whether another number says that the value is missing.
    """

    name: str
    kind: str
    written: str | None
    scales: tuple[Scale, ...]
    missing: bool

    @property
    def width(self) -> int:
        """How many numbers."""
        return len(self.scales) + self.missing

    def encode(self, values: numpy.ndarray) -> list[numpy.ndarray]:
        """The numbers, each [n]."""
        values = numpy.where(numpy.isfinite(values), values, numpy.nan)
        parts = parts_of(self.kind, values)
        encoded = [scale.apply(parts[scale.part]) for scale in self.scales]
        return [*encoded, numpy.isnan(values).astype(float)] if self.missing else encoded


@dataclass(frozen=True)
class Category:
    """The codes of a column: 0 for what is rare or unseen in the training part, 1 for missing where that was seen.

    Attributes:
        name: Of the column.
        levels: Those with a code of their own, in the order of the codes.
        missing: Whether missing values have a code of their own; else they are as unseen ones.
    """

    name: str
    levels: tuple[str, ...]
    missing: bool

    @property
    def cardinality(self) -> int:
        """How many codes."""
        return 1 + self.missing + len(self.levels)

    def codes(self) -> Mapping[str | None, int]:
        """The code of each level, and of None; all else has the code 0."""
        first = 1 + self.missing
        return {None: int(self.missing), **{level: first + at for at, level in enumerate(self.levels)}}


@dataclass(frozen=True)
class Encoder:
    """Columns by name -> float32 [n, numbers..., codes...].

    Attributes:
        numbers: In front.
        categories: The last columns.
        absent: Texts that stand for a missing value.
    """

    numbers: tuple[Numbers, ...]
    categories: tuple[Category, ...]
    absent: tuple[str, ...] = ("",)

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """How many codes each of the last columns has."""
        return tuple(category.cardinality for category in self.categories)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns it needs."""
        return (*(each.name for each in self.numbers), *(each.name for each in self.categories))

    def encode(
        self, values: Callable[[Numbers], numpy.ndarray], codes: Callable[[Category], numpy.ndarray], rows: int
    ) -> numpy.ndarray:
        """Encode columns that are already numbers.

        Args:
            values: The values of a column; NaN is missing.
            codes: The codes of a column.
            rows: How many.
        """
        encoded = [part for each in self.numbers for part in each.encode(values(each))]
        encoded += [codes(each) for each in self.categories]
        return numpy.stack(encoded, axis=1).astype(numpy.float32) if encoded else numpy.empty((rows, 0), numpy.float32)

    def encode_frame(self, frame: pandas.DataFrame) -> numpy.ndarray:
        """Encode rows as a user has them; columns in any order, further ones ignored.

        Raises:
            KeyError: A column is not there.
        """
        absent = frozenset(self.absent)

        def values(column: Numbers) -> numpy.ndarray:
            cells = frame[column.name]
            if column.kind == "number" and isinstance(cells.dtype, numpy.dtype) and cells.dtype.kind in "iuf":
                return cells.to_numpy(float)
            if column.kind == "number":
                written = NumberFormat.from_code(column.written or ".")
                return numpy.array([_number(cell, written, absent) for cell in cells.tolist()], float)
            return dates.seconds([_date(cell, absent) for cell in cells.tolist()], column.written)

        def codes(column: Category) -> numpy.ndarray:
            known = column.codes()
            return numpy.array([known.get(_level(cell, absent), 0) for cell in frame[column.name].tolist()], float)

        return self.encode(values, codes, len(frame))

    def to_json(self) -> dict[str, Any]:
        """Plain containers and scalars."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Encoder:
        """The encoder that `to_json` described."""
        numbers = (
            Numbers(**{**each, "scales": tuple(Scale(**scale) for scale in each["scales"])})
            for each in plain["numbers"]
        )
        categories = (Category(each["name"], tuple(each["levels"]), each["missing"]) for each in plain["categories"])
        return cls(tuple(numbers), tuple(categories), tuple(plain["absent"]))


def parts_of(kind: str, values: numpy.ndarray) -> Mapping[str, numpy.ndarray]:
    """The numbers that a column's values are made of."""
    return dates.parts(values) if kind == "date" else {"value": values}


def _number(cell: Any, written: NumberFormat, absent: frozenset[str]) -> float:
    try:
        if not isinstance(cell, str):
            return float(cell)
        text = cell.strip()
        return numpy.nan if text in absent else written.parse(text)
    except (TypeError, ValueError):
        return numpy.nan


def _date(cell: Any, absent: frozenset[str]) -> Any:
    if isinstance(cell, str):
        return None if cell.strip() in absent else cell.strip()
    return cell if isinstance(cell, date | numpy.datetime64) else None


def _level(cell: Any, absent: frozenset[str]) -> str | None:
    if pandas.isna(cell):
        return None
    text = label(cell)
    return None if text in absent else text
