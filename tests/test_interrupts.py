"""How a command ends that a signal interrupts."""

from __future__ import annotations

from pathlib import Path

import pytest

from .commands import Ended, script

# What Python itself would end by SIGINT for: an interrupt on its way out of the exec() of a text.
CAUGHT = """
import signal
from autotune.interrupts import Signalled, as_program
def main():
    try:
        exec("raise Signalled(signal.SIGTERM)", globals())
    except KeyboardInterrupt as interrupt:
        print("caught")
        raise SystemExit(interrupt.exit_code)
as_program(main)
"""
AT_ONCE = """
import os, signal, sys
from functools import partial
from autotune.interrupts import handling_signals, leave_at_once, undone_first
leave_at_once()
with undone_first(partial(print, "undone")):
    if sys.argv[1] == "forked":
        pid = os.fork()
        if pid:
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            sys.exit()
    if sys.argv[1] == "handled":
        with handling_signals(lambda by: print(by.name)):
            signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGTERM)
print("never said")
"""


def test_an_interrupt_that_was_caught_ends_by_the_code_that_is_given(tmp_path: Path) -> None:
    assert script(CAUGHT, cwd=tmp_path) == Ended(143, "caught\n", "")


@pytest.mark.parametrize(
    ("how", "ended"),
    [
        ("plain", Ended(143, "undone\n", "")),
        ("handled", Ended(143, "SIGINT\n", "")),  # what was done by then is kept
        ("forked", Ended(0, "143\n", "")),
    ],
)
def test_what_has_nothing_to_end_ends_at_once(how: str, ended: Ended, tmp_path: Path) -> None:
    assert script(AT_ONCE, how, cwd=tmp_path) == ended
