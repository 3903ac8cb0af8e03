"""Ctrl-C and SIGTERM, once and twice: the search ends in good order or at once, and goes on by the same command."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from ..commands import run, start, summary, wait
from .searching import assert_files_are_whole, assert_nothing_is_lost, draw, told, typed, until

pytestmark = pytest.mark.slow

LONG = ("trainer.max_epochs=60", "executor.slots=2", "pruner=none", "executor=population")


@pytest.mark.parametrize(
    ("number", "code", "second"),
    [
        (signal.SIGINT, 130, "none"),
        (signal.SIGINT, 130, "at once"),
        (signal.SIGINT, 130, "while the report is written"),
        (signal.SIGTERM, 143, "none"),
        (signal.SIGTERM, 143, "at once"),
    ],
)
def test_an_interrupted_search_goes_on(number: signal.Signals, code: int, second: str, tmp_path: Path) -> None:
    home = tmp_path / "mlruns"
    study = home / "studies" / "stopped"
    arguments = typed("stopped", 3, *LONG)
    process = start("search", *arguments, cwd=tmp_path)
    journal = study / "study.journal"
    until(lambda: journal.exists() and '"intermediate_value"' in journal.read_text())
    process.send_signal(number)
    if second == "at once":
        time.sleep(0.02)
        process.send_signal(number)
    elif second != "none":
        until(lambda: (study / "summary.json").exists())
        process.send_signal(number)
    ended = wait(process)
    assert (ended.code, ended.err) == (code, "")
    assert "interrupted; the same command with study.name=stopped goes on" in ended.out
    assert_files_are_whole(study)
    assert summary(study)["states"].keys() <= {"COMPLETE", "WAITING"}
    assert (study / "report.html").exists() or second != "none"
    before = told("stopped", home)
    if second == "none":
        assert_nothing_is_lost(home)

    ended = run("search", *arguments, cwd=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    after = told("stopped", home)
    before.assert_kept_by(after)
    assert len(after.ended) == 3
    assert_nothing_is_lost(home)


# How many moments are tried with each signal.
EARLY = int(os.environ.get("FAULTS_EARLY", "3"))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells which signals a process has taken over")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_search_that_is_interrupted_while_it_is_imported_leaves_nothing(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    chance = draw("early signals")
    for moment in range(EARLY):
        cwd = tmp_path / str(moment)
        cwd.mkdir()
        process = start("search", *typed("early", 3, *LONG), cwd=cwd)
        until(lambda pid=process.pid: _hears(pid, signal.SIGTERM))
        time.sleep(chance.uniform(0, 1.5))
        process.send_signal(number)
        ended = wait(process)
        assert (ended.code, ended.err) == (code, "")
        # One that had come so far as to search has ended in good order.
        assert (cwd / "mlruns").exists() == ("the same command with study.name=early goes on" in ended.out)
        assert_nothing_is_lost(cwd / "mlruns")


def _hears(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler of its own for a signal."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return bool(int(fields["SigCgt"], 16) >> (number - 1) & 1)
