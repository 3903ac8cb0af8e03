"""An nn.Module as a LightningModule: one training step of the Trainer is one epoch of the trial."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from autotune.data.batches import Batch
from autotune.dropout import drawn, has_dropout
from autotune.optim.learning_rate import LearningRate
from autotune.optim.schedules import Schedule
from autotune.optim.update import Update
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
        updates_per_epoch: Updates an epoch.
        epochs: Epochs of the whole training, which the schedule is laid out for.
        update: What an update does besides the optimizer's step.
    """

    def __init__(
        self,
        network: nn.Module,
        task: Task,
        make_optimizer: MakeOptimizer,
        schedule: Schedule,
        updates_per_epoch: int,
        epochs: int,
        update: Update | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.network = network
        self._has_dropout = has_dropout(network.modules())
        self.task = task
        self._metrics = task.metrics()
        self.metrics = nn.ModuleDict(self._metrics)  # registered, so that they move with the module
        self.stop_requested: Callable[[], bool] = lambda: False
        self.make_optimizer = make_optimizer
        self.schedule = schedule
        self.updates_per_epoch = updates_per_epoch
        self.epochs = epochs
        self.update = update or Update()
        self._kept_rate: dict[str, Any] | None = None
        self._averaged = None
        if self.update.average is not None:
            average = get_ema_multi_avg_fn(self.update.average)  # type: ignore[no-untyped-call]
            self._averaged = AveragedModel(network, multi_avg_fn=average)

    @property
    def judged_network(self) -> nn.Module:
        """What is judged, kept and served: the network, or the average of its weights."""
        return self.network if self._averaged is None else self._averaged.module

    @property
    def logged(self) -> set[str]:
        """The names of what each epoch of a fit has."""
        return {"lr", "train/loss", "val/loss", *(f"val/{name}" for name in self._metrics)}

    def forward(self, features: Tensor) -> Tensor:
        """The judged network's outputs."""
        outputs: Tensor = self.judged_network(features)
        return outputs

    def configure_optimizers(self) -> Optimizer:
        """The optimizer, its learning rate under the schedule."""
        optimizer = self.make_optimizer(self.network.parameters())
        self._rate = LearningRate(optimizer, self.schedule, self.updates_per_epoch, self.epochs)
        if self._kept_rate is not None:
            self._rate.load_state_dict(self._kept_rate)
        return optimizer

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Have the schedule kept too."""
        checkpoint["rate"] = self._rate.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Find the schedule for the optimizer, which is made later."""
        self._kept_rate = checkpoint["rate"]

    def training_step(self, batches: Iterator[Batch], index: int) -> None:
        """Train one epoch.

        Raises:
            Interrupted: `stop_requested` said so.
        """
        # Lightning's wrapper of the optimizer is needed to scale gradients of half precision, and for an epoch's last
        # update, so that the Trainer counts a step. All others are spared its way through the Trainer.
        wrapped: Any = self.optimizers()
        optimizer: Any = wrapped if self._is_scaled else self.optimizers(use_pl_optimizer=False)
        total = torch.zeros((), device=self.device)
        mass: float | Tensor = 0.0
        for number, pieces in enumerate(self.update.groups(batches), start=1):
            if self.stop_requested():
                raise Interrupted
            optimizer.zero_grad()
            loss, weight = self._backward(pieces)
            if self.update.clip is not None and not self._is_scaled:
                self.clip_gradients(optimizer, self.update.clip, self.update.clip_by)
            self._rate.before_update()
            if self.update.decay:
                self.update.decays(optimizer)
            (wrapped if number == self.updates_per_epoch else optimizer).step()
            if self._averaged is not None:
                self._averaged.update_parameters(self.network)
            total = total + loss * weight
            mass += weight
        mean = total / mass
        self._rate.after_epoch(mean.item())
        self._note("train/loss", mean)

    def _backward(self, pieces: list[Batch]) -> tuple[Tensor, float | Tensor]:
        """The gradient of the pieces' mean loss, left in the parameters; returns that loss and what it weighs."""
        backward = self.manual_backward if self._is_scaled else Tensor.backward
        weights = [self.task.mass(target) for _, target in pieces]
        if len(pieces) == 1:
            features, target = pieces[0]
            loss = self.task.loss(self._trained(features), target)
            backward(loss)
            return loss.detach(), weights[0]
        whole = sum(weights)
        mean = torch.zeros((), device=self.device)
        for (features, target), weight in zip(pieces, weights, strict=True):
            loss = self.task.loss(self._trained(features), target) * (weight / whole)
            backward(loss)
            mean += loss.detach()
        return mean, whole

    def _trained(self, features: Tensor) -> Tensor:
        """The network's outputs in training; its dropout draws as it does among other trials."""
        with drawn(features.device) if self._has_dropout else nullcontext():
            outputs: Tensor = self.network(features)
        return outputs

    @property
    def _is_scaled(self) -> bool:
        return getattr(self.trainer.precision_plugin, "scaler", None) is not None

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip scaled gradients, which are unscaled only now."""
        if self._is_scaled and self.update.clip is not None:
            self.clip_gradients(optimizer, self.update.clip, self.update.clip_by)

    def validation_step(self, batch: Batch, index: int) -> None:
        """Judge one batch."""
        self._judge(batch)

    def test_step(self, batch: Batch, index: int) -> None:
        """Judge one batch of the test part."""
        self._judge(batch)

    def on_validation_epoch_start(self) -> None:
        """Begin to average."""
        self._begin_judging()

    def on_test_epoch_start(self) -> None:
        """Begin to average."""
        self._begin_judging()

    def on_validation_epoch_end(self) -> None:
        """Log the part's loss and metrics."""
        self._end_judging("val")

    def on_test_epoch_end(self) -> None:
        """Log the part's loss and metrics."""
        self._end_judging("test")

    def _begin_judging(self) -> None:
        self._judged_loss = torch.zeros((), device=self.device)
        self._judged = 0

    def _judge(self, batch: Batch) -> None:
        features, target = batch
        outputs = self.judged_network(features)
        # Not in place: losses of double precision are added up in it.
        self._judged_loss = self._judged_loss + self.task.judged_loss(outputs, target) * len(target)
        self._judged += len(target)
        answer, truth = self.task.answer(outputs.float()), self.task.truth(target)
        for metric in self._metrics.values():
            metric.update(answer, truth)

    def _end_judging(self, part: str) -> None:
        self._note(f"{part}/loss", self._judged_loss / self._judged)
        for name, metric in self._metrics.items():
            self._note(f"{part}/{name}", metric.compute())
            metric.reset()

    def _note(self, name: str, value: Tensor) -> None:
        """Log a value of the whole epoch.

        Lightning's `log` can reduce over batches and processes, which takes longer than a small epoch. Where no logger
        listens, what callbacks read is enough.
        """
        if self.trainer.loggers or self.trainer.state.fn != TrainerFn.FITTING:
            self.log(name, value)
        else:
            self.trainer.callback_metrics[name] = value
