"""The columns of a table: which kind each is, and its values as numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy
import pyarrow as pa
import pyarrow.compute as pc

from autotune.data import dates
from autotune.data.numbers import NumberFormat, formats_for, obstacle

LEVELS_KEPT = 50_000  # a text column with more different values is never a category
YEAR = 4  # digits
FEW = 20

Portion = TypeVar("Portion")


@dataclass(frozen=True)
class Column:
    """A column as numbers.

    Attributes:
        name: Its name.
        kind: ``number``; ``date``, in seconds since 1970; ``category``, as the position in `levels`. NaN is missing.
        written: The format of dates (`autotune.data.dates`), or of numbers (`NumberFormat.code`); None where the file's
            own type says.
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
        holds_numbers: Whether text may be numbers.
        decimal_comma_first: See `formats_for`.
        is_kept: Whether text becomes a category even where nearly every value is another.
        formats: Those that numbers in text may have; None finds them in the first portion.

    Attributes:
        is_unsure: True where a later portion changed the format of numbers, which an earlier one may not have.
    """

    def __init__(
        self,
        name: str,
        file_type: pa.DataType,
        is_category: bool,
        holds_numbers: bool,
        decimal_comma_first: bool = False,
        is_kept: bool = False,
        formats: tuple[NumberFormat, ...] | None = None,
    ) -> None:
        self.name = name
        self._arguments = (name, file_type, is_category, holds_numbers, decimal_comma_first, is_kept)
        self.rows = self.missing = self.infinite = 0
        self.low, self.high, self.whole = numpy.inf, -numpy.inf, True
        self._is_text = is_category or is_text(file_type)
        self._is_kept = is_kept or is_category
        self._is_category = is_category or pa.types.is_boolean(file_type)
        self._is_date = pa.types.is_temporal(file_type) and not pa.types.is_time(file_type)
        self._decimal_comma_first = decimal_comma_first
        self._may_be_numbers = holds_numbers and not self._is_category
        self._numbers = formats
        self._read_numbers = False
        self._example = ""
        self._formats = () if self._is_category else dates.FORMATS
        self._no_numbers: list[str] = []
        self.is_unsure = False
        self._different: dict[str, None] = {}

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
        if self._may_be_numbers:
            self._see_texts(present)
        formats = self._formats
        if self._may_be_numbers:  # a number is a date in ISO's way of writing alone, and in digits
            first = str(present[0])
            formats = (dates.ISO,) if dates.ISO in formats and first.isdecimal() and len(first) >= YEAR else ()
        self._formats = tuple(each for each in formats if _all_dates(present, each))
        if not self._has_many_levels:
            self._different.update(dict.fromkeys(pc.unique(present).to_pylist()))

    def column(self) -> Column | str:
        """The column as numbers; or why it is left out."""
        present = self.rows - self.missing
        if present == 0:
            return "it has no values"
        if not self._is_text:
            return Column(self.name, "date" if self._is_date else "number")
        if self._numbers and self._may_be_numbers:
            return Column(self.name, "number", self._numbers[0].code)
        if self._formats:
            return Column(self.name, "date", self._formats[0])
        many = len(self._different) > max(FEW, present / 2)
        if self._has_many_levels or (many and not self._is_kept):
            return self.obstacle or self._numbers_of_type_text() or "nearly every value is another"
        return Column(self.name, "category", None, tuple(sorted({label(each) for each in self._different})))

    def again(self) -> Profile:
        """A profile that has seen nothing yet, and knows which formats of numbers are left."""
        return Profile(*self._arguments, formats=self._numbers)

    @property
    def note(self) -> str | None:
        """One line on how numbers that are not plain are read, or why a column of nearly numbers is none; else None."""
        if self._numbers and self._may_be_numbers and self._example:
            return f"{self._example!r} is read as {self._numbers[0].parse(self._example):.15g}"
        if self._formats or len(self._different) <= FEW or self.obstacle is None:
            return None
        return f"a category, since {self.obstacle}"

    @cached_property
    def obstacle(self) -> str | None:
        """What keeps a column of which most texts are numbers from being one of numbers; None where most are none."""
        if self._may_be_numbers or not self._numbers:
            return None
        return obstacle(list(self._different | dict.fromkeys(self._no_numbers)), self._numbers)

    @property
    def _has_many_levels(self) -> bool:
        return len(self._different) > LEVELS_KEPT

    @property
    def may_count_rows(self) -> bool:
        """Whether it may hold each of as many whole numbers in a row as there are rows: an identifier."""
        return self.whole and self.missing == 0 and self.rows > FEW and self.high - self.low + 1 == self.rows

    def _numbers_of_type_text(self) -> str | None:
        """The reason where a file that knows types has numbers as text."""
        texts = list(self._different)
        fits = any(all(map(each.reads, texts)) for each in formats_for(texts, False)) if texts else False
        return "it is text in the file, although it holds numbers" if fits and not self._is_category else None

    def _see_texts(self, present: pa.Array) -> None:
        """Keep the formats of numbers that all texts so far have."""
        different = pc.unique(present)[:LEVELS_KEPT].to_pylist()
        if self._numbers is None:
            self._numbers = formats_for(different, self._decimal_comma_first)
        fitting = self._numbers
        while fitting:
            numbers = as_numbers(present, fitting[0].code)
            if numbers is not None:
                break
            fitting = fitting[1:]
        else:
            self._may_be_numbers = self.is_unsure = False
            self._no_numbers = [text for text in different if not self._numbers[0].reads(text)][:FEW]
            return
        self.is_unsure = self.is_unsure or (self._read_numbers and len(fitting) < len(self._numbers))
        self._numbers, self._read_numbers = fitting, True
        self._see_numbers(numbers)
        if not self._example and fitting[0].code != ".":
            self._example = max(different[:FEW], key=len)

    def _see_numbers(self, numbers: numpy.ndarray | None) -> None:
        assert numbers is not None
        finite = numbers[numpy.isfinite(numbers)]
        self.infinite += int(numpy.isinf(numbers).sum())
        if len(finite):
            self.low, self.high = min(self.low, finite.min()), max(self.high, finite.max())
        self.whole = self.whole and len(finite) == len(numbers) and bool((finite == numpy.floor(finite)).all())


def profile_columns(
    profiles: dict[str, Profile],
    portions: Callable[[], Iterable[Portion]],
    cells: Callable[[Portion, str], pa.Array],
) -> None:
    """Show profiles all cells of their columns; those that became unsure see them again.

    Args:
        profiles: By column; replaced where they begin again.
        portions: Gives all portions of rows, from the first on at each call.
        cells: Gives a column's cells in a portion, as `cells_of` does.
    """
    pending = dict(profiles)
    while pending:
        for portion in portions():
            for name, profile in pending.items():
                profile.see(cells(portion, name))
        pending = {name: profile.again() for name, profile in pending.items() if profile.is_unsure}
        profiles.update(pending)


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


def as_numbers(cells: pa.Array, written: str | None) -> numpy.ndarray | None:
    """Cells as float64, null as NaN; None where one of them is no number.

    Args:
        cells: Text, or numbers.
        written: The format of text (`NumberFormat.code`).
    """
    parse = NumberFormat.from_code(written or ".").parse
    try:
        if written not in (None, "."):
            raise pa.ArrowInvalid
        numbers = cells.cast(pa.float64())
    except pa.ArrowInvalid:
        try:
            numbers = pa.array([None if each is None else parse(each) for each in cells.to_pylist()], pa.float64())
        except ValueError:
            return None
    found: numpy.ndarray = numbers.to_numpy(zero_copy_only=False).astype(float)
    return found


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
