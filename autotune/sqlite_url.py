"""SQLite databases by their address: a path as SQLAlchemy 2.1 reads it in a URL, and back."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

PREFIX = "sqlite:///"
# MLflow makes the folder that a plain sqlite: address has, as it is quoted; with the name of the driver it does not.
QUOTED_PREFIX = "sqlite+pysqlite:///"
# What ends the path of a URL or stands for another character; all else is left readable.
_QUOTED = str.maketrans({"%": "%25", "?": "%3F", "#": "%23"})


def sqlite_url(path: Path | str) -> str:
    """The address of a database file; a relative path stays relative."""
    quoted = str(path).translate(_QUOTED)
    return f"{PREFIX if quoted == str(path) else QUOTED_PREFIX}{quoted}"


def sqlite_path(url: str) -> Path | None:
    """The file of an address; None where it is none of SQLite's, or of a database in memory."""
    prefix = next((each for each in (PREFIX, QUOTED_PREFIX) if url.startswith(each)), None)
    path = "" if prefix is None else unquote(url.removeprefix(prefix).partition("?")[0])
    return None if path in ("", ":memory:") else Path(path)


def quoted_below(url: str, folder: Path) -> str:
    """An address into which a config put a folder as it is, with that folder quoted; any other as it is."""
    path = Path(url.removeprefix(PREFIX))
    if not url.startswith(PREFIX) or not path.is_relative_to(folder):
        return url
    return f"{sqlite_url(folder)}/{path.relative_to(folder)}"
