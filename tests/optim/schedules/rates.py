"""The learning rates that a schedule gives an optimizer, update by update."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.optim.lr_scheduler import LRScheduler

from autotune.optim.learning_rate import LearningRate
from autotune.optim.schedules import Progress, Schedule


def optimizer(rate: float = 1.0) -> torch.optim.SGD:
    """One that can step, its parameter never moves."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    return torch.optim.SGD([parameter], lr=rate)


def rates(schedule: Schedule, losses: Sequence[float], updates_per_epoch: int = 1, base: float = 1.0) -> list[float]:
    """The rate of each update of a training with these mean training losses, one an epoch."""
    made = optimizer(base)
    rate = LearningRate(made, schedule, updates_per_epoch, len(losses))
    heard = []
    for loss in losses:
        for _ in range(updates_per_epoch):
            rate.before_update()
            heard.append(made.param_groups[0]["lr"])
        rate.after_epoch(loss)
    return heard


def remembered(schedule: Schedule, losses: Sequence[float]) -> list[object]:
    """What the schedule remembers before each epoch, and after the last one."""
    memories = [schedule.begin()]
    for loss in losses:
        memories.append(schedule.after_epoch(memories[-1], loss))
    return memories


def factors(schedule: Schedule, losses: Sequence[float], updates_per_epoch: int = 1) -> list[float]:
    """The factor of each update, straight from the schedule."""
    return [
        schedule.factor(Progress(epoch * updates_per_epoch + update, updates_per_epoch, len(losses)), memory)
        for epoch, memory in enumerate(remembered(schedule, losses)[:-1])
        for update in range(updates_per_epoch)
    ]


def torchs(make: Callable[[torch.optim.Optimizer], LRScheduler], updates: int, base: float = 1.0) -> list[float]:
    """The rate of each update under one of torch's schedulers, stepped after every update."""
    made = optimizer(base)
    schedule = make(made)
    heard = []
    for _ in range(updates):
        heard.append(made.param_groups[0]["lr"])
        made.step()
        schedule.step()
    return heard
