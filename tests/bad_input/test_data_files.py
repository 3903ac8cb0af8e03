"""Files of data that cannot be learnt from: each ends a search with one line, before anything is written."""

from __future__ import annotations

import gzip
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy
import pyarrow
import pyarrow.parquet
import pytest

from ..commands import files, run

# As little as a command needs to look at the data.
COMMON = ("trainer.accelerator=cpu", "optimizer=adam", "schedule=constant", "model.batch_norm=false", "tracking=none")
ROWS = "a,b,price\n" + "".join(f"{row % 7},{row % 5},{row % 2}\n" for row in range(40))
MEND = "mend it, or give another file"
FIND = "leave it out to have it found"
FORMAT = "give a folder in MNIST's format"
AGAIN = "get the file again"
COLUMNS = {"a": [row % 7 for row in range(40)], "price": [row % 2 for row in range(40)]}


def parquet(columns: Mapping[str, list[object]]) -> bytes:
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table(dict(columns)), sink)
    content = sink.getvalue().to_pybytes()
    assert isinstance(content, bytes)
    return content


WHOLE = parquet(COLUMNS)  # type: ignore[arg-type]

# What rows.csv holds, what is typed, and the line.
TABLES: dict[str, tuple[str | bytes, list[str], str]] = {
    "empty": (
        "",
        [],
        "data.path: rows.csv is empty; give a file with a line of column names and rows below it",
    ),
    "white space": (
        " \n\n ",
        [],
        "data.path: rows.csv is empty; give a file with a line of column names and rows below it",
    ),
    "names alone": ("a,b,price\n", [], "data.path: rows.csv has no rows; give a file with rows below its column names"),
    "one row": ("a,b,price\n1,2,3\n", [], "data.target: price is 3 in every row; name a column that varies"),
    "too few rows to split": (
        "a,b,price\n1,2,x\n2,3,y\n3,4,x\n",
        [],
        "data.target: class y has 1 sample, and each part of the data needs one (and 1 more such); "
        "give at least 3, or leave the class out",
    ),
    "parts that leave nothing": (
        ROWS,
        ["data.validation=0.6", "data.test=0.6"],
        "data.validation: 0.6 and data.test=0.6 leave nothing to train on; make them smaller",
    ),
    "one class only": (
        "a,price\n" + "".join(f"{row % 7},yes\n" for row in range(40)),
        [],
        "data.target: price is yes in every row; name a column that varies",
    ),
    "NaN for a target": (
        ROWS.replace("3,3,1", "3,3,nan", 1),
        [],
        "data.target: 1 row of rows.csv without a value of price; leave them out by data.drop_missing_target=true",
    ),
    "NaN for all targets": (
        "a,price\n" + "1,nan\n2,NA\n" * 9,
        [],
        "data.target: price cannot be predicted (it has no values); name another column",
    ),
    "infinite target": (
        "a,price\n" + "".join(f"{row % 7},{row}.5\n" for row in range(9)) + "1,1e999\n",
        [],
        "data.path: price of rows.csv has an infinite number; mend it",
    ),
    "500 digits": (
        ROWS.replace("3,3,1", f"{'9' * 500},3,1", 1),
        [],
        "data.path: a of rows.csv has an infinite number; mend it, or give data.drop=[a]",
    ),
    "columns without a value": (
        "a,b,price\n" + "".join(f"nan,,{row % 2}\n" for row in range(40)),
        [],
        "data.path: rows.csv leaves nothing to predict from (a: it has no values; b: it has no values); "
        "give data.keep=[...]",
    ),
    "columns of one value": (
        "a,b,price\n" + "".join(f"1,1,{row % 2}\n" for row in range(40)),
        [],
        "data.path: no column of rows.csv varies in the training part; give columns to predict from",
    ),
    "missing column": (ROWS, ["data.target=cost"], "data.target: rows.csv has no column cost; known are a, b, price"),
    "target among the columns left out": (
        ROWS,
        ["data.drop=[price]"],
        "data.drop: price is the target; leave it out there",
    ),
    "target among the columns kept": (ROWS, ["data.keep=price"], "data.keep: price is the target; leave it out there"),
    "target twice": (ROWS, ["data.target=[price,price]"], "data.target: price is named twice; name each column once"),
    "several targets that are no labels": (
        ROWS,
        ["data.target=[a,price]"],
        "data.target: label a has 7 different values, and a label is absent or present; name columns of 0 and 1",
    ),
    "nothing left": (
        ROWS,
        ["data.drop=[a,b]"],
        "data.path: rows.csv leaves nothing to predict from (there is no other column); give data.keep=[...]",
    ),
    "number for a column": (ROWS, ["data.drop=1.5"], "data.drop: rows.csv has no column 1.5; known are a, b, price"),
    "two columns of a name": (
        "a,a,price\n1,2,3\n",
        [],
        "data.path: rows.csv has several columns named 'a'; rename all but one of them",
    ),
    "a short row": (
        f"{ROWS}1,2\n",
        [],
        f"data.path: rows.csv cannot be read (CSV parse error: Row #42: Expected 3 columns, got 2: 1,2); {MEND}",
    ),
    "a long row": (
        f"{ROWS}1,2,3,4\n",
        [],
        f"data.path: rows.csv cannot be read (CSV parse error: Row #42: Expected 3 columns, got 4: 1,2,3,4); {MEND}",
    ),
    "a quote that does not end": (
        '"a,b,price\n1,2,3\n',
        [],
        "data.path: rows.csv cannot be read "
        f"(CSV parse error: Empty CSV file or block: cannot infer number of columns); {MEND}",
    ),
    "a line of 20 MB": (
        f"a,price\n{'x' * 20_000_000},1\n",
        [],
        "data.target: price is 1 in every row; name a column that varies",
    ),
    "another delimiter": (
        ROWS,
        ["data.delimiter=';'"],
        "data.target: rows.csv has no column price; did you mean a,b,price?",
    ),
    "newline for a delimiter": (
        ROWS,
        ["data.delimiter='\n'"],
        f"data.delimiter: '\\n' cannot stand between columns; {FIND}",
    ),
    "zero byte for a delimiter": (
        ROWS,
        ["data.delimiter='\0'"],
        f"data.delimiter: '\\x00' cannot stand between columns; {FIND}",
    ),
    "letter of elsewhere for a delimiter": (
        ROWS,
        ["data.delimiter='é'"],
        f"data.delimiter: 'é' cannot stand between columns; {FIND}",
    ),
    "binary rubbish": (
        bytes(range(1, 256)) * 20,
        [],
        "data.path: rows.csv is neither text nor Parquet; give a CSV or a Parquet file",
    ),
    "zero bytes": (
        ROWS.replace("3,3,1", "3,\0,1", 1),
        [],
        "data.path: rows.csv is neither text nor Parquet; give a CSV or a Parquet file",
    ),
    "packed, and called csv": (
        gzip.compress(ROWS.encode()),
        [],
        "data.path: rows.csv is neither text nor Parquet; give a CSV or a Parquet file",
    ),
    "not the encoding that is said": (
        b"a,b,price\n\xe4,1,2\n" * 9,
        ["data.encoding=utf-8"],
        f"data.encoding: rows.csv is not in utf-8 (byte 0xe4 after about 10 bytes); {FIND}",
    ),
    "encoding that is none": (ROWS, ["data.encoding=utf-99"], f"data.encoding: there is no encoding utf-99; {FIND}"),
    "encoding of bytes": (ROWS, ["data.encoding=hex"], f"data.encoding: there is no encoding hex; {FIND}"),
    "encoding of names": (ROWS, ["data.encoding=idna"], f"data.encoding: there is no encoding idna; {FIND}"),
    "zero byte in an encoding": (ROWS, ["data.encoding='a\0'"], f"data.encoding: there is no encoding a\\x00; {FIND}"),
    "list for a task": (ROWS, ["data.task=[a]"], "data.task: ['a'] is not right here; give a single value"),
    "two values for three classes": (
        "a,price\n" + "".join(f"{row % 7},{row % 3}\n" for row in range(40)),
        ["data.task=binary"],
        "data.task: price has 3 different values, and binary has two; give data.task=multiclass or regression",
    ),
    "no workers": (ROWS, ["data.workers=-1"], "data.workers: -1 is not right here; give a whole number from 0 on"),
    "Parquet cut off": (
        WHOLE[:500],
        [],
        "data.path: rows.csv cannot be read (Parquet magic bytes not found in footer. Either the file is corrupted or "
        f"this is not a parquet file.); {MEND}",
    ),
    "Parquet without rows": (
        parquet({"a": [], "price": []}),
        [],
        "data.path: rows.csv has no rows; give a file with rows below its column names",
    ),
    "Parquet with lists for a target": (
        parquet({"a": list(range(9)), "price": [[1]] * 9}),
        [],
        "data.target: price cannot be predicted (it holds list<element: int64>); name another column",
    ),
}

# What is made of the path rows.csv, or typed in its place, and the line.
PLACES: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "folder": (Path.mkdir, "rows.csv", "data.path: rows.csv is a folder; give the path of a file"),
    "pipe": (
        lambda path: os.mkfifo(path),
        "rows.csv",
        "data.path: rows.csv is no file of its own; give a file that can be read twice",
    ),
    "link to itself": (
        lambda path: path.symlink_to(path.name),
        "rows.csv",
        "data.path: there is no file rows.csv; the link leads to rows.csv",
    ),
    "nothing": (lambda _: None, "rows.csv", "data.path: there is no file rows.csv; give one that is there"),
    "below a file": (
        Path.touch,
        "rows.csv/x",
        "data.path: there is no file rows.csv/x; rows.csv is not there either",
    ),
    "file that root cannot read": (
        lambda _: None,
        "/proc/self/mem",
        "data.path: /proc/self/mem cannot be read (Input/output error); give one that can",
    ),
    "file without an end": (
        lambda _: None,
        "/dev/zero",
        "data.path: /dev/zero is no file of its own; give a file that can be read twice",
    ),
    "zero byte": (lambda _: None, "'a\0b'", "data.path: there is no file a\\x00b; give one that is there"),
    "name too long": (
        lambda _: None,
        "a" * 290,
        f"data.path: {'a' * 290} cannot be read (File name too long); give one that can",
    ),
    "number": (lambda _: None, "5", "data.path: there is no file 5; give one that is there"),
    "arrays": (
        lambda path: numpy.savez(path.with_suffix(".npz"), a=1),
        "rows.npz",
        "data.path: rows.npz is neither text nor Parquet; give a CSV or a Parquet file",
    ),
}


def idx(*shape: int, kind: int = 8) -> bytes:
    """The beginning of an IDX file."""
    return bytes((0, 0, kind, len(shape))) + struct.pack(f">{len(shape)}I", *shape)


IMAGES, LABELS = idx(40, 4, 4) + bytes(640), idx(40) + bytes(sample % 3 for sample in range(40))
# The files of images and labels to train on, what is typed, and the line.
IDX: dict[str, tuple[bytes, bytes, list[str], str]] = {
    "wrong magic": (
        b"\1\2\3\4" + bytes(700),
        LABELS,
        [],
        f"data.path: m/train-images-idx3-ubyte is no IDX file of bytes in 3 dimensions; {FORMAT}",
    ),
    "no bytes": (
        idx(40, 4, 4, kind=13) + bytes(4 * 640),
        LABELS,
        [],
        f"data.path: m/train-images-idx3-ubyte is no IDX file of bytes in 3 dimensions; {FORMAT}",
    ),
    "wrong count": (
        idx(41, 4, 4) + bytes(640),
        LABELS,
        [],
        "data.path: m/train-images-idx3-ubyte has 41 images and m/train-labels-idx1-ubyte has 40 labels; "
        "give files that belong together",
    ),
    "four billion": (
        idx(2**32 - 1, 4, 4) + bytes(640),
        idx(2**32 - 1) + bytes(40),
        [],
        "data.path: m/train-labels-idx1-ubyte has 40 numbers where its beginning says 4294967295; " + AGAIN,
    ),
    "images cut off, read batch by batch": (
        IMAGES[:100],
        LABELS,
        ["data.in_memory_limit=0", "data.workers=0"],
        f"data.path: m/train-images-idx3-ubyte has 84 numbers where its beginning says 640; {AGAIN}",
    ),
    "images packed and cut off": (
        gzip.compress(IMAGES)[:30],
        LABELS,
        [],
        "data.path: m/train-images-idx3-ubyte cannot be unpacked "
        f"(Compressed file ended before the end-of-stream marker was reached); {AGAIN}",
    ),
    "one class": (
        IMAGES,
        idx(40) + bytes(40),
        [],
        "data.path: there is one class only (0); give samples of two or more",
    ),
    "one sample": (
        IMAGES,
        LABELS,
        ["data.limit=1"],
        "data.limit: 1 samples cannot be chosen "
        "(The train_size = 1 should be greater or equal to the number of classes = 3); give more",
    ),
}

# Other data, as typed.
OTHER = {
    "pixels without end": (
        ["data=images", "data.path=.", "data.size=1000000000"],
        "data.size: 1000000000 is not right here; give a whole number of pixels from 1 to 4096",
    ),
    "images without folders": (
        ["data=images", "data.path=flat"],
        "data.path: flat has no folders; give a folder with a folder for each class",
    ),
    "one sample": (
        ["data=seed_mlp", "data.samples=1"],
        "data: 1 samples cannot be split (With n_samples=1, test_size=0.2 and train_size=None, the resulting train set "
        "will be empty. Adjust any of the aforementioned parameters.); give more samples",
    ),
    "an unknown argument": (
        ["data=digits", "+data.foo=1"],
        "data.foo: autotune.data.digits.Digits takes no argument foo; known are images, seed, task, test, validation",
    ),
}


def refused(command: str, *arguments: str, line: str, cwd: Path) -> None:
    """A command ends with one line, says nothing else and leaves nothing."""
    before = files(cwd)
    ended = run(command, *COMMON, *arguments, cwd=cwd)
    assert (ended.code, ended.out, ended.err) == (2, "", f"error: {line}\n")
    assert files(cwd) == before


CSV = ("data=csv", "data.path=rows.csv", "data.target=price")


@pytest.mark.parametrize(("content", "typed", "line"), TABLES.values(), ids=TABLES)
def test_no_table(content: str | bytes, typed: list[str], line: str, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    refused("search", *CSV, *typed, line=line, cwd=tmp_path)


@pytest.mark.parametrize("command", [["search", "dry_run=true"], ["train"]], ids=" ".join)
@pytest.mark.parametrize("name", ["NaN for a target", "one class only", "binary rubbish", "Parquet cut off"])
def test_the_other_commands_say_the_same(command: list[str], name: str, tmp_path: Path) -> None:
    content, typed, line = TABLES[name]
    (tmp_path / "rows.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    refused(*command, *CSV, *typed, line=line, cwd=tmp_path)


@pytest.mark.parametrize(("make", "typed", "line"), PLACES.values(), ids=PLACES)
def test_no_place_of_a_table(make: Callable[[Path], object], typed: str, line: str, tmp_path: Path) -> None:
    make(tmp_path / "rows.csv")
    ended = run("search", *COMMON, "data=csv", "data.target=price", f"data.path={typed}", cwd=tmp_path)
    assert (ended.code, ended.out, ended.err) == (2, "", f"error: {line}\n")
    assert not (tmp_path / "mlruns").exists()


@pytest.mark.parametrize(("images", "labels", "typed", "line"), IDX.values(), ids=IDX)
def test_no_images_of_mnists(images: bytes, labels: bytes, typed: list[str], line: str, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    for part, (pictures, numbers) in {"train": (images, labels), "t10k": (IMAGES, LABELS)}.items():
        (tmp_path / "m" / f"{part}-images-idx3-ubyte").write_bytes(pictures)
        (tmp_path / "m" / f"{part}-labels-idx1-ubyte").write_bytes(numbers)
    refused("search", "data=idx", "data.path=m", *typed, line=line, cwd=tmp_path)


@pytest.mark.parametrize(("typed", "line"), OTHER.values(), ids=OTHER)
def test_no_other_data(typed: list[str], line: str, tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    refused("search", *typed, line=line, cwd=tmp_path)
