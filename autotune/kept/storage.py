"""Where a study is kept, and who may write to it."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import BaseJournalBackend

from autotune.disk import naming_file
from autotune.errors import UserError, first_line
from autotune.kept.database import open_database
from autotune.sqlite_url import quoted_below


class OwnedJournal(BaseJournalBackend):
    """Optuna's journal file, written by one process that owns it.

    The file is the one `optuna.storages.journal.JournalFileBackend` writes, so every Optuna tool opens it. Owning it
    spares a lock, an open and an fsync an operation: what is appended reaches the operating system at once, so it
    survives this process, and the disk at `sync`. What a crash, a signal or a full disk cut off is dropped before
    anything is written behind it, without which the file could never be read again.

    Args:
        path: The journal, made where it is missing.
    """

    def __init__(self, path: Path) -> None:
        path.touch()
        self._path = path
        self._file = path.open("r+b", buffering=0)  # what is kept back would be written later, behind what is dropped
        content = self._file.read()
        self._end = content.rfind(b"\n") + 1  # of what was written as a whole
        self._is_torn = self._end < len(content)
        self._mend()
        self._count = 0
        self._unread: list[dict[str, Any]] = []

    def _mend(self) -> None:
        if self._is_torn:
            self._file.truncate(self._end)
            self._is_torn = False

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        """The operations from a number on. What this process wrote last is answered from memory."""
        first_unread = self._count - len(self._unread)
        if self._count and log_number_from >= first_unread:
            logs = self._unread[log_number_from - first_unread :]
        else:
            with open(self._file.fileno(), "rb", closefd=False) as file:
                file.seek(0)
                lines = file.read(self._end).splitlines()
            self._count = len(lines)
            logs = [_operation(line) for line in lines[log_number_from:]]
        self._unread = []
        return logs

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write operations behind the last one: all of them or, where it raises, none.

        Raises:
            OSError: They cannot be written; names the file.
        """
        lines = [json.dumps(log, separators=(",", ":")) for log in logs]
        parsed = [_operation(line) for line in lines]
        try:
            self._mend()
            self._is_torn = True
            self._end, self._is_torn = self._write("".join(f"{line}\n" for line in lines).encode()), False
            self._unread += parsed
            self._count += len(lines)
        except BaseException:  # a signal too
            self.forget()
            with suppress(OSError):  # then before the next ones
                self._mend()
            raise

    def _write(self, content: bytes) -> int:
        """Write behind the last whole line; returns where that ends."""
        place, left = self._end, memoryview(content)
        with naming_file(self._path):
            while left:
                written = os.pwrite(self._file.fileno(), left, place)
                place, left = place + written, left[written:]
        return place

    def forget(self) -> None:
        """Answer from the file next time, not from memory."""
        self._unread, self._count = [], 0

    def sync(self) -> None:
        """Wait until the disk has all that was written.

        Raises:
            OSError: It does not take it; names the file.
        """
        with naming_file(self._path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Sync and let go of the file; once closed, stay closed."""
        if not self._file.closed:
            try:
                self.sync()
            finally:
                self._file.close()


class ReadJournal(BaseJournalBackend):
    """Optuna's journal file for reading, also while another process writes it: a last line not yet whole is left out.

    Args:
        path: The journal.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._count = self._place = 0  # how many operations were read, and where the next one begins

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        """The operations from a number on."""
        if log_number_from < self._count:
            self._count = self._place = 0
        with self._path.open("rb") as file:
            file.seek(self._place)
            content = file.read()
        whole = content.rfind(b"\n") + 1
        lines = content[:whole].splitlines()
        skipped = log_number_from - self._count
        self._count, self._place = self._count + len(lines), self._place + whole
        return [_operation(line) for line in lines[skipped:]]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Refused: it is another's."""
        raise PermissionError(f"{self._path} is open for reading")


def _operation(line: str | bytes) -> dict[str, Any]:
    """A line of a journal. A study in memory consists of these: words that trials have in common are there once."""
    operation: dict[str, Any] = json.loads(line, object_pairs_hook=_shared)
    return operation


def _shared(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {sys.intern(key): sys.intern(value) if isinstance(value, str) else value for key, value in pairs}


class StudyLock:
    """Keeps a study to one coordinator; a dead process holds nothing.

    Args:
        folder: The study's folder.
        key: What the study was named by, for the mistake.

    Raises:
        UserError: Another process has the study; says which.
        OSError: The folder cannot be written to; names the file.
    """

    FILE = "study.lock"

    def __init__(self, folder: Path, key: str = "study.name") -> None:
        self._path = folder / self.FILE
        self._key = key

    def __enter__(self) -> StudyLock:
        while True:
            self._file = self._path.open("ab+", buffering=0)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise self._held() from None
            # Its last holder may have removed the file after we opened it: a lock on that one locks nobody out.
            if self._path.exists() and os.fstat(self._file.fileno()).st_ino == self._path.stat().st_ino:
                break
            self._file.close()
        holder = f"process {os.getpid()} on {socket.gethostname()} since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
        try:
            with naming_file(self._path):
                self._file.truncate(0)
                self._file.write(holder.encode())
        except OSError:
            self._let_go()
            raise
        return self

    def _held(self) -> UserError:
        self._file.seek(0)
        holder = self._file.read().decode(errors="replace").strip() or "another process"
        self._file.close()
        return UserError(
            self._key, f"{self._path.parent.name} is held by {holder}", "wait for it, or give another name"
        )

    @classmethod
    def is_held(cls, folder: Path) -> bool:
        """Whether a process has the study at the moment."""
        try:
            with (folder / cls.FILE).open("r") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._let_go()

    def _let_go(self) -> None:
        with suppress(OSError):  # a disk that was made read-only meanwhile: a lock that nobody holds locks nobody out
            self._path.unlink(missing_ok=True)
        self._file.close()


def folders(home: Path) -> list[Path]:
    """The folders in that of a home's studies.

    Raises:
        UserError: It cannot be read.
    """
    whole = home / "studies"
    try:
        return [folder for folder in whole.iterdir() if folder.is_dir()] if os.path.lexists(whole) else []
    except OSError as error:
        problem = f"{whole} cannot be read ({error.strerror})"
        raise UserError("home", problem, "give the home of your searches: home=...") from error


def open_storage(section: Mapping[str, Any], folder: Path) -> tuple[BaseStorage, OwnedJournal | None]:
    """Open the storage a config names; the journal is given too where it is one.

    Args:
        section: The resolved section ``storage``.
        folder: The study's folder, which exists.

    Raises:
        UserError: The database cannot be opened.
    """
    url = section.get("url")
    if url is None:
        journal = OwnedJournal(folder / "study.journal")
        return _journal("study.name", folder / "study.journal", journal), journal
    return open_database(quoted_below(str(url), folder)), None


def read_storage(section: Mapping[str, Any], folder: Path) -> BaseStorage:
    """Open the storage a config names to read a study that is there.

    Raises:
        UserError: It is not there, or the database cannot be opened.
    """
    url = section.get("url")
    if url is not None:
        return open_database(quoted_below(str(url), folder))
    path = folder / "study.journal"
    if not path.is_file():
        raise UserError("from", f"the study {folder.name} has no study.journal", "search first, or name another study")
    return _journal("from", path, ReadJournal(path))


def _journal(key: str, path: Path, journal: BaseJournalBackend) -> JournalStorage:
    try:
        return JournalStorage(journal)
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        AssertionError,
    ) as error:  # of lines that Optuna never wrote
        problem = f"{path} is no journal of Optuna's ({type(error).__name__}: {first_line(error)})"
        raise UserError(key, problem, "have a whole copy in its place, or name another study") from error
