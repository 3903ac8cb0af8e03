"""kill -9 of a search at random moments: the same command goes on, and nothing is lost."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from ..commands import start, summary, wait
from .searching import Progress, assert_files_are_whole, assert_nothing_is_lost, draw, told, typed, until

KILLS = 20
BUDGET = 100
CONFIRMED = 2

pytestmark = pytest.mark.slow


def test_killed_at_random_moments_it_loses_nothing(tmp_path: Path) -> None:
    chance = draw("kill -9")
    home = tmp_path / "mlruns"
    study = home / "studies" / "killed"
    arguments = typed("killed", BUDGET)
    in_processes = [*arguments, "executor.workers=2"]
    progress = Progress(study / "study.journal")
    before = told("killed", home)
    # Moments by how much has ended, with those after the last one, in which the answer is written.
    for kill, moment in enumerate(sorted(chance.randint(0, BUDGET + CONFIRMED + 3) for _ in range(KILLS))):
        process = start("search", *(in_processes if kill % 2 else arguments), cwd=tmp_path)
        enough = min(moment, BUDGET + CONFIRMED)
        until(lambda process=process, enough=enough: process.poll() is not None or progress.look() >= enough)
        time.sleep(chance.uniform(0, 3.0 if moment > enough or enough == progress.ended == 0 else 0.1))
        process.send_signal(signal.SIGKILL)
        ended = wait(process)
        assert ended.code in (0, -signal.SIGKILL), ended
        assert_files_are_whole(study)
        after = told("killed", home)
        before.assert_kept_by(after)
        before = after
    ended = wait(start("search", *arguments, cwd=tmp_path))
    assert ended.code == 0, ended
    after = told("killed", home)
    before.assert_kept_by(after)
    assert len(after.configs) == len(after.ended) == summary(study)["trials"] == BUDGET
    assert_nothing_is_lost(home)
