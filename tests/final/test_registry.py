"""What a final training leaves in MLflow, and what MLflow's runs bring to one."""

from __future__ import annotations

import contextlib
import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy
import pytest
import torch
import yaml
from lightning.pytorch import LightningDataModule, LightningModule
from mlflow import MlflowClient
from mlflow.entities import Run
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from autotune.assembly import Assembly, assemble
from autotune.compose import compose
from autotune.errors import UserError
from autotune.final.registry import FinalRun, config_of_run, servable
from autotune.train import Plan

from ..commands import plain_yaml
from ..conftest import Searched
from ..tracking.stories import Runs

CONFIG: dict[str, Any] = {
    "optimizer": {"name": "adam", "lr": 0.01},
    "schedule": {"name": "cosine"},
    "model": {"hidden": [64, 32]},
    "objective": {"metric": "val/loss", "direction": "minimize", "worst": 1e4},
    "seed": 7,
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """MLflow's switches and its place, which hold for the whole process, end with the test."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    yield
    mlflow.set_tracking_uri(None)


# What answers at prediction.


def assembled(*overrides: str) -> Assembly:
    small = ["trainer.accelerator=cpu", "trainer.max_epochs=1", "model.hidden=[4]"]
    return assemble(Plan.of(compose("train", [*small, *overrides])).resolved)


def served(assembly: Assembly) -> tuple[nn.Module, Tensor]:
    found = servable(assembly)
    assert found is not None
    model, example = found
    assert not model.training
    return model, example


def test_a_classifier_answers_raw_features_with_probabilities() -> None:
    assembly = assembled("data=digits", "model.batch_norm=true", "model.dropout=0.5")
    model, example = served(assembly)
    assert example.shape == (3, 64)
    assert example.max() > 1, "pixels are from 0 to 16 until they are preprocessed"
    with torch.no_grad():
        answers = model(example)
        logits = assembly.module.eval()(example / 16)
    torch.testing.assert_close(answers, torch.softmax(logits, dim=1))
    torch.testing.assert_close(answers.sum(dim=1), torch.ones(3))


def test_a_binary_classifier_answers_with_one_probability() -> None:
    assembly = assembled("data=seed_mlp", "objective=accuracy")
    model, example = served(assembly)
    with torch.no_grad():
        answers = model(example)
        logits = assembly.module.eval()(example)
    torch.testing.assert_close(answers, torch.sigmoid(logits).squeeze(1))


def test_a_regression_answers_in_the_targets_own_unit() -> None:
    assembly = assembled("data=synthetic", "data.task=regression", "objective=loss")
    split = assembly.data.split  # type: ignore[attr-defined]
    mean, std = split.target_scale
    model, example = served(assembly)
    with torch.no_grad():
        answers = model(example)
        outputs = assembly.module.eval()(split.preprocess(example))
    assert std > 1
    torch.testing.assert_close(answers, outputs.squeeze(1) * std + mean)


class Own(LightningModule):
    """A user's own module."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, features: Tensor) -> Tensor:
        answers: Tensor = self.layer(features)
        return answers


class Pair(Own):
    """One that answers with two things."""

    def forward(self, features: Tensor) -> Any:
        return self.layer(features), features


class Mute(LightningModule):
    """One that only trains."""


class OwnData(LightningDataModule):
    """A user's own data."""

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(TensorDataset(torch.rand(8, 3), torch.zeros(8)), batch_size=8)


def test_the_users_own_module_answers_by_its_forward_pass() -> None:
    module = Own().train()
    model, example = served(Assembly(module, OwnData(), None, {}))
    assert example.shape == (3, 3)
    torch.testing.assert_close(model(example), module.layer(example))


@pytest.mark.parametrize("kind", [Pair, Mute])
def test_a_module_without_a_forward_of_one_tensor_is_not_served(kind: type[LightningModule]) -> None:
    assert servable(Assembly(kind(), OwnData(), None, {})) is None


# One run.


def final(cwd: Path) -> FinalRun:
    return FinalRun(None, "autotune", cwd / "mlruns")


def read(cwd: Path, run: FinalRun) -> Run:
    return MlflowClient(f"sqlite:///{cwd}/mlruns/mlflow.db").get_run(run.run_id)


@pytest.mark.slow
def test_a_run_of_something_that_no_search_found_has_no_links(cwd: Path) -> None:
    for number, origin in enumerate(({}, {"study": "elsewhere", "trial": 1}, {"study": "it's", "trial": 1})):
        run = final(cwd)
        run.begin(f"r{number}", CONFIG, origin, "adam", "train")
        run.end({}, [], "FINISHED")
        tags = read(cwd, run).data.tags
        assert not {"search_run", "trial_run"} & tags.keys()
        assert tags["mlflow.note.content"] == f"Final training `r{number}`."
        assert tags.get("study") == origin.get("study")


@pytest.mark.slow
def test_what_mlflow_does_not_take_is_written_with_the_next(
    cwd: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = final(cwd)
    run.begin("r", CONFIG, {}, "adam", "train")
    with monkeypatch.context() as patched:

        def down(*_: Any, **__: Any) -> None:
            raise OSError("no route\nto host")

        patched.setattr(MlflowClient, "log_batch", down)
        with caplog.at_level(logging.WARNING):
            run.log({"val/loss": 0.5}, 1)
    assert [record.getMessage() for record in caplog.records] == ["MLflow did not take the metrics: no route"]
    run.log({"val/loss": 0.25}, 2)
    run.end({"test/loss": 0.75}, [cwd / "nowhere"], "FINISHED")
    found = read(cwd, run)
    assert Runs.at(cwd / "mlruns").history(found, "val/loss") == [(1, 0.5), (2, 0.25)]
    assert (found.data.metrics["test/loss"], found.info.status) == (0.75, "FINISHED")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("raised", "ended"),
    [
        (None, ("FINISHED", "COMPLETE", "completed")),
        (KeyboardInterrupt(), ("KILLED", "FAIL", "interrupted")),
        (LookupError("the user's own"), ("FAILED", "FAIL", "error")),
    ],
)
def test_a_further_training_is_a_child_that_ends_as_the_training_does(
    raised: BaseException | None, ended: tuple[str, str, str], cwd: Path
) -> None:
    run = final(cwd)
    run.begin("r", CONFIG, {"study": "first", "trial": 2}, "adam", "train")
    with (
        contextlib.suppress(KeyboardInterrupt, LookupError),
        run.child("seed 8", "final-seed", {**CONFIG, "seed": 8}, "adam", "train") as child,
    ):
        child.log({"val/loss": 0.5}, 1)
        running = next(each for each in Runs.at(cwd / "mlruns").children if each.info.run_name == "seed 8")
        assert (running.info.status, running.data.tags["state"]) == ("RUNNING", "RUNNING")
        child.log({"val/loss": 0.25}, 2)
        if raised is not None:
            raise raised
    run.end({}, [], "FINISHED")
    runs = Runs.at(cwd / "mlruns")
    found = runs.client.get_run(running.info.run_id)
    tags = found.data.tags
    assert (found.info.status, tags["state"], tags["reason"]) == ended
    assert tags["mlflow.parentRunId"] == run.run_id
    assert (tags["stage"], tags["seed"], tags["family"], tags["trained_on"]) == ("final-seed", "8", "adam", "train")
    assert not {"study", "trial_number", "kind"} & tags.keys(), "no search is taken up from it"
    assert runs.history(found, "val/loss") == [(1, 0.5), (2, 0.25)]
    assert yaml.safe_load(config_of_run(found.info.run_id, str(cwd / "mlruns"))) == {**CONFIG, "seed": 8}


@pytest.mark.slow
def test_a_run_that_was_never_begun_leaves_nothing(cwd: Path) -> None:
    before = len(Runs.at(cwd / "mlruns").parents)
    final(cwd).end({"test/loss": 1.0}, [], "KILLED")
    assert len(Runs.at(cwd / "mlruns").parents) == before


@pytest.mark.slow
def test_a_final_training_keeps_its_config_without_passwords(cwd: Path) -> None:
    run = final(cwd)
    config = {**CONFIG, "data": {"path": "s3://me:hunter2@bucket"}}
    run.begin("r", config, {"study": "postgresql://me:hunter2@host"}, "adam", "train")
    run.end({}, [], "KILLED")
    assert "s3://***@bucket" in Runs.at(cwd / "mlruns").artifact(read(cwd, run), "config.yaml")
    assert not [path for path in cwd.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]


@pytest.mark.slow
def test_the_run_of_a_final_training_has_the_columns_of_a_trial(cwd: Path) -> None:
    for status, state, reason in (("FINISHED", "COMPLETE", "completed"), ("KILLED", "FAIL", "interrupted")):
        run = final(cwd)
        run.begin("r", CONFIG, {}, "adam", "train")
        assert read(cwd, run).data.tags["state"] == "RUNNING"
        for epoch, loss in enumerate((0.5, 0.25, math.nan, 0.75), start=1):
            run.log({"val/loss": loss}, epoch)
        run.end({"test/loss": 0.3, "cost/latency_sample_seconds": 0.002}, [], status)
        found = read(cwd, run)
        shown = ("family", "schedule", "state", "reason", "seed")
        assert [found.data.tags[tag] for tag in shown] == ["adam", "cosine", state, reason, "7"]
        assert Runs.at(cwd / "mlruns").history(found, "objective") == [(1, 0.5), (2, 0.25), (4, 0.25)]
        assert found.data.metrics["cost/latency_sample_ms"] == pytest.approx(2.0)
        assert "cost/latency_sample_seconds" not in found.data.metrics


class Branching(nn.Module):
    """Which way it goes depends on what it is given, so it cannot be exported as a graph."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, features: Tensor) -> Tensor:
        answers: Tensor = self.layer(features) if features.sum() > 0 else features[:, :2]
        return answers


@pytest.mark.slow
def test_a_model_that_cannot_be_exported_is_pickled_and_said_to_be(
    cwd: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = final(cwd)
    run.begin("r", CONFIG, {}, "adam", "train")
    model, example = Branching().eval(), torch.rand(3, 3)
    with caplog.at_level(logging.WARNING, "autotune"):
        uri = run.log_model(model, example, "branching")
    run.end({}, [], "FINISHED")
    (said,) = (record.getMessage() for record in caplog.records if record.name == "autotune.final.registry")
    assert said.startswith("the model cannot be exported (")
    assert said.endswith("); it is pickled: load it where you trust it")
    assert uri == "models:/branching/1"
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
    loaded = mlflow.pytorch.load_model(uri)
    torch.testing.assert_close(loaded(example), model(example))


@pytest.mark.slow
def test_a_models_files_lie_in_the_home_and_load_without_running_code(cwd: Path) -> None:
    run = final(cwd)
    run.begin("r", CONFIG, {}, "adam", "train")
    model, example = served(assembled("data=digits"))
    uri = run.log_model(model, example, None)
    run.end({}, [], "FINISHED")
    (folder,) = (path.parent for path in cwd.rglob("MLmodel"))
    assert folder.is_relative_to(cwd / "mlruns" / "artifacts")
    described = plain_yaml(folder / "MLmodel")
    assert described["run_id"] == run.run_id
    assert (folder / "data" / "model.pt2").exists()
    assert not list(folder.rglob("*.pkl"))
    loaded = mlflow.pytorch.load_model(uri)
    more = torch.rand(7, 64) * 16
    torch.testing.assert_close(loaded(more), model(more))
    example_rows = json.loads((folder / "serving_input_example.json").read_text())["inputs"]
    numpy.testing.assert_allclose(example_rows, example.numpy())
    requirements = (folder / "requirements.txt").read_text().split()
    assert {line.partition("==")[0] for line in requirements} >= {"mlflow", "torch", "numpy"}
    assert not any("+" in line for line in requirements), "a local build is on no index"


def test_a_database_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"^tracking.uri: postgresql://\*\*\*@127.0.0.1:1/x cannot be opened \(.*\); give another, or"
    ):
        FinalRun("postgresql://me:secret@127.0.0.1:1/x", "autotune", tmp_path)


# What a run brings.


@pytest.mark.slow
def test_the_run_of_a_search_brings_its_best_and_that_of_a_trial_its_own(searched: Searched, cwd: Path) -> None:
    home = str(cwd / "mlruns")
    runs = Runs.at(cwd / "mlruns")
    best = (searched.study / "best.yaml").read_text()
    assert config_of_run(runs.parent.info.run_id, home) == best
    number = int(yaml.safe_load(best)["origin"]["trial"])
    brought = yaml.safe_load(config_of_run(runs.child(number).info.run_id, home))
    origin = yaml.safe_load(best)["origin"]
    assert brought.pop("origin") == {**origin, "value": pytest.approx(origin["value"])}
    assert brought == {key: value for key, value in yaml.safe_load(best).items() if key != "origin"}


@pytest.mark.slow
def test_a_final_training_can_be_begun_from_another(cwd: Path) -> None:
    run = final(cwd)
    run.begin("r", CONFIG, {"study": "first", "trial": 2}, "adam", "train")
    run.end({}, [], "FINISHED")
    brought = yaml.safe_load(config_of_run(run.run_id, str(cwd / "mlruns")))
    assert brought == {**CONFIG, "origin": {"study": "first", "trial": 2}}


@pytest.mark.slow
def test_runs_that_bring_nothing(cwd: Path) -> None:
    home = str(cwd / "mlruns")
    client = MlflowClient(f"sqlite:///{home}/mlflow.db")
    experiment = client.get_experiment_by_name("autotune")
    assert experiment is not None
    run = client.create_run(experiment.experiment_id, tags={"kind": "search"}).info.run_id
    with pytest.raises(UserError, match=rf"^from: the run {run} has no best.yaml; give the run of a search or of a"):
        config_of_run(run, home)
    with pytest.raises(
        UserError, match=rf"^from: no run {'0' * 32} in sqlite:///{home}/mlflow.db; give the id of a run"
    ):
        config_of_run("0" * 32, home)


def test_no_database_is_made_to_look_a_run_up(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^from: no run 0+ in sqlite:///"):
        config_of_run("0" * 32, str(tmp_path / "mlruns"))
    assert list(tmp_path.iterdir()) == []
