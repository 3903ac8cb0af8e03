"""Cosine annealing with warm restarts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from autotune.errors import UserError
from autotune.optim.schedules._progress import Progress, Schedule


@dataclass(frozen=True, slots=True)
class CosineRestarts(Schedule):
    """``floor + (1 - floor) (1 + cos(pi t)) / 2``, t the part of a cycle made.

    SGDR (Loshchilov and Hutter 2017, eq. 5). Each cycle is `growth` times as long as the one before, and the last one
    ends with the training, so that the training ends at the lowest rate whatever its length. In the paper's terms
    T_mult is `growth`, and T_0 is ``(growth - 1) / (growth ** cycles - 1)`` of all updates; with these it is
    torch.optim.lr_scheduler.CosineAnnealingWarmRestarts.

    Args:
        cycles: How often the rate falls, 1 to 100.
        growth: 1 to 10.
        floor: The factor at the end of each cycle, in [0, 1].
    """

    cycles: int = 2
    growth: float = 2.0
    floor: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.cycles, bool) or not isinstance(self.cycles, int) or not 1 <= self.cycles <= 100:
            raise UserError("schedule.cycles", f"{self.cycles} is no number of cycles", "give 1 to 100")
        if not 1 <= self.growth <= 10:
            raise UserError("schedule.growth", f"{self.growth} is no growth of a cycle", "give a number from 1 to 10")
        if not 0 <= self.floor <= 1:
            raise UserError("schedule.floor", f"{self.floor} is no part of the rate", "give a number from 0 to 1")

    def factor(self, progress: Progress, memory: Any) -> float:
        """Falls from 1 to the floor along half a cosine wave, `cycles` times."""
        cycle = max(number for number in range(self.cycles) if progress.part >= self._begin(number))
        begin, end = self._begin(cycle), self._begin(cycle + 1)
        t = min(1.0, (progress.part - begin) / (end - begin))
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * t)) / 2

    def _begin(self, cycle: int) -> float:
        """The part of all updates before a cycle."""
        if self.growth == 1:
            return cycle / self.cycles
        return (self.growth**cycle - 1) / (self.growth**self.cycles - 1)
