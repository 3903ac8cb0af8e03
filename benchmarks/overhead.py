"""How far a trial is from a bare PyTorch loop, and stock Lightning from the same, on the same data, seed and batches.

    python benchmarks/overhead.py [--epochs 27] [--repeats 5]

One trial is digits on an MLP 64-64-32-10 with BatchNorm and Adam. The bare loop is what one would write by hand: it
trains, validates each epoch and keeps the losses and the accuracy. Ours is the lightning executor as a search runs it,
with what it measures besides, from the resolved config to the end of the trial. Stock is a LightningModule and
DataLoaders as Lightning's documentation writes them. Runs take turns; the figure is the median of the ratios of one
turn each.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from autotune.assembly import build_model
from autotune.data.batches import ArrayData, epoch_order
from autotune.data.digits import Digits
from autotune.executors.lightning import QUIET, LightningExecutor
from autotune.trial import End, Epoch, Reason, Trial

MODEL = {"_target_": "autotune.models.mlp.MLP", "hidden": [64, 32], "batch_norm": True}
SOURCE = Digits()


def config(batch_size: int | str, epochs: int) -> dict[str, Any]:
    return {
        "data": {"_target_": "autotune.data.digits.Digits", "batch_size": batch_size},
        "model": MODEL,
        "optimizer": {"_target_": "torch.optim.Adam", "lr": 1e-3},
        "schedule": {"_target_": "autotune.optim.schedules.Constant"},
        "objective": {"metric": "val/accuracy"},
        "trainer": {"max_epochs": epochs, "accelerator": "cpu", "devices": 1, "deterministic": True},
        "seed": 0,
    }


class OneTrial:
    """A desk that hands out one trial and remembers its last epoch."""

    interrupted = False

    def __init__(self, resolved: Mapping[str, Any]) -> None:
        self._waiting = [Trial(0, resolved)]
        self.last: Mapping[str, float] = {}

    def next_trial(self) -> Trial | None:
        return self._waiting.pop() if self._waiting else None

    def judge(self, epoch: Epoch) -> None:
        self.last = epoch.metrics

    def ended(self, end: End) -> None:
        if end.reason != Reason.COMPLETED:
            raise RuntimeError(f"the trial ended as {end.reason}") from end.error


def ours(resolved: Mapping[str, Any]) -> float:
    desk = OneTrial(resolved)
    LightningExecutor().run(desk)
    return desk.last["val/loss"]


def network(resolved: Mapping[str, Any], data: ArrayData) -> nn.Module:
    seed_everything(resolved["seed"], verbose=False)
    return build_model(resolved, data)


def bare(resolved: Mapping[str, Any]) -> float:
    data = ArrayData(SOURCE, resolved["data"]["batch_size"], resolved["seed"])
    train, val = data.split.train, data.split.val
    model = network(resolved, data)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(resolved["trainer"]["max_epochs"]):
        model.train()
        total = 0.0
        order = epoch_order(0, epoch, len(train))
        for rows in torch.split(order, data.batch_size):
            loss = functional.cross_entropy(model(train.features[rows]), train.target[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
        model.eval()
        with torch.no_grad():
            outputs = model(val.features)
            val_loss = functional.cross_entropy(outputs, val.target).item()
            (outputs.argmax(dim=1) == val.target).float().mean().item()
    return val_loss


class Stock(LightningModule):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.accuracy = MulticlassAccuracy(10)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        loss = functional.cross_entropy(self.model(batch[0]), batch[1])
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        outputs = self.model(batch[0])
        self.log("val/loss", functional.cross_entropy(outputs, batch[1]))
        self.accuracy(outputs, batch[1])
        self.log("val/accuracy", self.accuracy)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def stock(resolved: Mapping[str, Any]) -> float:
    data = ArrayData(SOURCE, resolved["data"]["batch_size"], resolved["seed"])
    train, val = data.split.train, data.split.val
    module = Stock(network(resolved, data))
    trainer = Trainer(
        max_epochs=resolved["trainer"]["max_epochs"], accelerator="cpu", **QUIET, enable_checkpointing=False
    )
    trainer.fit(
        module,
        DataLoader(TensorDataset(train.features, train.target), batch_size=data.batch_size, shuffle=True),
        DataLoader(TensorDataset(val.features, val.target), batch_size=512),
    )
    return float(trainer.callback_metrics["val/loss"])


def timed(run: Callable[[Mapping[str, Any]], float], resolved: Mapping[str, Any]) -> tuple[float, float]:
    started = time.perf_counter()
    value = run(resolved)
    return time.perf_counter() - started, value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=27)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    print(f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}")
    ours(config(64, 1))
    bare(config(64, 1))
    stock(config(64, 1))
    print(f"{'batch':>6} {'bare':>9} {'ours':>9} {'stock':>9}   ours/bare  stock/bare")
    totals: dict[str, list[float]] = {"ours": [], "stock": []}
    for batch_size in (16, 32, 64, 128, "full"):
        resolved = config(batch_size, arguments.epochs)
        seconds: dict[str, list[float]] = {"bare": [], "ours": [], "stock": []}
        for _ in range(arguments.repeats):
            took, expected = timed(bare, resolved)
            seconds["bare"].append(took)
            took, value = timed(ours, resolved)
            seconds["ours"].append(took)
            if abs(value - expected) > 1e-5 * abs(expected):
                raise SystemExit(f"not the same training: val/loss {value} against {expected}")
            seconds["stock"].append(timed(stock, resolved)[0])
        ratios = {
            name: statistics.median(a / b for a, b in zip(seconds[name], seconds["bare"], strict=True))
            for name in totals
        }
        for name, ratio in ratios.items():
            totals[name].append(ratio)
        milliseconds = "".join(f"{1000 * statistics.median(each):>7.0f} ms" for each in seconds.values())
        print(f"{batch_size:>6} {milliseconds}   {ratios['ours']:>9.2f}  {ratios['stock']:>10.2f}")
    means = {name: statistics.geometric_mean(each) for name, each in totals.items()}
    print(f"a trial against the bare loop, geometric mean: ours {means['ours']:.2f}x, stock {means['stock']:.2f}x")


if __name__ == "__main__":
    main()
