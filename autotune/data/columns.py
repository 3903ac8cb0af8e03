"""The columns of a table: which kind each is, and its values as numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import pyarrow as pa
import pyarrow.compute as pc

from autotune.data import dates

LEVELS_KEPT = 50_000  # a text column with more different values is never a category
YEAR = 4  # digits
FEW = 20


@dataclass(frozen=True)
class Column:
    """A column as numbers.

    Attributes:
        name: Its name.
        kind: ``number``; ``date``, in seconds since 1970; ``category``, as the position in `levels`. NaN is missing.
        written: The format of dates (`autotune.data.dates`), or the decimal sign of numbers; None where the file's own
            type says.
        levels: The different values of a category, sorted.
    """

    name: str
    kind: str
    written: str | None = None
    levels: tuple[str, ...] = ()

    def values(self, cells: pa.Array) -> numpy.ndarray:
        """Numbers for the cells of this column, float64 [n]."""
        if self.kind == "date":
            return _seconds(cells, self.written)
        if self.kind == "number":
            numbers = as_numbers(cells, self.written)
            assert numbers is not None
            return numbers
        different = pc.unique(cells).drop_null()
        position = {level: number for number, level in enumerate(self.levels)}
        codes = numpy.array([*(position[label(each)] for each in different.to_pylist()), numpy.nan], float)
        found = pc.index_in(cells, value_set=different).fill_null(len(different))
        coded: numpy.ndarray = codes[found.to_numpy(zero_copy_only=False)]
        return coded


class Profile:
    """What is seen of a column, portion by portion, and the kind that follows from it.

    Args:
        name: Its name.
        file_type: The type the file gives it; text for CSV.
        is_category: Whether it is said to be a category.
        signs: The decimal signs that numbers in text may have; none where text is never numbers.
        is_kept: Whether text becomes a category even where nearly every value is another.
    """

    def __init__(
        self, name: str, file_type: pa.DataType, is_category: bool, signs: tuple[str, ...], is_kept: bool = False
    ) -> None:
        self.name = name
        self.rows = self.missing = self.infinite = 0
        self.low, self.high, self.whole = numpy.inf, -numpy.inf, True
        self._is_text = is_category or is_text(file_type)
        self._is_kept = is_kept or is_category
        self._is_category = is_category or pa.types.is_boolean(file_type)
        self._is_date = pa.types.is_temporal(file_type) and not pa.types.is_time(file_type)
        self._signs = () if self._is_category else signs
        self._formats = () if self._is_category else dates.FORMATS
        self._different: set[str] | None = set()

    def see(self, cells: pa.Array) -> None:
        """Take in the cells of some rows, as `cells_of` gives them."""
        self.rows += len(cells)
        self.missing += cells.null_count
        present = cells.drop_null()
        if len(present) == 0:
            return
        if not self._is_text:
            if not self._is_date:
                self._see_numbers(as_numbers(present, None))
            return
        if self._signs:
            for sign in self._signs:
                numbers = as_numbers(present, sign)
                if numbers is not None:
                    self._see_numbers(numbers)
                    break
                self._signs = tuple(other for other in self._signs if other != sign)
        formats = self._formats
        if self._signs:  # a number is a date in ISO's way of writing alone, and in digits
            first = str(present[0])
            formats = (dates.ISO,) if dates.ISO in formats and first.isdecimal() and len(first) >= YEAR else ()
        self._formats = tuple(each for each in formats if _all_dates(present, each))
        if self._different is not None:
            self._different.update(pc.unique(present).to_pylist())
            if len(self._different) > LEVELS_KEPT:
                self._different = None

    def column(self) -> Column | str:
        """The column as numbers; or why it is left out."""
        present = self.rows - self.missing
        if present == 0:
            return "it has no values"
        if not self._is_text:
            return Column(self.name, "date" if self._is_date else "number")
        if self._signs:
            return Column(self.name, "number", self._signs[0])
        if self._formats:
            return Column(self.name, "date", self._formats[0])
        many = self._different is None or len(self._different) > max(FEW, present / 2)
        if self._different is None or (many and not self._is_kept):
            return "nearly every value is another"
        return Column(self.name, "category", None, tuple(sorted({label(each) for each in self._different})))

    @property
    def may_count_rows(self) -> bool:
        """Whether it may hold each of as many whole numbers in a row as there are rows: an identifier."""
        return self.whole and self.missing == 0 and self.rows > FEW and self.high - self.low + 1 == self.rows

    def _see_numbers(self, numbers: numpy.ndarray | None) -> None:
        assert numbers is not None
        finite = numbers[numpy.isfinite(numbers)]
        self.infinite += int(numpy.isinf(numbers).sum())
        if len(finite):
            self.low, self.high = min(self.low, finite.min()), max(self.high, finite.max())
        self.whole = self.whole and len(finite) == len(numbers) and bool((finite == numpy.floor(finite)).all())


def is_text(file_type: pa.DataType) -> bool:
    """Whether a column is read as text."""
    return bool(pa.types.is_string(file_type) or pa.types.is_boolean(file_type))


def is_readable(file_type: pa.DataType) -> bool:
    """Whether a column of this type can be used at all."""
    types = pa.types
    tests = (types.is_string, types.is_large_string, types.is_boolean, types.is_integer, types.is_floating)
    more = (types.is_decimal, types.is_timestamp, types.is_date, types.is_null)
    if types.is_dictionary(file_type):
        return is_readable(file_type.value_type)
    return any(test(file_type) for test in (*tests, *more))


def plain_type(file_type: pa.DataType) -> pa.DataType:
    """The type that cells are given in: text, float64, a date, or a boolean."""
    types = pa.types
    if types.is_dictionary(file_type):
        return plain_type(file_type.value_type)
    if types.is_large_string(file_type) or types.is_null(file_type):
        return pa.string()
    if types.is_integer(file_type) or types.is_floating(file_type) or types.is_decimal(file_type):
        return pa.float64()
    return file_type


def cells_of(column: pa.Array, is_category: bool, missing: Sequence[str]) -> pa.Array:
    """A portion of a column in its plain type, what stands for a missing value replaced by null.

    Args:
        column: As the file gives it.
        is_category: Whether it is said to be a category, whose values are text.
        missing: Texts that stand for a missing value.
    """
    cells = column.cast(plain_type(column.type), safe=False)
    if pa.types.is_floating(cells.type):
        cells = pc.if_else(pc.is_nan(cells), pa.scalar(None, pa.float64()), cells)
    if not (is_text(cells.type) or is_category):
        return cells
    if not pa.types.is_string(cells.type):
        encoded = cells.dictionary_encode()
        names = pa.array([label(each) for each in encoded.dictionary.to_pylist()], pa.string())
        return names.take(encoded.indices)
    trimmed = pc.utf8_trim_whitespace(cells)
    present = pc.invert(pc.is_in(trimmed, value_set=pa.array(missing, pa.string())))
    return pc.if_else(present, trimmed, pa.scalar(None, pa.string()))


def as_numbers(cells: pa.Array, sign: str | None) -> numpy.ndarray | None:
    """Cells as float64, null as NaN; None where one of them is no number.

    Args:
        cells: Text, or numbers.
        sign: The decimal sign of text.
    """
    if sign == ",":
        cells = pc.replace_substring(cells, ",", ".")
    try:
        numbers = cells.cast(pa.float64())
    except pa.ArrowInvalid:
        try:
            numbers = pa.array([None if each is None else number_of(each) for each in cells.to_pylist()], pa.float64())
        except ValueError:
            return None
    found: numpy.ndarray = numbers.to_numpy(zero_copy_only=False).astype(float)
    return found


def number_of(text: str) -> float:
    """A number as Python reads it, without underscores.

    Raises:
        ValueError: It is none.
    """
    if "_" in text:
        raise ValueError(text)
    return float(text)


def label(value: Any) -> str:
    """The one way a category is written: true, not True; 3, not 3.0."""
    if isinstance(value, float | numpy.floating):
        value = repr(float(value))
    text = str(value).strip()
    if text.lower() in ("true", "false"):
        return text.lower()
    return re.sub(r"^(-?\d+)\.0+$", r"\1", text)


def _all_dates(present: pa.Array, written: str) -> bool:
    # Most columns that are no dates show it soon.
    return not any(numpy.isnan(_seconds(some, written)).any() for some in (present[:FEW], present))


def _seconds(cells: pa.Array, written: str | None) -> numpy.ndarray:
    return dates.seconds(cells.to_pandas(), written)
