"""A classifier on a trained backbone, which a callback thaws after an epoch and gives to the optimizer."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim.lr_scheduler import MultiStepLR
from torchmetrics.classification import BinaryAccuracy

MODEL = """
_target_: tests.stock.finetuning.Transfer
milestones: [1, 2]
lr: tag(log, interval(1e-3, 1e-1))
lr_scheduler_gamma: choice(0.1, 0.5)
"""
DATA = """
_target_: tests.stock.images.Pictures
batch_size: 16
"""
THAW = "{_target_:lightning.pytorch.callbacks.BackboneFinetuning,unfreeze_backbone_at_epoch:1,backbone_initial_lr:1e-3}"
RATES = "{_target_:lightning.pytorch.callbacks.LearningRateMonitor}"
ARGUMENTS = (
    *("objective.metric=val_acc", "optimizer=own", "schedule=own", "trainer.max_epochs=3"),
    f"+trainer.callbacks=[{THAW},{RATES}]",
)


class Transfer(LightningModule):
    def __init__(self, milestones: list[int], lr: float = 1e-3, lr_scheduler_gamma: float = 0.1) -> None:
        super().__init__()
        self.lr = lr
        self.lr_scheduler_gamma = lr_scheduler_gamma
        self.milestones = milestones
        self.backbone = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.fc = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
        self.train_acc = BinaryAccuracy()
        self.valid_acc = BinaryAccuracy()

    def forward(self, x: Tensor) -> Tensor:
        features = self.backbone(x).squeeze(-1).squeeze(-1)
        return torch.sigmoid(self.fc(features))

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.binary_cross_entropy(logits, labels)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        y_true = y.view((-1, 1)).float()
        logits = self.forward(x)
        self.log("train_acc", self.train_acc(logits, y_true.int()), prog_bar=True)
        return self.loss(logits, y_true)

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        x, y = batch
        y_true = y.view((-1, 1)).float()
        logits = self.forward(x)
        self.log("val_loss", self.loss(logits, y_true), prog_bar=True)
        self.log("val_acc", self.valid_acc(logits, y_true.int()), prog_bar=True)

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        x, y = batch
        self.log("test_loss", self.loss(self.forward(x), y.view((-1, 1)).float()))

    def configure_optimizers(self) -> tuple[list[Any], list[Any]]:
        trainable = [each for each in self.parameters() if each.requires_grad]
        optimizer = torch.optim.Adam(trainable, lr=self.lr)
        return [optimizer], [MultiStepLR(optimizer, milestones=self.milestones, gamma=self.lr_scheduler_gamma)]
