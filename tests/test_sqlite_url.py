from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from autotune.sqlite_url import quoted_below, sqlite_path, sqlite_url

PATHS = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/"), min_size=1, max_size=12).filter(
    lambda name: name not in (".", "..")
)


def test_a_path_without_special_characters_is_readable() -> None:
    assert sqlite_url(Path("my runs/ü/mlflow.db")) == "sqlite:///my runs/ü/mlflow.db"


@given(PATHS, st.booleans())
def test_sqlalchemy_reads_the_path_that_was_quoted(name: str, absolute: bool) -> None:
    path = Path("/homes" if absolute else "homes") / name / "mlflow.db"
    assert make_url(sqlite_url(path)).database == str(path)
    assert sqlite_path(sqlite_url(path)) == path


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "postgresql://h/d", "http://h", ""])
def test_other_addresses_name_no_file(url: str) -> None:
    assert sqlite_path(url) is None


@pytest.mark.parametrize("name", ["q?a", "100%25", "h#x", "sp ace", "ü", "a&b=c"])
def test_the_database_lies_in_its_folder(name: str, tmp_path: Path) -> None:
    file = tmp_path / name / "x.db"
    file.parent.mkdir()
    engine = create_engine(sqlite_url(file))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE a (b INT)"))
    engine.dispose()
    assert sqlite3.connect(file).execute("SELECT name FROM sqlite_master").fetchall() == [("a",)]
    assert [each.name for each in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("url", "quoted"),
    [
        ("sqlite:///q?a/studies/s/study.db", "sqlite+pysqlite:///q%3Fa/studies/s/study.db"),
        ("sqlite:///q?a//studies/s/x.db?timeout=5", "sqlite+pysqlite:///q%3Fa/studies/s/x.db?timeout=5"),
        ("sqlite:///other.db?timeout=5", "sqlite:///other.db?timeout=5"),
        ("postgresql://q?a/studies/s", "postgresql://q?a/studies/s"),
    ],
)
def test_a_folder_that_a_config_put_into_an_address_is_quoted(url: str, quoted: str) -> None:
    assert quoted_below(url, Path("q?a/studies/s")) == quoted
