"""The six kinds go through a search and a final training unchanged."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from mlflow import MlflowClient

from ..commands import run, summary, trials
from . import adversarial, autoencoder, digit_template, finetuning, language_model, sentences

KINDS = (digit_template, adversarial, autoencoder, language_model, finetuning, sentences)
ALLOWED = "allow_targets=[tests]"


def searched(kind: ModuleType, cwd: Path, *further: str) -> Path:
    """Search two trials of a kind and train the better one; returns the home."""
    for group in ("model", "data"):
        folder = cwd / "conf" / group
        folder.mkdir(parents=True)
        (folder / "stock.yaml").write_text(f"name: stock{getattr(kind, group.upper())}")
    typed = ("--config-dir", "conf", ALLOWED, "trainer.accelerator=cpu")
    search = run(
        *("search", *typed, "model=stock", "data=stock", "study.name=stock", "budget.trials=2", "confirm.top=0"),
        "pruner=none",
        *("trainer.max_epochs=2", *kind.ARGUMENTS, *further),
        cwd=cwd,
    )
    assert search.code == 0, search.out + search.err
    train = run("train", *typed, "from=stock", "train.name=stock", *further, cwd=cwd)
    assert train.code == 0, train.out + train.err
    return cwd / "mlruns"


# Lightning says so of BatchNorm in a backbone, which stays in the optimizer while all else of it is frozen.
@pytest.mark.filterwarnings("ignore:The provided params to be frozen already exist")
# And so of a network among hyperparameters, which the template keeps.
@pytest.mark.filterwarnings("ignore:Attribute 'net' is an instance of `nn.Module`")
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=[kind.__name__.rpartition(".")[2] for kind in KINDS])
def test_it_is_searched_and_trained(kind: ModuleType, tmp_path: Path) -> None:
    tracking = () if kind is adversarial else ("tracking=none",)
    home = searched(kind, tmp_path, *tracking)
    rows = trials(home / "studies" / "stock")
    assert [row["reason"] for row in rows] == ["completed", "completed"]
    assert all(float(row["objective"]) == float(row["objective"]) for row in rows)
    assert (home / "trained" / "stock" / "best.ckpt").is_file()
    assert summary(home / "trained" / "stock")["kept_epoch"] >= 1
    assert {path.name for path in tmp_path.iterdir()} == {"conf", "mlruns"}
    if kind is adversarial:
        check_runs(home)


def check_runs(home: Path) -> None:
    """What the module logs by itself is in the runs of its trials, and in that of its training."""
    client = MlflowClient(f"sqlite:///{home}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("autotune").experiment_id])
    trained = [
        each for each in runs if each.data.tags.get("stage") == "train" or "mlflow.parentRunId" in each.data.tags
    ]
    assert len(trained) == 3
    for each in trained:
        pictures = client.list_artifacts(each.info.run_id, "images/generated_images")
        assert [Path(picture.path).name for picture in pictures] == ["0.png", "1.png"]
        assert each.data.params["hparams/b1"] == "0.5"
        assert [point.step for point in client.get_metric_history(each.info.run_id, "g_loss")] == [1, 2]
