"""A command on a study that was begun with something else: refused, extended, or begun anew beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from autotune.kept.outcome import read
from autotune.kept.storage import StudyLock

from ..commands import Ended, files, plain_yaml, run, summary
from ..test_search import UNTRACKED, kept

STORAGES = ("storage=journal", "storage=sqlite")
ANEW = "study.resume=fresh to begin anew, or study.name=... for another study"


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """The folder of the study that `UNTRACKED` names."""
    return tmp_path / "mlruns" / "studies" / "tiny"


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in files(folder)}


def lines_of_trials(ended: Ended) -> list[str]:
    return [line.split()[0] for line in ended.out.splitlines() if line.startswith("t0")]


@pytest.mark.parametrize("storage", STORAGES)
def test_another_space_is_refused_and_nothing_is_touched(storage: str, tmp_path: Path) -> None:
    assert run("search", *UNTRACKED, storage, cwd=tmp_path).code == 0
    before = contents(tmp_path)
    ended = run("search", *UNTRACKED, storage, "budget.trials=3", "optimizer.lr=interval(1e-4,1)", cwd=tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "error: optimizer.lr: interval(0.0001, 1) was tag(log, interval(0.0001, 0.1)); "
        f"give study.resume=extend to go on with the changed space, {ANEW}\n"
    )
    assert contents(tmp_path) == before


def test_a_way_to_resume_that_is_none(tmp_path: Path) -> None:
    ended = run("search", *UNTRACKED, "study.resume=extent", cwd=tmp_path)
    assert (ended.code, ended.err) == (
        2,
        "error: study.resume: extent is no way to resume; did you mean extend?\n",
    )
    assert files(tmp_path) == set()


def test_an_extended_study_goes_on_with_all_it_has(tmp_path: Path, tiny: Path) -> None:
    run("search", *UNTRACKED, cwd=tmp_path)
    first = kept(tiny)
    wider = ["optimizer.lr=tag(log,interval(1e-5,1e-1))", "data.batch_size=choice(64,128)", "budget.trials=4"]
    ended = run("search", *UNTRACKED, *wider, "study.resume=extend", cwd=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[0] == (
        "study tiny goes on with what changed: data.batch_size: choice(64, 128) was 64, "
        "optimizer.lr: tag(log, interval(1e-05, 0.1)) was tag(log, interval(0.0001, 0.1))"
    )
    assert lines_of_trials(ended) == ["t0003", "t0002"]  # the lane of larger batches is trained first
    assert [trial.params for trial in kept(tiny)[:2]] == [trial.params for trial in first]
    found = summary(tiny)
    assert (found["trials"], found["states"]) == (4, {"COMPLETE": 4})
    assert found["best_value"] == max(trial.value or 0 for trial in kept(tiny))
    assert plain_yaml(tiny / "config.yaml")["study"]["resume"] is None
    # The changed space is the study's by now.
    assert run("search", *UNTRACKED, *wider, "budget.trials=5", cwd=tmp_path).code == 0
    assert run("search", *UNTRACKED, cwd=tmp_path).code == 2


def test_choices_change_in_a_journal_as_often_as_one_likes(tmp_path: Path, tiny: Path) -> None:
    for number, sizes in enumerate(("32,64", "64,32,128", "128,256"), start=1):
        last = [f"data.batch_size=choice({sizes})", f"budget.trials={2 * number}", "study.resume=extend"]
        assert run("search", *UNTRACKED, *last, cwd=tmp_path).code == 0
    trials = kept(tiny)  # read by Optuna itself
    assert [trial.distributions["data.batch_size"].choices for trial in trials[::2]] == [  # type: ignore[attr-defined]
        (32, 64),
        (64, 32, 128),
        (128, 256),
    ]
    assert len(read("tiny", tmp_path / "mlruns").records) == 6


def test_in_a_database_only_the_ends_of_a_range_change(tmp_path: Path, tiny: Path) -> None:
    database = [*UNTRACKED, "storage=sqlite", "data.batch_size=choice(32,64)"]
    run("search", *database, cwd=tmp_path)
    before = contents(tmp_path)
    ended = run("search", *database, "data.batch_size=choice(32,64,128)", "study.resume=extend", cwd=tmp_path)
    assert ended.code == 2
    assert ended.err == (
        "error: data.batch_size: choice(32, 64, 128) was choice(32, 64), and in a database only the ends of a range "
        f"can change; give {ANEW}\n"
    )
    assert contents(tmp_path) == before
    wider = ["optimizer.lr=tag(log,interval(1e-5,1))", "budget.trials=3", "study.resume=extend"]
    assert run("search", *database, *wider, cwd=tmp_path).code == 0
    assert summary(tiny)["trials"] == 3


@pytest.mark.parametrize("resume", [[], ["study.resume=extend"]])
def test_another_metric_cannot_be_extended(resume: list[str], tmp_path: Path) -> None:
    run("search", *UNTRACKED, cwd=tmp_path)
    before = contents(tmp_path)
    ended = run("search", *UNTRACKED, "objective.metric=train/loss", *resume, cwd=tmp_path)
    assert ended.code == 2
    assert ended.err == (
        'error: objective.metric: "train/loss" was "val/accuracy", objective.direction: "minimize" was "maximize"; '
        f"values of study tiny do not compare with what would follow; give {ANEW}\n"
    )
    assert contents(tmp_path) == before


@pytest.mark.slow
@pytest.mark.parametrize("storage", STORAGES)
def test_a_study_begun_anew_leaves_the_earlier_one_under_another_name(storage: str, tmp_path: Path, tiny: Path) -> None:
    home = tmp_path / "mlruns"
    typed = [*UNTRACKED, storage]
    run("search", *typed, cwd=tmp_path)
    first = read("tiny", home)
    for number in (1, 2):
        ended = run("search", *typed, "objective=loss", "study.resume=fresh", cwd=tmp_path)
        assert (ended.code, ended.err) == (0, "")
        assert ended.out.splitlines()[0] == f"the earlier study tiny is kept as tiny.{number}"
        assert lines_of_trials(ended) == ["t0000", "t0001"]
    assert sorted(path.name for path in tiny.parent.iterdir()) == ["tiny", "tiny.1", "tiny.2"]
    aside = read("tiny.1", home)
    assert [record.params for record in aside.records] == [record.params for record in first.records]
    assert aside.objective == first.objective
    assert read("tiny.2", home).objective == read("tiny", home).objective != first.objective
    assert (summary(tiny.with_name("tiny.1"))["study"], summary(tiny)["study"]) == ("tiny.1", "tiny")
    assert StudyLock.FILE not in files(tiny.with_name("tiny.1"))
    assert plain_yaml(tiny.with_name("tiny.1") / "best.yaml")["origin"]["study"] == "tiny.1"
    assert "# python -m autotune.train from=tiny.1\n" in (tiny.with_name("tiny.1") / "best.yaml").read_text()
    ids = [read(name, home).study.id for name in ("tiny", "tiny.1", "tiny.2")]  # type: ignore[union-attr]
    assert ids[1] == first.study.id  # type: ignore[union-attr]
    assert len(set(ids)) == 3
    # It goes on under its name, as it would have.
    ended = run("search", *typed, "study.name=tiny.1", "budget.trials=3", cwd=tmp_path)
    assert (ended.code, lines_of_trials(ended)) == (0, ["t0002"])


def test_a_search_in_parts_trains_what_it_trains_in_one(tmp_path: Path) -> None:
    run("search", *UNTRACKED, "executor=lightning", "budget.trials=4", "study.name=whole", cwd=tmp_path)
    for limit in ("budget.epochs=3", "budget.trials=3", "budget.trials=4"):
        run("search", *UNTRACKED, "executor=lightning", limit, cwd=tmp_path)
    whole, parts = (read(name, tmp_path / "mlruns").records for name in ("whole", "tiny"))
    assert [(each.config, each.objective) for each in parts] == [(each.config, each.objective) for each in whole]


def test_to_begin_anew_what_is_not_there_begins_it(tmp_path: Path, tiny: Path) -> None:
    assert run("search", *UNTRACKED, "study.resume=fresh", cwd=tmp_path).code == 0
    assert [path.name for path in tiny.parent.iterdir()] == ["tiny"]
    assert plain_yaml(tiny / "config.yaml")["study"]["resume"] is None


def test_a_study_of_an_earlier_version_takes_the_fingerprint_it_is_gone_on_with(tmp_path: Path, tiny: Path) -> None:
    run("search", *UNTRACKED, cwd=tmp_path)
    journal = tiny / "study.journal"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(line for line in lines if '"fingerprint"' not in line))
    wider = "optimizer.lr=tag(log,interval(1e-5,1e-1))"
    assert run("search", *UNTRACKED, wider, cwd=tmp_path).code == 0
    assert run("search", *UNTRACKED, cwd=tmp_path).code == 2
    assert run("search", *UNTRACKED, wider, cwd=tmp_path).code == 0
