"""An encoder fitted on the training part of a table, and the table's rows as the model is given them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy
import pandas
import torch
from torch import Tensor

from autotune.data import dates
from autotune.data.columns import Column
from autotune.data.encoder import Category, Encoder, Numbers, Scale, parts_of
from autotune.data.moments import Moments
from autotune.data.rows import Rows, chunks

FOR_MEDIANS = 1 << 25  # values that medians are taken of: the first rows of the part, which its split has shuffled
RARE = 2  # what occurs less often in the training part shares a code with what does not occur at all


def fit_encoder(columns: Sequence[Column], rows: Rows, most_levels: int, absent: Sequence[str]) -> Encoder:
    """Fit an encoder, reading the rows in portions; a column that does not vary gets no place in it.

    Args:
        columns: Of the table.
        rows: Of its training part, [n, columns].
        most_levels: Levels of a category that are told apart, the most frequent ones.
        absent: Texts that stand for a missing value.
    """
    sample = rows[: max(1, FOR_MEDIANS // max(1, len(columns)))]
    moments: list[dict[str, Moments]] = [{} for _ in columns]
    counts = [numpy.zeros(len(column.levels) + 1, numpy.int64) for column in columns]
    for portion in chunks(rows):
        for at, column in enumerate(columns):
            values = numpy.ascontiguousarray(portion[:, at])
            if column.kind == "category":
                counts[at] += numpy.bincount(_positions(values, column), minlength=len(counts[at]))
                continue
            for part, numbers in parts_of(column.kind, values).items():
                moments[at][part] = moments[at].get(part, Moments()).and_these(numbers)
    fitted: list[Numbers | Category | None] = []
    for at, column in enumerate(columns):
        if column.kind == "category":
            fitted.append(category_of(column, counts[at], most_levels))
        else:
            fitted.append(numbers_of(column, moments[at], _medians(column, sample[:, at])))
    numbers_fitted = tuple(each for each in fitted if isinstance(each, Numbers))
    return Encoder(numbers_fitted, tuple(each for each in fitted if isinstance(each, Category)), tuple(absent))


def numbers_of(column: Column, moments: Mapping[str, Moments], medians: Mapping[str, float]) -> Numbers | None:
    """What a column of numbers or dates becomes, by what was seen of it in the training part; None if it says nothing.

    Args:
        column: The column.
        moments: Of each of its parts.
        medians: Likewise.
    """
    scales = []
    for part, seen in moments.items():
        filled = seen.with_constant(seen.missing, medians[part])
        if seen.low < seen.high and numpy.isfinite(filled.std):
            scales.append(Scale(part, medians[part], filled.mean, filled.std or 1.0))
    missing = next(iter(moments.values()))
    has_missing = missing.missing > 0 and missing.count > 0
    if not scales and not has_missing:
        return None
    return Numbers(column.name, column.kind, column.written, tuple(scales), has_missing)


def category_of(column: Column, counts: numpy.ndarray, most: int) -> Category | None:
    """What a column of categories becomes; None if it says nothing.

    Args:
        column: The column.
        counts: How often each of its levels occurs in the training part; last, how often none does.
        most: Levels to tell apart, the most frequent ones.
    """
    frequent = sorted(range(len(column.levels)), key=lambda at: (-counts[at], at))[:most]
    kept = tuple(sorted(column.levels[at] for at in frequent if counts[at] >= RARE))
    others = int(counts[:-1].sum()) - sum(int(counts[at]) for at in frequent if counts[at] >= RARE)
    if len(kept) + (counts[-1] > 0) + (others > 0) < 2:
        return None
    return Category(column.name, kept, bool(counts[-1] > 0))


class TableEncoding:
    """A table's rows as the model is given them.

    Args:
        columns: Of the table.
        encoder: Fitted.
    """

    raw_dtype = torch.float64

    def __init__(self, columns: Sequence[Column], encoder: Encoder) -> None:
        self.encoder = encoder
        self._columns = tuple(columns)
        self._at = {column.name: at for at, column in enumerate(columns)}
        self._codes = {}
        for category in encoder.categories:
            codes, column = category.codes(), columns[self._at[category.name]]
            self._codes[category.name] = numpy.array([*(codes.get(level, 0) for level in column.levels), codes[None]])

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """How many codes each of the last columns has."""
        return self.encoder.cardinalities

    def __call__(self, features: Tensor) -> Tensor:
        """[n, columns] of the table, float64 -> [n, numbers..., codes...], float32."""
        rows = features.numpy()

        def codes(category: Category) -> numpy.ndarray:
            at = self._at[category.name]
            found: numpy.ndarray = self._codes[category.name][_positions(rows[:, at], self._columns[at])]
            return found

        encoded = self.encoder.encode(lambda numbers: rows[:, self._at[numbers.name]], codes, len(rows))
        return torch.from_numpy(encoded)

    def frame(self, features: Tensor) -> pandas.DataFrame:
        """Rows as a user has them: text, numbers, dates as text."""
        used = frozenset(self.encoder.names)
        return pandas.DataFrame(
            {
                column.name: _cells(column, features[:, at].numpy())
                for at, column in enumerate(self._columns)
                if column.name in used
            },
            index=range(len(features)),
        )


def _positions(values: numpy.ndarray, column: Column) -> numpy.ndarray:
    """The position of each value among the column's levels; behind them where it is missing."""
    return numpy.where(numpy.isnan(values), len(column.levels), values).astype(numpy.int64)


def _medians(column: Column, sample: numpy.ndarray) -> Mapping[str, float]:
    medians = {}
    for part, numbers in parts_of(column.kind, sample).items():
        present = numbers[~numpy.isnan(numbers)]
        medians[part] = float(numpy.median(present)) if len(present) else 0.0
    return medians


def _cells(column: Column, values: numpy.ndarray) -> list[str | None] | numpy.ndarray:
    if column.kind == "number":
        return values
    if column.kind == "date":
        return [dates.text(value, column.written) for value in values]
    return [None if numpy.isnan(value) else column.levels[int(value)] for value in values]
