"""Studies of one name in one store: which runs are whose, whatever a study is called."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from autotune.final.registry import FinalRun
from autotune.kept.outcome import read
from autotune.reconcile import reconcile
from autotune.tracking import Study

from ..commands import plain_yaml, run

SMALL = (
    *("trainer.accelerator=cpu", "trainer.max_epochs=1", "model.hidden=[8]", "optimizer=adam", "schedule=constant"),
    *("optimizer.lr=tag(log,interval(1e-4,1e-1))", "data.batch_size=128", "executor=population", "study.name=same"),
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("thread")]


def uri(store: Path) -> str:
    return f"sqlite:///{store}/mlflow.db"


def search(store: Path, cwd: Path, *more: str) -> None:
    ended = run("search", *SMALL, f"tracking.uri={uri(store)}", *more, cwd=cwd)
    assert (ended.code, ended.err) == (0, "")


def sync(store: Path, cwd: Path, *arguments: str) -> str:
    ended = run("sync", f"uri={uri(store)}", *arguments, cwd=cwd)
    assert (ended.code, ended.err) == (0, "")
    return ended.out


def study(name: str, home: Path) -> Study:
    found = read(name, home).study
    assert found is not None
    return found


def runs(store: Path) -> list[Run]:
    """All there are, in the order in which they began."""
    found = MlflowClient(f"sqlite:///{store}/mlflow.db").search_runs(["1"], order_by=["attributes.start_time"])
    return list(found)


def tags(found: list[Run], *names: str) -> list[tuple[str | None, ...]]:
    return [tuple(each.data.tags.get(name) for name in names) for each in found]


def test_two_homes_in_one_store_do_not_mix(home: Path, tmp_path: Path) -> None:
    for number, mine in enumerate(("mine", "yours"), start=2):
        search(home, tmp_path, f"home={mine}", f"budget.trials={number}", "confirm.top=1", "confirm.seeds=1")
    homes = [tmp_path / "mine", tmp_path / "yours"]
    ids = [study("same", each).id for each in homes]
    assert ids[0] != ids[1]
    assert [reconcile(each, uri(home)) for each in homes] == [[], []]
    parents = {each.data.tags["study_id"]: each.info.run_id for each in runs(home) if "kind" in each.data.tags}
    for study_id, trials in zip(ids, (2, 3), strict=True):
        children = [each for each in runs(home) if each.data.tags.get("mlflow.parentRunId") == parents[study_id or ""]]
        assert set(tags(children, "study", "study_id")) == {("same", study_id)}
        stages = [each.data.tags["stage"] for each in children]
        assert (stages.count("search"), stages.count("confirm")) == (trials, 1)
    # A search that goes on does so in its own run, and what is lost of one study is not taken from the other.
    search(home, tmp_path, "home=mine", "budget.trials=3", "confirm.top=1", "confirm.seeds=1")
    for each in runs(home):
        if each.data.tags["study_id"] == ids[1]:
            MlflowClient(f"sqlite:///{home}/mlflow.db").delete_run(each.info.run_id)
    assert reconcile(homes[0], uri(home)) == []
    assert "same: the search has no run" in reconcile(homes[1], uri(home))
    assert sync(home, tmp_path, "home=mine") == "same: nothing to write\n"
    assert sync(home, tmp_path, "home=yours") == "same: 5 runs written\n"
    assert [reconcile(each, uri(home)) for each in homes] == [[], []]
    assert [sync(home, tmp_path, f"home={each}") for each in ("mine", "yours")] == ["same: nothing to write\n"] * 2
    # The final training of a best.yaml is linked to the search that wrote it.
    final = FinalRun(f"sqlite:///{home}/mlflow.db", "autotune", home)
    for each in homes:
        origin = plain_yaml(each / "studies/same/best.yaml")["origin"]
        links = final._links(origin)
        assert set(tags(list(links.values()), "study_id")) == {(study("same", each).id,)}
        assert links["trial"].data.tags["trial_number"] == str(origin["trial"])


def test_a_study_begun_anew_has_runs_of_its_own_and_the_earlier_one_bears_its_name(home: Path, tmp_path: Path) -> None:
    store, mlruns = home.rename(tmp_path / "store"), tmp_path / "mlruns"
    search(store, tmp_path, "budget.trials=2")
    before = {each.info.run_id for each in runs(store)}
    search(store, tmp_path, "budget.trials=3", "study.resume=fresh")
    assert reconcile(mlruns, uri(store)) == []
    assert sync(store, tmp_path) == "same: nothing to write\nsame.1: nothing to write\n"
    earlier = [each for each in runs(store) if each.info.run_id in before]
    fresh = [each for each in runs(store) if each.info.run_id not in before]
    assert tags(earlier, "study", "study_id") == [("same.1", study("same.1", mlruns).id)] * 3
    assert tags(fresh, "study", "study_id") == [("same", study("same", mlruns).id)] * 4
    assert [each.info.run_name for each in runs(store) if "kind" in each.data.tags] == ["same.1", "same"]
    # Both go on in the runs that they have.
    search(store, tmp_path, "budget.trials=4")
    search(store, tmp_path, "budget.trials=3", "study.name=same.1")
    assert len(runs(store)) == 9
    assert reconcile(mlruns, uri(store)) == []


def test_the_earlier_study_is_renamed_later_where_the_search_did_not_come_to_it(home: Path, tmp_path: Path) -> None:
    store, mlruns = home.rename(tmp_path / "store"), tmp_path / "mlruns"
    search(store, tmp_path, "budget.trials=2")
    assert run("search", *SMALL, "budget.trials=2", "study.resume=fresh", "tracking=none", cwd=tmp_path).code == 0
    assert sorted(reconcile(mlruns, uri(store)))[0] == (
        "same.1: the search's run has the study same in MLflow, and same.1 in the study"
    )
    assert sync(store, tmp_path) == "same: is not tracked\nsame.1: 3 runs written\n"
    assert reconcile(mlruns, uri(store)) == []
    assert sync(store, tmp_path, "from=same.1") == "same.1: nothing to write\n"


def test_a_study_of_before_there_were_ids_opens_and_takes_up_its_runs(home: Path, tmp_path: Path) -> None:
    store, mlruns = home.rename(tmp_path / "store"), tmp_path / "mlruns"
    search(store, tmp_path, "budget.trials=2")
    journal = mlruns / "studies/same/study.journal"
    journal.write_text("".join(line for line in journal.read_text().splitlines(True) if '"study_id":"' not in line))
    client = MlflowClient(f"sqlite:///{store}/mlflow.db")
    for each in runs(store):
        client.delete_tag(each.info.run_id, "study_id")
    assert study("same", mlruns) == Study("same", None, "same")
    assert reconcile(mlruns, uri(store)) == []
    assert sync(store, tmp_path) == "same: nothing to write\n"
    before = {each.info.run_id for each in runs(store)}
    search(store, tmp_path, "budget.trials=3")
    assert reconcile(mlruns, uri(store)) == []
    assert before < {each.info.run_id for each in runs(store)}
    assert set(tags(runs(store), "study_id")) == {(study("same", mlruns).id,)}
    assert len(runs(store)) == 4
    assert sync(store, tmp_path) == "same: nothing to write\n"
