"""The list of studies: what each has come to, whatever state its files are in."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from autotune.kept.storage import StudyLock
from autotune.studies import FIELDS, Row, rows

from .commands import Ended, files, run, start, wait

TINY = (
    *("trainer.accelerator=cpu", "trainer.max_epochs=2", "study.enqueue=[]", "sampler=random", "pruner=none"),
    *("optimizer=adam", "optimizer.lr=tag(log,interval(1e-4,1e-1))", "schedule=constant", "data.batch_size=64"),
    *("model.batch_norm=false", "tracking=none"),
)


def listed(ended: Ended) -> list[dict[str, str]]:
    """What a script reads."""
    assert (ended.code, ended.err) == (0, "")
    head, *lines = ended.out.splitlines()
    assert tuple(head.split("\t")) == FIELDS
    return [dict(zip(FIELDS, line.split("\t"), strict=True)) for line in lines]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in whose home is one finished study of two trials."""
    cwd = tmp_path_factory.mktemp("made")
    assert run("search", *TINY, "budget.trials=2", "budget.seconds=1e6", "study.name=tiny", cwd=cwd).code == 0
    return cwd


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    """A copy of that home."""
    return Path(shutil.copytree(made / "mlruns", tmp_path / "mlruns"))


@pytest.fixture
def tiny(home: Path) -> Path:
    """The study's folder in it."""
    return home / "studies" / "tiny"


def change(study: Path, **changes: object) -> None:
    """Change what a study's summary.json says, as if the search had ended so."""
    path = study / "summary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def only(home: Path) -> Row:
    (row,) = rows(home)
    return row


def test_a_finished_study(made: Path) -> None:
    before = files(made)
    (row,) = listed(run("studies", cwd=made))
    summary = json.loads((made / "mlruns/studies/tiny/summary.json").read_text())
    assert (row["name"], row["state"], row["trials"], row["complete"], row["pruned"]) == (
        "tiny",
        "finished",
        "2",
        "2",
        "0",
    )
    assert (row["running"], row["waiting"], row["fail"], row["remark"], row["goes_on_by"]) == ("0", "0", "0", "", "")
    assert (row["metric"], float(row["best"])) == ("val/accuracy", summary["best_value"])
    assert row["strategy"].startswith("adam lr ")
    assert row["begun"] <= row["written"]
    assert int(row["bytes"]) == sum(path.stat().st_size for path in (made / "mlruns/studies/tiny").iterdir())
    assert files(made) == before


def test_it_is_read_from_its_summary_alone(tiny: Path, home: Path) -> None:
    (tiny / "study.journal").write_text("torn")
    os.utime(tiny / "study.journal", (0, 0))
    assert only(home).state == "finished"
    os.utime(tiny / "study.journal")
    os.utime(tiny / "summary.json", (0, 0))
    assert only(home).state == "broken"


def test_a_confirmed_winner_has_its_mean_on_other_seeds(tiny: Path, home: Path) -> None:
    change(tiny, confirmed={"mean": 0.5, "seeds": 3})
    assert (only(home).confirmed, only(home).state) == (0.5, "finished")


@pytest.mark.parametrize(
    ("changes", "remark"),
    [
        ({"states": {"COMPLETE": 1, "WAITING": 1}}, "1 trial left over"),
        ({"states": {"COMPLETE": 1, "WAITING": 1, "RUNNING": 2}}, "3 trials left over"),
        ({"states": {"COMPLETE": 1}, "finished": "interrupted by SIGINT"}, "interrupted by SIGINT"),
        ({"states": {"COMPLETE": 1}, "finished": "budget.trials=1 is used up"}, "budget not used up"),
        ({"states": {"WAITING": 1}, "seconds": 1e9}, "1 trial left over; give a larger budget.seconds"),
        ({"finished": None}, "killed"),
        ({"finished": None, "reasons": {"error": 1}}, "its code raised"),
    ],
)
def test_what_is_not_done_is_resumable_and_says_why(
    changes: dict[str, object], remark: str, tiny: Path, home: Path
) -> None:
    change(tiny, **changes)
    row = only(home)
    assert (row.state, row.remark, row.goes_on_by) == ("resumable", remark, "the same command with study.name=tiny")


@pytest.mark.parametrize(
    "changes",
    [
        {
            "states": {"COMPLETE": 1},
            "finished": "the space is used up: every configuration of it that can work is trained",
        },
        {"finished": "interrupted by SIGINT"},
    ],
)
def test_what_is_done_is_finished(changes: dict[str, object], tiny: Path, home: Path) -> None:
    change(tiny, **changes)
    assert only(home).state == "finished"


def test_a_winner_that_was_to_be_confirmed_and_is_not_is_resumable(tiny: Path, home: Path) -> None:
    config = tiny / "config.yaml"
    config.write_text(config.read_text().replace("top: 0", "top: 5"))
    assert only(home).remark == "not confirmed"
    change(tiny, confirmed={"mean": 0.5, "seeds": 1})
    assert only(home).remark == "not confirmed"
    change(tiny, confirmed={"mean": 0.5, "seeds": 3, "tie": True})
    assert only(home).remark == "not confirmed"
    change(tiny, confirmed={"mean": 0.5, "seeds": 9, "tie": True})
    assert only(home).state == "finished"
    change(tiny, confirmed=None, winner=None, learnt=False)
    row = only(home)
    assert (row.state, row.strategy, row.remark) == ("finished", "", "nothing learnable was found")


def test_what_is_searched_at_the_moment_is_read_from_its_journal(tiny: Path, home: Path) -> None:
    (tiny / "summary.json").unlink()
    with StudyLock(tiny):
        row = only(home)
    assert (row.state, row.states, row.goes_on_by) == ("searching", {"COMPLETE": 2}, "")
    (home / "studies" / "begun").mkdir()
    with StudyLock(home / "studies" / "begun"):
        assert {each.name: (each.state, each.remark) for each in rows(home)}["begun"] == ("searching", "no trial yet")


def test_what_a_crash_left_is_a_row_that_says_so(tiny: Path, home: Path) -> None:
    shutil.copytree(tiny, home / "studies" / "torn")
    (home / "studies/torn/summary.json").write_text('{"study": "to')
    shutil.copytree(tiny, home / "studies" / "bare")
    (home / "studies/bare/summary.json").unlink()
    (home / "studies/bare/study.journal").unlink()
    shutil.copytree(tiny, home / "studies" / "garbled")
    (home / "studies/garbled/config.yaml").write_text("a: [")
    (home / "studies" / "empty").mkdir()
    (home / "studies" / "multirun.yaml").write_text("")
    found = {row.name: (row.state, row.remark) for row in rows(home)}
    assert found["tiny"] == ("finished", "")
    assert found["bare"] == ("broken", "the study bare has no study.journal")
    assert found["empty"] == ("broken", "no config.yaml")
    assert found["garbled"][0] == "broken"
    assert found["torn"][0] == "broken"  # the journal's study has another name
    assert set(found) == {"tiny", "bare", "empty", "garbled", "torn"}


def test_a_torn_summary_is_made_up_for_by_the_journal(tiny: Path, home: Path) -> None:
    before = only(home)
    (tiny / "summary.json").write_text('{"study": "ti')
    row = only(home)
    assert (row.state, row.states, row.best, row.strategy) == ("finished", before.states, before.best, before.strategy)


def test_the_study_written_to_last_comes_last(tiny: Path, home: Path) -> None:
    for name, when in (("b", 3000), ("a", 2000), ("c", 1000)):
        shutil.copytree(tiny, home / "studies" / name)
        for path in (home / "studies" / name).iterdir():
            os.utime(path, (when, when))
    assert [row.name for row in rows(home)] == ["c", "a", "b", "tiny"]


def test_on_a_terminal_it_is_lines_for_people(tiny: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(tiny, states={"COMPLETE": 1, "WAITING": 1}, confirmed={"mean": 0.25, "seeds": 3})
    shutil.copytree(tiny, home / "studies" / "empty one", ignore=lambda *_: ["config.yaml"])
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    ended = run("studies", cwd=home.parent)
    assert ended.code == 0
    lines = re.sub(r"\x1b\[[\d;]*m", "", ended.out).splitlines()
    (start,) = (number for number, line in enumerate(lines) if line.startswith("tiny "))
    assert re.fullmatch(
        r"tiny       resumable  \d{4}-\d\d-\d\d \d\d:\d\d +[\d.]+ [KM]iB  1 trial left over", lines[start]
    )
    assert lines[start + 1] == "    1 waiting, 1 complete"
    assert lines[start + 2].startswith("    val/accuracy 0.25 confirmed  adam lr ")
    assert lines[start + 3] == "    the same command with study.name=tiny"
    assert any(re.fullmatch(r"empty one  broken .*  no config.yaml", line) for line in lines)


def test_a_home_without_studies(tmp_path: Path) -> None:
    (tmp_path / "mlruns").mkdir()
    assert listed(run("studies", cwd=tmp_path)) == []


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    ended = run("studies", cwd=tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "error: home: mlruns is no folder; give the home of your searches: home=mlruns\n"
    ended = run("studies", "hme=elsewhere", cwd=tmp_path)
    assert (ended.code, ended.err) == (2, "error: hme: there is no such key; did you mean home?\n")
    assert files(tmp_path) == set()


def test_help_says_what_it_does(tmp_path: Path) -> None:
    ended = run("studies", "--help", cwd=tmp_path)
    assert ended.code == 0
    assert "Lists the studies of a home" in ended.out


@pytest.mark.slow
def test_the_command_that_goes_on_is_the_one_that_was_typed(tmp_path: Path) -> None:
    ended = wait(start("search", *TINY, "budget.trials=1", "confirm.top=0", "study.name=mine", cwd=tmp_path))
    assert ended.code == 0, ended.err
    change(tmp_path / "mlruns/studies/mine", finished=None)
    (row,) = rows(tmp_path / "mlruns")
    interpreter, *words = shlex.split(row.goes_on_by)
    assert (interpreter, words[:2]) == ("python", ["-m", "autotune.search"])
    assert words[2:] == [*TINY, "budget.trials=1", "confirm.top=0", "study.name=mine"]


def test_the_name_of_a_study_is_added_where_none_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    from autotune.session import _head

    monkeypatch.setattr(sys, "orig_argv", ["python3", "-m", "autotune.search", "optimizer=sgd,adam", "a=b c"])
    assert _head("x") == "# python -m autotune.search optimizer=sgd,adam 'a=b c' study.name=x\n"
    monkeypatch.setattr(sys, "orig_argv", ["python3", "-m", "autotune.search", "--multirun", "pruner=asha,none"])
    assert _head("x") == ""
    monkeypatch.setattr(sys, "orig_argv", ["python3", "mine.py"])
    assert _head("x") == ""
