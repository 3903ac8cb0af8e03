"""What is said where a disk is full, a file may not be read or written, or nobody takes what is printed."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from autotune.errors import UserError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_CLOSED = {errno.EROFS, errno.EACCES, errno.EPERM}


@contextmanager
def disk_errors_said(home: Path) -> Iterator[None]:
    """Say in one line that a disk is full, or that the home cannot be written to.

    Raises:
        UserError: Says which file, and what helps.
    """
    try:
        yield
    except OSError as error:
        said = f"{error.filename or home} cannot be written ({error.strerror})"
        is_ours = error.filename is None or Path(os.fsdecode(error.filename)).resolve().is_relative_to(home.resolve())
        if error.errno in _FULL:
            raise UserError("home" if is_ours else "disk", said, "make room; the same command goes on") from error
        if error.errno in _CLOSED and is_ours:
            raise UserError("home", said, "have it writable, or give a folder of your own: home=...") from error
        raise


@contextmanager
def file_errors_said(home: Path) -> Iterator[None]:
    """Say in one line what is wrong with a file, whichever it is: around what runs no code of the user's.

    Raises:
        UserError: Says which file.
    """
    try:
        with disk_errors_said(home):
            yield
    except OSError as error:
        if error.filename is None:
            raise
        said = f"{os.fsdecode(error.filename)} cannot be used ({error.strerror})"
        raise UserError("home", said, "see to it, or give a folder of your own: home=...") from error


@contextmanager
def stdout_errors_said() -> Iterator[None]:
    """Say in one line that what is printed cannot be written; whoever stops reading (``| head``) is told nothing.

    Raises:
        UserError: It cannot.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and (why := unprintable("\n")) is not None:
            raise UserError("stdout", f"what is printed cannot be written ({why})", "give it another place") from error
        if not isinstance(error, BrokenPipeError):
            raise
    except SystemExit:
        _check_printed()
        raise
    _check_printed()


def _check_printed() -> None:
    if (why := unprintable()) is not None:
        raise UserError("stdout", f"what is printed cannot be written ({why})", "give it another place")


def unprintable(more: str = "") -> str | None:
    """Why what was printed cannot be written; None where it can, or nobody reads it. What follows goes nowhere then.

    Args:
        more: Is printed too: where stdout has no buffer, nothing is left of what could not be written.
    """
    try:
        if sys.stdout is not None:
            print(end=more, flush=True)
    except OSError as error:
        with suppress(OSError, ValueError), Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return None if isinstance(error, BrokenPipeError) else str(error.strerror)
    return None


@contextmanager
def naming_file(path: Path) -> Iterator[None]:
    """Have an OSError within it name a file: one that writing raises names none."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
