"""What is said of a disk that is full or closed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from autotune.disk import disk_errors_said, naming_file
from autotune.errors import UserError


@pytest.mark.parametrize(
    ("number", "file", "said"),
    [
        (errno.ENOSPC, "home/a", "home: home/a cannot be written (No space left on device); make room; the same"),
        (errno.EFBIG, None, "home: home cannot be written (File too large); make room; the same command goes on"),
        (errno.ENOSPC, "/tmp/b", "disk: /tmp/b cannot be written (No space left on device); make room; the same"),
        (errno.EROFS, Path("home/a"), "home: home/a cannot be written (Read-only file system); have it writable, or"),
    ],
)
def test_what_cannot_be_written_is_named(number: int, file: object, said: str) -> None:
    with pytest.raises(UserError) as found, disk_errors_said(Path("home")):
        raise OSError(number, os.strerror(number), *([] if file is None else [file]))
    assert str(found.value).startswith(said)


@pytest.mark.parametrize(("number", "file"), [(errno.EACCES, "/elsewhere/data.csv"), (errno.ENOENT, "home/a")])
def test_what_is_not_of_the_disk_is_left_alone(number: int, file: str) -> None:
    with pytest.raises(OSError, match=file), disk_errors_said(Path("home")):
        raise OSError(number, "said", file)


def test_an_error_of_writing_gets_the_files_name() -> None:
    with pytest.raises(OSError, match="full") as found, naming_file(Path("a/b")):
        raise OSError(errno.ENOSPC, "full")
    assert (found.value.errno, found.value.filename) == (errno.ENOSPC, "a/b")
