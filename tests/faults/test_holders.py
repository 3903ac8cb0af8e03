"""Several at once: two searches of one study, a holder that died, eight studies of a home that is not there yet."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from autotune.kept.storage import StudyLock

from ..commands import run, start, wait
from .searching import Progress, assert_nothing_is_lost, told, typed, until

pytestmark = pytest.mark.slow


@pytest.mark.usefixtures("thread")
def test_a_study_has_one_search_and_a_dead_one_holds_nothing(tmp_path: Path) -> None:
    study = tmp_path / "mlruns" / "studies" / "held"
    arguments = typed("held", 6, "trainer.max_epochs=20", "pruner=none", "executor=lightning")
    process = start("search", *arguments, cwd=tmp_path)
    progress = Progress(study / "study.journal")
    until(lambda: progress.look() > 0)
    ended = run("search", *arguments, cwd=tmp_path)
    assert ended.code == 2
    holder = rf"process {process.pid} on {re.escape(os.uname().nodename)} since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC"
    assert re.fullmatch(f"error: study.name: held is held by {holder}; wait for it, or give another name\n", ended.err)
    ended = run("sync", "from=held", cwd=tmp_path)
    assert ended.code == 2
    assert ended.err.startswith(f"error: from: held is held by process {process.pid} on ")
    process.send_signal(signal.SIGKILL)
    wait(process)
    assert not StudyLock.is_held(study)
    before = told("held", study.parent.parent)
    ended = run("search", *arguments, cwd=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    before.assert_kept_by(told("held", study.parent.parent))
    assert_nothing_is_lost(tmp_path / "mlruns")


def test_eight_studies_begin_at_once_in_a_home_that_is_not_there(tmp_path: Path) -> None:
    home = tmp_path / "mlruns"
    processes = [start("search", *typed(f"study{number}", 2, "confirm.top=0"), cwd=tmp_path) for number in range(8)]
    ends = [wait(process) for process in processes]
    assert [(ended.code, ended.err) for ended in ends] == [(0, "")] * 8
    assert [len(told(f"study{number}", home).ended) for number in range(8)] == [2] * 8
    assert_nothing_is_lost(home)
