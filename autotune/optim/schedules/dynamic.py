"""The dynamic learning rate: slower where the loss has flattened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from autotune.errors import UserError
from autotune.optim.schedules._progress import Progress, Schedule


class Flatness(NamedTuple):
    """What is remembered of the losses.

    Attributes:
        average: Their exponential average; None before the first epoch.
        steepest: The largest fall of the average from one epoch to the next so far.
        smooth: How flat the average has become, in [0, 1].
    """

    average: float | None
    steepest: float
    smooth: float


@dataclass(frozen=True, slots=True)
class Dynamic(Schedule):
    """``a' = a / (1 + beta * smooth)``.

    ``smooth`` compares the last fall of the averaged training loss with the steepest one so far: 0 while it falls as
    fast as it ever did, 1 when it is flat or rises. It never shrinks, so the rate never rises again.

        average_0 = loss_0,   average_e = memory average_(e-1) + (1 - memory) loss_e
        fall_e = max(0, average_(e-1) - average_e),   steepest_e = max(steepest_(e-1), fall_e)
        smooth_e = max(smooth_(e-1), 1 - fall_e / steepest_e),   1 where steepest_e = 0

    Args:
        decay: beta, at least 0.
        memory: The weight of the past in the average, in [0, 1).
    """

    decay: float
    memory: float = 0.7

    def __post_init__(self) -> None:
        if not self.decay >= 0:
            raise UserError("schedule.decay", f"{self.decay} is no beta", "give a number not below 0")
        if not 0 <= self.memory < 1:
            raise UserError("schedule.memory", f"{self.memory} is no weight of the past", "give 0 up to below 1")

    def begin(self) -> Flatness:
        """Nothing heard yet."""
        return Flatness(None, 0.0, 0.0)

    def after_epoch(self, memory: Flatness, loss: float) -> Flatness:
        """Average the loss in and compare its fall with the steepest."""
        if memory.average is None:
            return Flatness(loss, 0.0, 0.0)
        average = self.memory * memory.average + (1 - self.memory) * loss
        fall = max(0.0, memory.average - average)
        steepest = max(memory.steepest, fall)
        smooth = 1 - fall / steepest if steepest > 0 else 1.0
        return Flatness(average, steepest, max(memory.smooth, smooth))

    def factor(self, progress: Progress, memory: Flatness) -> float:
        """``1 / (1 + beta * smooth)``."""
        return 1 / (1 + self.decay * memory.smooth)
