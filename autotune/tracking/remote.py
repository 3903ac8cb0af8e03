"""A mirror that a process of its own writes, as the process that trains sees it."""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any

from autotune.tracking import Ending
from autotune.tracking.entries import mask
from autotune.tracking.messages import CHARACTERS, Failure, Line, Setup
from autotune.tracking.mirror import Beginning
from autotune.trial import Record

_log = logging.getLogger(__name__)

# How long a process that was told to end, or lost its connection, may take to be gone.
FAREWELL = 5.0
# How long one may take that has done all and closes its database on a busy machine.
LAST_WORK = 30.0


class WriteError(Exception):
    """MLflow does not answer as it should; the message says what it says."""


class WriterEndedError(Exception):
    """The process is gone without having been asked to; the message says how."""


class RemoteMirror:
    """Has a `Mirror` write in a process of its own, begun by `open` and again by `open` after it ended unasked.

    The calls wait for the process, and are made by one thread: the system takes the process to be that thread's child
    and ends it with it. `kill` alone may be called by any thread. Log lines of the process go to the loggers they come
    from.

    Args:
        uri: What MLflow is given; see `autotune.tracking.store.Store`.
        home: Where the default database and the artifacts of any database lie.
        experiment: The experiment's name.
    """

    def __init__(self, uri: str, home: Path, experiment: str) -> None:
        self._uri, self._home, self._experiment = uri, home.absolute(), experiment
        self._connection: Connection | None = None
        self._output: IO[bytes] | None = None
        self._changing = threading.Lock()  # guards both below
        self._process: subprocess.Popen[bytes] | None = None
        self._is_killed = False
        self._is_again = False
        self.has_answered = False  # whether the process that runs has: it loads MLflow first

    def open(self, study: str) -> None:
        """Open the store.

        Raises:
            WriteError: It cannot be opened.
            WriterEndedError: The process cannot be started, or is gone.
        """
        if self._connection is None:
            self._start(Setup(self._uri, self._home, self._experiment, study, self._is_again))
            self._is_again = True
        self._ask("open")

    def begin(self, beginning: Beginning) -> None:
        """See `Mirror.begin`.

        Raises:
            WriteError: It is not written.
            WriterEndedError: The process is gone.
        """
        self._ask("begin", beginning)

    def write(self, stories: Sequence[tuple[Record, Sequence[int], int]]) -> Iterator[Failure | None]:
        """Have trials written, each given by the arguments of `Mirror.write`; yields what became of each.

        Behind one that failed and may be written later, those that are left are not written, and nothing is yielded
        for them.

        Raises:
            WriterEndedError: The process is gone.
        """
        told = [_pickled(story) for story in stories]
        answers = self._answers("write", [story for story in told if isinstance(story, bytes)])
        for story in told:
            failure = next(answers) if isinstance(story, bytes) else story
            yield failure
            if failure is not None and not failure.is_final:
                return

    def end(self, ending: Ending) -> None:
        """See `Mirror.end`.

        Raises:
            WriteError: It is not written.
            WriterEndedError: The process is gone.
        """
        self._ask("end", ending)

    def close(self) -> None:
        """Let go of the store and end the process.

        Raises:
            WriteError: The store cannot be closed yet.
            WriterEndedError: The process is gone.
        """
        self._ask("close")
        if self._process is not None:
            # Hung up on, it would go without closing its database: SQLite would leave its log beside it.
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(LAST_WORK)
        self.drop()

    def kill(self) -> None:
        """End the process at once, and start none any more."""
        with self._changing:
            self._is_killed = True
            if self._process is not None:
                self._process.kill()

    def drop(self) -> str:
        """Let go of the process, which is ended where it doesn't end by itself; returns how it ended."""
        with self._changing:
            process, connection, output = self._process, self._connection, self._output
            self._process = self._connection = self._output = None
        if process is None or connection is None or output is None:
            return "it was not started"
        connection.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(FAREWELL)
        process.kill()
        with suppress(subprocess.TimeoutExpired):  # a disk or a network that is away holds even what is killed
            process.wait(FAREWELL)
        output.seek(0)
        printed = mask(output.read().decode(errors="replace")).strip()
        output.close()
        if printed:
            _log.debug("the writer printed: %s", printed)
        code = process.returncode
        how = f"it was killed by signal {-code}" if code is not None and code < 0 else f"it ended with code {code}"
        return f"{how}: {printed.splitlines()[-1][:CHARACTERS]}" if printed else how

    def _start(self, setup: Setup) -> None:
        with self._changing:
            if self._is_killed:
                raise WriterEndedError("it was given up")
            try:
                with ExitStack() as undone:
                    output = undone.enter_context(tempfile.TemporaryFile())
                    connection, other = Pipe()
                    undone.enter_context(connection)
                    with other:
                        self._process = start_process(other, output)
                    undone.pop_all()
            except OSError as error:
                raise WriterEndedError(f"it cannot be started: {error}") from error
            self._connection, self._output = connection, output
            self.has_answered = False
        self._send(setup)

    def _ask(self, name: str, *arguments: object) -> None:
        """Have one call made."""
        failure = next(self._answers(name, [pickle.dumps(arguments)]))
        if failure is not None:
            raise WriteError(failure.said)

    def _answers(self, name: str, calls: Sequence[bytes]) -> Iterator[Failure | None]:
        if calls:
            self._send((name, calls))
        for _ in calls:
            yield self._answer()

    def _send(self, request: Any) -> None:
        if self._connection is None:
            raise WriterEndedError("it was not started")
        try:
            self._connection.send(request)
        except OSError:
            raise WriterEndedError(self.drop()) from None

    def _answer(self) -> Failure | None:
        """The next answer; lines of the log are logged on the way."""
        while True:
            if self._connection is None:
                raise WriterEndedError("it was not started")
            try:
                heard: Failure | Line | None = self._connection.recv()
            except (EOFError, OSError):
                raise WriterEndedError(self.drop()) from None
            if not isinstance(heard, Line):
                self.has_answered = True
                return heard
            _pass_on(heard)


def start_process(connection: Connection, output: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start a writer at the other end of a connection; what it prints goes to a file.

    It finds its modules where this process does. Being in a process group of its own, it hears of no Ctrl-C before it
    can turn a deaf ear to it.

    Raises:
        OSError: It cannot be started.
    """
    descriptor = connection.fileno()
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "autotune.tracking.writer", str(descriptor), str(os.getpid())],
        pass_fds=[descriptor],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(_places(sys.path))},
        process_group=0,
    )


def _places(path: Iterable[str]) -> Iterator[str]:
    """Where modules are found, absolute."""
    return (str(Path(place).absolute()) for place in path)


def _pickled(story: tuple[Record, Sequence[int], int]) -> bytes | Failure:
    """What is sent of a trial; a failure where that cannot be: it alone is lost then, not all that are sent with it."""
    try:
        return pickle.dumps(story)
    except Exception as error:  # pickle lets through whatever the values in it raise
        return Failure.of(error, is_final=True)


def _pass_on(line: Line) -> None:
    """Log a line as if it had been logged here; one that has no log to go to is not to end on the terminal."""
    logger = logging.getLogger(line.logger)
    if logger.hasHandlers() and logger.isEnabledFor(line.level):
        logger.handle(logger.makeRecord(line.logger, line.level, "the writer", 0, line.said, (), None))
