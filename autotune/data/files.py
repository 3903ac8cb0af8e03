"""Sources that are a user's file or folder."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from autotune.data.source import Source
from autotune.errors import UserError

Stamp = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, kw_only=True)
class FileSource(Source):
    """A file or a folder of the user's. What was read of it is kept for as long as it does not change.

    Args:
        path: Where it is.
        in_memory_limit: Bytes; what is larger is read when a batch asks for it.
        workers: Processes that read it then.
    """

    path: str
    in_memory_limit: int = 2 * 1024**3
    workers: int = field(default=0, compare=False)
    stamp: Stamp = field(init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.path or not isinstance(self.path, str):
            raise UserError("data.path", "nothing says where the data is", "give it: data.path=...")
        object.__setattr__(self, "stamp", tuple(_stamp(file) for file in self.files()))

    @property
    def place(self) -> Path:
        """The path."""
        return Path(self.path).expanduser()

    def files(self) -> Iterable[Path]:
        """The files that are read, always in the same order; a change to one of them makes other data of it.

        Raises:
            UserError: They are not there.
        """
        return [existing_file(self.place)]


def existing_file(path: Path) -> Path:
    """The path of a file that is there.

    Raises:
        UserError: It is not.
    """
    if _is_there(path, "file") and path.is_dir():
        raise UserError("data.path", f"{path} is a folder", "give the path of a file")
    if not path.is_file():
        raise UserError("data.path", f"{path} is no file of its own", "give a file that can be read twice")
    return path


def existing_folder(path: Path) -> Path:
    """The path of a folder that is there.

    Raises:
        UserError: It is not.
    """
    if _is_there(path, "folder") and not path.is_dir():
        raise UserError("data.path", f"{path} is a file", "give the path of a folder")
    return path


def _is_there(path: Path, kind: str) -> bool:
    """True. Raises UserError where there is nothing."""
    try:
        is_there = path.exists()
    except OSError as error:
        raise UserError(
            "data.path", f"{path} cannot be read ({error.strerror})", f"give the path of a {kind}"
        ) from error
    if not is_there:
        raise UserError("data.path", f"there is no {kind} {path}", _near(path))
    return True


def _near(path: Path) -> str:
    """What was probably meant, by the names beside it."""
    if path.is_symlink():
        return f"the link leads to {path.readlink()}"
    if not path.parent.is_dir():
        return f"{path.parent} is not there either"
    close = difflib.get_close_matches(path.name, [each.name for each in path.parent.iterdir()], n=1)
    return f"did you mean {path.parent / close[0]}?" if close else "give one that is there"


def _stamp(file: Path) -> tuple[str, int, int]:
    about = file.stat()
    return str(file.absolute()), about.st_size, about.st_mtime_ns
