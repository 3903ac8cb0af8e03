from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy
import pandas
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch

from autotune.assembly import assemble, build_model, refusal
from autotune.data import cache
from autotune.data.csv import Csv
from autotune.data.fitting import TableEncoding
from autotune.data.source import LazyPart, Part, Split, held_out, split
from autotune.errors import UserError

from ..fakes import resolved
from .tables import csv, rows, written


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(cache.tempfile, "tempdir", str(folder))
    return folder


def same(one: Split, other: Split) -> bool:
    """Whether two splits are of the same samples, in the same order, encoded by the same columns."""
    parts = ((one.train, other.train), (one.val, other.val))
    return one.input_shape == other.input_shape and all(
        torch.equal(mine.features, theirs.features) and torch.equal(mine.target, theirs.target)  # type: ignore[union-attr]
        for mine, theirs in parts
    )


def names(made: Split) -> tuple[str, ...]:
    assert isinstance(made.preprocess, TableEncoding)
    return made.preprocess.encoder.names


def mistake(source: Csv) -> str:
    with pytest.raises(UserError) as caught:
        split(source)
    folder = f"{Path(source.path).parent}/"
    return str(caught.value).replace(folder, "")


def config(path: Path, model: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    data = {"name": "csv", "_target_": "autotune.data.csv.Csv", "path": str(path), "batch_size": 8, **settings}
    return resolved(data={"target": "price", "missing": ["", "NA"], **data}, model=model or {})


# What comes of a file.


def test_a_file_becomes_rows_of_numbers_and_codes(tmp_path: Path) -> None:
    frame = rows()
    made = split(csv(written(tmp_path, frame)))
    # area, rooms, area missing; seconds, year, month, day, weekday of sold and whether it is missing; city, garden
    assert made.input_shape == (3 + 6 + 2,)
    assert made.cardinalities == (1 + 1 + 3, 1 + 2)
    assert (made.task, made.outputs, made.class_names) == ("regression", 1, ())
    assert isinstance(made.train, Part)
    assert isinstance(held_out(csv(written(tmp_path, frame))), Part)
    assert (len(made.train), len(made.val), len(held_out(csv(tmp_path / "rows.csv")))) == (36, 12, 12)
    codes = made.train.features[:, -2:]
    assert torch.equal(codes, codes.round())
    assert bool((codes >= 0).all())
    assert bool((codes < torch.tensor(made.cardinalities)).all())


def test_parquet_of_the_same_rows_is_the_same_data(tmp_path: Path) -> None:
    frame = rows()
    typed = frame.assign(garden=frame.garden == "True", sold=pandas.to_datetime(frame.sold))
    typed["city"] = typed["city"].astype("category")
    there = split(csv(written(tmp_path, frame)))
    assert same(split(csv(written(tmp_path, frame, "rows.parquet"))), there)
    assert same(split(csv(written(tmp_path, typed, "typed.parquet"))), there)
    assert same(split(csv(written(tmp_path, typed, "named.csv.parquet").rename(tmp_path / "wrong.csv"))), there)


@pytest.mark.parametrize(
    "how",
    [
        {"sep": ";", "decimal": ","},
        {"sep": "\t"},
        {"encoding": "cp1252"},
        {"encoding": "utf-16"},
        {"encoding": "utf-8-sig"},
        {"quoting": 1},
        {"lineterminator": "\r\n"},
        {"na_rep": "NA"},
        {"na_rep": " ? "},
    ],
    ids=str,
)
def test_however_the_file_is_written_it_is_the_same_data(tmp_path: Path, how: dict[str, Any]) -> None:
    frame = rows()
    there = split(csv(written(tmp_path, frame)))
    assert same(split(csv(written(tmp_path, frame, "other.csv", **how))), there)


def test_text_in_quotes_may_go_over_lines(tmp_path: Path) -> None:
    frame = rows()
    frame["city"] = frame["city"] + ",\n" + frame["city"]
    made = split(csv(written(tmp_path, frame)))
    assert len(made.train) + len(made.val) == 48
    assert made.cardinalities == (5, 3)


def test_classes_keep_their_names(tmp_path: Path) -> None:
    made = split(csv(written(tmp_path, rows()), "city", drop_missing_target=True))
    assert (made.task, made.outputs, made.class_names) == ("multiclass", 3, ("Bonn", "Köln", "Trier"))
    assert made.train.target.dtype == torch.int64
    flag = split(csv(tmp_path / "rows.csv", "garden"))
    assert (flag.task, flag.outputs, flag.class_names) == ("binary", 1, ("false", "true"))
    assert split(csv(tmp_path / "rows.csv", "garden", task="multiclass")).outputs == 2


def test_several_targets_are_labels(tmp_path: Path) -> None:
    frame = rows().assign(dear=lambda each: (each.price > 400).astype(int))
    made = split(csv(written(tmp_path, frame), ["garden", "dear"], drop=["price"]))
    assert (made.task, made.outputs, made.class_names) == ("multilabel", 2, ("garden", "dear"))
    assert made.train.target.shape == (36, 2)
    assert made.train.target.dtype == torch.float32
    assert set(made.train.target.unique().tolist()) == {0.0, 1.0}
    assert not {"garden", "dear"} & set(names(made))


def test_identifiers_constants_and_what_is_dropped_are_left_out_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frame = rows().assign(
        number=range(100, 160), note=[f"note {i}" for i in range(60)], same=1, empty=None, leak=range(60)
    )
    path = written(tmp_path, frame)
    with caplog.at_level("INFO"):
        assert names(split(csv(path, drop=["leak"]))) == ("area", "rooms", "sold", "city", "garden")
    assert caplog.messages == [
        "data: regression of price from 5 columns",
        "left out: note (nearly every value is another); empty (it has no values); number (it counts the rows); "
        "same (it does not vary)",
    ]
    assert {"number", "leak"} <= set(names(split(csv(path, keep=["number", "leak"]))))


@pytest.mark.parametrize("in_memory_limit", [1 << 30, 0])
def test_numbers_as_people_write_them_are_what_plain_ones_are_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, in_memory_limit: int
) -> None:
    plain = rows().assign(rent=[1000.25 * i for i in range(60)], share=[i / 8 for i in range(60)])
    people = plain.assign(
        rent=[f"${rent:,.2f}" for rent in plain.rent], share=[f"{share}%" for share in plain["share"]]
    )
    with caplog.at_level("INFO"):
        made = split(csv(written(tmp_path, people, "people.csv"), in_memory_limit=in_memory_limit))
    again = split(csv(written(tmp_path, plain), in_memory_limit=in_memory_limit))
    if in_memory_limit:
        assert same(made, again)
    assert names(made) == names(again)
    said = "how numbers are read: rent ('$10,002.50' is read as 10002.5); share ('0.125%' is read as 0.125)"
    assert said in caplog.messages


def test_a_word_among_numbers_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ages = rows().assign(age=[*(60 + i % 25 for i in range(59)), "unknown"])
    with caplog.at_level("INFO"):
        split(csv(written(tmp_path, ages)))
    assert "how numbers are read: age (a category, since 'unknown' is no number, all else is)" in caplog.messages
    assert "age" in names(split(csv(tmp_path / "rows.csv", missing=["", "unknown"])))


def test_a_column_of_numbers_may_be_said_to_be_a_category(tmp_path: Path) -> None:
    path = written(tmp_path, rows())
    made = split(csv(path, categorical=["rooms"]))
    assert made.cardinalities == (1 + 5, 5, 3)
    assert same(split(csv(path, categorical="rooms")), made)
    assert same(split(csv(written(tmp_path, rows(), "rows.parquet"), categorical=["rooms"])), made)


def test_a_column_of_a_type_that_is_no_column_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = pa.Table.from_pandas(rows()).append_column("list", pa.array([[1, 2]] * 60))
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    with caplog.at_level("INFO"):
        assert "list" not in names(split(csv(tmp_path / "rows.parquet")))
    assert "left out: list (it holds list<element: int64>)" in caplog.messages[-1]


# Fitted on the training part, split once and for all.


def test_what_is_fitted_does_not_hear_of_the_values_outside_the_training_part(tmp_path: Path) -> None:
    frame = rows()
    frame["row"] = frame.index
    honest = split(csv(written(tmp_path, frame), "price", keep=["row"], drop=["garden"]))
    assert isinstance(honest.preprocess, TableEncoding)
    assert isinstance(honest.train, Part)
    scale = honest.preprocess.encoder.numbers[-1].scales[0]
    train = (honest.train.features[:, -2] * scale.std + scale.mean).round().long().tolist()
    outside = frame.index.difference(train)
    frame.loc[outside, ["area", "city", "sold"]] = [1e6, "Ulm", "1980-05-05"]
    other = split(csv(written(tmp_path, frame, "other.csv"), "price", keep=["row"], drop=["garden"]))
    assert isinstance(other.preprocess, TableEncoding)
    assert other.preprocess.encoder == honest.preprocess.encoder
    assert torch.equal(other.train.features, honest.train.features)  # type: ignore[union-attr]
    assert other.target_scale == honest.target_scale
    assert not torch.equal(other.val.features, honest.val.features)  # type: ignore[union-attr]


def test_a_changed_file_is_read_again_and_an_unchanged_one_is_not(tmp_path: Path) -> None:
    path = written(tmp_path, rows())
    first = split(csv(path))
    assert split(csv(path)) is first
    written(tmp_path, rows(seed=1))
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert not same(split(csv(path)), first)


def test_two_sources_of_one_file_differ_by_their_settings(tmp_path: Path) -> None:
    path = written(tmp_path, rows())
    assert csv(path) == csv(path)
    assert hash(csv(path, drop=["city"])) == hash(csv(path, drop=("city",)))
    assert csv(path) != csv(path, drop=["city"])


# Larger than memory.


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
def test_a_file_above_the_limit_is_read_lazily_to_the_same_numbers(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, rows(), name)
    there, lazy = split(csv(path)), split(csv(path, in_memory_limit=0))
    assert isinstance(lazy.train, LazyPart)
    assert (lazy.input_shape, lazy.cardinalities, lazy.target_scale) == (
        there.input_shape,
        there.cardinalities,
        there.target_scale,
    )
    for mine, theirs in (
        (lazy.train, there.train),
        (lazy.val, there.val),
        (held_out(csv(path, in_memory_limit=0)), held_out(csv(path))),
    ):
        assert isinstance(mine, LazyPart)
        assert isinstance(theirs, Part)
        assert torch.equal(mine.read(numpy.arange(len(mine))), theirs.features)
        assert torch.equal(mine.target, theirs.target)
    assert torch.equal(lazy.examples.nan_to_num(-1), there.examples.nan_to_num(-1))


def test_a_limit_is_in_bytes_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, rows())
    size = path.stat().st_size
    assert isinstance(split(csv(path, in_memory_limit=size)).train, Part)
    assert isinstance(split(csv(path, in_memory_limit=size - 1)).train, LazyPart)


def test_a_lazily_read_file_is_turned_into_numbers_once(tmp_path: Path, temporary: Path) -> None:
    path = written(tmp_path, rows().assign(number=range(60), same=1))
    source = csv(path, in_memory_limit=0)
    first = split(source)
    (folder,) = (each for each in temporary.rglob("*") if (each / "table.json").exists())
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    split.cache_clear()
    again = split(source)
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == before
    assert names(again) == names(first) == ("area", "rooms", "sold", "city", "garden")
    assert isinstance(first.train, LazyPart)
    assert isinstance(again.train, LazyPart)
    everything = numpy.arange(36)
    assert torch.equal(again.train.read(everything), first.train.read(everything))


# What goes with it.


def test_models_that_take_categories_are_given_them(tmp_path: Path) -> None:
    path = written(tmp_path, rows())
    for name in ("mlp.MLP", "tabular.Tabular"):
        made = assemble(config(path, {"_target_": f"autotune.models.{name}", "hidden": [8]}))
        outputs = made.module(split(csv(path)).train.features[:3])  # type: ignore[union-attr]
        assert outputs.shape == (3, 1)


class Plain(torch.nn.Module):
    """Takes numbers alone."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(input_shape[0], outputs)


def test_a_model_that_takes_no_categories_is_refused_them(tmp_path: Path) -> None:
    path = written(tmp_path, rows())
    plain = {"_target_": "tests.data.test_csv.Plain"}
    message = (
        "model: tests.data.test_csv.Plain takes no categories, and 2 columns are; "
        "give model=tabular or model=mlp, or leave them out by data.drop=[...]"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        assemble(config(path, plain))
    without = config(path, plain, drop=["city", "garden"])
    assert isinstance(build_model(without, assemble(without).data), Plain)


def test_a_full_batch_is_for_data_in_memory(tmp_path: Path) -> None:
    path = written(tmp_path, rows())
    assert refusal(config(path, batch_size="full")) is None
    why = "data.batch_size=full needs data in memory, and this is larger than data.in_memory_limit"
    assert refusal(config(path, batch_size="full", in_memory_limit=0)) == why
    assert refusal(config(path, in_memory_limit=0)) is None


# What a user can get wrong.

ROWS = "a,b,price\n" + "".join(f"{i % 7},{'xyz'[i % 3]},{i * 1.5}\n" for i in range(30))


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        (ROWS, {"target": "prize"}, "data.target: rows.csv has no column prize; did you mean price?"),
        (ROWS, {"target": ["a", "c"]}, "data.target: rows.csv has no column c; known are a, b, price"),
        (ROWS, {"drop": ["A"]}, "data.drop: rows.csv has no column A; known are a, b, price"),
        (ROWS, {"categorical": ["aa"]}, "data.categorical: rows.csv has no column aa; did you mean a?"),
        (ROWS, {"drop": ["price"]}, "data.drop: price is the target; leave it out there"),
        (ROWS, {"delimiter": ";"}, "data.target: rows.csv has no column price; did you mean a,b,price?"),
        (ROWS, {"task": "multiclas"}, "data.task: no task multiclas; did you mean multiclass?"),
        (
            "a,price,a\n1,2,3\n",
            {},
            "data.path: rows.csv has several columns named 'a'; rename all but one of them",
        ),
        (
            "a,price\n",
            {},
            "data.path: rows.csv has no rows; give a file with rows below its column names",
        ),
        (
            "a,price\n1,2\n3\n",
            {},
            "data.path: rows.csv cannot be read (CSV parse error: Row #3: Expected 2 columns, got 1: 3); "
            "mend it, or give another file",
        ),
        (
            ROWS.replace("13.5\n", "\n").replace("15.0\n", "NA\n"),
            {},
            "data.target: 2 rows of rows.csv without a value of price; leave them out by data.drop_missing_target=true",
        ),
        (
            ROWS.replace("\n6,", "\ninf,"),
            {},
            "data.path: a of rows.csv has 4 infinite numbers; mend them, or give data.drop=[a]",
        ),
        (ROWS.replace("1.5\n", "-inf\n", 1), {}, "data.path: price of rows.csv has an infinite number; mend it"),
        (
            "a,price\n" + "1,5\n" * 9,
            {},
            "data.target: price is 5 in every row; name a column that varies",
        ),
        (
            "a,price\n" + "1,2020-01-05\n" * 9,
            {},
            "data.target: price holds dates; name a column of numbers or classes",
        ),
        (
            "a,price\n" + "".join(f"1,name {i}\n" for i in range(30)),
            {},
            "data.target: price cannot be predicted (nearly every value is another); name another column",
        ),
        (
            "a,price\n" + "".join(f"1,{i}.5\n" for i in range(30)) + "2,on request\n",
            {},
            "data.target: price of rows.csv is not a column of numbers ('on request' is no number, all else is); "
            "mend the file, or name the text in data.missing, or give data.categorical=[price]",
        ),
        ("a,price\n1,\n2,\n", {}, "data.target: price cannot be predicted (it has no values); name another column"),
        (
            "price\n1\n2\n",
            {},
            "data.path: rows.csv leaves nothing to predict from (there is no other column); give data.keep=[...]",
        ),
        (
            "n,price\n" + "".join(f"{i},{i * 1.5}\n" for i in range(30)),
            {},
            "data.path: rows.csv leaves nothing to predict from (n: it counts the rows); give data.keep=[...]",
        ),
        (
            "a,price\n" + "".join(f"7,{i * 1.5}\n" for i in range(30)),
            {},
            "data.path: no column of rows.csv varies in the training part; give columns to predict from",
        ),
        (
            "a,price\n" + "".join(f"{i},{'xyz'[i % 3]}\n" for i in range(9)),
            {},
            "data: 9 samples cannot be split (The test_size = 2 should be greater or equal to the number of "
            "classes = 3); give more samples",
        ),
        (
            "a,price\n" + "".join(f"{i},{'x' if i else 'y'}\n" for i in range(9)),
            {},
            "data.target: class y has 1 sample, and each part of the data needs one; "
            "give at least 3, or leave the class out",
        ),
        (
            b"PAR1 and no more",
            {},
            "data.path: rows.csv cannot be read (Parquet magic bytes not found in footer. Either the file is "
            "corrupted or this is not a parquet file.); mend it, or give another file",
        ),
    ],
)
def test_mistakes_are_one_line_with_the_remedy(
    tmp_path: Path, content: str | bytes, settings: dict[str, Any], message: str
) -> None:
    assert mistake(csv(written(tmp_path, content), **settings)) == message


def test_rows_without_a_target_may_be_left_out(tmp_path: Path) -> None:
    content = ROWS.replace("13.5\n", "\n").replace("15.0\n", "NA\n")
    source = csv(written(tmp_path, content), drop_missing_target=True)
    assert len(split(source).train) + len(split(source).val) + len(held_out(source)) == 28


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (None, "data.path: nothing says where the data is; give it: data.path=..."),
        ("", "data.path: nothing says where the data is; give it: data.path=..."),
        ("row.csv", "data.path: there is no file row.csv; did you mean rows.csv?"),
        ("nowhere/rows.csv", "data.path: there is no file nowhere/rows.csv; nowhere is not there either"),
        (".", "data.path: . is a folder; give the path of a file"),
    ],
)
def test_a_path_that_leads_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str | None, message: str
) -> None:
    written(tmp_path, ROWS)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        Csv(path=path, target="price")  # type: ignore[arg-type]


@pytest.mark.parametrize("target", [None, "", []])
def test_a_target_has_to_be_said(tmp_path: Path, target: Any) -> None:
    message = "data.target: nothing says what is to be predicted; give it: data.target=<column>"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        csv(written(tmp_path, ROWS), target)


def test_a_column_may_be_called_by_a_number(tmp_path: Path) -> None:
    source = csv(written(tmp_path, ROWS.replace("price", "2020")), 2020)
    assert split(source).task == "regression"
