"""Ctrl-C and SIGTERM, once and twice: the search ends in good order or at once, and goes on by the same command."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from ..commands import run, start, summary, wait
from .searching import assert_files_are_whole, assert_nothing_is_lost, told, typed, until

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
    # A second signal may reach Python itself on its way out, which then ends by SIGINT: a shell sees 130.
    codes = (code, -signal.SIGINT) if second == "at once" else (code,)
    assert (ended.code in codes, ended.err) == (True, ""), ended.code
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
