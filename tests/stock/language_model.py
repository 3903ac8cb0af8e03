"""A language model: forward takes what was said and what comes next; weights are tied, positions added."""

from __future__ import annotations

import math

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset, random_split

MODEL = """
_target_: tests.stock.language_model.LanguageModel
vocab_size: 20
ninp: choice(8, 16)
"""
DATA = """
_target_: tests.stock.language_model.Corpus
batch_size: choice(4, 8)
"""
ARGUMENTS = ("objective.metric=val_loss", "optimizer=sgd", "trainer.gradient_clip_val=0.25")


class PositionalEncoding(nn.Module):
    pe: Tensor

    def __init__(self, dim: int, max_len: int = 64) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.1)
        position = torch.arange(max_len).unsqueeze(1)
        angle = position * torch.exp(torch.arange(0, dim, 2) * (-math.log(1e4) / dim))
        encoding = torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)
        self.register_buffer("pe", encoding, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.dropout(x + self.pe[: x.size(1)])
        return found


class Transformer(nn.Module):
    def __init__(self, vocab_size: int, ninp: int) -> None:
        super().__init__()
        self.ninp = ninp
        self.pos_encoder = PositionalEncoding(ninp)
        self.embedding = nn.Embedding(vocab_size, ninp)
        self.transformer = nn.Transformer(ninp, 2, 1, 1, 16, batch_first=True)
        self.decoder = nn.Linear(ninp, vocab_size)
        self.decoder.weight = self.embedding.weight

    def forward(self, inputs: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        _, length = inputs.shape
        if mask is None:
            mask = nn.Transformer.generate_square_subsequent_mask(length, device=inputs.device)
        src = self.pos_encoder(self.embedding(inputs) * math.sqrt(self.ninp))
        tgt = self.pos_encoder(self.embedding(target) * math.sqrt(self.ninp))
        output = self.decoder(self.transformer(src, tgt, tgt_mask=mask))
        return nn.functional.log_softmax(output, dim=-1).view(-1, output.size(-1))


class LanguageModel(LightningModule):
    def __init__(self, vocab_size: int = 20, ninp: int = 8) -> None:
        super().__init__()
        self.model = Transformer(vocab_size, ninp)

    def forward(self, inputs: Tensor, target: Tensor) -> Tensor:
        output: Tensor = self.model(inputs, target)
        return output

    def step(self, batch: tuple[Tensor, Tensor], stage: str) -> Tensor:
        inputs, target = batch
        loss = nn.functional.nll_loss(self(inputs, target), target.view(-1))
        self.log(f"{stage}_loss", loss, prog_bar=True)
        return loss

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self.step(batch, "train")

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self.step(batch, "val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self.step(batch, "test")

    def configure_optimizers(self) -> Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Sequences(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, block_size: int = 6) -> None:
        self.block_size = block_size
        self.tokens = torch.randint(20, (200,), generator=torch.Generator().manual_seed(3))

    def __len__(self) -> int:
        return len(self.tokens) // self.block_size - 1

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        start = index * self.block_size
        end = start + self.block_size
        return self.tokens[start:end], self.tokens[start + 1 : end + 1]


class Corpus(LightningDataModule):
    def __init__(self, batch_size: int = 4) -> None:
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage: str) -> None:
        draw = torch.Generator().manual_seed(42)
        self.parts = random_split(Sequences(), [20, 6, 6], draw)

    def train_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        return DataLoader(self.parts[0], self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        return DataLoader(self.parts[1], self.batch_size)

    def test_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        return DataLoader(self.parts[2], self.batch_size)
