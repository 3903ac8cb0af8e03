from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from autotune.imports import uncollected
from autotune.reconcile import reconcile

from .commands import SMALL, start, wait


@pytest.mark.parametrize("is_on", [True, False])
def test_the_collector_rests_within_and_is_as_it_was_behind(is_on: bool) -> None:
    (gc.enable if is_on else gc.disable)()
    try:
        with uncollected():
            assert not gc.isenabled()
        assert gc.isenabled() == is_on
    finally:
        gc.enable()


def test_at_the_end_nothing_is_swept() -> None:
    script = """
import atexit, gc
from autotune.imports import leave_unswept
atexit.register(lambda: print(gc.get_freeze_count() > 0))
leave_unswept()
atexit.register(lambda: print(gc.get_freeze_count() > 0))
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["False", "True"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ("search", *SMALL, "study.name=second"),
        ("train", "from=first", "trainer.max_epochs=1"),
        ("report", "from=first"),
        ("sync",),
    ],
    ids=lambda command: command[0],
)
def test_what_a_command_leaves_is_closed_all_the_same(command: tuple[str, ...], cwd: Path) -> None:
    ended = wait(start(*command, cwd=cwd))
    assert (ended.code, ended.err) == (0, "")
    assert [file.name for file in (cwd / "mlruns").glob("mlflow.db*")] == ["mlflow.db"]
    assert reconcile(cwd / "mlruns") == []
