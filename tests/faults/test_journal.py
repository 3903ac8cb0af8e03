"""A journal that is cut off in the middle of a line: what had ended before is kept, and the search goes on."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from ..commands import run
from .searching import assert_nothing_is_lost, draw, told, typed

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("thread")]

CUTS = 4


def test_a_torn_journal_keeps_what_had_ended(tmp_path: Path) -> None:
    chance = draw("torn journal")
    arguments = typed("torn", 4, "executor=population")
    whole = tmp_path / "whole"
    whole.mkdir()
    assert run("search", *arguments, cwd=whole).code == 0
    content = (whole / "mlruns/studies/torn/study.journal").read_bytes()
    first = content.index(b'"op_code":4')  # the first trial
    ends = re.findall(rb'[^\n]*"op_code":6,[^\n]*"state":[123][,}][^\n]*\n', content)
    for number in range(CUTS):
        cwd = tmp_path / str(number)
        home = cwd / "mlruns"
        shutil.copytree(whole / "mlruns", home)
        journal = home / "studies/torn/study.journal"
        cut = chance.randrange(first, len(content))
        while content[cut - 1 : cut] == b"\n":
            cut -= 1
        journal.write_bytes(content[:cut])
        before = told("torn", home)
        assert len(before.ended) == sum(line in content[:cut] for line in ends)
        ended = run("search", *arguments, cwd=cwd)
        assert (ended.code, ended.err) == (0, "")
        after = told("torn", home)
        before.assert_kept_by(after)
        assert len(after.ended) == 4
        assert_nothing_is_lost(home)
