"""Optuna, Lightning and MLflow put together as a user would: what benchmarks/ compares autotune with.

    python benchmarks/peer.py FOLDER [--trials 100] [--epochs 27] [--seconds S] [--uri URI] [--journal]

It has a LightningModule, DataLoaders, MLFlowLogger, a callback for pruning and a Trainer with its progress bar, as
their documentation writes them; the network, the data and the space are those of autotune's default search. In the
place of our dynamic learning rate it has torch's ReduceLROnPlateau. The command goes on with the study in its folder
until so many trials of it have ended, by Optuna's MaxTrialsCallback.
"""

from __future__ import annotations

import argparse
import logging
import os
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers import MLFlowLogger
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import MaxTrialsCallback
from optuna.trial import TrialState
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from autotune.data.digits import Digits
from autotune.data.idx import Idx
from autotune.data.source import Part, Source, Split, split
from autotune.models.cnn import CNN
from autotune.models.mlp import MLP

HIDDEN = (64, 32)
EVALUATION_BATCH = 512
RATES = {"sgd": (1e-3, 1.0), "bgd": (1e-2, 10.0), "adam": (1e-4, 1e-1)}
DECAYS = {"exponential": (0.8, 1.0, False), "dynamic": (0.5, 50.0, True)}
STUDY = "bench"


@dataclass(frozen=True)
class Task:
    """What is trained.

    Attributes:
        overrides: It, for the command.
        batch_sizes: The choice of them in its default space.
        source: Its data.
        epochs: Of a trial.
    """

    overrides: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    source: Source
    epochs: int

    def network(self, params: Mapping[str, Any], data: Split) -> nn.Module:
        if "model.head" in params:
            return CNN(data.input_shape, data.outputs, head=params["model.head"], batch_norm=params["model.batch_norm"])
        return MLP(data.input_shape, data.outputs, hidden=HIDDEN, batch_norm=params["model.batch_norm"])


class Network(LightningModule):
    def __init__(self, network: nn.Module, params: Mapping[str, Any], epochs: int) -> None:
        super().__init__()
        self.network = network
        self.params = params
        self.epochs = epochs
        self.accuracy = MulticlassAccuracy(10)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        loss = functional.cross_entropy(self.network(batch[0]), batch[1])
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        outputs = self.network(batch[0])
        self.log("val_loss", functional.cross_entropy(outputs, batch[1]))
        self.accuracy(outputs, batch[1])
        self.log("val_accuracy", self.accuracy)

    def configure_optimizers(self) -> Any:
        name, schedule = self.params["optimizer"], self.params["schedule"]
        rate = self.params[f"optimizer.{name}.lr"]
        optimizer: torch.optim.Optimizer
        if name == "adam":
            optimizer = torch.optim.Adam(self.parameters(), lr=rate)
        else:
            momentum = self.params.get("optimizer.sgd.momentum", 0.0)
            optimizer = torch.optim.SGD(self.parameters(), lr=rate, momentum=momentum)
        if schedule == "exponential":
            decay = self.params["schedule.exponential.decay"]
            return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, decay)]
        if schedule == "cosine":
            return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.epochs)]
        if schedule == "dynamic":
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "train_loss"}}
        return optimizer


class Pruning(Callback):
    """What optuna-integration's PyTorchLightningPruningCallback does, and the best value."""

    def __init__(self, trial: optuna.Trial) -> None:
        self.trial = trial
        self.best = 0.0
        self.epochs = 0

    def on_validation_end(self, trainer: Trainer, _: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        value = float(trainer.callback_metrics["val_accuracy"])
        self.best, self.epochs = max(self.best, value), self.epochs + 1
        self.trial.report(value, trainer.current_epoch + 1)
        if self.trial.should_prune():
            raise optuna.TrialPruned


def suggested(trial: optuna.Trial, task: Task) -> dict[str, Any]:
    """The default space, in Optuna's words."""
    optimizer = trial.suggest_categorical("optimizer", ["sgd", "bgd", "adam"])
    trial.suggest_float(f"optimizer.{optimizer}.lr", *RATES[optimizer], log=True)
    if optimizer == "sgd":
        trial.suggest_categorical("optimizer.sgd.momentum", [0.0, 0.9])
    if optimizer != "bgd":
        trial.suggest_categorical("data.batch_size", task.batch_sizes)
    schedule = trial.suggest_categorical("schedule", ["constant", "exponential", "cosine", "dynamic"])
    if schedule in DECAYS:
        low, high, log = DECAYS[schedule]
        trial.suggest_float(f"schedule.{schedule}.decay", low, high, log=log)
    trial.suggest_categorical("model.batch_norm", [True, False])
    if isinstance(task.source, Idx):
        trial.suggest_categorical("model.head", ["average", "flatten"])
    return trial.params


@dataclass(frozen=True)
class Tracking:
    """Where the runs are kept.

    Attributes:
        uri: MLflow's.
        artifacts: Of the experiment; None leaves that to a server.
    """

    uri: str
    artifacts: str | None

    def logger(self, run_name: str | None = None) -> MLFlowLogger:
        """The logger of one trial's run."""
        return MLFlowLogger(STUDY, run_name, tracking_uri=self.uri, artifact_location=self.artifacts)


class Objective:
    """What is optimized: one training, a run of MLflow's each.

    Args:
        task: What is trained.
        data: Its data.
        seed: Of each training.
        tracking: Where the runs are kept.

    Attributes:
        epochs: Trained so far.
    """

    def __init__(self, task: Task, data: Split, seed: int, tracking: Tracking) -> None:
        assert isinstance(data.train, Part)
        assert isinstance(data.val, Part)
        self._task, self._data, self._seed, self._tracking = task, data, seed, tracking
        self._train, self._val = data.train, data.val
        self.epochs = 0

    def __call__(self, trial: optuna.Trial) -> float:
        params = suggested(trial, self._task)
        seed_everything(self._seed, verbose=False)
        batch_size = params.get("data.batch_size", len(self._train))
        reporting = Pruning(trial)
        mlflow = self._tracking.logger(run_name(trial.number))
        mlflow.log_hyperparams(params)
        trainer = Trainer(
            max_epochs=self._task.epochs, devices=1, logger=mlflow, callbacks=[reporting], enable_checkpointing=False
        )
        train = TensorDataset(self._train.features, self._train.target)
        val = TensorDataset(self._val.features, self._val.target)
        try:
            with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):  # where the progress bar goes
                trainer.fit(
                    Network(self._task.network(params, self._data), params, self._task.epochs),
                    DataLoader(train, batch_size=batch_size, shuffle=True),
                    DataLoader(val, batch_size=EVALUATION_BATCH),
                )
        finally:
            self.epochs += reporting.epochs
        return reporting.best


def run_name(number: int) -> str:
    """What a trial's run is called."""
    return f"trial-{number}"


def default_task(epochs: int) -> Task:
    """Digits on the default network."""
    return Task(("data=digits", "model=mlp"), (16, 32, 64, 128), Digits(), epochs)


def storage(folder: Path, is_journal: bool) -> str | BaseStorage:
    """Where a folder's study is kept."""
    if is_journal:
        return JournalStorage(JournalFileBackend(str(folder / "optuna.journal")))
    return f"sqlite:///{folder}/optuna.db"


def hush() -> None:
    """Keep the libraries' chatter off the terminal."""
    warnings.simplefilter("ignore")
    for name in ("lightning.pytorch", "lightning.fabric", "mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=27)
    parser.add_argument("--seconds", type=float, help="after which no trial is begun")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--uri", help="MLflow's; default: a database in the folder")
    parser.add_argument("--journal", action="store_true", help="Optuna's journal instead of SQLite")
    arguments = parser.parse_args()
    hush()
    folder = arguments.folder.absolute()
    folder.mkdir(exist_ok=True)
    task = default_task(arguments.epochs)
    artifacts = None if arguments.uri else (folder / "artifacts").as_uri()
    tracking = Tracking(arguments.uri or f"sqlite:///{folder}/mlflow.db", artifacts)
    study = optuna.create_study(
        study_name=STUDY,
        storage=storage(folder, arguments.journal),
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=arguments.seed),
        pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3, min_early_stopping_rate=0),
        load_if_exists=True,
    )
    ended = (TrialState.COMPLETE, TrialState.PRUNED)
    if len(study.get_trials(deepcopy=False, states=ended)) < arguments.trials:
        study.optimize(
            Objective(task, split(task.source), arguments.seed, tracking),
            timeout=arguments.seconds,
            callbacks=[MaxTrialsCallback(arguments.trials, states=ended)],
        )


if __name__ == "__main__":
    main()
