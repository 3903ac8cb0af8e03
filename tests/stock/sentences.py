"""A classifier of sentences with a model of `transformers`, tiny and untrained: a batch is a mapping."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import Tensor
from torch.optim import AdamW
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForSequenceClassification, get_linear_schedule_with_warmup

MODEL = """
_target_: tests.stock.sentences.SentenceClassifier
learning_rate: tag(log, interval(1e-4, 1e-2))
warmup_steps: choice(0, 2)
"""
DATA = """
_target_: tests.stock.sentences.Sentences
train_batch_size: choice(8, 16)
"""
ARGUMENTS = ("objective.metric=accuracy", "optimizer=own", "schedule=own")


class SentenceClassifier(LightningModule):
    def __init__(
        self,
        num_labels: int = 2,
        learning_rate: float = 2e-3,
        adam_epsilon: float = 1e-8,
        warmup_steps: int = 0,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        self.config = BertConfig(vocab_size=30, max_position_embeddings=16, num_labels=num_labels, **sizes)
        self.model = BertForSequenceClassification(self.config)
        self.outputs: list[tuple[Tensor, Tensor, Tensor]] = []

    def forward(self, **inputs: Tensor) -> Any:
        return self.model(**inputs)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss: Tensor = self(**batch)[0]
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        loss, logits = self(**batch)[:2]
        self.outputs.append((loss, logits.argmax(dim=1), batch["labels"]))

    def on_validation_epoch_end(self) -> None:
        losses, preds, labels = zip(*self.outputs, strict=True)
        self.outputs.clear()
        self.log("val_loss", torch.stack(losses).mean(), prog_bar=True)
        right = (torch.cat(preds) == torch.cat(labels)).float().mean()
        self.log_dict({"accuracy": right}, prog_bar=True)

    def configure_optimizers(self) -> tuple[list[Any], list[Any]]:
        spared = ("bias", "LayerNorm.weight")
        named = list(self.model.named_parameters())
        groups = [
            {
                "params": [each for name, each in named if not name.endswith(spared)],
                "weight_decay": self.hparams["weight_decay"],
            },
            {"params": [each for name, each in named if name.endswith(spared)], "weight_decay": 0.0},
        ]
        optimizer = AdamW(groups, lr=self.hparams["learning_rate"], eps=self.hparams["adam_epsilon"])
        scheduler = get_linear_schedule_with_warmup(
            optimizer,
            num_warmup_steps=self.hparams["warmup_steps"],
            num_training_steps=int(self.trainer.estimated_stepping_batches),
        )
        return [optimizer], [{"scheduler": scheduler, "interval": "step", "frequency": 1}]


class Sentences(LightningDataModule):
    def __init__(self, train_batch_size: int = 8, eval_batch_size: int = 8) -> None:
        super().__init__()
        self.train_batch_size = train_batch_size
        self.eval_batch_size = eval_batch_size

    def setup(self, stage: str) -> None:
        draw = torch.Generator().manual_seed(5)
        samples = []
        for number in range(48):
            label = number % 2
            tokens = torch.randint(15 * label, 15 * label + 15, (6,), generator=draw)
            sample = {"input_ids": tokens, "attention_mask": torch.ones(6, dtype=torch.long)}
            samples.append({**sample, "labels": torch.tensor(label)})
        self.dataset = {"train": samples[:32], "validation": samples[32:]}

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.dataset["train"], batch_size=self.train_batch_size, shuffle=True)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.dataset["validation"], batch_size=self.eval_batch_size)  # type: ignore[arg-type]
