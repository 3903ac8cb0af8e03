"""The commands as a user types them: in this process, where torch is imported once, or in one of their own."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any
from unittest import mock

import yaml
from hydra.core.hydra_config import HydraConfig

from autotune import search, studies, sync, train, ui
from autotune.report import __main__ as report

COMMANDS: Mapping[str, Callable[[], None]] = {
    "report": report.main,
    "search": search.main,
    "train": train.main,
    "ui": ui.main,
    "studies": studies.main,
    "sync": sync.main,
}

# A search of a few seconds, the same on a machine with a GPU.
SMALL = ("trainer.accelerator=cpu", "trainer.max_epochs=3", "budget.trials=6")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


def environment(**more: str) -> dict[str, str]:
    """The environment, without what it may say of MLflow and Hydra."""
    unset = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "HYDRA_FULL_ERROR")
    return {name: value for name, value in os.environ.items() if name not in unset} | more


def _argv(command: str, arguments: Sequence[str]) -> list[str]:
    """What is typed: a search confirms only where a test says how much, since that trains the best many times more."""
    confirms = command != "search" or any(each.startswith(("confirm.", "--hydra-help")) for each in arguments)
    return [*arguments, *([] if confirms else ["confirm.top=0"])]


def run(command: str, *arguments: str, cwd: Path, **more: str) -> Ended:
    """Run a command in this process, as ``python -m autotune.<command>`` would from a directory."""
    out, err = StringIO(), StringIO()
    with (
        mock.patch.dict(os.environ, environment(**more), clear=True),
        mock.patch.object(sys, "argv", [f"autotune.{command}", *_argv(command, arguments)]),
        mock.patch.object(HydraConfig.instance(), "cfg", None),
        chdir(cwd),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            COMMANDS[command]()
        except SystemExit as end:
            code = end.code
        finally:
            if "mlflow" in sys.modules:
                import mlflow

                mlflow.set_tracking_uri(None)
    assert isinstance(code, int)
    return Ended(code, out.getvalue(), err.getvalue())


def start(command: str, *arguments: str, cwd: Path, **more: str) -> subprocess.Popen[str]:
    """Start a command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", f"autotune.{command}", *_argv(command, arguments)],
        cwd=cwd,
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait(process: subprocess.Popen[str]) -> Ended:
    """Wait for a process to end."""
    out, err = process.communicate(timeout=600)
    return Ended(process.returncode, out, err)


def script(code: str, *arguments: str, cwd: Path, **more: str) -> Ended:
    """Run a script in a process of its own, with the tests' helpers at hand."""
    tests = Path(__file__).resolve().parent.parent
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        env=environment(PYTHONPATH=str(tests), **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return wait(process)


def files(folder: Path) -> set[str]:
    """Every file and empty folder in a folder, by its path there, but what SQLite keeps beside an open database."""
    kept = (path for path in folder.rglob("*") if not path.name.endswith((".db-shm", ".db-wal", ".db-journal")))
    return {str(path.relative_to(folder)) for path in kept if path.is_file() or not any(path.iterdir())}


def summary(folder: Path) -> dict[str, Any]:
    """A folder's summary.json."""
    content = json.loads((folder / "summary.json").read_text())
    assert isinstance(content, dict)
    return content


def trials(study: Path) -> list[dict[str, str]]:
    """A study's trials.csv."""
    with (study / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def plain_yaml(path: Path) -> dict[str, Any]:
    """A file of plain YAML."""
    content = yaml.safe_load(path.read_text())
    assert isinstance(content, dict)
    return content


USERS_OWN = """
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Data(LightningDataModule):
    def __init__(self, batch_size):
        super().__init__()
        self.batch_size = batch_size
        draw = torch.Generator().manual_seed(0)
        self.features = torch.randn(240, 4, generator=draw)
        self.target = (self.features.sum(dim=1) > 0).long()

    def part(self, start, end):
        return DataLoader(TensorDataset(self.features[start:end], self.target[start:end]), self.batch_size)

    def train_dataloader(self):
        return self.part(0, 160)

    def val_dataloader(self):
        return self.part(160, 200)

    def test_dataloader(self):
        return self.part(200, 240)


class Model(LightningModule):
    def __init__(self, width):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2))

    def forward(self, features):
        return self.layers(features)

    def training_step(self, batch, index):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def judge(self, part, batch):
        right = (self(batch[0]).argmax(dim=1) == batch[1]).float().mean()
        self.log(f"{part}_acc", right, on_epoch=True, batch_size=len(batch[1]))

    def validation_step(self, batch, index):
        self.judge("val", batch)

    def test_step(self, batch, index):
        self.judge("test", batch)
"""
USERS_FILES = {
    "model": "_target_: users_own.Model\nwidth: int(interval(4, 16))\n",
    "data": "_target_: users_own.Data\nbatch_size: choice(20, 40)\n",
    "optimizer": "name: mine\n_target_: torch.optim.RMSprop\nlr: tag(log, interval(1e-3, 1e-1))\n",
}
USERS_ARGUMENTS = (
    *("--config-dir", "conf", "model=mine", "data=mine", "optimizer=mine", "objective.metric=val_acc"),
    "allow_targets=[users_own]",
)


def write_users_own(folder: Path) -> None:
    """Write what a user brings: the module users_own with a model and data, and a config folder with an option each."""
    (folder / "users_own.py").write_text(USERS_OWN)
    for group, text in USERS_FILES.items():
        (folder / "conf" / group).mkdir(parents=True)
        (folder / "conf" / group / "mine.yaml").write_text(text)
