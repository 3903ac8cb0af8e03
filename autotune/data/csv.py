"""A user's own table: CSV or Parquet."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy

from autotune.data.files import FileSource
from autotune.data.fitting import TableEncoding, fit_encoder
from autotune.data.preprocess import Preprocess
from autotune.data.rows import Rows, SelectedRows
from autotune.data.source import Arrays
from autotune.data.table import Reading, Table, read_table
from autotune.data.table_file import bytes_in_memory
from autotune.data.target import target_of
from autotune.errors import UserError

_log = logging.getLogger(__name__)

Names = Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Csv(FileSource):
    """A CSV or Parquet file with a line of column names, one row a sample.

    Which kind a column is, number, date or category, is read off the whole file, as its name is. All that is fitted,
    scales, medians, levels, comes from the training part.

    Args:
        task: binary, multiclass, multilabel or regression; None finds it (`autotune.data.target.target_of`).
        target: The column to predict; a list of columns for multilabel.
        categorical: Columns that are categories whatever their values look like.
        drop: Columns that are left out.
        keep: Columns that are kept although they look like identifiers.
        levels: Levels of a category that are told apart, the most frequent ones; the others count as one.
        missing: Texts that stand for a missing value.
        delimiter: Of CSV; None finds it.
        encoding: Of CSV; None finds it.
        drop_missing_target: Whether rows without a target are left out, and not refused.
    """

    task: str | None = None
    target: str | Names
    categorical: Names = ()
    drop: Names = ()
    keep: Names = ()
    levels: int = 200
    missing: Names = ("",)
    delimiter: str | None = None
    encoding: str | None = None
    drop_missing_target: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.target is None or self.target == "" or self.target == []:
            raise UserError("data.target", "nothing says what is to be predicted", "give it: data.target=<column>")
        many = isinstance(self.target, list | tuple)
        object.__setattr__(self, "target", _names(self.target) if many else str(self.target))
        for key in ("categorical", "drop", "keep", "missing"):
            given = getattr(self, key)
            object.__setattr__(self, key, _names([str(given)] if isinstance(given, str | int | float) else given or ()))

    @property
    def targets(self) -> tuple[str, ...]:
        """The columns to predict."""
        return (self.target,) if isinstance(self.target, str) else tuple(self.target)

    def load(self) -> Arrays:
        """Values of the columns, float64, [n, columns]; what a model is given is made of them by `prepare`."""
        reading = Reading(
            target=self.targets,
            categorical=tuple(self.categorical),
            drop=tuple(self.drop),
            keep=tuple(self.keep),
            missing=tuple(self.missing),
            delimiter=self.delimiter,
            encoding=self.encoding,
            drop_missing_target=self.drop_missing_target,
        )
        lazy = bytes_in_memory(self.place) > self.in_memory_limit
        table = read_table(self.place, reading, self.stamp, not lazy)
        target = target_of(table.target_columns, table.targets, self.task, not isinstance(self.target, str))
        return Arrays(table, target.values, target.class_names, target.task, lazy)

    def prepare(self, arrays: Arrays, rows: numpy.ndarray) -> Preprocess:
        """Fit the encoder on these rows, and say which columns are left out."""
        table = arrays.features
        assert isinstance(table, Table)
        train: Rows = SelectedRows(table, rows) if arrays.lazy else table[rows]
        encoder = fit_encoder(table.columns, train, self.levels, tuple(self.missing))
        varying = set(encoder.names)
        constant = {column.name: "it does not vary" for column in table.columns if column.name not in varying}
        if not varying:
            problem = f"no column of {self.path} varies in the training part"
            raise UserError("data.path", problem, "give columns to predict from")
        left_out = {**table.left_out, **constant}
        _log.info("data: %s of %s from %d columns", arrays.task, ", ".join(self.targets), len(encoder.names))
        if arrays.lazy:
            _log.info("%s is larger than data.in_memory_limit and read batch by batch", self.path)
        if table.notes:
            _log.info("how numbers are read: %s", "; ".join(f"{name} ({note})" for name, note in table.notes.items()))
        if left_out:
            _log.info("left out: %s", "; ".join(f"{name} ({why})" for name, why in left_out.items()))
        return TableEncoding(table.columns, encoder)


def _names(given: Names) -> tuple[str, ...]:
    return tuple(str(name) for name in given)
