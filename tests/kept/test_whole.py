"""Files that are replaced as a whole."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from autotune.kept.whole import write_whole


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path: Path) -> None:
    path = write_whole(tmp_path / "summary.json", "first")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))  # a file that grows no more is as on a full disk
    try:
        with pytest.raises(OSError, match="File too large") as found:
            write_whole(path, "x" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert found.value.filename == str(path)
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("summary.json", "first")]
