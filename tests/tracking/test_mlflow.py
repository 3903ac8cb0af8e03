from __future__ import annotations

import logging
import math
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.utils import instantiate
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from omegaconf import OmegaConf

from autotune.compose import conf_dir
from autotune.errors import UserError
from autotune.tracking import mlflow as tracking
from autotune.tracking.entries import milliseconds
from autotune.tracking.mirror import Beginning, Mirror
from autotune.tracking.mlflow import MlflowTracker
from autotune.tracking.store import Store
from autotune.trial import Reason, Record
from tests.tracking.stories import Runs, completed, ended, record

COMPOSED = {"study": {"name": "s"}, "budget": {"trials": 9}}


def mirror(home: Path, *told: Record, resumed: bool = False, status: str = "FINISHED", **end: Any) -> Runs:
    """What MLflow has after a search that told all this."""
    tracker = MlflowTracker(home)
    tracker.search_started("s", COMPOSED, "What it is for", resumed=resumed)
    for each in told:
        tracker.trial_ended(each) if each.reason else tracker.trial_started(each)
    tracker.search_ended(
        end.get("best"), end.get("states", {}), end.get("best_history", []), end.get("files", []), status
    )
    tracker.close()
    return Runs.at(home)


def until(true: Callable[[], bool]) -> None:
    """Wait for what a thread does."""
    for _ in range(600):
        if true():
            return
        time.sleep(0.05)
    raise AssertionError("it never came true")


# One trial.


@pytest.mark.parametrize(
    ("reason", "objective", "state", "status"),
    [
        (Reason.COMPLETED, 0.75, "COMPLETE", "FINISHED"),
        (Reason.PRUNED, 0.7, "PRUNED", "KILLED"),
        (Reason.DIVERGED, 0.0, "PRUNED", "KILLED"),
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
        "trial_number": "4",
        "state": "COMPLETE",
        "reason": "completed",
        "seed": "7",
        "stage": "search",
        "family": "adam",
    }
    assert runs.history(child, "val/accuracy") == [(1, 0.5), (2, 0.75), (3, 0.7)]
    assert runs.history(child, "train/loss") == [(1, 0.5), (2, 0.25), (3, 1 - 0.7)]
    assert runs.history(child, "lr") == [(1, 0.01), (2, 0.01), (3, 0.01)]
    assert runs.history(child, "objective") == [(1, 0.5), (2, 0.75), (3, 0.75)]
    assert child.data.metrics["cost/epoch_seconds"] == 0.25
    assert yaml.safe_load(runs.artifact(child, "config.yaml")) == told.config


def test_a_trial_is_seen_while_it_trains_and_has_each_epoch_once(home: Path) -> None:
    tracker = MlflowTracker(home, flush_seconds=0.02)
    tracker.search_started("s", COMPOSED, "", resumed=False)
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
    tracker.search_ended(None, {}, [], [], "FINISHED")
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
    only = "tags.state LIKE '%'"
    for order, numbers in (("DESC", "2 0 1 3"), ("ASC", "0 2 1 3")):
        found = runs.client.search_runs(["1"], only, order_by=[f"metrics.objective {order}"])
        assert " ".join(run.data.tags["trial_number"] for run in found) == numbers


def test_what_is_not_finite_is_nan_not_a_number_of_308_digits(home: Path) -> None:
    told = record(curves={"train/loss": [1.0, math.inf], "val/loss": [math.nan, math.nan], "val/accuracy": [0.1, 0.1]})
    runs = mirror(home, ended(told, Reason.DIVERGED, 0.0))
    child = runs.child()
    assert math.isnan(child.data.metrics["train/loss"])
    assert math.isnan(child.data.metrics["val/loss"])
    assert child.data.metrics["objective"] == 0.0


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
    assert parent.info.end_time >= parent.info.start_time


def test_what_the_parent_run_has(home: Path, tmp_path: Path) -> None:
    files = [tmp_path / "best.yaml", tmp_path / "plot.png"]
    files[0].write_text("lr: 0.1\n")
    files[1].write_bytes(b"\x89PNG\xff")
    runs = mirror(
        home,
        *(completed(number, (value,)) for number, value in enumerate((0.3, 0.2, 0.6))),
        best=completed(2, (0.6,)),
        states={"COMPLETE": 3, "PRUNED": 1},
        best_history=[(0, 0.3), (2, 0.6)],
        files=[*files, tmp_path / "missing.csv"],
    )
    parent = runs.parent
    assert parent.info.run_name == "s"
    assert parent.data.params == {"study.name": "s", "budget.trials": "9"}
    tags = parent.data.tags
    assert (tags["study"], tags["stage"], tags["mlflow.note.content"]) == ("s", "search", "What it is for")
    assert (tags["best_trial"], tags["best_run"]) == ("2", runs.child(2).info.run_id)
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
    assert Path(runs.client.download_artifacts(parent.info.run_id, "plot.png")).read_bytes() == b"\x89PNG\xff"
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.children} == {parent.info.run_id}


def test_what_never_ended_is_ended_with_the_search(home: Path) -> None:
    tracker = MlflowTracker(home)
    tracker.search_started("s", COMPOSED, "", resumed=False)
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
    told = ended(
        record(params={"data.path": "s3://me:hunter2@host"}), Reason.ERROR, None, "no postgresql://me:hunter2@h"
    )
    tracker = MlflowTracker(home)
    tracker.search_started("s", {"storage": {"url": "postgresql://me:hunter2@host/db"}}, "", resumed=False)
    tracker.trial_ended(told)
    tracker.search_ended(None, {}, [], [config], "FINISHED")
    tracker.close()
    assert Runs.at(home).child().info.status == "FAILED"
    assert not [path for path in home.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]


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
    tracker.search_started("s", COMPOSED, "", resumed=True)
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
    killed.begin(Beginning("s", COMPOSED, "", resumed=False, time=1))
    killed.write(record(0, (0.5, 0.75)), [1, 2], 2)
    killed.write(record(1, (0.5,)), [1], 1)
    runs = mirror(home, record(0, ()), completed(0), resumed=True)
    assert len(runs.parents) == 1
    assert [run.info.status for run in runs.children] == ["FINISHED", "KILLED"]
    assert runs.history(runs.child(0), "lr") == [(1, 0.01), (2, 0.01), (3, 0.01)]


def test_a_new_search_of_a_name_used_before_has_a_run_of_its_own(home: Path) -> None:
    mirror(home, completed(0))
    runs = mirror(home, completed(0))
    assert [parent.info.status for parent in runs.parents] == ["FINISHED", "FINISHED"]
    assert len({child.data.tags["mlflow.parentRunId"] for child in runs.children}) == 2


def test_what_is_told_again_is_not_written_again(home: Path) -> None:
    first = mirror(home, completed(0))
    runs = mirror(home, completed(0), completed(1), resumed=True)
    assert len(runs.children) == 2
    assert runs.child(0).info.run_id == first.child(0).info.run_id
    assert runs.history(runs.child(0), "cost/epoch_seconds") == [(0, 0.25)]


# When MLflow fails.


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody wants to wait in a test."""
    monkeypatch.setattr(tracking, "PATIENCE", 2.0)
    monkeypatch.setattr(tracking, "LAST_PAUSE", 0.01)


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.INFO)
    return lambda: [entry.getMessage() for entry in caplog.records if entry.levelno >= logging.WARNING]


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


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("is_heard", [False, True])
@pytest.mark.parametrize("method", ["create_run", "log_batch", "set_terminated", "search_runs", "update_run"])
def test_what_failed_is_written_later_and_once(
    home: Path, monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]], method: str, is_heard: bool
) -> None:
    mirror(home, completed(0), ended(record(1), Reason.INTERRUPTED, None), status="KILLED")
    fails(monkeypatch, method, 2, is_heard)
    runs = mirror(home, record(1), completed(1), completed(2), resumed=True)
    (said,) = warnings()
    assert "will be tried again: the line is dead" in said
    assert runs.parent.info.status == "FINISHED"
    assert [run.info.status for run in runs.children] == ["FINISHED"] * 3
    for number in range(3):
        assert runs.history(runs.child(number), "train/loss") == [(1, 0.5), (2, 0.25), (3, 1 - 0.7)]


@pytest.mark.usefixtures("impatient")
def test_a_run_that_was_made_unheard_is_found(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fails(monkeypatch, "create_run", 1, is_heard=True)
    runs = mirror(home, completed(0))
    assert runs.parent.info.status == "FINISHED"
    assert len(runs.children) == 1


@pytest.mark.usefixtures("impatient")
def test_a_trial_that_mlflow_rejects_keeps_no_other_from_being_written(
    home: Path, monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]
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
    rejected, incomplete = warnings()
    assert "does not take trial 1: I don't like it" in rejected
    assert "is incomplete: 1 trials are not written in full" in incomplete


@pytest.mark.usefixtures("impatient")
def test_a_dead_server_is_said_once_and_given_up_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]
) -> None:
    monkeypatch.setattr(tracking, "PATIENCE", 0.5)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    tracker = MlflowTracker(tmp_path, uri=f"http://me:hunter2@127.0.0.1:{port}", flush_seconds=0.02)
    tracker.search_started("s", COMPOSED, "", resumed=False)
    until(lambda: len(warnings()) > 0)
    for number in range(5):
        tracker.trial_started(record(number))
        tracker.trial_ended(completed(number))
    tracker.search_ended(completed(0), {}, [(0, 0.75)], [], "FINISHED")
    tracker.close()
    tracker.close()
    failed, incomplete = warnings()
    assert f"(http://***@127.0.0.1:{port}) is not written and will be tried again" in failed
    assert "is incomplete: 5 trials are not written in full; the study itself is whole" in incomplete
    assert "hunter2" not in failed + incomplete


def test_nobody_waits_for_mlflow(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    works = Store.connect

    def connect(self: Store, experiment: str) -> Any:
        go.wait()
        return works(self, experiment)

    monkeypatch.setattr(Store, "connect", connect)
    tracker = MlflowTracker(home)
    tracker.search_started("s", COMPOSED, "", resumed=False)
    tracker.trial_started(record())
    tracker.trial_advanced(record())
    tracker.trial_ended(completed())
    tracker.search_ended(None, {}, [], [], "FINISHED")
    go.set()  # if any of them had waited we would never have come here
    tracker.close()
    assert Runs.at(home).child().info.status == "FINISHED"


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


SEARCH = """
import socket, sys
from pathlib import Path
reached = []
socket.socket.connect = lambda self, address: reached.append(address)
socket.getaddrinfo = lambda *address, **_: reached.append(address)
from autotune.tracking.mlflow import MlflowTracker
from tests.tracking.stories import completed, record
home, study = Path(sys.argv[1]), sys.argv[2]
tracker = MlflowTracker(home)
tracker.search_started(study, {}, "", resumed=False)
tracker.trial_started(record())
tracker.trial_ended(completed())
tracker.search_ended(None, {}, [], [], "FINISHED")
tracker.close()
assert not reached, reached
"""


def searches(home: Path, studies: list[str], environment: dict[str, str]) -> list[tuple[int | None, str]]:
    """Run searches at once, each in a process of its own; how each ended and what it printed."""
    begun = [
        subprocess.Popen(
            [sys.executable, "-c", SEARCH, str(home), study],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for study in studies
    ]
    said = [process.communicate()[0] for process in begun]
    return [(process.returncode, text) for process, text in zip(begun, said, strict=True)]


@pytest.mark.slow
def test_a_new_home_is_made_without_a_word_and_without_the_network(tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path.cwd())}  # nothing that says this is a test
    assert searches(tmp_path / "mlruns", ["a"], environment) == [(0, "")]
    assert Runs.at(tmp_path / "mlruns").child().info.status == "FINISHED"


@pytest.mark.slow
def test_a_new_home_may_be_made_by_several_at_once(tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path.cwd())}
    assert searches(tmp_path / "mlruns", ["a", "b", "c", "d"], environment) == [(0, "")] * 4
    runs = Runs.at(tmp_path / "mlruns")
    assert sorted(parent.info.run_name for parent in runs.parents) == ["a", "b", "c", "d"]
    assert [run.info.status for run in runs.parents + runs.children] == ["FINISHED"] * 8
