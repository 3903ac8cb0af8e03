"""Polynomial decay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from autotune.errors import UserError
from autotune.optim.schedules._progress import Progress, Schedule


@dataclass(frozen=True, slots=True)
class Polynomial(Schedule):
    """``floor + (1 - floor) (1 - t) ** power``, t the part of all updates made.

    The "poly" policy of Liu et al. 2015 (ParseNet); torch.optim.lr_scheduler.PolynomialLR over all updates where the
    floor is 0.

    Args:
        power: Above 0; 1 is a straight line, more falls early, less falls late.
        floor: The factor at the end, in [0, 1].
    """

    power: float = 0.9
    floor: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.power < float("inf"):
            raise UserError("schedule.power", f"{self.power} is no power", "give a number above 0")
        if not 0 <= self.floor <= 1:
            raise UserError("schedule.floor", f"{self.floor} is no part of the rate", "give a number from 0 to 1")

    def factor(self, progress: Progress, memory: Any) -> float:
        """Falls from 1 to the floor."""
        return float(self.floor + (1 - self.floor) * (1 - progress.part) ** self.power)
