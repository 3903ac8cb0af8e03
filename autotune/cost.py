"""What a model costs: time, memory and size, measured while and after it trains."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from autotune.allocator import give_back
from autotune.device import synchronize
from autotune.learner import Learner

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
LATENCY_SECONDS = 0.02  # how long each latency is measured at least twice within


class CostMeter(Callback):
    """Measures a training; `cost` says what it found.

    Args:
        samples: Training samples of an epoch; None where they are counted batch by batch.
    """

    def __init__(self, samples: int | None) -> None:
        self._samples = samples
        self._counted = 0
        self._epoch_seconds: list[float] = []
        self._validation_seconds = 0.0
        self._batch: Any = None

    def on_fit_start(self, trainer: Trainer, _: LightningModule) -> None:
        """Start from the memory in use now."""
        self._device = trainer.strategy.root_device
        self._memory = PeakMemory(self._device)

    def on_train_epoch_start(self, *_: Any) -> None:
        """Start the clock."""
        self._counted = 0
        self._validation_seconds = 0.0
        self._started = self._now()

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Count the samples of the user's own batches."""
        if self._samples is None:
            self._counted += _length(batch)

    def on_validation_start(self, *_: Any) -> None:
        """Validation is no training."""
        self._validation_started = self._now()

    def on_validation_batch_start(self, trainer: Trainer, module: LightningModule, batch: Any, *_: Any) -> None:
        """Keep one batch to measure latency on."""
        if self._batch is None:
            self._batch = batch

    def on_validation_end(self, *_: Any) -> None:
        """Validation is no training."""
        self._validation_seconds += self._now() - self._validation_started

    def on_train_epoch_end(self, *_: Any) -> None:
        """Stop the clock."""
        self._epoch_seconds.append(self._now() - self._started - self._validation_seconds)
        self._memory.sample()

    def _now(self) -> float:
        """The time at which the device has done what it was given."""
        synchronize(self._device)
        return time.perf_counter()

    def cost(self, module: LightningModule, batch_size: int | None) -> dict[str, float]:
        """What was found; what could not be measured is left out.

        Args:
            module: The trained module.
            batch_size: Samples in the batch that latency is measured on; None for a whole validation batch.

        Returns:
            ``cost/epoch_seconds`` (median over the epochs, validation left out), ``cost/samples_per_second``,
            ``cost/latency_batch_seconds`` and ``cost/latency_sample_seconds`` (one forward pass of a batch, of a single
            sample), ``cost/peak_memory_bytes`` (device memory on CUDA, growth of the resident set elsewhere),
            ``cost/parameters``, ``cost/model_bytes`` (parameters and buffers).
        """
        # A learner that averages its weights has them twice; the model is what is judged and kept.
        model = module.judged_network if isinstance(module, Learner) else module
        found = {**size(model), "cost/peak_memory_bytes": float(self._memory.peak())}
        if self._epoch_seconds:
            seconds = median(self._epoch_seconds)
            found["cost/epoch_seconds"] = seconds
            found["cost/samples_per_second"] = (self._samples or self._counted) / seconds
        features = self._batch[0] if isinstance(self._batch, tuple | list) else self._batch
        if isinstance(features, Tensor) and _has_forward(module):
            with _on(module, features.device), suppress(TypeError):  # raised where forward takes more than features
                found |= latencies(module, features[:batch_size])
        return found


class PeakMemory:
    """The most memory in use since it was made.

    On CUDA PyTorch counts it. On Linux the kernel keeps the high-water mark of the resident set, and lets it be reset;
    elsewhere it is sampled.

    Args:
        device: Where the model is.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._resettable = False
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            return
        give_back()  # or what is used would be hidden in what was freed before
        self._before = self._highest = psutil.Process().memory_info().rss
        try:
            _CLEAR_REFS.write_text("5")
            self._resettable = True
        except OSError:
            self._resettable = False

    def sample(self) -> None:
        """Look how much is in use, where nobody else keeps the peak."""
        if self._device.type != "cuda" and not self._resettable:
            self._highest = max(self._highest, psutil.Process().memory_info().rss)

    def peak(self) -> int:
        """Bytes: on CUDA all that was allocated, elsewhere what the resident set grew by."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        if self._resettable:
            line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
            return max(0, int(line.split()[1]) * 1024 - self._before)
        self.sample()
        return self._highest - self._before


def size(model: nn.Module) -> dict[str, float]:
    """``cost/parameters`` and ``cost/model_bytes``."""
    parameters = list(model.parameters())
    return {
        "cost/parameters": float(sum(each.numel() for each in parameters)),
        "cost/model_bytes": float(sum(each.nbytes for each in [*parameters, *model.buffers()])),
    }


def latencies(module: nn.Module, batch: Tensor) -> dict[str, float]:
    """``cost/latency_batch_seconds`` of a batch of features and ``cost/latency_sample_seconds`` of its first sample."""
    return {
        "cost/latency_batch_seconds": latency(module, batch),
        "cost/latency_sample_seconds": latency(module, batch[:1]),
    }


def latency(module: nn.Module, features: Tensor) -> float:
    """Seconds of one forward pass in evaluation mode: the median of a few."""
    was_training = module.training
    module.eval()
    seconds: list[float] = []
    until = time.perf_counter() + LATENCY_SECONDS
    try:
        with torch.no_grad():
            module(features)
            synchronize(features.device)
            while len(seconds) < 2 or (len(seconds) < 10 and time.perf_counter() < until):
                started = time.perf_counter()
                module(features)
                synchronize(features.device)
                seconds.append(time.perf_counter() - started)
    finally:
        module.train(was_training)
    return median(seconds)


@contextmanager
def _on(module: LightningModule, device: torch.device) -> Iterator[None]:
    """Within it the module is where it was trained; at the end of a training Lightning moves it to the CPU."""
    home = module.device
    module.to(device)
    try:
        yield
    finally:
        module.to(home)


def _has_forward(module: LightningModule) -> bool:
    return type(module).forward is not LightningModule.forward


def _length(batch: Any) -> int:
    first = batch[0] if isinstance(batch, tuple | list) and batch else batch
    return len(first) if isinstance(first, Tensor) else 0
