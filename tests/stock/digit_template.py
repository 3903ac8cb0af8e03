"""A project template's classifier: network, optimizer and schedule are arguments, metrics are objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import ConcatDataset, DataLoader, Dataset, TensorDataset, random_split
from torchmetrics import MaxMetric, MeanMetric
from torchmetrics.classification.accuracy import Accuracy

MODEL = """
_target_: tests.stock.digit_template.DigitModule
optimizer:
  _target_: torch.optim.Adam
  _partial_: true
  lr: tag(log, interval(1e-3, 1e-1))
  weight_decay: 0.0
scheduler:
  _target_: torch.optim.lr_scheduler.ReduceLROnPlateau
  _partial_: true
  mode: min
  factor: 0.1
  patience: 10
net:
  _target_: tests.stock.digit_template.DenseNet
  input_size: 64
  width: int(interval(8, 16))
compile: false
"""
DATA = """
_target_: tests.stock.digit_template.DigitData
batch_size: choice(16, 32)
"""
ARGUMENTS = ("objective.metric=val/acc",)


class DenseNet(nn.Module):
    def __init__(self, input_size: int = 64, width: int = 8, output_size: int = 10) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.Linear(input_size, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, output_size)
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x.flatten(1))
        return logits


class DigitModule(LightningModule):
    def __init__(
        self,
        net: nn.Module,
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[..., LRScheduler] | None,
        compile: bool,  # noqa: A002 - as the template has it
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.net = net
        self.criterion = nn.CrossEntropyLoss()
        self.train_acc = Accuracy(task="multiclass", num_classes=10)
        self.val_acc = Accuracy(task="multiclass", num_classes=10)
        self.test_acc = Accuracy(task="multiclass", num_classes=10)
        self.train_loss = MeanMetric()
        self.val_loss = MeanMetric()
        self.test_loss = MeanMetric()
        self.val_acc_best = MaxMetric()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x)
        return logits

    def on_train_start(self) -> None:
        for metric in (self.val_loss, self.val_acc, self.val_acc_best):
            metric.reset()

    def model_step(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        x, y = batch
        logits = self.forward(x)
        return self.criterion(logits, y), torch.argmax(logits, dim=1), y

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss, preds, targets = self.model_step(batch)
        self.train_loss(loss)
        self.train_acc(preds, targets)
        self.log("train/loss", self.train_loss, on_step=False, on_epoch=True, prog_bar=True)
        self.log("train/acc", self.train_acc, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        loss, preds, targets = self.model_step(batch)
        self.val_loss(loss)
        self.val_acc(preds, targets)
        self.log("val/loss", self.val_loss, on_step=False, on_epoch=True, prog_bar=True)
        self.log("val/acc", self.val_acc, on_step=False, on_epoch=True, prog_bar=True)

    def on_validation_epoch_end(self) -> None:
        self.val_acc_best(self.val_acc.compute())
        self.log("val/acc_best", self.val_acc_best.compute(), sync_dist=True, prog_bar=True)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        loss, preds, targets = self.model_step(batch)
        self.test_loss(loss)
        self.test_acc(preds, targets)
        self.log("test/loss", self.test_loss, on_step=False, on_epoch=True, prog_bar=True)
        self.log("test/acc", self.test_acc, on_step=False, on_epoch=True, prog_bar=True)

    def setup(self, stage: str) -> None:
        if self.hparams["compile"] and stage == "fit":
            self.net = torch.compile(self.net)  # type: ignore[assignment]

    def configure_optimizers(self) -> dict[str, Any]:
        assert self.trainer.model is not None
        optimizer = self.hparams["optimizer"](params=self.trainer.model.parameters())
        if self.hparams["scheduler"] is None:
            return {"optimizer": optimizer}
        scheduler = self.hparams["scheduler"](optimizer=optimizer)
        plan = {"scheduler": scheduler, "monitor": "val/loss", "interval": "epoch", "frequency": 1}
        return {"optimizer": optimizer, "lr_scheduler": plan}


class DigitData(LightningDataModule):
    def __init__(
        self, train_val_test_split: Iterable[int] = (96, 32, 32), batch_size: int = 16, num_workers: int = 0
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.data_train: Dataset[Any] | None = None
        self.data_val: Dataset[Any] | None = None
        self.data_test: Dataset[Any] | None = None
        self.batch_size_per_device = batch_size

    @property
    def num_classes(self) -> int:
        return 10

    def setup(self, stage: str | None = None) -> None:
        if self.data_train is None:
            draw = torch.Generator().manual_seed(42)
            labels = torch.arange(160) % 10
            images = torch.rand(160, 1, 8, 8, generator=draw) + (labels / 5)[:, None, None, None]
            halves = [TensorDataset(images[:100], labels[:100]), TensorDataset(images[100:], labels[100:])]
            whole: Dataset[Any] = ConcatDataset(halves)
            sizes = list(self.hparams["train_val_test_split"])
            self.data_train, self.data_val, self.data_test = random_split(whole, sizes, generator=draw)

    def loader(self, data: Dataset[Any] | None, shuffle: bool) -> DataLoader[Any]:
        assert data is not None
        return DataLoader(data, self.batch_size_per_device, num_workers=self.hparams["num_workers"], shuffle=shuffle)

    def train_dataloader(self) -> DataLoader[Any]:
        return self.loader(self.data_train, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return self.loader(self.data_val, shuffle=False)

    def test_dataloader(self) -> DataLoader[Any]:
        return self.loader(self.data_test, shuffle=False)

    def teardown(self, stage: str | None = None) -> None:
        pass

    def state_dict(self) -> dict[Any, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass
