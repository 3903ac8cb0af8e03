from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from autotune.tracking import mlflow as tracking
from autotune.tracking import remote
from autotune.tracking.messages import Failure, Line
from autotune.tracking.mlflow import MlflowTracker
from autotune.tracking.remote import RemoteMirror, WriterEndedError
from tests.tracking.stories import THE_STUDY, completed


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("/bin/false", "it ended with code 1"),
        ("/nowhere/python", "it cannot be started: [Errno 2] No such file or directory: '/nowhere/python'"),
    ],
)
def test_a_writer_that_cannot_live_is_given_up(
    home: Path, monkeypatch: pytest.MonkeyPatch, warned: Callable[[], list[str]], program: str, why: str
) -> None:
    monkeypatch.setattr(sys, "executable", program)
    started: list[object] = []
    works = remote.start_process
    monkeypatch.setattr(remote, "start_process", lambda *given: (started.append(given), works(*given))[1])
    tracker = MlflowTracker(home)
    tracker.search_started(THE_STUDY, {}, "", resumed=False)
    tracker.trial_ended(completed(0))
    tracker.close()
    again, given_up, incomplete = warned()
    assert again.endswith(f"ended and is started again: {why}")
    assert given_up.endswith(f"ended and is not started again: {why}")
    assert "is incomplete: 1 trials are not written in full; the study itself is whole" in incomplete
    assert len(started) == tracking.RESTARTS + 1


def test_what_a_writer_prints_last_is_said_with_its_end(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "yaml.py").write_text("raise RuntimeError('nothing at https://me:hunter2@host')")
    monkeypatch.syspath_prepend(tmp_path)
    mirror = RemoteMirror(f"sqlite:///{home}/mlflow.db", home, "autotune")
    with pytest.raises(WriterEndedError, match=r"^it ended with code 1: RuntimeError: nothing at https://\*\*\*@host$"):
        mirror.open("s")


def test_a_mirror_that_was_given_up_starts_no_process(home: Path) -> None:
    mirror = RemoteMirror(f"sqlite:///{home}/mlflow.db", home, "autotune")
    mirror.kill()
    with pytest.raises(WriterEndedError, match="given up"):
        mirror.open("s")
    with pytest.raises(WriterEndedError, match="not started"):
        mirror.close()


def test_a_line_that_no_log_takes_is_not_said(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = logging.getLogger("a_library.of_the_writer")
    monkeypatch.setattr(logger, "propagate", False)
    remote._pass_on(Line(logging.WARNING, logger.name, "100% done"))
    assert capfd.readouterr() == ("", "")


def test_a_failure_says_no_password_and_not_everything() -> None:
    failure = Failure.of(ValueError("no\npostgresql://me:hunter2@host/db " + "x" * 1000), is_final=True)
    assert failure.said.startswith("no postgresql://***@host/db xxx")
    assert len(failure.said) == 300
    assert Failure.of(KeyboardInterruptError(), is_final=False).said == "KeyboardInterruptError"


class KeyboardInterruptError(Exception):
    """Says nothing."""
