"""The process that writes a study's runs to MLflow: ``python -m autotune.tracking.writer``.

It is started by `autotune.tracking.remote.RemoteMirror` and does what it is asked for over a connection, one request
after the other: MLflow's ORM takes tens of milliseconds of an interpreter for each trial, which training has better use
for. It lives no longer than the process that started it, whatever becomes of that.
"""

from __future__ import annotations

import ctypes
import fcntl
import logging
import os
import pickle
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO
from urllib.parse import quote

from autotune.imports import leave_unswept
from autotune.tracking.entries import mask
from autotune.tracking.messages import Failure, Line, Setup
from autotune.tracking.mirror import Mirror, is_final
from autotune.tracking.store import Store

# How long a writer of a search that was killed may take to be gone.
LAST_GASP = 5.0
_PR_SET_PDEATHSIG = 1
# They report each failed call, which the answer does too.
_REPEATERS = ("urllib3.connectionpool", "mlflow.store.db.utils")


class Claim:
    """Keeps the runs of a study to one writer; a dead process holds nothing.

    The study itself is kept to one search, but a writer may outlive a killed search by the call it is in: where the
    system has no death signal, or where it waits for a disk or a network and the signal with it. The file lies in the
    home, which is there whatever the runs are kept in.

    Args:
        home: Made where it is missing.
        study: The study's name.
    """

    def __init__(self, home: Path, study: str) -> None:
        self._path = home / f"{quote(study, safe='')}.mirror.lock"
        self._file: IO[str] | None = None

    def take(self) -> None:
        """Take it, or keep it.

        Raises:
            OSError: Another process holds it, and does not let go.
        """
        until = time.monotonic() + LAST_GASP
        self._path.parent.mkdir(parents=True, exist_ok=True)
        while self._file is None:
            file = self._path.open("a")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                if time.monotonic() > until:
                    raise OSError(f"another process writes the same runs ({self._path} is locked)") from None
                time.sleep(0.1)
                continue
            # Its last holder may have removed the file after we opened it: a lock on that one locks nobody out.
            if self._path.exists() and os.path.samestat(os.fstat(file.fileno()), self._path.stat()):
                self._file = file
            else:
                file.close()

    def release(self) -> None:
        """Let go of it where it is held."""
        if self._file is not None:
            self._path.unlink(missing_ok=True)
            self._file.close()
            self._file = None


class Outlet(logging.Handler):
    """Sends answers, and what is logged.

    Args:
        connection: To whom.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection
        self._sending = threading.Lock()

    def answer(self, failure: Failure | None) -> None:
        """Answer a call."""
        with self._sending:
            self._connection.send(failure)

    def emit(self, record: logging.LogRecord) -> None:
        """Send a line of the log."""
        try:
            with self._sending:
                self._connection.send(Line(record.levelno, record.name, mask(self.format(record))))
        except OSError:
            self.handleError(record)


def serve(connection: Connection, outlet: Outlet) -> None:
    """Do what is asked for until `close` was, or nobody is there any more.

    Args:
        connection: Where requests come from.
        outlet: Where answers go.
    """
    try:
        setup: Setup = connection.recv()
    except (EOFError, ConnectionError):
        return
    mirror = Mirror(Store(setup.uri, setup.home), setup.experiment)
    claim = Claim(setup.home, setup.study)
    try:
        if setup.is_again:
            mirror.doubt()
        first = {"open": (claim.take,)}
        name, failure = "", None
        while name != "close" or failure is not None:
            name, calls = connection.recv()
            for arguments in calls:
                failure = _failure((*first.get(name, ()), getattr(mirror, name)), arguments)
                may_work_later = failure is not None and not failure.is_final
                if may_work_later or (failure is not None and name != "write"):
                    mirror.doubt()
                outlet.answer(failure)
                if may_work_later:
                    break
    except (EOFError, ConnectionError):
        return
    finally:
        claim.release()


def _failure(steps: Iterable[Callable[..., object]], arguments: bytes) -> Failure | None:
    """What a call of one step after the other raises; None where all work."""
    try:
        given = pickle.loads(arguments)
        for step in steps:
            step(*given)
    except Exception as error:  # whatever it is: the search hears of it and decides
        return Failure.of(error, is_final(error))
    return None


def main() -> None:
    """Run the process; its arguments are the connection's file descriptor and the id of the process that started it."""
    for number in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C and the like reach everybody: the search decides
        signal.signal(number, signal.SIG_IGN)
    descriptor, parent = (int(argument) for argument in sys.argv[1:])
    _die_with(parent)
    leave_unswept()
    connection = Connection(descriptor)
    end_unheard(descriptor)
    outlet = Outlet(connection)
    root = logging.getLogger()
    root.addHandler(outlet)
    root.setLevel(logging.WARNING)
    logging.captureWarnings(True)
    for name in _REPEATERS:
        logging.getLogger(name).disabled = True
    serve(connection, outlet)


def _die_with(parent: int) -> None:
    """Have the system kill this process once the one that started it is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it went before we asked
        os._exit(1)


def end_unheard(descriptor: int) -> None:
    """Have this process end, whatever it is doing, once the other end of a connection is closed."""

    def wait() -> None:
        poll = select.poll()
        poll.register(descriptor, 0)  # a hang-up is told without being asked for
        poll.poll()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    main()
