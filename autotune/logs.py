"""What a command says: its own lines on the terminal, everything else in its log file."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from autotune.disk import unprintable
from autotune.errors import in_one_line
from autotune.trust.masking import mask

_log = logging.getLogger(__name__)

LIBRARIES = (
    *("lightning", "lightning.pytorch", "lightning.fabric", "lightning_utilities"),
    *("pytorch_lightning", "lightning_fabric"),  # the same again under its older name, which MLflow imports
    *("mlflow", "optuna", "alembic"),
)


class _Terminal(logging.StreamHandler[TextIO]):
    """Writes to what stdout is at the time, which a live view puts itself in front of."""

    def emit(self, record: logging.LogRecord) -> None:
        if sys.stdout is not None:  # it was closed before the command began
            self.stream = sys.stdout
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)
        # The command goes on, and its file has all lines. Where nobody reads on (`... | head`), that is all.
        elif (why := unprintable()) is not None:
            print(f"stdout cannot be written ({why}): its lines are in the log alone", file=sys.stderr)


class _File(logging.FileHandler):
    """Writes to a file, opened when there is something to write; what cannot be written is left out, and that said.

    Args:
        path: The file.
        say: Told once what is wrong.
    """

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        super().__init__(path, delay=True)
        self._say = say
        self._has_said = False

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:  # of the opening, which the standard library's leaves to who logs
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._has_said:
            self._has_said = True
            self._say(f"{self.baseFilename} cannot be written ({error.strerror}): it lacks lines")

    def close(self) -> None:
        with suppress(OSError):  # what it still keeps back; was said
            super().close()


class _Once(logging.Filter):
    """Lets a line that is marked ``once`` through the first time only."""

    def __init__(self) -> None:
        super().__init__()
        self._passed: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        if not getattr(record, "once", False):
            return True
        said = record.getMessage()
        is_first = said not in self._passed
        self._passed.add(said)
        return is_first


class _Masked(logging.Formatter):
    """Leaves the secrets out of addresses, whoever says them."""

    def format(self, record: logging.LogRecord) -> str:
        return mask(super().format(record))


@contextmanager
def logging_to(path: Path | None) -> Iterator[None]:
    """Within it, autotune's lines go to the terminal and, with its details and all warnings, to a file.

    Args:
        path: The file; None keeps none, and warnings are dropped.
    """
    terminal = _Terminal(sys.stdout)

    def say(what: str) -> None:
        terminal.handle(logging.LogRecord("autotune.logs", logging.WARNING, __file__, 0, what, None, None))

    file = logging.NullHandler() if path is None else _File(path, say)
    file.setFormatter(_Masked("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    terminal.setFormatter(_Masked("%(message)s"))
    terminal.setLevel(logging.INFO)
    for handler in (terminal, file):
        handler.addFilter(_Once())
    root, ours = logging.getLogger(), logging.getLogger("autotune")
    levels = {logger: logger.level for logger in (root, ours)}
    root.addHandler(file)
    ours.addHandler(terminal)
    root.setLevel(logging.WARNING)
    ours.setLevel(logging.DEBUG)
    hush_libraries()
    was_captured = warnings.showwarning.__module__ == "logging"  # by the program that called
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(was_captured)
        root.removeHandler(file)
        ours.removeHandler(terminal)
        for logger, level in levels.items():
            logger.setLevel(level)
        file.close()


@contextmanager
def measuring(what: str, remedy: str = "") -> Iterator[None]:
    """Run code that only measures or shows: what it raises leaves a blank and a line in the log, and ends nothing.

    Args:
        what: What is left out, for that line.
        remedy: What to do about it, where there is something.
    """
    try:
        yield
    except Exception as error:
        said = f"{what} is left out ({in_one_line(error)}){f'; {remedy}' if remedy else ''}"
        _log.warning("%s", said, extra={"once": True})


@contextmanager
def off_the_terminal(names: Collection[str], hear: Callable[[str], None]) -> Iterator[None]:
    """Within it, what these loggers say is told to `hear` instead of printed, but for warnings; the file has it all."""

    def stays(record: logging.LogRecord) -> bool:
        if record.name not in names or record.levelno >= logging.WARNING:
            return True
        hear(record.getMessage())
        return False

    terminals = [handler for handler in logging.getLogger("autotune").handlers if isinstance(handler, _Terminal)]
    for terminal in terminals:
        terminal.addFilter(stays)
    try:
        yield
    finally:
        for terminal in terminals:
            terminal.removeFilter(stays)


# What the libraries' loggers were before they were hushed: level, whether they propagate, handlers.
_unhushed: dict[logging.Logger, tuple[int, bool, list[logging.Handler]]] = {}


def hush_libraries() -> None:
    """Keep the libraries' chatter off the terminal; their warnings still reach the log file.

    To be called again after one of them was imported, since some set their handlers and levels up on import.
    """
    for name in LIBRARIES:
        library = logging.getLogger(name)
        handlers = [handler for handler in library.handlers if not isinstance(handler, logging.StreamHandler)]
        if (library.level, library.propagate, library.handlers) != (logging.WARNING, True, handlers):
            _unhushed[library] = (library.level, library.propagate, library.handlers)
        library.handlers = handlers
        library.propagate = True
        library.setLevel(logging.WARNING)
    # Lightning says so of every training that has a logger and fewer batches than it logs after, which loses nothing.
    warnings.filterwarnings("ignore", "The number of training batches .* is smaller than the logging interval")


@contextmanager
def libraries_heard_again() -> Iterator[None]:
    """The libraries' loggers are at the end what they were before `hush_libraries`, or were made by their imports."""
    before = dict(_unhushed)
    _unhushed.clear()
    try:
        yield
    finally:
        for library, (level, propagates, handlers) in _unhushed.items():
            library.setLevel(level)
            library.propagate = propagates
            library.handlers = handlers
        _unhushed.clear()
        _unhushed.update(before)


@contextmanager
def libraries_hushed() -> Iterator[None]:
    """Keep the libraries' chatter off the terminal for the time of the block."""
    with libraries_heard_again():
        hush_libraries()
        yield
