"""An autoencoder: the steps flatten their batch, and forward answers the code alone, of what is flat already."""

from __future__ import annotations

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

MODEL = """
_target_: tests.stock.autoencoder.AutoEncoder
hidden_dim: int(interval(8, 16))
learning_rate: tag(log, interval(1e-3, 1e-1))
"""
DATA = """
_target_: tests.stock.images.Pictures
batch_size: 16
"""
ARGUMENTS = ("objective.metric=val_loss", "optimizer=sgd,adam")


class AutoEncoder(LightningModule):
    def __init__(self, hidden_dim: int = 8, learning_rate: float = 1e-2) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.encoder = nn.Sequential(nn.Linear(64, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, 3))
        self.decoder = nn.Sequential(nn.Linear(3, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, 64))

    def forward(self, x: Tensor) -> Tensor:
        embedding: Tensor = self.encoder(x)
        return embedding

    def _common_step(self, batch: list[Tensor], stage: str) -> Tensor:
        x = self._prepare_batch(batch)
        loss = nn.functional.mse_loss(self.decoder(self(x)), x)
        self.log(f"{stage}_loss", loss, on_step=stage == "train", on_epoch=True)
        return loss

    def _prepare_batch(self, batch: list[Tensor]) -> Tensor:
        x, _ = batch
        return x.view(x.size(0), -1)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self._common_step(batch, "train")

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self._common_step(batch, "val")

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self._common_step(batch, "test")

    def predict_step(self, batch: list[Tensor], batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        return self(self._prepare_batch(batch))

    def configure_optimizers(self) -> Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.hparams["learning_rate"])
