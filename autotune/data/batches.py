"""Batches: which samples, in which order; served from memory, or read by workers where the data is larger."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy
import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from autotune.data.files import FileSource
from autotune.data.lazy import Reader
from autotune.data.placed import placed
from autotune.data.source import Batch, LazyPart, Part, Source, Split, held_out, split
from autotune.errors import UserError

__all__ = ["ArrayData", "Batch", "Batches", "Epochs", "Slices", "batch_lengths", "epoch_order"]

EVALUATION_BATCH = 512


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

    def __init__(self, part: Part | Reader, batch_size: int, seed: int) -> None:
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
        if self.batch_size >= len(self.part):  # the order within one batch means nothing to its mean gradient
            return self.part.slices(self.batch_size)
        return self.part.batches(epoch_order(self._seed, epoch, len(self.part)), self.batch_size)


class Batches:
    """The same batches one at a time, for a module that knows nothing of epochs.

    Args:
        epochs: What they are taken from.
    """

    def __init__(self, epochs: Epochs) -> None:
        self._epochs = epochs
        self.sampler = epochs  # where Lightning looks for `set_epoch`

    def __len__(self) -> int:
        return -(-len(self._epochs.part) // self._epochs.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return next(iter(self._epochs))


class Slices:
    """A loader that serves a part in order, in large batches, to judge a model by.

    Args:
        part: What to serve.
    """

    def __init__(self, part: Part | Reader) -> None:
        self.part = part

    def __len__(self) -> int:
        return -(-len(self.part) // EVALUATION_BATCH)

    def __iter__(self) -> Iterator[Batch]:
        return self.part.slices(EVALUATION_BATCH)


class ArrayData(LightningDataModule):
    """A `Source` for Lightning: kept on the device as tensors, or read by workers where it is too large for that.

    Args:
        source: Where the samples come from.
        batch_size: Samples an update, or ``full`` for the whole training part.
        order_seed: Of the order of the batches.
        on: What to train on, one of `autotune.settings.TRAINED_ON`.
    """

    def __init__(self, source: Source, batch_size: int | str, order_seed: int, on: str = "train") -> None:
        super().__init__()
        self.source = source
        self.split: Split = split(source, on)
        self._on = on
        samples = len(self.split.train)
        self.batch_size = samples if batch_size == "full" else min(int(batch_size), samples)
        self._order_seed = order_seed
        self._readers: dict[str, Reader] = {}
        self.whole_epochs = True

    @property
    def in_memory(self) -> bool:
        """Whether the training part is held as tensors."""
        return isinstance(self.split.train, Part)

    @property
    def updates_per_epoch(self) -> int:
        """How many batches an epoch has."""
        return -(-len(self.split.train) // self.batch_size)

    def parts(self, trainer: Trainer) -> tuple[Part, Part]:
        """The training and validation parts, which are in memory, on a Trainer's device and in its precision."""
        train, val = self.split.train, self.split.val
        assert isinstance(train, Part)
        assert isinstance(val, Part)
        self.trainer = trainer
        return self._shared("train", train, trainer), self._shared("val", val, trainer)

    def train_dataloader(self) -> Epochs | Batches:
        """The training part, an epoch at a time, or a batch where `whole_epochs` is off."""
        epochs = Epochs(self._placed("train", self.split.train), self.batch_size, self._order_seed)
        return epochs if self.whole_epochs else Batches(epochs)

    def val_dataloader(self) -> Slices:
        """The validation part."""
        return Slices(self._placed("val", self.split.val))

    def test_dataloader(self) -> Slices:
        """The test part.

        Raises:
            UserError: A training asks for it.
        """
        if self.trainer is not None and self.trainer.state.fn == TrainerFn.FITTING:
            remedy = "judge by the validation part: val_dataloader()"
            raise UserError("data.test", "the test part cannot be reached while a model is trained", remedy)
        return Slices(self._placed("test", held_out(self.source, self._on)))

    def teardown(self, stage: str) -> None:
        """End the workers."""
        while self._readers:
            self._readers.popitem()[1].close()

    def on_exception(self, exception: BaseException) -> None:
        """End the workers."""
        self.teardown("exception")

    def _placed(self, name: str, part: Part | LazyPart) -> Part | Reader:
        """The part as it is served: on the Trainer's device and in its precision."""
        if isinstance(part, Part):
            return part if self.trainer is None else self._shared(name, part, self.trainer)
        if name in self._readers:
            self._readers[name].close()
        workers = self.source.workers if isinstance(self.source, FileSource) else 0
        on_gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        self._readers[name] = Reader(part, workers, self._place, on_gpu)
        return self._readers[name]

    def _shared(self, name: str, part: Part, trainer: Trainer) -> Part:
        plugin = trainer.precision_plugin
        precision = type(plugin), str(plugin.precision)
        return placed((self.source, self._on, name, trainer.strategy.root_device, precision), part, self._place)

    def _place(self, tensor: Tensor) -> Tensor:
        if self.trainer is None:
            return tensor
        convert: Any = self.trainer.precision_plugin.convert_input
        placed: Tensor = convert(tensor.to(self.trainer.strategy.root_device, non_blocking=True))
        return placed
