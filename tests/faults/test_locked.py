"""mlflow.db locked by another process, as a backup or a hung tool does: no trial waits, and nothing is lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ..commands import run, start, summary, wait
from .searching import Progress, assert_nothing_is_lost, told, typed, until

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("thread")]

TRIALS = 20
# Seconds for which the database stays locked once all trials have ended.
LOCKED = float(os.environ.get("FAULTS_LOCKED", "0"))
HOLD = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
time.sleep(600)
"""


@contextmanager
def locked(database: Path) -> Iterator[subprocess.Popen[str]]:
    """Within it another process has a database to itself."""
    command = [sys.executable, "-c", HOLD, str(database)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        try:
            yield holder
        finally:
            holder.send_signal(signal.SIGKILL)


@pytest.mark.parametrize("moment", ["from before the start", "in the middle"])
def test_trials_do_not_wait_for_a_locked_database(moment: str, tmp_path: Path, schema: Path) -> None:
    home = tmp_path / "mlruns"
    home.mkdir()
    database = Path(shutil.copy(schema, home))
    progress = Progress(home / "studies" / "locked" / "study.journal")
    begun = threading.Event()

    def lock() -> None:
        until(lambda: moment == "from before the start" or progress.look() >= 2)
        with locked(database):
            begun.set()
            until(lambda: progress.look() == TRIALS)
            time.sleep(LOCKED)

    locker = threading.Thread(target=lock)
    locker.start()
    if moment == "from before the start":
        assert begun.wait(60)
    arguments = typed("locked", TRIALS, "executor=lightning", "tracking.flush_seconds=0.2", "confirm.top=0")
    ended = run("search", *arguments, cwd=tmp_path)
    locker.join()
    assert (ended.code, ended.err) == (0, "")
    assert "is incomplete" not in ended.out
    assert len(told("locked", home).ended) == TRIALS
    assert_nothing_is_lost(home)


def test_a_database_locked_for_good_ends_no_search(tmp_path: Path, schema: Path) -> None:
    home = tmp_path / "mlruns"
    home.mkdir()
    with locked(Path(shutil.copy(schema, home))):
        ended = wait(start("search", *typed("locked", 2, "confirm.top=0"), cwd=tmp_path))
        assert (ended.code, ended.err) == (0, "")
        said = "the mirror in MLflow (sqlite:///mlruns/mlflow.db) is incomplete: 2 trials are not written in full; "
        said += "the study itself is whole, and this writes the rest: python -m autotune.sync from=locked\n"
        assert said in ended.out
        assert summary(home / "studies" / "locked")["states"] == {"COMPLETE": 2}
        ended = run("sync", "from=locked", cwd=tmp_path)
        assert (ended.code, ended.err) == (1, "")
        assert ended.out.startswith("locked: not written (")
    ended = run("sync", cwd=tmp_path)
    assert (ended.code, ended.err, ended.out) == (0, "", "locked: 3 runs written\n")
    assert_nothing_is_lost(home)
