"""What is said where a disk is full or may not be written to."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
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
def naming_file(path: Path) -> Iterator[None]:
    """Have an OSError within it name a file: one that writing raises names none."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
