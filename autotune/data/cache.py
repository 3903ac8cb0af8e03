"""Files made once from a user's file and kept in the system's temporary folder (TMPDIR) for the next process."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path


def cached(path: Path, stamp: object, options: object, write: Callable[[Path], None]) -> Path:
    """A folder with what was made of a file, made now where it is not there yet.

    Args:
        path: The user's file. What was made of an earlier state of it is removed.
        stamp: Changes where the file does.
        options: What else the content depends on.
        write: Fills an empty folder.
    """
    home = _home()
    of_path, of_stamp, of_options = (_short(part) for part in (path.resolve(), stamp, options))
    made = home / f"{of_path}-{of_stamp}-{of_options}"
    if made.exists():
        return made
    for other in home.glob(f"{of_path}-*"):
        if not other.name.startswith(f"{of_path}-{of_stamp}-"):
            shutil.rmtree(other, ignore_errors=True)
    unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=home))
    try:
        write(unfinished)
        unfinished.rename(made)
    except OSError:
        if not made.exists():  # where it does, another process was faster
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return made


def _home() -> Path:
    """A folder that no other user can put files into."""
    home = Path(tempfile.gettempdir()) / f"autotune-{os.getuid() if hasattr(os, 'getuid') else 'data'}"
    home.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "getuid") and home.lstat().st_uid != os.getuid():
        return Path(tempfile.mkdtemp(prefix="autotune-"))
    return home


def _short(part: object) -> str:
    return sha256(repr(part).encode()).hexdigest()[:16]
