"""A CSV or Parquet file, read a portion of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from autotune.data.text import delimiter_of, encoding_of
from autotune.errors import UserError

PARQUET = b"PAR1"
BLOCK = 1 << 24  # bytes of text that are read together
ROWS = 1 << 16  # rows of Parquet likewise


class TextFile:
    """CSV, all of its cells as text.

    Args:
        path: The file.
        encoding: None finds it.
        delimiter: None finds it.

    Attributes:
        names: Of the columns.
        types: Of the columns.
        holds_numbers: Whether text may be numbers.
        decimal_comma_first: Whether ``1,234`` is 1.234 where that fits: semicolons stand between columns where commas
            stand in numbers.

    Raises:
        UserError: It cannot be read.
    """

    holds_numbers = True

    def __init__(self, path: Path, encoding: str | None, delimiter: str | None) -> None:
        self._path = path
        self._encoding = encoding_of(path, encoding)
        self._delimiter = delimiter_of(path, self._encoding, delimiter)
        self.decimal_comma_first = self._delimiter == ";"
        with refusing(path):
            self._names = self._open({}).schema.names
        self.names = [name.strip() for name in self._names]
        self.types = [pa.string()] * len(self.names)

    def portions(self) -> Iterator[pa.RecordBatch]:
        """All rows in order."""
        with refusing(self._path):
            yield from self._open(dict.fromkeys(self._names, pa.string()))

    def _open(self, types: dict[str, pa.DataType]) -> pyarrow.csv.CSVStreamingReader:
        return pyarrow.csv.open_csv(
            self._path,
            pyarrow.csv.ReadOptions(use_threads=False, block_size=BLOCK, encoding=self._encoding.removesuffix("-sig")),
            pyarrow.csv.ParseOptions(delimiter=self._delimiter, newlines_in_values=True),
            pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=False),
        )


class ParquetFile:
    """Parquet, each column of the type the file says; text is never numbers.

    Args:
        path: The file.

    Raises:
        UserError: It cannot be read.
    """

    holds_numbers = False
    decimal_comma_first = False

    def __init__(self, path: Path) -> None:
        self._path = path
        with refusing(path):
            schema = pyarrow.parquet.ParquetFile(path).schema_arrow
        self.names, self.types = list(schema.names), list(schema.types)

    def portions(self) -> Iterator[pa.RecordBatch]:
        """All rows in order."""
        with refusing(self._path):
            yield from pyarrow.parquet.ParquetFile(self._path).iter_batches(ROWS)


def is_parquet(path: Path) -> bool:
    """Whether a file is Parquet, whatever it is called."""
    with path.open("rb") as file:
        return file.read(len(PARQUET)) == PARQUET


def bytes_in_memory(path: Path) -> int:
    """About how much memory a file takes: a CSV file its own size, Parquet eight bytes a value."""
    if not is_parquet(path):
        return path.stat().st_size
    with refusing(path):
        about = pyarrow.parquet.ParquetFile(path).metadata
        return int(about.num_rows * about.num_columns * 8)


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Within it, what a file's reader refuses is the user's mistake."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeError) as error:
        said = " ".join(str(error).split())
        raise UserError("data.path", f"{path} cannot be read ({said})", "mend it, or give another file") from error
