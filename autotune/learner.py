"""An nn.Module as a LightningModule: one training step of the Trainer is one epoch of the trial."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from autotune.data.batches import Batch
from autotune.optim.learning_rate import LearningRate
from autotune.optim.schedules import Schedule
from autotune.task import Task

MakeOptimizer = Callable[[Iterator[nn.Parameter]], Optimizer]


class Interrupted(Exception):  # noqa: N818 - nothing went wrong
    """Training was asked to stop between two batches."""


class Learner(LightningModule):
    """Trains and judges a network on batches of features and targets.

    Logs ``train/loss`` and ``val/loss``, means over the samples of an epoch, and ``val/<metric>`` of the task.

    Args:
        network: [n, ...] features -> [n, outputs].
        task: Its loss and metrics.
        make_optimizer: Given the parameters.
        schedule: Of the learning rate.
        updates_per_epoch: Batches an epoch.
        epochs: Epochs of the whole training, which the schedule is laid out for.
        clip: Gradients are clipped to this before an update; None leaves them as they are.
        clip_by: ``norm`` or ``value``, of all parameters together or of each number.
    """

    def __init__(
        self,
        network: nn.Module,
        task: Task,
        make_optimizer: MakeOptimizer,
        schedule: Schedule,
        updates_per_epoch: int,
        epochs: int,
        clip: float | None = None,
        clip_by: str = "norm",
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.network = network
        self.task = task
        self._metrics = task.metrics()
        self.metrics = nn.ModuleDict(self._metrics)  # registered, so that they move with the module
        self.stop_requested: Callable[[], bool] = lambda: False
        self._make_optimizer = make_optimizer
        self._schedule = schedule
        self._updates_per_epoch = updates_per_epoch
        self._epochs = epochs
        self._clip = clip
        self._clip_by = clip_by

    def forward(self, features: Tensor) -> Tensor:
        """The network's outputs."""
        outputs: Tensor = self.network(features)
        return outputs

    def configure_optimizers(self) -> Optimizer:
        """The optimizer, its learning rate under the schedule."""
        optimizer = self._make_optimizer(self.network.parameters())
        self._rate = LearningRate(optimizer, self._schedule, self._updates_per_epoch, self._epochs)
        return optimizer

    def training_step(self, batches: Iterator[Batch], index: int) -> None:
        """Train one epoch.

        Raises:
            Interrupted: `stop_requested` said so.
        """
        # Lightning's wrapper of the optimizer is needed to scale gradients of half precision, and for an epoch's last
        # update, so that the Trainer counts a step. All others are spared its way through the Trainer.
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        wrapped: Any = self.optimizers()
        optimizer: Any = wrapped if scaled else self.optimizers(use_pl_optimizer=False)
        backward = self.manual_backward if scaled else Tensor.backward
        total = torch.zeros((), device=self.device)
        samples = 0
        for number, (features, target) in enumerate(batches, start=1):
            if self.stop_requested():
                raise Interrupted
            loss = self.task.loss(self.network(features), target)
            optimizer.zero_grad()
            backward(loss)
            if self._clip is not None:
                self.clip_gradients(optimizer, self._clip, self._clip_by)
            self._rate.before_update()
            (wrapped if number == self._updates_per_epoch else optimizer).step()
            total += loss.detach() * len(target)
            samples += len(target)
        mean = total / samples
        self._rate.after_epoch(mean.item())
        self.log("train/loss", mean, on_step=False, on_epoch=True, batch_size=samples)

    def validation_step(self, batch: Batch, index: int) -> None:
        """Judge one batch."""
        self._judge("val", batch)

    def test_step(self, batch: Batch, index: int) -> None:
        """Judge one batch of the test part."""
        self._judge("test", batch)

    def on_validation_epoch_end(self) -> None:
        """Log the part's metrics."""
        self._log_metrics("val")

    def on_test_epoch_end(self) -> None:
        """Log the part's metrics."""
        self._log_metrics("test")

    def _judge(self, part: str, batch: Batch) -> None:
        features, target = batch
        outputs = self.network(features)
        self.log(f"{part}/loss", self.task.loss(outputs, target), on_epoch=True, batch_size=len(target))
        answer, truth = self.task.answer(outputs.float()), self.task.truth(target)
        for metric in self._metrics.values():
            metric.update(answer, truth)

    def _log_metrics(self, part: str) -> None:
        for name, metric in self._metrics.items():
            self.log(f"{part}/{name}", metric.compute())
            metric.reset()
