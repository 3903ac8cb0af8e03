from __future__ import annotations

import re
from pathlib import Path

import pytest

from autotune.data.text import delimiter_of, encoding_of
from autotune.errors import UserError

from .tables import written


def mistake(content: bytes, folder: Path, said: str | None = None) -> str:
    with pytest.raises(UserError) as caught:
        encoding_of(written(folder, content), said)
    return str(caught.value).replace(str(folder), "")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"a,b\n1,2\n", "utf-8"),
        ("a,b\nKöln,2\n".encode(), "utf-8"),
        ("a,b\nKöln,2\n".encode("utf-8-sig"), "utf-8-sig"),
        ("a,b\nKöln,2\n".encode("utf-16"), "utf-16"),
        ("a,b\nKöln,2\n".encode("cp1252"), "cp1252"),
        # An umlaut cut in two by the portions the file is read in.
        (b"a" * ((1 << 20) - 1) + "ö".encode() + b"\n", "utf-8"),
        (b"a,b\n" * (1 << 19) + "Köln,2\n".encode("cp1252"), "cp1252"),
    ],
    ids=["ASCII", "UTF-8", "with a mark", "UTF-16", "cp1252", "between portions", "late"],
)
def test_an_encoding_is_found(tmp_path: Path, content: bytes, found: str) -> None:
    assert encoding_of(written(tmp_path, content), None) == found


def test_an_encoding_that_is_said_is_taken(tmp_path: Path) -> None:
    assert encoding_of(written(tmp_path, b"a,b\n1,2\n"), "latin-1") == "latin-1"


@pytest.mark.parametrize(
    ("content", "said", "message"),
    [
        (
            "a,b\nKöln,2\n".encode("cp1252"),
            "utf-8",
            "data.encoding: /rows.csv is not in utf-8 (byte 0xf6 after about 5 bytes); leave it out to have it found",
        ),
        (b"a,b\n", "utf-9", "data.encoding: there is no encoding utf-9; leave it out to have it found"),
        (
            b"",
            None,
            "data.path: /rows.csv is empty; give a file with a line of column names and rows below it",
        ),
        (
            b"\n \n",
            None,
            "data.path: /rows.csv is empty; give a file with a line of column names and rows below it",
        ),
        (
            b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
            None,
            "data.path: /rows.csv is neither text nor Parquet; give a CSV or a Parquet file",
        ),
        (
            bytes(range(1, 32)) * 9,
            None,
            "data.path: /rows.csv is neither text nor Parquet; give a CSV or a Parquet file",
        ),
    ],
    ids=["wrong", "unknown", "empty", "blank", "binary", "control characters"],
)
def test_what_is_no_such_text_is_refused(tmp_path: Path, content: bytes, said: str | None, message: str) -> None:
    assert mistake(content, tmp_path, said) == message


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("a,b\n1,2\n", ","),
        ("a;b\n1,5;2,5\n3,5;4,5\n", ";"),
        ("a\tb\n1,2\t3\n", "\t"),
        ("a|b\n1|2\n", "|"),
        # Commas in every line, but quoted, or not in equal numbers.
        ('a;b\n"x, y";2\n"u, v, w";3\n', ";"),
        ("a;b\nx, y;2\nu, v, w;3\nz;4\n", ";"),
        ('a,b\n"x; y",2\n"u; v",3\n', ","),
        ('a,b\n"two\nlines",2\n', ","),
        ("alone\n1\n", ","),
    ],
)
def test_a_delimiter_is_found(tmp_path: Path, content: str, found: str) -> None:
    assert delimiter_of(written(tmp_path, content), "utf-8", None) == found


def test_a_delimiter_that_is_said_is_taken_where_it_can_be_one(tmp_path: Path) -> None:
    path = written(tmp_path, "a,b\n1,2\n")
    assert delimiter_of(path, "utf-8", ";") == ";"
    message = "data.delimiter: ', ' is not one character; leave it out to have it found"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        delimiter_of(path, "utf-8", ", ")
