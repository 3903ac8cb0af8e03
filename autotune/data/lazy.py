"""Batches of data that is larger than memory, read by the worker processes of a torch DataLoader."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from autotune.data.source import Batch, LazyPart
from autotune.errors import UserError

Place = Callable[[Tensor], Tensor]
LONGEST_SOCKET = 103 if sys.platform == "darwin" else 107  # bytes of a socket's path


class Reader:
    """Serves a part that is read lazily; its workers live over all epochs, until it is closed.

    Args:
        part: What to serve.
        workers: Processes that read ahead; 0 reads in this one.
        place: Puts a tensor where it is trained on.
        pin: Whether batches go through page-locked memory, from which a GPU copies faster.

    Raises:
        UserError: The folder for temporary files has a path that workers cannot answer through.
    """

    def __init__(self, part: LazyPart, workers: int, place: Place = lambda tensor: tensor, pin: bool = False) -> None:
        if workers > 0:
            _check_socket_path(tempfile.gettempdir())
        self.part = part
        self._place = place
        self._order: list[Tensor] = []  # of the batches; the loader asks for it anew in each epoch
        rows_of_batches: Any = _Batches(self._order)  # arrays, where torch's types want lists
        self._loader = DataLoader(
            _Reading(part),
            batch_sampler=rows_of_batches,
            num_workers=workers,
            collate_fn=_as_is,
            pin_memory=pin,
            worker_init_fn=_leave_signals_to_the_parent,
            persistent_workers=workers > 0,
            # It draws a seed for its workers; from a generator of its own, it leaves the trial's random state alone.
            generator=torch.Generator(),
        )

    def __len__(self) -> int:
        return len(self.part)

    def batches(self, order: Tensor, length: int) -> Iterator[Batch]:
        """The samples of these numbers, so many at a time.

        Raises:
            UserError: A file of the user's cannot be read.
        """
        self._order[:] = torch.split(order, length)
        for rows, features in zip(list(self._order), self._loader, strict=True):
            if isinstance(features, _Mistake):
                raise UserError(*features)
            yield self._place(features), self._place(self.part.target[rows])

    def slices(self, length: int) -> Iterator[Batch]:
        """All samples in order, so many at a time."""
        return self.batches(torch.arange(len(self.part)), length)

    def close(self) -> None:
        """End the workers."""
        running: Any = self._loader._iterator
        self._loader._iterator = None
        if hasattr(running, "_shutdown_workers"):
            running._shutdown_workers()


class _Mistake(NamedTuple):
    """A `UserError` on its way from a worker; torch would hand it over as text."""

    key: str
    problem: str
    remedy: str


class _Reading(Dataset[Tensor]):
    """A part as torch asks for it: a whole batch at once."""

    def __init__(self, part: LazyPart) -> None:
        self._part = part

    def __getitems__(self, rows: numpy.ndarray) -> Tensor | _Mistake:
        try:
            return self._part.read(rows)
        except UserError as error:
            return _Mistake(error.key, error.problem, error.remedy)


class _Batches:
    """The row numbers of each batch."""

    def __init__(self, order: list[Tensor]) -> None:
        self._order = order

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[numpy.ndarray]:
        return (rows.numpy() for rows in list(self._order))  # an array goes to a worker without shared memory


def _check_socket_path(folder: str) -> None:
    """Refuse a folder in which the name of a socket would be too long: workers would drop each batch, and wait.

    Python's multiprocessing names it ``pymp-xxxxxxxx/listener-xxxxxxxx``.
    """
    length = len(os.fsencode(folder)) + len("/pymp-xxxxxxxx/listener-xxxxxxxx")
    if length > LONGEST_SOCKET:
        problem = f"{folder} is too long a path for the sockets of data.workers"
        raise UserError("TMPDIR", problem, "set TMPDIR to a shorter one, or give data.workers=0")


def _as_is(batch: Any) -> Any:
    return batch


def _leave_signals_to_the_parent(_: int) -> None:
    """Ctrl-C reaches the whole process group; how a search ends is for its own process to say."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
