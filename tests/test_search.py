"""Whole searches: what they say and leave, going on, interruptions, the user's own code."""

from __future__ import annotations

import json
import re
import signal
import time
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import optuna
import pytest
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from autotune.compose import compose, conf_dir
from autotune.kept.storage import StudyLock
from autotune.search import check_config

from .commands import Ended, files, plain_yaml, run, script, start, summary, trials, wait
from .conftest import Searched
from .fakes import FakeDesk
from .tracking.stories import Runs

# Two trials of two epochs each, their rates drawn at random.
TINY = (
    "trainer.accelerator=cpu",
    "trainer.max_epochs=2",
    "budget.trials=2",
    "study.name=tiny",
    "study.enqueue=[]",
    "sampler=random",
    "pruner=none",
    "optimizer=adam",
    "optimizer.lr=tag(log,interval(1e-4,1e-1))",
    "schedule=constant",
    "data.batch_size=64",
    "model.batch_norm=false",
)
UNTRACKED = (*TINY, "tracking=none")
STUDY_FILES = {
    *("best.yaml", "config.yaml", "report.html", "search.log"),
    *("study.journal", "summary.json", "trials.csv", "trials.parquet"),
}


def kept(study: Path) -> list[FrozenTrial]:
    """A study's trials, read by Optuna itself."""
    backend = JournalFileBackend(str(study / "study.journal"))
    return optuna.load_study(study_name=study.name, storage=JournalStorage(backend)).trials


def states(study: Path) -> list[str]:
    return [trial.state.name for trial in kept(study)]


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """The folder of the study that `TINY` names."""
    return tmp_path / "mlruns" / "studies" / "tiny"


# A search from its beginning to its end.


@pytest.mark.slow
def test_a_search_ends_well_and_says_what_is_best_and_what_to_type_next(searched: Searched) -> None:
    assert (searched.ended.code, searched.ended.err) == (0, "")
    lines = searched.ended.out.splitlines()
    assert lines[0] == "search first: val/accuracy, at most 6 trials"
    assert lines[1] == "executor: population"
    assert sorted(line.split()[0] for line in lines[2:8]) == [f"t{number:04d}" for number in range(6)]
    best = summary(searched.study)
    assert f"with val/accuracy {best['best_value']:.6g} (trial {best['best_trial']})" in searched.ended.out
    config = plain_yaml(searched.study / "best.yaml")
    assert f"  optimizer = {config['optimizer']['name']}\n" in searched.ended.out
    assert lines[-3:] == [
        "its config:      mlruns/studies/first/best.yaml",
        "browse:          mlflow ui --backend-store-uri sqlite:///mlruns/mlflow.db --host 127.0.0.1 --port 5000",
        "train the best:  python -m autotune.train from=first",
    ]


@pytest.mark.slow
def test_a_search_leaves_its_folder_and_mlflows_and_nothing_else(searched: Searched) -> None:
    artifacts = {path for path in searched.left if path.startswith("mlruns/artifacts/")}
    assert searched.left - artifacts == {
        "mlruns/mlflow.db",
        "mlruns/mlflow.lock",
        *(f"mlruns/studies/first/{name}" for name in STUDY_FILES),
    }
    assert {Path(path).name for path in artifacts} == STUDY_FILES - {"search.log", "study.journal"}


@pytest.mark.slow
def test_the_summary_counts_what_the_study_has(searched: Searched) -> None:
    found = summary(searched.study)
    stored = kept(searched.study)
    assert (found["study"], found["metric"], found["direction"]) == ("first", "val/accuracy", "maximize")
    assert (found["executor"], found["sampler"], found["pruner"]) == ("population", "tpe", "asha")
    assert found["trials"] == len(stored) == 6
    assert found["states"] == {
        name: count
        for name in ("COMPLETE", "PRUNED")
        if (count := sum(trial.state.name == name for trial in stored)) > 0
    }
    assert sum(found["reasons"].values()) == 6
    assert found["trained_epochs"] == sum(len(trial.intermediate_values) for trial in stored)
    complete = [trial for trial in stored if trial.state == TrialState.COMPLETE]
    best = max(complete, key=lambda trial: trial.values[0])
    assert (found["best_trial"], found["best_value"]) == (best.number, best.value)
    assert found["finished"] == "budget.trials=6 is used up"
    assert found["seconds"] > 0


@pytest.mark.slow
def test_the_table_has_a_row_for_each_trial(searched: Searched) -> None:
    rows = trials(searched.study)
    stored = kept(searched.study)
    assert [int(row["number"]) for row in rows] == list(range(6))
    assert [row["state"] for row in rows] == [trial.state.name for trial in stored]
    for row, trial in zip(rows, stored, strict=True):
        assert {name: row[name] for name in trial.params} == {name: str(value) for name, value in trial.params.items()}
        assert float(row["cost/parameters"]) > 0


@pytest.mark.slow
def test_the_best_config_is_plain_complete_and_that_of_the_best_trial(searched: Searched) -> None:
    text = (searched.study / "best.yaml").read_text()
    config = plain_yaml(searched.study / "best.yaml")
    best = kept(searched.study)[summary(searched.study)["best_trial"]]
    origin = config.pop("origin")
    assert config == best.user_attrs["config"]
    assert set(config) >= {"data", "model", "optimizer", "schedule", "trainer", "objective", "seed"}
    assert not any(sign in text for sign in ("${", "???", "choice(", "interval(", "only:"))
    curve = best.user_attrs["curves"]["val/accuracy"]
    assert UUID(origin.pop("study_id"))
    assert origin == {
        "study": "first",
        "trial": best.number,
        "metric": "val/accuracy",
        "value": max(curve),
        "best_epoch": curve.index(max(curve)) + 1,
    }


@pytest.mark.slow
def test_mlflow_has_a_run_of_the_search_with_one_below_for_each_trial(searched: Searched, cwd: Path) -> None:
    runs = Runs.at(cwd / "mlruns")
    assert (runs.parent.data.tags["kind"], runs.parent.info.status) == ("search", "FINISHED")
    assert {run.data.tags["trial_number"] for run in runs.children} == {str(number) for number in range(6)}
    for trial in kept(searched.study):
        child = runs.child(trial.number)
        assert child.data.tags["state"] == trial.state.name
        assert runs.history(child, "val/accuracy") == list(
            enumerate(trial.user_attrs["curves"]["val/accuracy"], start=1)
        )


@pytest.mark.slow
def test_the_log_has_all_that_was_said(searched: Searched) -> None:
    log = (searched.study / "search.log").read_text()
    assert all(line in log for line in searched.ended.out.splitlines())


@pytest.mark.slow
def test_the_same_config_and_seed_give_the_same_numbers_alone_to_rounding(searched: Searched) -> None:
    from autotune.executors.lightning import LightningExecutor

    stored = kept(searched.study)
    desk = FakeDesk([trial.user_attrs["config"] for trial in stored])
    LightningExecutor().run(desk)
    for trial in stored:
        curves = trial.user_attrs["curves"]
        first, *_ = desk.epochs_of(trial.number)
        for name, curve in curves.items():  # of the first epoch, after which rounding errors of float32 have not grown
            assert first.metrics[name] == pytest.approx(curve[0], rel=1e-4)


def test_a_search_never_looks_at_the_test_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def looked(*_: Any) -> None:
        raise AssertionError("the test part was looked at")

    monkeypatch.setattr("autotune.data.source.held_out", looked)
    monkeypatch.setattr("autotune.data.batches.held_out", looked)
    assert run("search", *UNTRACKED, cwd=tmp_path).code == 0


WITHOUT_MLFLOW = """
import sys
from pathlib import Path
from tests.commands import run
for line in (sys.argv[1:], ["train", "from=tiny", "tracking=none"]):
    ended = run(*line, cwd=Path.cwd())
    assert ended.code == 0, ended
    assert "mlflow" not in ended.out, ended.out
assert "torch" in sys.modules and "mlflow" not in sys.modules
"""


@pytest.mark.slow
def test_both_commands_do_without_mlflow(tmp_path: Path, tiny: Path) -> None:
    ended = script(WITHOUT_MLFLOW, "search", *UNTRACKED, cwd=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert {path.name for path in (tmp_path / "mlruns").iterdir()} == {"studies", "trained"}
    assert {path.name for path in tiny.iterdir()} == STUDY_FILES


def test_another_home(tmp_path: Path) -> None:
    ended = run("search", *UNTRACKED, "home=else where/runs", cwd=tmp_path)
    assert ended.code == 0, ended.err
    assert ended.out.endswith("python -m autotune.train from=tiny 'home=else where/runs'\n")
    assert {path.name for path in (tmp_path / "else where/runs/studies/tiny").iterdir()} == STUDY_FILES
    assert [path.name for path in tmp_path.iterdir()] == ["else where"]


def test_mlflow_is_written_to_where_the_environment_says(cwd: Path) -> None:
    (cwd / "mlruns").rename(cwd / "served")
    ended = run("search", *TINY, cwd=cwd, MLFLOW_TRACKING_URI="sqlite:///served/mlflow.db")
    assert (ended.code, ended.err) == (0, "")
    assert "browse:          mlflow ui --backend-store-uri sqlite:///served/mlflow.db " in ended.out
    assert {path.name for path in (cwd / "mlruns").iterdir()} == {"studies"}
    assert [run.data.tags["study"] for run in Runs.at(cwd / "served").parents] == ["first", "tiny"]


EXPERIMENTS = sorted(path.stem for path in (conf_dir() / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_branch_of_an_experiment_can_be_built(experiment: str) -> None:
    from autotune.executors.lightning import LightningExecutor

    executor = LightningExecutor()
    _, space = check_config(compose("search", [f"experiment={experiment}", "trainer.accelerator=cpu"]))
    for point in space.tour():
        config = space.resolve(point)
        assert executor.refuses(config) is None
        executor.rehearse(config)


# Going on.


def test_the_same_name_goes_on_with_what_is_left_of_the_budget(tmp_path: Path, tiny: Path) -> None:
    run("search", *UNTRACKED, cwd=tmp_path)
    first = kept(tiny)
    ended = run("search", *UNTRACKED, "budget.trials=3", cwd=tmp_path)
    assert ended.code == 0
    assert [line.split()[0] for line in ended.out.splitlines() if line.startswith("t0")] == ["t0002"]
    assert [trial.params for trial in kept(tiny)[:2]] == [trial.params for trial in first]
    assert len({str(trial.params) for trial in kept(tiny)}) == 3
    assert summary(tiny)["trials"] == len(trials(tiny)) == 3


def test_a_finished_study_is_only_said_again(tmp_path: Path, tiny: Path) -> None:
    first = run("search", *UNTRACKED, cwd=tmp_path)
    best = (tiny / "best.yaml").read_text()
    again = run("search", *UNTRACKED, cwd=tmp_path)
    assert again.code == 0
    assert again.out.partition("ended:")[2] == first.out.partition("ended:")[2]
    assert len(kept(tiny)) == 2
    assert (tiny / "best.yaml").read_text() == best


@pytest.mark.parametrize("limit", ["budget.epochs=3", "budget.seconds=0.001"])
def test_another_budget_ends_it_too(limit: str, tmp_path: Path, tiny: Path) -> None:
    ended = run("search", *UNTRACKED, limit, cwd=tmp_path)
    assert f"ended: {limit} is used up" in ended.out
    assert ended.code == (0 if "epochs" in limit else 1)
    assert run("search", *UNTRACKED, cwd=tmp_path).code == 0
    assert states(tiny) == ["COMPLETE", "COMPLETE"]


def test_a_used_up_space_ends_the_search(tmp_path: Path, tiny: Path) -> None:
    ended = run("search", *UNTRACKED, "optimizer.lr=choice(0.1,0.01,0.001)", "budget.trials=9", cwd=tmp_path)
    assert ended.code == 0
    assert "ended: the space is used up: every configuration of it that can work is trained" in ended.out
    assert sorted(trial.params["optimizer.lr"] for trial in kept(tiny)) == [0.001, 0.01, 0.1]


def test_what_cannot_work_is_refused_and_counted(tmp_path: Path, tiny: Path) -> None:
    ended = run("search", *UNTRACKED, "optimizer.lr=0.01", "data.batch_size=choice(64,5000)", cwd=tmp_path)
    assert ended.code == 0
    assert "refused: data.batch_size=5000 is larger than the training set of 1077" in ended.out
    assert "refused before training: 1 configurations" in ended.out
    assert (summary(tiny)["refused"], summary(tiny)["trials"]) == (1, 1)


def test_a_space_in_which_nothing_can_work(tmp_path: Path) -> None:
    ended = run("search", *UNTRACKED, "data.batch_size=5000", cwd=tmp_path)
    assert ended.code == 2
    assert ended.err.startswith("error: search: no configuration of the space can work; ")
    assert files(tmp_path) == set()


def test_a_study_has_one_coordinator_at_a_time(tmp_path: Path, tiny: Path) -> None:
    tiny.mkdir(parents=True)
    with StudyLock(tiny):
        held = (tiny / "study.lock").read_text()
        ended = run("search", *UNTRACKED, cwd=tmp_path)
        assert (ended.code, ended.out) == (2, "")
        assert ended.err == f"error: study.name: tiny is held by {held}; wait for it, or give another name\n"
        assert files(tiny) == {"study.lock"}
    assert run("search", *UNTRACKED, cwd=tmp_path).code == 0


def test_a_study_keeps_its_direction(tmp_path: Path, tiny: Path) -> None:
    run("search", *UNTRACKED, cwd=tmp_path)
    before = {name: (tiny / name).read_bytes() for name in STUDY_FILES - {"study.journal"}}
    ended = run("search", *UNTRACKED, "objective=loss", cwd=tmp_path)
    assert ended.code == 2
    assert ended.err == (
        'error: objective.metric: "val/loss" was "val/accuracy", objective.direction: "minimize" was "maximize"; '
        "values of study tiny do not compare with what would follow; "
        "give study.resume=fresh to begin anew, or study.name=... for another study\n"
    )
    assert {name: (tiny / name).read_bytes() for name in before} == before
    assert states(tiny) == ["COMPLETE", "COMPLETE"]


@pytest.mark.parametrize(
    ("options", "url"),
    [
        (["storage=sqlite"], "sqlite:///mlruns/studies/tiny/study.db"),
        (["storage=rdb", "storage.url=sqlite:///mine.db"], "sqlite:///mine.db"),
    ],
    ids=["sqlite", "rdb"],
)
def test_other_storages_serve_a_whole_search(
    options: list[str], url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = run("search", *UNTRACKED, *options, cwd=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert run("search", *UNTRACKED, *options, "budget.trials=3", cwd=tmp_path).code == 0
    monkeypatch.chdir(tmp_path)
    storage = RDBStorage(url)
    study = optuna.load_study(study_name="tiny", storage=storage)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 3
    assert not (tmp_path / "mlruns/studies/tiny/study.journal").exists()
    storage.remove_session()
    storage.engine.dispose()


def test_a_multirun_is_several_searches(tmp_path: Path) -> None:
    arguments = [argument for argument in UNTRACKED if not argument.startswith("study.name")]
    ended = run("search", "--multirun", *arguments, "study.seed=0,1", cwd=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    studies = sorted(path for path in (tmp_path / "mlruns/studies").iterdir() if path.is_dir())
    assert [path.name[-2:] for path in studies] == ["-0", "-1"]
    assert {path.name for study in studies for path in study.iterdir()} == STUDY_FILES
    drawn = [[trial.params["optimizer.lr"] for trial in kept(study)] for study in studies]
    assert len({rate for rates in drawn for rate in rates}) == 4


def test_a_name_by_the_clock_is_given_once(tmp_path: Path) -> None:
    arguments = [argument for argument in UNTRACKED if not argument.startswith("study.name")]
    for job, several in (("", []), ("${job_suffix:}", ["--multirun", "study.seed=0,1"])):
        for _ in range(2):
            ended = run("search", *several, *arguments, f"study.name='of-${{now:%Y}}{job}'", cwd=tmp_path)
            assert (ended.code, ended.err) == (0, "")
    year = datetime.now().year
    names = [f"of-{year}{rest}" for rest in ("", "_2", "-0", "-1", "_2-0", "_2-1")]
    studies = sorted(path.parent.name for path in (tmp_path / "mlruns/studies").glob("*/best.yaml"))
    assert studies == sorted(names)
    assert sorted(path.name for path in (tmp_path / "mlruns/studies").iterdir() if path.is_dir()) == studies


def test_a_multirun_ends_with_the_worst_of_its_codes(tmp_path: Path) -> None:
    arguments = [argument for argument in UNTRACKED if not argument.startswith(("study.name", "optimizer.lr"))]
    ended = run("search", "--multirun", *arguments, "optimizer.lr=1e30,1e-3", cwd=tmp_path)
    assert ended.code == 1
    assert len(list((tmp_path / "mlruns/studies").glob("*/best.yaml"))) == 1


# Ends that are none.


def test_a_search_in_which_everything_diverges(tmp_path: Path, tiny: Path) -> None:
    ended = run("search", *UNTRACKED, "optimizer.lr=choice(1e30,1e31)", cwd=tmp_path)
    assert ended.code == 1
    assert "no trial was trained to its end; see mlruns/studies/tiny/trials.csv" in ended.out
    assert states(tiny) == ["PRUNED", "PRUNED"]
    assert summary(tiny)["reasons"] == {"diverged": 2}
    assert summary(tiny)["best_value"] is None
    assert {path.name for path in tiny.iterdir()} == STUDY_FILES - {"best.yaml"}


def test_a_metric_that_nothing_logs(tmp_path: Path) -> None:
    metric = ["objective.metric=val/acuracy", "objective.direction=maximize"]
    ended = run("search", *UNTRACKED, *metric, cwd=tmp_path)
    assert ended.code == 2
    assert ended.err == (
        "error: objective.metric: val/acuracy is not logged; logged are lr, train/loss, val/accuracy, val/loss; "
        "name one of those\n"
    )
    assert files(tmp_path) == set()


BROKEN = """
from torch import nn

class Model(nn.Module):
    def __init__(self, input_shape, outputs, breaks_at):
        super().__init__()
        self.layer = nn.Linear(input_shape[0], outputs)
        self.breaks_at = breaks_at
        self.passes = 0
        if breaks_at == 0:
            raise LookupError("the user's own mistake in building")

    def forward(self, features):
        self.passes += 1
        if self.passes == self.breaks_at:
            raise LookupError("the user's own mistake")
        return self.layer(features)
"""


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Arguments for a user's own model, which raises in pass 3."""
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "broken.yaml").write_text("_target_: autotune_broken.Model\nbreaks_at: 3\n")
    (tmp_path / "autotune_broken.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(str(tmp_path))
    arguments = [argument for argument in TINY if not argument.startswith("model.")]
    return ["--config-dir", "mine", *arguments, "model=broken", "allow_targets=[autotune_broken]"]


def assert_shows_the_users_mistake(ended: Ended, cwd: Path) -> None:
    assert ended.code == 1
    (said,) = ended.err.splitlines()
    assert re.match(
        r"error: .* raised LookupError: the user's own mistake.* \(\S*autotune_broken.py, line \d+, in ", said
    )
    assert said.endswith("; its config and the traceback are in mlruns/studies/tiny/search.log")
    assert "Traceback" not in ended.out
    log = (cwd / "mlruns" / "studies" / "tiny" / "search.log").read_text()
    assert "_target_: autotune_broken.Model" in log
    assert "Traceback (most recent call last):" in log


@pytest.mark.slow
def test_the_users_code_that_raises_stops_the_search(broken: list[str], cwd: Path, tiny: Path) -> None:
    ended = run("search", *broken, cwd=cwd)
    assert ended.err.startswith("error: trial 0 (t0000 adam ")
    assert_shows_the_users_mistake(ended, cwd)
    (trial,) = kept(tiny)
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs["error"] == "LookupError: the user's own mistake"
    assert summary(tiny)["reasons"] == {"error": 1}
    runs = Runs.at(cwd / "mlruns")
    search, child = (run for run in [*runs.parents, *runs.children] if run.data.tags["study"] == "tiny")
    assert (search.info.status, child.info.status) == ("FAILED", "FAILED")
    assert (child.data.tags["reason"], child.data.tags["state"]) == ("error", "FAIL")
    # Its name is free: what is searched may be another by now, and no trial of it counts.
    again = run("search", *broken, "model.breaks_at=100000", cwd=cwd)
    assert (again.code, again.err) == (0, "")
    assert "error" not in summary(tiny)["reasons"]


def test_the_users_code_that_cannot_even_be_built(broken: list[str], tmp_path: Path) -> None:
    before = files(tmp_path)
    ended = run("search", *broken, "tracking=none", "model.breaks_at=0", cwd=tmp_path)
    assert ended.out == ""
    assert_shows_the_users_mistake(ended, tmp_path)
    left = {path for path in files(tmp_path) if "__pycache__" not in path} - before
    assert left == {"mlruns/studies/tiny/search.log"}


# Signals, to a process of its own.

LONG = ("trainer.max_epochs=100", "study.name=tiny")


def interrupted(number: signal.Signals, *arguments: str, cwd: Path) -> Ended:
    """Start a search and send it a signal once its first trial has trained an epoch."""
    process = start("search", *arguments, cwd=cwd)
    journal = cwd / "mlruns" / "studies" / "tiny" / "study.journal"
    until = time.monotonic() + 120
    while not (journal.exists() and '"intermediate_value"' in journal.read_text()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(number)
    return wait(process)


def assert_is_interrupted(ended: Ended, number: signal.Signals, code: int, tiny: Path) -> None:
    assert (ended.code, ended.err) == (code, "")
    assert "interrupted; the same command with study.name=tiny goes on" in ended.out
    assert states(tiny) == ["WAITING", "WAITING"]
    assert summary(tiny)["finished"] == f"interrupted by {number.name}"
    assert {path.name for path in tiny.iterdir()} == STUDY_FILES - {"best.yaml"}


def assert_is_complete(tiny: Path, first: FrozenTrial) -> None:
    assert states(tiny) == ["COMPLETE", "COMPLETE"]
    assert kept(tiny)[0].params == first.params
    assert kept(tiny)[0].user_attrs["config"] == first.user_attrs["config"]
    assert len(kept(tiny)[0].user_attrs["curves"]["val/loss"]) == 100
    assert {path.name for path in tiny.iterdir()} == STUDY_FILES


@pytest.mark.slow
def test_a_search_that_is_interrupted_goes_on_where_it_was(cwd: Path, tiny: Path) -> None:
    arguments = [*TINY, *LONG]
    assert_is_interrupted(interrupted(signal.SIGINT, *arguments, cwd=cwd), signal.SIGINT, 130, tiny)
    first = kept(tiny)[0]
    runs = Runs.at(cwd / "mlruns")
    children = [each for each in runs.children if each.data.tags["study"] == "tiny"]
    (parent,) = [each for each in runs.parents if each.data.tags["study"] == "tiny"]
    assert parent.info.status == "KILLED"
    assert [(each.info.status, each.data.tags["reason"]) for each in children] == [("KILLED", "interrupted")] * 2

    assert run("search", *arguments, cwd=cwd).code == 0
    assert_is_complete(tiny, first)
    runs = Runs.at(cwd / "mlruns")
    assert sorted(
        (each.data.tags["trial_number"], each.info.status)
        for each in runs.children
        if each.data.tags["study"] == "tiny"
    ) == [("0", "FINISHED"), ("1", "FINISHED")]
    (parent,) = [each for each in runs.parents if each.data.tags["study"] == "tiny"]
    assert parent.info.status == "FINISHED"


@pytest.mark.slow
def test_a_search_that_is_terminated_goes_on_too(tmp_path: Path, tiny: Path) -> None:
    arguments = [*UNTRACKED, *LONG]
    assert_is_interrupted(interrupted(signal.SIGTERM, *arguments, cwd=tmp_path), signal.SIGTERM, 143, tiny)
    first = kept(tiny)[0]
    assert run("search", *arguments, cwd=tmp_path).code == 0
    assert_is_complete(tiny, first)


@pytest.mark.slow
def test_a_search_that_is_killed_goes_on_too(tmp_path: Path, tiny: Path) -> None:
    arguments = [*UNTRACKED, *LONG]
    ended = interrupted(signal.SIGKILL, *arguments, cwd=tmp_path)
    assert ended.code == -signal.SIGKILL
    assert json.loads((tiny / "study.journal").read_text().splitlines()[0])
    assert states(tiny) == ["RUNNING", "RUNNING"]
    first = kept(tiny)[0]
    assert run("search", *arguments, cwd=tmp_path).code == 0
    assert_is_complete(tiny, first)


def test_a_misspelt_starting_point_is_named(tmp_path: Path) -> None:
    ended = run("search", *UNTRACKED, "study.enqueue=[{optimzer: adam}]", cwd=tmp_path)
    assert (ended.code, ended.err) == (
        2,
        "error: study.enqueue: optimzer is no parameter; did you mean optimizer?\n",
    )
