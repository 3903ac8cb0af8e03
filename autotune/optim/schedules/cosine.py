"""Cosine annealing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from autotune.errors import UserError
from autotune.optim.schedules._progress import Progress, Schedule


@dataclass(frozen=True, slots=True)
class Cosine(Schedule):
    """``floor + (1 - floor) (1 + cos(pi t)) / 2``, t the part of all updates made (Loshchilov and Hutter 2017, eq. 5).

    Args:
        floor: The factor at the end, in [0, 1].
    """

    floor: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.floor <= 1:
            raise UserError("schedule.floor", f"{self.floor} is no part of the rate", "give a number from 0 to 1")

    def factor(self, progress: Progress, memory: Any) -> float:
        """Falls from 1 to the floor along half a cosine wave."""
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * progress.part)) / 2
