"""Files that are whole at every moment."""

from __future__ import annotations

import os
from pathlib import Path

from autotune.disk import naming_file


def write_whole(path: Path, content: str | bytes | memoryview) -> Path:
    """Replace a file at once: whoever reads it sees the old or the new one, never a part, also after a crash.

    Raises:
        OSError: It cannot be written; names it, and the old one is as it was.
    """
    fresh = path.with_name(f".{path.name}.new")
    with naming_file(path):
        try:
            with fresh.open("wb", buffering=0) as file:
                left = memoryview(content.encode() if isinstance(content, str) else content)
                while left:
                    left = left[file.write(left) :]
                os.fsync(file.fileno())
            fresh.replace(path)
        except OSError:
            fresh.unlink(missing_ok=True)  # a part of it is of no use, and a full disk has better use for the room
            raise
    return path
