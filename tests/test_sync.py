"""The command that makes a study's mirror whole: what it says, what it refuses, what it mends."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from autotune.kept.storage import StudyLock
from autotune.reconcile import reconcile

from .commands import run
from .conftest import Searched
from .tracking.stories import Runs

pytestmark = pytest.mark.slow


def test_what_is_whole_is_not_written(cwd: Path) -> None:
    run("sync", cwd=cwd)  # the home is a copy, whose artifacts lie elsewhere
    before = (cwd / "mlruns/mlflow.db").read_bytes()
    ended = run("sync", cwd=cwd)
    assert (ended.code, ended.out, ended.err) == (0, "first: nothing to write\n", "")
    assert (cwd / "mlruns/mlflow.db").read_bytes() == before
    assert reconcile(cwd / "mlruns") == []


def test_runs_are_mended_made_and_removed(cwd: Path) -> None:
    runs = Runs.at(cwd / "mlruns")
    gone, stale, broken = (runs.child(number) for number in range(3))
    runs.client.delete_run(gone.info.run_id)
    runs.client.set_tag(stale.info.run_id, "state", "FAIL")
    runs.client.update_run(broken.info.run_id, status="RUNNING")
    stray = runs.client.create_run(
        runs.parent.info.experiment_id,
        tags={"study": "first", "trial_number": "99", "mlflow.parentRunId": runs.parent.info.run_id},
    )
    assert [line.partition(" in MLflow")[0].partition(" FAIL")[0] for line in reconcile(cwd / "mlruns")] == [
        "first: trial 0: has no run",
        "first: trial 1: has the state",
        "first: trial 2: is RUNNING",
        "first: trial 99: has a run, and the study does not have it",
    ]
    ended = run("sync", "from=first", cwd=cwd)
    assert (ended.code, ended.out, ended.err) == (0, "first: 4 runs written\n", "")
    assert reconcile(cwd / "mlruns") == []
    assert run("sync", cwd=cwd).out == "first: nothing to write\n"
    after = Runs.at(cwd / "mlruns")
    assert after.parent.info.end_time is not None
    assert after.parent.data.tags["mlflow.note.content"] == runs.parent.data.tags["mlflow.note.content"]
    assert stray.info.run_id not in {each.info.run_id for each in after.children}
    assert after.history(after.child(1), "val/loss") == runs.history(stale, "val/loss")


def test_a_run_without_its_config_gets_it_again(cwd: Path) -> None:
    runs = Runs.at(cwd / "mlruns")
    shutil.rmtree(cwd / "mlruns/artifacts" / runs.child(3).info.run_id)
    assert reconcile(cwd / "mlruns") == ["first: trial 3: has no config.yaml, or another one"]
    assert run("sync", cwd=cwd).out == "first: 1 runs written\n"
    assert reconcile(cwd / "mlruns") == []


def test_files_that_say_something_else_are_named(cwd: Path, searched: Searched) -> None:
    study = cwd / "mlruns/studies/first"
    (study / "summary.json").write_text((study / "summary.json").read_text().replace('"trials": 6', '"trials": 5'))
    (study / "best.yaml").write_text("origin: [")
    assert reconcile(cwd / "mlruns") == [
        "first: summary.json has the trials 5, and the study 6",
        "first: best.yaml cannot be read (ParserError)",
    ]
    assert reconcile(searched.cwd / "mlruns") == []


def test_a_study_that_is_searched_is_left_alone(cwd: Path) -> None:
    with StudyLock(cwd / "mlruns/studies/first"):
        held = (cwd / "mlruns/studies/first/study.lock").read_text()
        ended = run("sync", "from=first", cwd=cwd)
        assert reconcile(cwd / "mlruns") == []
    assert ended.code == 2
    assert ended.err == f"error: from: first is held by {held}; wait for it, or give another name\n"


def test_what_is_not_tracked_is_said(cwd: Path) -> None:
    config = cwd / "mlruns/studies/first/config.yaml"
    config.write_text(
        config.read_text().replace("autotune.tracking.mlflow.MlflowTracker", "autotune.tracking.none.NoTracker")
    )
    assert run("sync", cwd=cwd).out == "first: is not tracked\n"
    assert reconcile(cwd / "mlruns") == []


def test_a_server_that_does_not_answer_is_said(cwd: Path) -> None:
    ended = run("sync", "uri=http://127.0.0.1:9", cwd=cwd, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    assert (ended.code, ended.err) == (1, "")
    assert ended.out.startswith("first: not written (")


def test_the_address_in_a_config_is_not_taken(cwd: Path) -> None:
    """A home may be somebody's, and the user's credentials go to an address."""
    config = cwd / "mlruns/studies/first/config.yaml"
    config.write_text(config.read_text().replace("uri: null", "uri: http://***@127.0.0.1:9"))
    refused = (
        "config.yaml of first names http://***@127.0.0.1:9, and an address is not taken from a file: "
        "your credentials would go there; type it if you trust it: 'uri=http://***@127.0.0.1:9'"
    )
    other = {"MLFLOW_TRACKING_URI": "http://me:hunter2@127.0.0.1:8"}
    for environment in ({}, other):
        ended = run("sync", "from=first", cwd=cwd, **environment)
        assert (ended.code, ended.out, ended.err) == (2, "", f"error: uri: {refused}\n")
    for said in (["uri=http://127.0.0.1:9"], []):
        environment = {} if said else {"MLFLOW_TRACKING_URI": "http://me:hunter2@127.0.0.1:9"}
        ended = run("sync", *said, cwd=cwd, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0", **environment)
        assert (ended.code, ended.err) == (1, "")
        assert ended.out.startswith("first: not written (")


def test_a_database_of_the_home_is_the_homes_own(cwd: Path) -> None:
    config = cwd / "mlruns/studies/first/config.yaml"
    config.write_text(config.read_text().replace("uri: null", "uri: sqlite:///mlruns/mlflow.db"))
    assert run("sync", cwd=cwd).out == "first: nothing to write\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["from=frist"], "error: from: no study frist in mlruns; did you mean first?\n"),
        (["uri=3"], "error: uri: 3 is no address; give one as in sqlite:///mlflow.db or http://...\n"),
        (["home=none"], "error: from: no study in none; search first: python -m autotune.search\n"),
    ],
)
def test_mistakes_are_named(arguments: list[str], said: str, cwd: Path) -> None:
    ended = run("sync", *arguments, cwd=cwd)
    assert (ended.code, ended.out, ended.err) == (2, "", said)
