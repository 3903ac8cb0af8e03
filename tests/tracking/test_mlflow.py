from __future__ import annotations

import math
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.utils import instantiate
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST
from omegaconf import OmegaConf

from autotune.compose import conf_dir
from autotune.errors import UserError
from autotune.tracking import Ending, Study
from autotune.tracking import mlflow as tracking
from autotune.tracking.entries import milliseconds
from autotune.tracking.mirror import Beginning, Mirror, is_final
from autotune.tracking.mlflow import MlflowTracker
from autotune.tracking.remote import RemoteMirror
from autotune.tracking.store import Store
from autotune.trial import Logged, LoggedValue, Reason, Record
from tests.tracking.stories import THE_STUDY, Runs, completed, ended, record, until

COMPOSED = {"study": {"name": "s"}, "budget": {"trials": 9}}

pytestmark = pytest.mark.usefixtures("thread")


def mirror(
    home: Path,
    *told: Record,
    study: Study = THE_STUDY,
    resumed: bool = False,
    status: str = "FINISHED",
    **end: Any,
) -> Runs:
    """What MLflow has after a search that told all this."""
    tracker = MlflowTracker(home)
    tracker.search_started(study, COMPOSED, "What it is for", resumed=resumed)
    for each in told:
        tracker.trial_ended(each) if each.reason else tracker.trial_started(each)
    tracker.search_ended(Ending(status, **end))
    tracker.close()
    return Runs.at(home)


# One trial.


@pytest.mark.parametrize(
    ("reason", "objective", "state", "status"),
    [
        (Reason.COMPLETED, 0.75, "COMPLETE", "FINISHED"),
        (Reason.PRUNED, 0.7, "PRUNED", "KILLED"),
        (Reason.DIVERGED, None, "PRUNED", "KILLED"),
        (Reason.OOM, None, "FAIL", "FAILED"),
        (Reason.ERROR, None, "FAIL", "FAILED"),
        (Reason.INTERRUPTED, None, "WAITING", "KILLED"),
    ],
)
def test_how_a_trial_ended(home: Path, reason: Reason, objective: float | None, state: str, status: str) -> None:
    error = "RuntimeError: no" if reason == Reason.ERROR else None
    child = mirror(home, record(), ended(record(), reason, objective, error)).child()
    tags = child.data.tags
    assert child.info.status == status
    assert child.info.end_time is not None
    assert (tags["state"], tags["reason"], tags.get("error")) == (state, reason.value, error)
    if objective is not None:
        assert child.data.metrics["objective"] == objective
    elif reason == Reason.INTERRUPTED:
        assert child.data.metrics["objective"] == 0.75  # the best so far: it goes on
    else:
        assert math.isnan(child.data.metrics["objective"])


def test_what_a_child_run_has(home: Path) -> None:
    told = completed(number=4)
    runs = mirror(home, told)
    child = runs.child(4)
    assert child.info.run_name == told.name
    assert told.ended is not None
    assert (child.info.start_time, child.info.end_time) == (milliseconds(told.started), milliseconds(told.ended))
    assert child.data.params == {"optimizer.adam.lr": "0.01", "model.batch_norm": "True"}
    assert {name: value for name, value in child.data.tags.items() if not name.startswith("mlflow.")} == {
        "study": "s",
        "study_id": THE_STUDY.id,
        "trial_number": "4",
        "state": "COMPLETE",
        "reason": "completed",
        "seed": "7",
        "stage": "search",
        "family": "adam",
        "schedule": "cosine",
    }
    assert runs.history(child, "val/accuracy") == [(1, 0.5), (2, 0.75), (3, 0.7)]
    assert runs.history(child, "train/loss") == [(1, 0.5), (2, 0.25), (3, 1 - 0.7)]
    assert runs.history(child, "lr") == [(1, 0.01), (2, 0.01), (3, 0.01)]
    assert runs.history(child, "objective") == [(1, 0.5), (2, 0.75), (3, 0.75)]
    assert child.data.metrics["cost/epoch_seconds"] == 0.25
    assert child.data.metrics["cost/latency_sample_ms"] == 0.5
    assert "cost/latency_sample_seconds" not in child.data.metrics
    assert yaml.safe_load(runs.artifact(child, "config.yaml")) == told.config


def test_what_a_module_logged_is_in_its_run(home: Path, tmp_path: Path) -> None:
    (tmp_path / "7.png").write_bytes(b"picture")
    values = (LoggedValue("grad/norm", 2.0, 49, 1000), LoggedValue("objective", 9.0, 50, 1001))
    early = Logged(values[:1], {"width": "8"})
    whole = Logged(values, {"width": "8"}, {"images/made/7.png": tmp_path / "7.png", "gone.png": tmp_path / "gone.png"})
    running, done = replace(record(), logged=early), replace(completed(), logged=whole)
    runs = mirror(home, running, done)
    child = runs.child()
    assert runs.history(child, "grad/norm") == [(49, 2.0)]
    assert runs.history(child, "logged/objective") == [(50, 9.0)]
    assert child.data.metrics["objective"] == 0.75
    assert child.data.params == {"optimizer.adam.lr": "0.01", "model.batch_norm": "True", "hparams/width": "8"}
    assert runs.artifact(child, "images/made/7.png") == "picture"
    again = mirror(home, completed(), resumed=True)
    assert again.child().info.run_id == child.info.run_id
    assert again.history(again.child(), "grad/norm") == [(49, 2.0)]


def test_a_trial_is_seen_while_it_trains_and_has_each_epoch_once(home: Path) -> None:
    tracker = MlflowTracker(home, flush_seconds=0.02)
    tracker.search_started(THE_STUDY, COMPOSED, "", resumed=False)
    tracker.trial_started(record(values=()))
    for count in (1, 2, 3):
        tracker.trial_advanced(record(values=(0.5, 0.75, 0.7)[:count]))

        def is_seen(count: int = count) -> bool:
            children = Runs.at(home).children
            return bool(children) and len(Runs.at(home).history(children[0], "lr")) == count

        until(is_seen)
        child = Runs.at(home).child()
        assert (child.info.status, child.data.tags["state"], "reason" in child.data.tags) == (
            "RUNNING",
            "RUNNING",
            False,
        )
        assert child.data.metrics["objective"] == max((0.5, 0.75, 0.7)[:count])
    tracker.trial_ended(completed())
    tracker.search_ended(Ending("FINISHED"))
    tracker.close()
    runs = Runs.at(home)
    child = runs.child()
    assert child.info.status == "FINISHED"
    assert child.data.tags["reason"] == "completed"
    assert runs.history(child, "objective") == [(1, 0.5), (2, 0.75), (3, 0.75)]
    assert [step for step, _ in runs.history(child, "train/loss")] == [1, 2, 3]


def test_the_table_sorts_by_objective_with_failed_trials_last_either_way(home: Path) -> None:
    runs = mirror(
        home,
        completed(0, (0.2, 0.3)),
        ended(record(1), Reason.OOM, None),
        completed(2, (0.9,)),
        ended(record(3, ()), Reason.OOM, None),
    )
    only = "tags.trial_number LIKE '%'"
    for order, numbers in (("DESC", "2 0 1 3"), ("ASC", "0 2 1 3")):
        found = runs.client.search_runs(["1"], only, order_by=[f"metrics.objective {order}"])
        assert " ".join(run.data.tags["trial_number"] for run in found) == numbers


def test_what_is_not_finite_is_nan_not_a_number_of_308_digits(home: Path) -> None:
    told = record(curves={"train/loss": [1.0, math.inf], "val/loss": [math.nan, math.nan], "val/accuracy": [0.1, 0.1]})
    runs = mirror(home, ended(told, Reason.DIVERGED, None))
    child = runs.child()
    assert math.isnan(child.data.metrics["train/loss"])
    assert math.isnan(child.data.metrics["val/loss"])
    assert math.isnan(child.data.metrics["objective"])


def test_what_mlflow_refuses_is_fitted_and_loses_no_trial(home: Path) -> None:
    long = "x" * 7000
    told = replace(completed(), params={"a(b)": 1, "long": long}, name=long, curves={"val/f1 (macro)": [0.5]})
    child = mirror(home, ended(told, Reason.ERROR, None, error=long)).child()
    assert child.info.status == "FAILED"
    assert child.data.params["a_b_"] == "1"
    assert child.data.params["long"].startswith("xxx")
    assert child.data.metrics["val/f1 _macro_"] == 0.5


# The search's own run.


@pytest.mark.parametrize("status", ["FINISHED", "KILLED", "FAILED"])
def test_the_parent_ends_with_the_searchs_status(home: Path, status: str) -> None:
    parent = mirror(home, status=status).parent
    assert parent.info.status == status
    shown = {"FINISHED": "COMPLETE completed", "KILLED": "WAITING interrupted", "FAILED": "FAIL error"}
    assert f"{parent.data.tags['state']} {parent.data.tags['reason']}" == shown[status]
    assert parent.info.end_time >= parent.info.start_time


def test_what_the_parent_run_has(home: Path, tmp_path: Path) -> None:
    files = [tmp_path / "best.yaml", tmp_path / "report.html", tmp_path / "plot.png", tmp_path / "trials.parquet"]
    files[0].write_text("lr: 0.1\n")
    files[1].write_text("<p>0.6 is the best \u2013 so far</p>")
    files[2].write_bytes(b"\x89PNG\xff")
    files[3].write_bytes(b"PAR1\xff")
    runs = mirror(
        home,
        *(completed(number, (value,)) for number, value in enumerate((0.3, 0.2, 0.6))),
        best=completed(2, (0.6,)),
        states={"COMPLETE": 3, "PRUNED": 1},
        best_history=[(0, 0.3), (2, 0.6)],
        files=[*files, tmp_path / "missing.csv"],
        answer="**adam** it is",
    )
    parent = runs.parent
    assert parent.info.run_name == "s"
    assert parent.data.params == {"study.name": "s", "budget.trials": "9"}
    tags = parent.data.tags
    assert (tags["study"], tags["stage"], tags["mlflow.note.content"]) == ("s", "search", "**adam** it is")
    assert (tags["best_trial"], tags["best_run"]) == ("2", runs.child(2).info.run_id)
    assert (tags["best_name"], tags["family"], tags["schedule"]) == (runs.child(2).info.run_name, "adam", "cosine")
    assert runs.history(parent, "objective") == [(0, 0.6)]
    assert runs.history(parent, "best_value") == [(0, 0.3), (2, 0.6)]
    counts = {name: value for name, value in parent.data.metrics.items() if name.startswith("trials/")}
    assert counts == {
        "trials/COMPLETE": 3,
        "trials/PRUNED": 1,
        "trials/FAIL": 0,
        "trials/RUNNING": 0,
        "trials/WAITING": 0,
    }
    assert runs.artifact(parent, "best.yaml") == "lr: 0.1\n"
    assert runs.artifact(parent, "report.html") == "<p>0.6 is the best \u2013 so far</p>"
    for binary in files[2:]:
        kept = Path(runs.client.download_artifacts(parent.info.run_id, binary.name))
        assert kept.read_bytes() == binary.read_bytes()
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.children} == {parent.info.run_id}


def test_a_search_without_an_answer_keeps_its_description(home: Path) -> None:
    parent = mirror(home, status="KILLED").parent
    assert parent.data.tags["mlflow.note.content"] == "What it is for"
    assert "objective" not in parent.data.metrics
    assert not {"best_trial", "family", "schedule"} & parent.data.tags.keys()


def test_what_never_ended_is_ended_with_the_search(home: Path) -> None:
    tracker = MlflowTracker(home)
    tracker.search_started(THE_STUDY, COMPOSED, "", resumed=False)
    tracker.trial_advanced(record())
    tracker.close()
    runs = Runs.at(home)
    assert runs.parent.info.status == "FAILED"
    assert runs.parent.info.end_time is not None
    child = runs.child()
    assert (child.info.status, child.data.tags["reason"]) == ("KILLED", "interrupted")


def test_no_password_reaches_mlflow(home: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("storage: {url: postgresql://me:hunter2@host/db}\n")
    pages = [tmp_path / "answer.md", tmp_path / "report.html"]
    for page in pages:
        page.write_text("kept in postgresql://me:hunter2@host/db\n")
    told = ended(
        record(params={"data.path": "s3://me:hunter2@host"}), Reason.ERROR, None, "no postgresql://me:hunter2@h"
    )
    tracker = MlflowTracker(home)
    tracker.search_started(THE_STUDY, {"storage": {"url": "postgresql://me:hunter2@host/db"}}, "", resumed=False)
    tracker.trial_ended(told)
    tracker.search_ended(Ending("FINISHED", files=[config, *pages], answer="kept in postgresql://me:hunter2@host/db"))
    tracker.close()
    assert Runs.at(home).child().info.status == "FAILED"
    assert not [path for path in home.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]


# Trials that are trained again.


def again(seed: int, values: Sequence[float], number: int = 1) -> Record:
    """A confirmation of trial 1 with another seed."""
    told = completed(number, values)
    return replace(told, stage="confirm", name=f"t0001 seed {seed}", config={**told.config, "seed": seed})


def test_a_confirmation_has_a_run_of_its_own_for_each_seed(home: Path) -> None:
    runs = mirror(home, completed(1, (0.9,)), again(8, (0.7,)), again(9, (0.8,)), best=completed(1, (0.9,)))
    found = [(run.data.tags["stage"], run.data.tags["seed"], run.data.metrics["objective"]) for run in runs.children]
    assert sorted(found) == [("confirm", "8", 0.7), ("confirm", "9", 0.8), ("search", "7", 0.9)]
    assert {run.data.tags["trial_number"] for run in runs.children} == {"1"}
    (searched,) = [run for run in runs.children if run.data.tags["stage"] == "search"]
    assert runs.parent.data.tags["best_run"] == searched.info.run_id


def test_a_confirmation_that_goes_on_does_so_in_the_run_of_its_seed(home: Path) -> None:
    stopped = ended(again(8, (0.5,)), Reason.INTERRUPTED, None)
    first = mirror(home, completed(1), stopped, again(9, (0.5,)), status="KILLED")
    runs = mirror(home, again(8, (0.5, 0.75)), again(10, (0.6,)), resumed=True)
    steps = {run.data.tags["seed"]: [step for step, _ in runs.history(run, "lr")] for run in runs.children}
    assert steps == {"7": [1, 2, 3], "8": [1, 2], "9": [1], "10": [1]}
    assert {run.info.run_id for run in first.children} < {run.info.run_id for run in runs.children}


def test_a_trial_of_the_search_is_known_by_its_number_whatever_its_seed(home: Path) -> None:
    told = ended(record(1), Reason.INTERRUPTED, None)
    mirror(home, told, status="KILLED")
    other = completed(1)
    runs = mirror(home, replace(other, config={**other.config, "seed": 8}), resumed=True)
    assert [run.data.tags["seed"] for run in runs.children] == ["8"]


@pytest.mark.usefixtures("hasty")
def test_a_confirmation_that_mlflow_rejects_is_told_from_its_trial(
    home: Path, monkeypatch: pytest.MonkeyPatch, warned: Callable[[], list[str]]
) -> None:
    works = MlflowClient.create_run

    def create_run(self: MlflowClient, experiment: str, start: int, tags: dict[str, str], name: str) -> Any:
        if tags.get("stage") == "confirm":
            raise MlflowException.invalid_parameter_value("I don't like it")
        return works(self, experiment, start, tags, name)

    monkeypatch.setattr(MlflowClient, "create_run", create_run)
    runs = mirror(home, completed(1), again(8, (0.7,)), again(9, (0.7,)))
    assert [run.data.tags["stage"] for run in runs.children] == ["search"]
    rejected, incomplete = warned()
    assert "does not take trial 1 of confirm with seed 8: I don't like it" in rejected
    assert "is incomplete: 2 trials are not written in full" in incomplete


# A search that goes on.


def test_a_search_that_goes_on_keeps_one_run_for_itself_and_for_each_trial(home: Path) -> None:
    interrupted = ended(record(1, (0.5, 0.75)), Reason.INTERRUPTED, None)
    first = mirror(home, completed(0), interrupted, status="KILLED", states={"WAITING": 1}, best_history=[(0, 0.75)])
    runs = mirror(
        home,
        record(1, ()),
        record(1, (0.5,)),
        completed(1),
        completed(2, (0.9,)),
        resumed=True,
        states={"COMPLETE": 3},
        best_history=[(0, 0.75), (2, 0.9)],
    )
    assert runs.parent.info.run_id == first.parent.info.run_id
    assert runs.parent.info.status == "FINISHED"
    assert runs.history(runs.parent, "best_value") == [(0, 0.75), (2, 0.9)]
    assert runs.parent.data.metrics["trials/WAITING"] == 0
    assert len(runs.children) == 3
    child = runs.child(1)
    assert child.info.run_id == first.child(1).info.run_id
    assert (child.info.status, child.data.tags["state"], child.data.tags["reason"]) == (
        "FINISHED",
        "COMPLETE",
        "completed",
    )
    assert runs.history(child, "val/accuracy") == [(1, 0.5), (2, 0.75), (3, 0.7)]
    assert runs.history(child, "objective") == [(1, 0.5), (2, 0.75), (3, 0.75)]


def test_a_trial_taken_up_again_shows_as_running(home: Path) -> None:
    mirror(home, ended(record(), Reason.INTERRUPTED, None), status="KILLED")
    tracker = MlflowTracker(home, flush_seconds=0.02)
    tracker.search_started(THE_STUDY, COMPOSED, "", resumed=True)
    tracker.trial_started(record(values=()))
    until(lambda: Runs.at(home).child().data.tags["state"] == "RUNNING")
    child = Runs.at(home).child()
    tracker.close()
    assert (child.info.status, child.data.tags["reason"]) == ("RUNNING", "")


def test_a_trial_that_ends_sooner_the_second_time_shows_its_last_objective(home: Path) -> None:
    mirror(home, ended(record(), Reason.INTERRUPTED, None), status="KILLED")
    sooner = replace(ended(record(values=(0.5, 0.6)), Reason.PRUNED, 0.6), ended=datetime.now(UTC))
    child = mirror(home, sooner, resumed=True).child()
    assert child.data.metrics["objective"] == 0.6


def test_a_search_that_was_killed_goes_on_in_the_runs_it_has(home: Path) -> None:
    killed = Mirror(Store(None, home), "autotune")
    killed.begin(Beginning(THE_STUDY, COMPOSED, "", resumed=False, time=1))
    killed.write(record(0, (0.5, 0.75)), [1, 2], 2)
    killed.write(record(1, (0.5,)), [1], 1)
    runs = mirror(home, record(0, ()), completed(0), resumed=True)
    assert len(runs.parents) == 1
    assert [run.info.status for run in runs.children] == ["FINISHED", "KILLED"]
    assert runs.history(runs.child(0), "lr") == [(1, 0.01), (2, 0.01), (3, 0.01)]


def test_a_new_search_of_a_name_used_before_has_a_run_of_its_own(home: Path) -> None:
    mirror(home, completed(0))
    runs = mirror(home, completed(0), study=Study("s", "6" * 32))
    assert [parent.info.status for parent in runs.parents] == ["FINISHED", "FINISHED"]
    assert len({child.data.tags["mlflow.parentRunId"] for child in runs.children}) == 2


def test_what_is_told_again_is_not_written_again(home: Path) -> None:
    first = mirror(home, completed(0))
    runs = mirror(home, completed(0), completed(1), resumed=True)
    assert len(runs.children) == 2
    assert runs.child(0).info.run_id == first.child(0).info.run_id
    assert runs.history(runs.child(0), "cost/epoch_seconds") == [(0, 0.25)]


# When MLflow fails.


def fails(monkeypatch: pytest.MonkeyPatch, method: str, times: int, is_heard: bool) -> None:
    """The first calls of a client's method fail; their effect is there where they were heard."""
    works = getattr(MlflowClient, method)
    left: Iterator[int] = iter(range(times))

    def call(self: MlflowClient, *args: Any, **kwargs: Any) -> Any:
        if next(left, None) is None:
            return works(self, *args, **kwargs)
        if is_heard:
            works(self, *args, **kwargs)
        raise ConnectionError("the line is dead")

    monkeypatch.setattr(MlflowClient, method, call)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("is_heard", [False, True])
@pytest.mark.parametrize("method", ["create_run", "log_batch", "set_terminated", "search_runs", "update_run"])
def test_what_failed_is_written_later_and_once(
    home: Path, monkeypatch: pytest.MonkeyPatch, warned: Callable[[], list[str]], method: str, is_heard: bool
) -> None:
    mirror(home, completed(0), ended(record(1), Reason.INTERRUPTED, None), status="KILLED")
    fails(monkeypatch, method, 2, is_heard)
    runs = mirror(home, record(1), completed(1), completed(2), resumed=True)
    (said,) = warned()
    assert "will be tried again: the line is dead" in said
    assert runs.parent.info.status == "FINISHED"
    assert [run.info.status for run in runs.children] == ["FINISHED"] * 3
    for number in range(3):
        assert runs.history(runs.child(number), "train/loss") == [(1, 0.5), (2, 0.25), (3, 1 - 0.7)]


@pytest.mark.usefixtures("hasty")
def test_a_run_that_was_made_unheard_is_found(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fails(monkeypatch, "create_run", 1, is_heard=True)
    runs = mirror(home, completed(0))
    assert runs.parent.info.status == "FINISHED"
    assert len(runs.children) == 1


@pytest.mark.parametrize(
    ("said", "is_rejected"),
    [("(psycopg2.InterfaceError) connection already closed", False), ("(psycopg2.errors.DataError) too long", True)],
)
def test_a_connection_that_mlflows_database_closed_rejects_no_trial(said: str, is_rejected: bool) -> None:
    assert is_final(MlflowException(said, BAD_REQUEST)) == is_rejected


def test_a_run_that_was_made_twice_is_there_once(home: Path) -> None:
    runs = mirror(home, completed(0))
    child = runs.child()
    again = runs.client.create_run(child.info.experiment_id, tags=dict(child.data.tags))
    runs = mirror(home, completed(0), resumed=True)
    assert [run.info.run_id for run in runs.children] == [child.info.run_id] != [again.info.run_id]


@pytest.mark.usefixtures("hasty")
def test_a_trial_that_mlflow_rejects_keeps_no_other_from_being_written(
    home: Path, monkeypatch: pytest.MonkeyPatch, warned: Callable[[], list[str]]
) -> None:
    works = MlflowClient.create_run

    def create_run(self: MlflowClient, experiment: str, start: int, tags: dict[str, str], name: str) -> Any:
        if tags.get("trial_number") == "1":
            raise MlflowException.invalid_parameter_value("I don't like it")
        return works(self, experiment, start, tags, name)

    monkeypatch.setattr(MlflowClient, "create_run", create_run)
    runs = mirror(home, *(completed(number) for number in range(3)))
    assert [run.data.tags["trial_number"] for run in runs.children] == ["0", "2"]
    assert runs.parent.info.status == "FINISHED"
    rejected, incomplete = warned()
    assert "does not take trial 1: I don't like it" in rejected
    assert "is incomplete: 1 trials are not written in full" in incomplete


def test_nobody_waits_for_mlflow(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    works = Store.connect

    def connect(self: Store, experiment: str) -> Any:
        go.wait()
        return works(self, experiment)

    monkeypatch.setattr(Store, "connect", connect)
    tracker = MlflowTracker(home)
    tracker.search_started(THE_STUDY, COMPOSED, "", resumed=False)
    tracker.trial_started(record())
    tracker.trial_advanced(record())
    tracker.trial_ended(completed())
    tracker.search_ended(Ending("FINISHED"))
    go.set()  # if any of them had waited we would never have come here
    tracker.close()
    assert Runs.at(home).child().info.status == "FINISHED"


def test_little_is_sent_to_the_writer(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[list[tuple[int, int]]] = []
    works = RemoteMirror.write

    def write(self: RemoteMirror, stories: Sequence[tuple[Record, Sequence[int], int]]) -> Any:
        sent.append([(told.number, told.epochs) for told, _, _ in stories])
        return works(self, stories)

    monkeypatch.setattr(RemoteMirror, "write", write)
    tracker = MlflowTracker(home, flush_seconds=1000)
    tracker.search_started(THE_STUDY, COMPOSED, "", resumed=False)
    for epochs in range(100):
        for number in range(3):
            tracker.trial_advanced(record(number, [0.5] * epochs))
    tracker.trial_ended(completed(0))
    tracker.close()
    assert sent == [[(0, 3), (1, 99), (2, 99)]]


def test_an_ended_trial_waits_for_no_flush(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "ENDED_WITHIN", 0.02)
    monkeypatch.setattr(tracking, "HEAD_START", 0.02)
    tracker = MlflowTracker(home, flush_seconds=1000)
    tracker.search_started(THE_STUDY, COMPOSED, "", resumed=False)
    until(lambda: len(Runs.at(home).parents) == 1)  # the first flush was before it
    tracker.trial_started(record(0))
    tracker.trial_ended(completed(1))
    until(lambda: [run.info.status for run in Runs.at(home).children] == ["FINISHED"])
    tracker.close()
    assert len(Runs.at(home).children) == 2


class Unfit:
    """What cannot be sent."""

    def __reduce__(self) -> str:
        raise RuntimeError("I stay here")


@pytest.mark.usefixtures("hasty")
def test_a_trial_that_cannot_be_sent_keeps_no_other_from_being_written(
    home: Path, warned: Callable[[], list[str]]
) -> None:
    runs = mirror(home, completed(0), replace(completed(1), params={"x": Unfit()}), completed(2))
    assert [run.data.tags["trial_number"] for run in runs.children] == ["0", "2"]
    rejected, incomplete = warned()
    assert "does not take trial 1: I stay here" in rejected
    assert "is incomplete: 1 trials are not written in full" in incomplete


# How it is set up.


def test_the_config_makes_it(home: Path) -> None:
    tracker = instantiate(OmegaConf.load(conf_dir() / "tracking" / "mlflow.yaml"), home=home)
    assert isinstance(tracker, MlflowTracker)
    assert f"sqlite:///{home}/mlflow.db" in tracker.ui_command
    tracker.close()  # of a search that never began
    assert Runs.at(home).parents == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"experiment": " "}, "tracking.experiment: ' ' is no name; give the experiment's name: autotune"),
        ({"flush_seconds": 0}, "tracking.flush_seconds: 0 is no time; give seconds above 0"),
        ({"flush_seconds": "often"}, "tracking.flush_seconds: 'often' is no time; give seconds above 0"),
    ],
)
def test_arguments_of_no_use_are_refused(tmp_path: Path, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as error:
        MlflowTracker(tmp_path, **arguments)
    assert str(error.value) == said


def test_mlflow_is_imported_by_the_writer_alone() -> None:
    told = "import sys; from autotune.tracking.mlflow import MlflowTracker; MlflowTracker('x').ui_command"
    program = f"{told}; assert 'mlflow' not in sys.modules"
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)
