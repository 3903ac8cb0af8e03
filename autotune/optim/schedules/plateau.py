"""Decay on a plateau of the training loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from autotune.errors import UserError
from autotune.optim.schedules._progress import Progress, Schedule


class Stall(NamedTuple):
    """What is remembered of the losses.

    Attributes:
        best: The lowest of them that counted as better.
        stalled: Epochs in a row without a better one.
        resting: Epochs that will not count as stalled.
        factor: What the rate has come down to.
    """

    best: float
    stalled: int
    resting: int
    factor: float


@dataclass(frozen=True, slots=True)
class Plateau(Schedule):
    """Multiplied by `decay` when the mean training loss was not better for more than `patience` epochs in a row.

    torch.optim.lr_scheduler.ReduceLROnPlateau, mode "min", threshold_mode "rel" and eps 0, on the mean training loss
    of each epoch: a loss is better when it is below ``(1 - threshold) best``.

    Args:
        decay: The factor of each reduction, in (0, 1].
        patience: Epochs without a better loss that are let pass, at least 0.
        threshold: The part that a loss must be below the best one, in [0, 1).
        cooldown: Epochs after a reduction that do not count, at least 0.
        floor: The factor that the rate never falls below, in [0, 1].
    """

    decay: float
    patience: int = 3
    threshold: float = 1e-4
    cooldown: int = 0
    floor: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.decay <= 1:
            raise UserError("schedule.decay", f"{self.decay} is no reduction", "give a number above 0 up to 1")
        for key, epochs in (("patience", self.patience), ("cooldown", self.cooldown)):
            if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 0:
                raise UserError(f"schedule.{key}", f"{epochs} is no number of epochs", "give a whole number from 0 on")
        if not 0 <= self.threshold < 1:
            raise UserError("schedule.threshold", f"{self.threshold} is no part of a loss", "give 0 up to below 1")
        if not 0 <= self.floor <= 1:
            raise UserError("schedule.floor", f"{self.floor} is no part of the rate", "give a number from 0 to 1")

    def begin(self) -> Stall:
        """Nothing heard yet."""
        return Stall(float("inf"), 0, 0, 1.0)

    def after_epoch(self, memory: Stall, loss: float) -> Stall:
        """Count the epoch as better or stalled, and reduce after too many of the latter."""
        best, stalled, resting, factor = memory
        if loss < best * (1 - self.threshold):
            best, stalled = loss, 0
        else:
            stalled += 1
        if resting > 0:
            resting, stalled = resting - 1, 0
        if stalled > self.patience:
            return Stall(best, 0, self.cooldown, max(self.floor, factor * self.decay))
        return Stall(best, stalled, resting, factor)

    def factor(self, progress: Progress, memory: Stall) -> float:
        """What the rate has come down to."""
        return memory.factor
