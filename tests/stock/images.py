"""Small random pictures with a label each, for what learns pictures."""

from __future__ import annotations

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, TensorDataset, random_split


class Pictures(LightningDataModule):
    def __init__(self, batch_size: int = 16) -> None:
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage: str) -> None:
        draw = torch.Generator().manual_seed(7)
        labels = torch.arange(96) % 2
        pictures = torch.rand(96, 1, 8, 8, generator=draw) * 0.5 + labels[:, None, None, None] / 2
        self.train, self.val, self.test = random_split(TensorDataset(pictures, labels), [64, 16, 16], draw)

    def train_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        return DataLoader(self.train, self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        return DataLoader(self.val, self.batch_size)

    def test_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        return DataLoader(self.test, self.batch_size)
