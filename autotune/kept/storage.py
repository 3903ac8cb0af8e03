"""Where a study is kept, and who may write to it."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import BaseJournalBackend

from autotune.errors import UserError, first_line
from autotune.trust.masking import mask


class OwnedJournal(BaseJournalBackend):
    """Optuna's journal file, written by one process that owns it.

    The file is the one `optuna.storages.journal.JournalFileBackend` writes, so every Optuna tool opens it. Owning it
    spares a lock, an open and an fsync an operation: what is appended reaches the operating system at once, so it
    survives this process, and the disk at `sync`. A last line that a crash or a full disk cut off is dropped when
    the file is opened, without which it could never be written again.

    Args:
        path: The journal, made where it is missing.
    """

    def __init__(self, path: Path) -> None:
        path.touch()
        self._file = path.open("r+b")
        self._mend()
        self._count = 0
        self._unread: list[dict[str, Any]] = []

    def _mend(self) -> None:
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            self._file.truncate(whole)
        self._file.seek(whole)

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        """The operations from a number on. What this process wrote last is answered from memory."""
        first_unread = self._count - len(self._unread)
        if self._count and log_number_from >= first_unread:
            logs = self._unread[log_number_from - first_unread :]
        else:
            end = self._file.tell()
            self._file.seek(0)
            lines = self._file.read(end).splitlines()
            self._count = len(lines)
            logs = [json.loads(line) for line in lines[log_number_from:]]
        self._unread = []
        return logs

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write operations behind the last one."""
        lines = [json.dumps(log, separators=(",", ":")) for log in logs]
        parsed = [json.loads(line) for line in lines]
        try:
            self._file.write("".join(f"{line}\n" for line in lines).encode())
            self._file.flush()
            self._unread += parsed
            self._count += len(lines)
        except BaseException:  # a signal too: what of it is in the file is read from there
            self.forget()
            raise

    def forget(self) -> None:
        """Answer from the file next time, not from memory."""
        self._unread, self._count = [], 0

    def sync(self) -> None:
        """Wait until the disk has all that was written."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Sync and let go of the file; once closed, stay closed."""
        if not self._file.closed:
            self.sync()
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
        return [json.loads(line) for line in lines[skipped:]]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Refused: it is another's."""
        raise PermissionError(f"{self._path} is open for reading")


class StudyLock:
    """Keeps a study to one coordinator; a dead process holds nothing.

    Args:
        folder: The study's folder.
        key: What the study was named by, for the mistake.

    Raises:
        UserError: Another process has the study; says which.
    """

    FILE = "study.lock"

    def __init__(self, folder: Path, key: str = "study.name") -> None:
        self._path = folder / self.FILE
        self._key = key

    def __enter__(self) -> StudyLock:
        while True:
            self._file = self._path.open("a+")
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise self._held() from None
            # Its last holder may have removed the file after we opened it: a lock on that one locks nobody out.
            if self._path.exists() and os.fstat(self._file.fileno()).st_ino == self._path.stat().st_ino:
                break
            self._file.close()
        self._file.truncate(0)
        self._file.write(
            f"process {os.getpid()} on {socket.gethostname()} since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
        )
        self._file.flush()
        return self

    def _held(self) -> UserError:
        self._file.seek(0)
        holder = self._file.read().strip() or "another process"
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
        self._path.unlink(missing_ok=True)
        self._file.close()


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
        return JournalStorage(journal), journal
    return _database(str(url)), None


def read_storage(section: Mapping[str, Any], folder: Path) -> BaseStorage:
    """Open the storage a config names to read a study that is there.

    Raises:
        UserError: It is not there, or the database cannot be opened.
    """
    url = section.get("url")
    if url is not None:
        return _database(str(url))
    path = folder / "study.journal"
    if not path.is_file():
        raise UserError("from", f"the study {folder.name} has no study.journal", "search first, or name another study")
    return JournalStorage(ReadJournal(path))


def _database(url: str) -> RDBStorage:
    try:
        return RDBStorage(url)
    except Exception as error:  # SQLAlchemy and the drivers raise their own kinds; each means the URL does not serve
        said = first_line(error)
        raise UserError(
            "storage.url", mask(f"{url} cannot be opened ({said})"), "give a URL as in sqlite:///study.db"
        ) from error
