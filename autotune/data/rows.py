"""Samples by row: in memory, in a file that is mapped into memory, or read one by one when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy

CHUNK = 1 << 16  # rows that are looked at together; fixed, so that sums come out the same wherever the rows lie


class Rows(Protocol):
    """What a source's features are: an array, or anything that is indexed by rows as one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """[n, ...]."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> numpy.ndarray:
        """These rows, [m, ...]; an array of row numbers or a slice."""


class MappedRows:
    """Rows in a plain binary file, of which the system keeps in memory what it has room for.

    Args:
        path: The file.
        dtype: Of each number.
        shape: [n, ...].
        offset: Bytes before the first number.
    """

    def __init__(self, path: Path, dtype: str, shape: tuple[int, ...], offset: int = 0) -> None:
        self.shape = shape
        self._path, self._dtype, self._offset = path, dtype, offset
        self._mapped: numpy.ndarray | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any, /) -> numpy.ndarray:
        if self._mapped is None:
            self._mapped = numpy.memmap(self._path, self._dtype, "r", self._offset, self.shape)
        return numpy.asarray(self._mapped[rows])

    def __getstate__(self) -> dict[str, Any]:
        # A worker process opens the file itself; the mapping would be sent as a copy of all of it.
        return {**self.__dict__, "_mapped": None}


class SelectedRows:
    """Some rows of others, read when they are asked for.

    Args:
        rows: All of them.
        selected: Which, in which order.
    """

    def __init__(self, rows: Rows, selected: numpy.ndarray) -> None:
        self.rows = rows
        self.selected = selected

    @property
    def shape(self) -> tuple[int, ...]:
        """[selected, ...]."""
        return (len(self.selected), *self.rows.shape[1:])

    def __len__(self) -> int:
        return len(self.selected)

    def __getitem__(self, rows: Any, /) -> numpy.ndarray:
        return self.rows[self.selected[rows]]


def chunks(rows: Rows, length: int = CHUNK) -> Iterator[numpy.ndarray]:
    """All rows in order, so many at a time."""
    for start in range(0, len(rows), length):
        yield rows[start : start + length]
