"""The 1cycle policy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from autotune.errors import UserError
from autotune.optim.schedules._progress import Progress, Schedule


@dataclass(frozen=True, slots=True)
class OneCycle(Schedule):
    """Up to the base rate and down below the first one, each along half a cosine wave (Smith and Topin 2019).

    torch.optim.lr_scheduler.OneCycleLR with max_lr the base rate, total_steps all updates and anneal_strategy "cos";
    pct_start is `rise`, 1 / div_factor `start`, 1 / (div_factor final_div_factor) `floor`. As there, the first update
    is made at ``start`` and the last one at ``floor``.

    Args:
        rise: The part of all updates on the way up, in (0, 1).
        start: The factor of the first update, in (0, 1].
        floor: The factor of the last update, in [0, 1].
    """

    rise: float = 0.3
    start: float = 1 / 25
    floor: float = 1 / 25e4

    def __post_init__(self) -> None:
        if not 0 < self.rise < 1:
            raise UserError("schedule.rise", f"{self.rise} is no part of the training", "give a number between 0 and 1")
        if not 0 < self.start <= 1:
            raise UserError("schedule.start", f"{self.start} is no part of the rate", "give a number above 0 up to 1")
        if not 0 <= self.floor <= 1:
            raise UserError("schedule.floor", f"{self.floor} is no part of the rate", "give a number from 0 to 1")

    def factor(self, progress: Progress, memory: Any) -> float:
        """Rises from `start` to 1, then falls to `floor`."""
        last = progress.updates - 1
        peak = self.rise * progress.updates - 1
        if progress.made <= peak:
            return _anneal(self.start, 1.0, progress.made / peak if peak > 0 else 1.0)
        return _anneal(1.0, self.floor, min(1.0, (progress.made - peak) / (last - peak)))


def _anneal(begin: float, end: float, part: float) -> float:
    return end + (begin - end) * (1 + math.cos(math.pi * part)) / 2
