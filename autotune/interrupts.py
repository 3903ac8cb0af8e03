"""Ctrl-C and SIGTERM, from a command's first import to its last line.

A command that has nothing to end in good order yet ends at once, by its code (`leave_at_once`): an exception would be
raised in the middle of an import, where it makes a traceback of its own or is lost. What has something to end says how
with `handling_signals`.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
_undone_first: list[Callable[[], None]] = []


class Signalled(KeyboardInterrupt):
    """A signal that ends what is under way.

    A class of its own because of Python, which ends by SIGINT, whatever the exit code says, once a KeyboardInterrupt
    itself has left the exec() of a text (as class makers have), even where it is caught behind that.

    Args:
        by: The signal.
    """

    def __init__(self, by: signal.Signals) -> None:
        self.exit_code = EXIT_CODES[by]
        super().__init__(by.name)


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """The exit code of a command that an exception interrupted."""
    return interrupt.exit_code if isinstance(interrupt, Signalled) else EXIT_CODES[signal.SIGINT]


def leave_at_once() -> None:
    """Have either signal end this process at once, by its code and without a word."""
    process = os.getpid()

    def leave(number: int, _: FrameType | None) -> None:
        ignore()
        if os.getpid() == process:  # not one that was forked from it
            for undo in _undone_first:
                with suppress(Exception):
                    undo()
            for stream in (sys.stdout, sys.stderr):
                with suppress(Exception):  # closed, full, or in the middle of a write
                    stream.flush()
        os._exit(EXIT_CODES[signal.Signals(number)])

    for number in EXIT_CODES:
        signal.signal(number, leave)


@contextmanager
def undone_first(undo: Callable[[], None]) -> Iterator[None]:
    """Within it, what ends the process at once has this done first; no more once `handling_signals` took over."""
    _undone_first.append(undo)
    try:
        yield
    finally:
        with suppress(ValueError):
            _undone_first.remove(undo)


@contextmanager
def handling_signals(handle: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Within it, Ctrl-C and SIGTERM are handled so; afterwards as before. Only the main thread hears them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handler(number: int, _: FrameType | None) -> None:
        handle(signal.Signals(number))

    previous = {number: signal.signal(number, handler) for number in EXIT_CODES}
    _undone_first.clear()
    try:
        yield
    finally:
        for number, earlier in previous.items():
            signal.signal(number, earlier)


def ignore() -> None:
    """Hear neither signal any more."""
    for number in EXIT_CODES:
        signal.signal(number, signal.SIG_IGN)


def as_program(main: Callable[[], None]) -> None:
    """Run a command as what this process is for: one that was interrupted is no more disturbed in its ending."""
    code: Any = None
    try:
        main()
    except KeyboardInterrupt as interrupt:
        code = exit_code(interrupt)
    except SystemExit as end:
        code = end.code
    if code in EXIT_CODES.values():
        ignore()
    raise SystemExit(code)
