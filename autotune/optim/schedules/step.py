"""Decay in steps of equal length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from autotune.errors import UserError
from autotune.optim.schedules._progress import Progress, Schedule


@dataclass(frozen=True, slots=True)
class Step(Schedule):
    """``decay ** (epoch // every)`` (torch.optim.lr_scheduler.StepLR).

    Args:
        decay: The factor from one step to the next, in (0, 1].
        every: The epochs of a step, at least 1.
    """

    decay: float
    every: int

    def __post_init__(self) -> None:
        if not 0 < self.decay <= 1:
            raise UserError("schedule.decay", f"{self.decay} lets no step fall", "give a number above 0 up to 1")
        if isinstance(self.every, bool) or not isinstance(self.every, int) or self.every < 1:
            raise UserError("schedule.every", f"{self.every} epochs are no step", "give a whole number above 0")

    def factor(self, progress: Progress, memory: Any) -> float:
        """``decay ** (epoch // every)``."""
        return float(self.decay ** (progress.epoch // self.every))
