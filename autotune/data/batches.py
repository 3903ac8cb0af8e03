"""Batches of data in memory: which samples, in which order, served whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from autotune.data.source import Part, Source, Split, held_out, split

EVALUATION_BATCH = 512

Batch = tuple[Tensor, Tensor]


def epoch_order(seed: int, epoch: int, samples: int) -> Tensor:
    """The order of the samples in one epoch of one trial, a function of these three alone."""
    state = int(numpy.random.SeedSequence([seed, epoch]).generate_state(1, numpy.uint64)[0] >> numpy.uint64(1))
    return torch.randperm(samples, generator=torch.Generator().manual_seed(state))


def batch_lengths(samples: int, batch_size: int) -> list[int]:
    """How many samples each batch of an epoch has; the last one takes what is left."""
    return [min(batch_size, samples - start) for start in range(0, samples, batch_size)]


class Epochs:
    """A loader for Lightning that yields one epoch at a time, as an iterator over its batches.

    A Trainer that is given whole epochs goes through its own machinery once an epoch, not once a batch.

    Args:
        part: What to serve.
        batch_size: Samples a batch; the last one takes what is left.
        seed: Of the order.
    """

    def __init__(self, part: Part, batch_size: int, seed: int) -> None:
        self.part = part
        self.batch_size = batch_size
        self._seed = seed
        self._epoch = 0
        self.sampler = self  # where Lightning looks for `set_epoch`

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch is served next."""
        self._epoch = epoch

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Iterator[Batch]]:
        yield self.batches(self._epoch)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch."""
        part = self.part
        if self.batch_size >= len(part):  # the order within one batch means nothing to its mean gradient
            yield part.features, part.target
            return
        order = epoch_order(self._seed, epoch, len(part)).to(part.target.device)
        for rows in torch.split(order, self.batch_size):
            yield part.features[rows], part.target[rows]


class Slices:
    """A loader that serves a part in order, in large batches, to judge a model by.

    Args:
        part: What to serve.
    """

    def __init__(self, part: Part) -> None:
        self.part = part

    def __len__(self) -> int:
        return -(-len(self.part) // EVALUATION_BATCH)

    def __iter__(self) -> Iterator[Batch]:
        return zip(
            torch.split(self.part.features, EVALUATION_BATCH),
            torch.split(self.part.target, EVALUATION_BATCH),
            strict=True,
        )


class ArrayData(LightningDataModule):
    """A `Source` for Lightning, kept on the device as tensors.

    Args:
        source: Where the samples come from.
        batch_size: Samples an update, or ``full`` for the whole training part.
        order_seed: Of the order of the batches.
        on: What to train on, one of `autotune.data.source.TRAINED_ON`.
    """

    def __init__(self, source: Source, batch_size: int | str, order_seed: int, on: str = "train") -> None:
        super().__init__()
        self.source = source
        self.split: Split = split(source, on)
        self._on = on
        samples = len(self.split.train)
        self.batch_size = samples if batch_size == "full" else min(int(batch_size), samples)
        self._order_seed = order_seed

    @property
    def updates_per_epoch(self) -> int:
        """How many batches an epoch has."""
        return -(-len(self.split.train) // self.batch_size)

    def train_dataloader(self) -> Epochs:
        """The training part, an epoch at a time."""
        return Epochs(self._placed(self.split.train), self.batch_size, self._order_seed)

    def val_dataloader(self) -> Slices:
        """The validation part."""
        return Slices(self._placed(self.split.val))

    def test_dataloader(self) -> Slices:
        """The test part, which a search never asks for."""
        return Slices(self._placed(held_out(self.source, self._on)))

    def _placed(self, part: Part) -> Part:
        """The part on the Trainer's device and in its precision."""
        if self.trainer is None:
            return part
        convert: Any = self.trainer.precision_plugin.convert_input
        device = self.trainer.strategy.root_device
        return Part(convert(part.features.to(device)), convert(part.target.to(device)))
