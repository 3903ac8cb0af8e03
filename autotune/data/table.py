"""A CSV or Parquet file as numbers, one row a sample: in memory, or beside it in a file that is mapped into memory."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy
import pyarrow as pa

from autotune.data.cache import cached
from autotune.data.columns import Column, Profile, cells_of, is_readable, plain_type, profile_columns
from autotune.data.rows import MappedRows, Rows
from autotune.data.table_file import ParquetFile, TextFile, is_parquet
from autotune.errors import UserError, nearest

FORM = 2  # of what is kept in the cache


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a file is read.

    Args:
        target: The columns to predict.
        categorical: Columns that are categories whatever their values look like.
        drop: Columns that are left out.
        keep: Columns that are kept although they look like identifiers.
        missing: Texts that stand for a missing value.
        delimiter: Of CSV; None finds it.
        encoding: Of CSV; None finds it.
        drop_missing_target: Whether rows without a target are left out, and not refused.
    """

    target: tuple[str, ...]
    categorical: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    missing: tuple[str, ...] = ("",)
    delimiter: str | None = None
    encoding: str | None = None
    drop_missing_target: bool = False


@dataclass(frozen=True, eq=False)
class Table:
    """A file as numbers; indexed by rows, their values.

    Attributes:
        columns: What is predicted from.
        values: Their values, float64, [n, columns].
        target_columns: What is predicted.
        targets: Their values, float64, [n, target columns].
        left_out: Names of the columns that cannot be used, and why.
        notes: Names of columns, and how their numbers are read or why they are none.
    """

    columns: tuple[Column, ...]
    values: Rows
    target_columns: tuple[Column, ...]
    targets: numpy.ndarray
    left_out: Mapping[str, str]
    notes: Mapping[str, str]

    @property
    def shape(self) -> tuple[int, ...]:
        """[n, columns]."""
        return self.values.shape

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: object, /) -> numpy.ndarray:
        return self.values[rows]


def read_table(path: Path, reading: Reading, stamp: object, in_memory: bool) -> Table:
    """Read a file.

    Args:
        path: The file.
        reading: How.
        stamp: Changes where the file does.
        in_memory: Whether its values are held in memory.

    Raises:
        UserError: It cannot be read, or its columns are not what `reading` says.
    """
    text = (reading.encoding, reading.delimiter)
    file = ParquetFile(path) if is_parquet(path) else TextFile(path, *text)
    _check_names(path, file.names, reading)
    if in_memory:
        portions = list(file.portions())
        return _Passes(path, reading, file, lambda: iter(portions)).in_memory()
    made = cached(path, stamp, (FORM, reading), _Passes(path, reading, file, file.portions).write)
    return _kept(made)


class _Passes:
    """A file is gone through twice: to see what its columns are, then to turn them into numbers."""

    def __init__(
        self,
        path: Path,
        reading: Reading,
        file: TextFile | ParquetFile,
        portions: Callable[[], Iterator[pa.RecordBatch]],
    ) -> None:
        self._path, self._reading, self._portions = path, reading, portions
        self._left_out: dict[str, str] = {}
        self._at: dict[str, int] = {}
        profiles: dict[str, Profile] = {}
        for at, (name, file_type) in enumerate(zip(file.names, file.types, strict=True)):
            if name in reading.drop:
                continue
            if not is_readable(file_type):
                self._left_out[name] = f"it holds {file_type}"
                continue
            self._at[name] = at
            is_category, is_kept = name in reading.categorical, name in reading.keep
            profiles[name] = Profile(
                name, plain_type(file_type), is_category, file.holds_numbers, file.decimal_comma_first, is_kept
            )
        self._profiles = profiles

    def in_memory(self) -> Table:
        """The table, its values held in memory."""
        self._look()
        matrices = list(self._matrices())
        return self._table(numpy.concatenate(matrices))

    def write(self, folder: Path) -> None:
        """Keep the table in a folder."""
        self._look()
        rows = 0
        with (folder / "values").open("wb") as file:
            for matrix in self._matrices():
                file.write(matrix.tobytes())
                rows += len(matrix)
        table = self._table(MappedRows(folder / "values", "f8", (rows, len(self._columns))))
        numpy.save(folder / "targets.npy", table.targets)
        about = {
            "columns": [asdict(column) for column in table.columns],
            "target_columns": [asdict(column) for column in table.target_columns],
            "left_out": dict(table.left_out),
            "notes": dict(table.notes),
            "used": self._used(),
            "stored": [rows, len(self._columns)],
        }
        (folder / "table.json").write_text(json.dumps(about))

    def _look(self) -> None:
        profile_columns(self._profiles, self._portions, self._cells)
        found = {name: profile.column() for name, profile in self._profiles.items()}
        rows = max((profile.rows for profile in self._profiles.values()), default=0)
        if rows == 0:
            raise UserError("data.path", f"{self._path} has no rows", "give a file with rows below its column names")
        for name in self._reading.target:
            self._check_target(name, found[name] if name in found else self._left_out[name])
        self._left_out |= {name: why for name, why in found.items() if isinstance(why, str)}
        columns = {name: column for name, column in found.items() if isinstance(column, Column)}
        self._target_columns = tuple(columns.pop(name) for name in self._reading.target)
        self._columns = tuple(columns.values())
        for name in columns:
            self._refuse_infinite(name)
        counting = [name for name in columns if columns[name].kind == "number" and name not in self._reading.keep]
        self._seen = {
            name: numpy.zeros(rows, bool) for name in counting if self._profiles[name].may_count_rows
        }  # which numbers of a possible identifier occur
        self._targets: list[numpy.ndarray] = []

    def _matrices(self) -> Iterator[numpy.ndarray]:
        """The values of each portion's rows; their targets are kept aside."""
        unlabelled = 0
        for portion in self._portions():
            targets = self._numbers(portion, self._target_columns)
            matrix = self._numbers(portion, self._columns)
            for at, column in enumerate(self._columns):
                if column.name in self._seen:
                    self._seen[column.name][(matrix[:, at] - self._profiles[column.name].low).astype(int)] = True
            missing = numpy.isnan(targets).any(axis=1)
            unlabelled += int(missing.sum())
            self._targets.append(targets[~missing])
            yield matrix[~missing]
        if unlabelled and not self._reading.drop_missing_target:
            names, rows = ", ".join(self._reading.target), "1 row" if unlabelled == 1 else f"{unlabelled} rows"
            problem = f"{rows} of {self._path} without a value of {names}"
            raise UserError("data.target", problem, "leave them out by data.drop_missing_target=true")
        for name, seen in self._seen.items():
            if seen.all():
                self._left_out[name] = "it counts the rows"

    def _table(self, stored: Rows) -> Table:
        targets = numpy.concatenate(self._targets)
        if len(targets) == 0:
            raise UserError("data.target", f"no row of {self._path} has a value of it", "name another column")
        columns = tuple(self._columns[at] for at in self._used())
        if not columns:
            why = "; ".join(f"{name}: {why}" for name, why in self._left_out.items()) or "there is no other column"
            raise UserError("data.path", f"{self._path} leaves nothing to predict from ({why})", "give data.keep=[...]")
        return Table(columns, _Used(stored, self._used()), self._target_columns, targets, self._left_out, self._notes())

    def _notes(self) -> dict[str, str]:
        notes = {name: profile.note for name, profile in self._profiles.items() if name not in self._left_out}
        return {name: note for name, note in notes.items() if note is not None}

    def _used(self) -> list[int]:
        """Which stored columns are used."""
        return [at for at, column in enumerate(self._columns) if column.name not in self._left_out]

    def _cells(self, portion: pa.RecordBatch, name: str) -> pa.Array:
        reading = self._reading
        return cells_of(portion.column(self._at[name]), name in reading.categorical, reading.missing)

    def _numbers(self, portion: pa.RecordBatch, columns: Sequence[Column]) -> numpy.ndarray:
        numbers = [column.values(self._cells(portion, column.name)) for column in columns]
        return numpy.stack(numbers, axis=1) if numbers else numpy.empty((len(portion), 0))

    def _check_target(self, name: str, found: Column | str) -> None:
        profile = self._profiles.get(name)
        if (
            profile is not None
            and profile.obstacle is not None
            and (isinstance(found, str) or profile.note is not None)
        ):
            problem = f"{name} of {self._path} is not a column of numbers ({profile.obstacle})"
            remedy = f"mend the file, or name the text in data.missing, or give data.categorical=[{name}]"
            raise UserError("data.target", problem, remedy)
        if isinstance(found, str):
            raise UserError("data.target", f"{name} cannot be predicted ({found})", "name another column")
        if found.kind == "date":
            raise UserError("data.target", f"{name} holds dates", "name a column of numbers or classes")
        self._refuse_infinite(name)

    def _refuse_infinite(self, name: str) -> None:
        infinite = self._profiles[name].infinite
        if infinite:
            what, mend = (
                ("an infinite number", "mend it") if infinite == 1 else (f"{infinite} infinite numbers", "mend them")
            )
            problem = f"{name} of {self._path} has {what}"
            remedy = mend if name in self._reading.target else f"{mend}, or give data.drop=[{name}]"
            raise UserError("data.path", problem, remedy)


class _Used:
    """The used columns of all that are stored."""

    def __init__(self, stored: Rows, used: Sequence[int]) -> None:
        self.shape = (len(stored), len(used))
        self._stored = stored
        self._used = None if list(used) == list(range(stored.shape[1])) else list(used)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: object, /) -> numpy.ndarray:
        values = self._stored[rows]
        return values if self._used is None else numpy.ascontiguousarray(values[:, self._used])


def _kept(folder: Path) -> Table:
    about = json.loads((folder / "table.json").read_text())
    columns, target_columns = (
        tuple(Column(**{**each, "levels": tuple(each["levels"])}) for each in about[key])
        for key in ("columns", "target_columns")
    )
    stored = MappedRows(folder / "values", "f8", tuple(about["stored"]))
    targets = numpy.load(folder / "targets.npy", allow_pickle=False)
    return Table(columns, _Used(stored, about["used"]), target_columns, targets, about["left_out"], about["notes"])


def _check_names(path: Path, names: Sequence[str], reading: Reading) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError("data.path", f"{path} has several columns named {twice[0]!r}", "rename all but one of them")
    for name, count in Counter(reading.target).items():
        if count > 1:
            raise UserError("data.target", f"{name} is named twice", "name each column once")
    for key in ("target", "categorical", "drop", "keep"):
        for name in getattr(reading, key):
            if name not in names:
                raise UserError(f"data.{key}", f"{path} has no column {name}", nearest(name, names))
    for name in reading.target:
        for key in ("drop", "keep"):
            if name in getattr(reading, key):
                raise UserError(f"data.{key}", f"{name} is the target", "leave it out there")
