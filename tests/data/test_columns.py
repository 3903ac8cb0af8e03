from __future__ import annotations

import numpy
import pyarrow as pa
import pytest

from autotune.data.columns import (
    FEW,
    Column,
    Profile,
    as_numbers,
    cells_of,
    is_readable,
    label,
    plain_type,
    profile_columns,
)

MISSING = ("", "NA")


def profile(
    values: pa.Array, category: bool = False, numbers: bool = True, comma_first: bool = False, kept: bool = False
) -> Profile:
    profiles = {"x": Profile("x", plain_type(values.type), category, numbers, comma_first, kept)}
    portions = [values[start : start + 7] for start in range(0, len(values), 7)]  # as a file is read
    profile_columns(profiles, lambda: portions, lambda portion, _: cells_of(portion, category, MISSING))
    return profiles["x"]


def column(values: list[object], **settings: object) -> Column | str:
    array = values if isinstance(values, pa.Array) else pa.array(values)
    return profile(array, **settings).column()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "kind", "written"),
    [
        (["1", "2.5", "-3e4"], "number", "."),
        (["+1", ".5", "5."], "number", "."),
        (["1", "", "NA", " 2 "], "number", "."),
        (["1", "2", "two"], "category", None),
        (["1_000", "2"], "category", None),
        (["yes", "no", ""], "category", None),
        (["true", "False"], "category", None),
        (["2024-01-05", "2023-12-31", ""], "date", "ISO8601"),
        (["2024-01-05 10:00", "2023-12-31T23:59:59Z"], "date", "ISO8601"),
        (["31.12.2023", "1.2.2024"], "date", "%d.%m.%Y"),
        (["1/2/2024", "12/31/2023"], "date", "%m/%d/%Y"),
        (["1/2/2024", "31/12/2023"], "date", "%d/%m/%Y"),
        (["2024-01-05", "soon"], "category", None),
        ([1, 2, None], "number", None),
        ([1.5, float("nan")], "number", None),
        ([True, False, None], "category", None),
        (pa.array(["a", "b"], pa.large_string()), "category", None),
        (pa.array(["a", "b", "a"]).dictionary_encode(), "category", None),
        (pa.array([1, 2], pa.decimal128(5, 2)), "number", None),
        (pa.array([0, 1], pa.date32()), "date", None),
        (pa.array([0, 1], pa.timestamp("us", tz="UTC")), "date", None),
        (pa.array([2**62, 3]), "number", None),
    ],
)
def test_the_kind_of_a_column_follows_from_its_values(values: list[object], kind: str, written: str | None) -> None:
    found = column(values)
    assert isinstance(found, Column)
    assert (found.kind, found.written) == (kind, written)


@pytest.mark.parametrize(
    ("texts", "comma_first", "written", "numbers"),
    [
        (["1,5", "2"], True, ",", [1.5, 2]),
        (["1,5", "2"], False, ",", [1.5, 2]),
        (["1.5", "2"], True, ".", [1.5, 2]),
        (["1,234.56", "7", "-1,234,567"], False, ".,", [1234.56, 7, -1234567]),
        (["1,234.56", "7"], True, ".,", [1234.56, 7]),
        (["1.234,56", "7"], False, ",.", [1234.56, 7]),
        (["1,234", "999"], False, ".,", [1234, 999]),
        (["1,234", "0,5"], False, ",", [1.234, 0.5]),
        (["$1,234", "($3.50)", "-$2", "$-1"], False, ".,$", [1234, -3.5, -2, -1]),
        (["1 234,5 €", "7\u00a0€"], True, ", €", [1234.5, 7]),
        (["EUR 12", "12 EUR"], False, ".EUR", [12, 12]),
        (["12.5%", "7 %"], False, ".%", [12.5, 7]),
        (["1'234.5", "2"], False, ".'", [1234.5, 2]),
        (["\u22125,0", "2"], False, ",", [-5, 2]),
        (["12,34,567.5", "1,000"], False, ".,", [1234567.5, 1000]),
        (["1,234.5"] * 7 + ["1,5"], False, None, None),
        (["1,234"] * 7 + ["1,5"], False, ",", [1.234] * 7 + [1.5]),
        (["1.5"] * 7 + ["1,5"], True, None, None),
        (["12.5%", "0.1"], False, None, None),
        (["$5", "5 €"], False, None, None),
        (["1.2.2024x", "5"], False, None, None),
    ],
)
def test_numbers_as_people_write_them(
    texts: list[str], comma_first: bool, written: str | None, numbers: list[float] | None
) -> None:
    found = column(texts, comma_first=comma_first)
    assert isinstance(found, Column)
    if numbers is None:
        assert found.kind == "category"
        return
    assert (found.kind, found.written) == ("number", written)
    assert found.values(pa.array(texts)).tolist() == numbers


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize(
    ("odd", "obstacle"),
    [
        (["unknown"], "'unknown' is no number, all else is"),
        (["> 90", "?!", "old"], "'> 90' is no number, nor are 2 more, all else is"),
    ],
)
def test_what_keeps_a_column_from_being_numbers_is_named(odd: list[str], obstacle: str, kept: bool) -> None:
    seen = profile(pa.array([*(f"{number}.5" for number in range(40)), *odd]), kept=kept)
    if kept:
        assert seen.note == f"a category, since {obstacle}"
    else:
        assert seen.column() == obstacle


def test_a_unit_that_is_not_known_is_named() -> None:
    assert column([f"{number} kg" for number in range(40)]) == "'kg' stands behind its numbers"


def test_how_numbers_are_read_is_said_by_an_example() -> None:
    assert profile(pa.array(["$1,234.5", "$7"])).note == "'$1,234.5' is read as 1234.5"
    assert profile(pa.array(["1.5", "7"])).note is None
    assert profile(pa.array(["2024-01-05", "2024-01-06"])).note is None


def test_numbers_of_type_text_are_named() -> None:
    assert (
        column([str(number) for number in range(40)], numbers=False)
        == "it is text in the file, although it holds numbers"
    )
    assert column(["1", "2"], numbers=False).kind == "category"  # type: ignore[union-attr]


def test_a_column_that_is_said_to_be_a_category_is_one() -> None:
    assert column(["3", "1", "3.0", "2", "10"], category=True) == Column("x", "category", None, ("1", "10", "2", "3"))
    assert column([3.0, 1.0, None], category=True) == Column("x", "category", None, ("1", "3"))
    assert column(["2024-01-05"], category=True).kind == "category"  # type: ignore[union-attr]


def test_text_of_which_nearly_every_value_is_another_is_left_out_unless_it_is_to_be_kept() -> None:
    names = [f"name {number}" for number in range(FEW + 1)]
    assert column(names) == "nearly every value is another"
    assert column(names[:-1]).kind == "category"  # type: ignore[union-attr]
    assert column(names + names).kind == "category"  # type: ignore[union-attr]
    assert column(names, kept=True).kind == "category"  # type: ignore[union-attr]
    assert column(names, category=True).kind == "category"  # type: ignore[union-attr]


@pytest.mark.parametrize("values", [["", "NA"], pa.nulls(3)])
def test_a_column_without_values_is_left_out(values: list[object]) -> None:
    assert column(values) == "it has no values"


@pytest.mark.parametrize(
    ("numbers", "counts"),
    [
        (range(1, FEW + 2), True),
        (sorted(range(-5, FEW + 5), key=lambda number: number * 7 % 31), True),
        (range(1, FEW + 1), False),
        ([*range(1, FEW + 1), 100], False),
        ([*range(1, FEW + 1), 20.5], False),
        ([*range(1, FEW + 2), None], False),
    ],
    ids=["in order", "shuffled", "few", "a gap", "a fraction", "a missing one"],
)
def test_as_many_whole_numbers_in_a_row_as_there_are_rows_may_count_them(numbers: object, counts: bool) -> None:
    values = pa.array(list(numbers), pa.float64())  # type: ignore[call-overload]
    assert profile(values).may_count_rows == counts


def test_infinite_numbers_are_counted() -> None:
    assert profile(pa.array(["inf", "1", "-Infinity"])).infinite == 2
    assert profile(pa.array([float("inf"), 1.0])).infinite == 1


def test_a_category_s_values_are_positions_among_its_sorted_levels() -> None:
    cells = cells_of(pa.array(["b", "a", " b", "", "True", "TRUE"]), False, MISSING)
    made = column(["b", "a", "", "TRUE", "true"])
    assert made == Column("x", "category", None, ("a", "b", "true"))
    assert numpy.array_equal(made.values(cells), [1, 0, 1, numpy.nan, 2, 2], equal_nan=True)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (True, "true"),
        (numpy.True_, "true"),
        ("FALSE", "false"),
        (3, "3"),
        (3.0, "3"),
        (numpy.float32(2.5), "2.5"),
        ("3.0", "3"),
        ("3.10", "3.10"),
        (" x ", "x"),
        ("007", "007"),
        (-0.5, "-0.5"),
    ],
)
def test_a_level_is_written_one_way(value: object, written: str) -> None:
    assert label(value) == written


def test_numbers_are_read_exactly() -> None:
    texts = ["0.1", "1e-320", "123456789012345678", "+.3"]
    numbers = as_numbers(pa.array(texts), ".")
    assert numbers is not None
    assert numbers.tolist() == [float(text) for text in texts]


@pytest.mark.parametrize("file_type", [pa.list_(pa.int8()), pa.struct([("a", pa.int8())]), pa.binary(), pa.time32("s")])
def test_some_types_are_no_columns(file_type: pa.DataType) -> None:
    assert not is_readable(file_type)
    assert not is_readable(pa.dictionary(pa.int8(), file_type))
