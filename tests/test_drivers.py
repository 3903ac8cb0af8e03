from __future__ import annotations

import sys
from pathlib import Path

import pytest

from autotune.drivers import check_driver
from autotune.errors import UserError
from autotune.tracking.store import Store

MISSING = [
    ("postgresql+psycopg://h/d", "psycopg", r"psycopg\[binary\]"),
    ("postgresql+psycopg2://h/d", "psycopg2", "psycopg2-binary"),
    ("mysql://h/d", "MySQLdb", "mysqlclient"),
    ("mysql+pymysql://h/d", "pymysql", "pymysql"),
]


@pytest.mark.parametrize(("url", "module", "package"), MISSING)
def test_a_missing_driver_is_named_by_its_package(
    url: str, module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf"^storage.url: .*{package}.*; pip install '{package}'$"):
        check_driver("storage.url", url)


@pytest.mark.parametrize("url", ["sqlite:///study.db", "postgresql+psycopg://h/d", "nosuchdb://x", "no address"])
def test_what_is_there_and_what_is_none_is_let_through(url: str) -> None:
    check_driver("storage.url", url)


def test_the_mirrors_database_needs_its_driver_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "MySQLdb", None)
    with pytest.raises(UserError, match=r"^tracking.uri: .*mysqlclient"):
        Store("mysql://user:secret@h/d", tmp_path)
