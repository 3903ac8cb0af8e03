"""What is said of a disk that is full or closed."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from autotune.disk import disk_errors_said, file_errors_said, naming_file, stdout_errors_said
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


def test_a_file_that_cannot_be_used_is_named() -> None:
    with pytest.raises(UserError) as found, file_errors_said(Path("home")):
        raise PermissionError(errno.EACCES, "Permission denied", "/elsewhere/data.csv")
    assert str(found.value).startswith("home: /elsewhere/data.csv cannot be used (Permission denied)")


PRINTS = """
from autotune.disk import stdout_errors_said
from autotune.errors import UserError
import sys
try:
    with stdout_errors_said():
        print("an answer")
        sys.exit(0)
except UserError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
"""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no device that is always full")
@pytest.mark.parametrize("flags", [(), ("-u",)], ids=["buffered", "unbuffered"])
def test_a_full_stdout_is_said(flags: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, *flags, "-c", PRINTS], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    said = "stdout: what is printed cannot be written (No space left on device); give it another place\n"
    assert (ended.returncode, ended.stderr) == (2, said)


def raise_elsewhere() -> None:
    print("an answer")
    raise OSError(errno.EIO, "said", "elsewhere")


def test_an_error_that_is_not_stdouts_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OSError, match="elsewhere"), stdout_errors_said():
        raise_elsewhere()
    assert capsys.readouterr().out == "an answer\n"
