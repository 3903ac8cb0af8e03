"""Warm-up, stable, decay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from autotune.errors import UserError
from autotune.optim.schedules._progress import Progress, Schedule


@dataclass(frozen=True, slots=True)
class WSD(Schedule):
    """``floor + (1 - floor) min(1, (1 - t) / decay)``, t the part of all updates made.

    So 1 until the last `decay` of all updates, then straight down to the floor: the stable and the decaying phase of
    WSD (Hu et al. 2024, MiniCPM), the decay linear as in Hägele et al. 2024. Its warm-up is the one that any schedule
    can have (`Warmup`); t is then the part of the updates behind it.

    Args:
        decay: The part of all updates that the rate falls over, in (0, 1].
        floor: The factor at the end, in [0, 1].
    """

    decay: float = 0.2
    floor: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.decay <= 1:
            raise UserError("schedule.decay", f"{self.decay} is no part to fall over", "give a number above 0 up to 1")
        if not 0 <= self.floor <= 1:
            raise UserError("schedule.floor", f"{self.floor} is no part of the rate", "give a number from 0 to 1")

    def factor(self, progress: Progress, memory: Any) -> float:
        """1, then falls to the floor along a straight line."""
        return self.floor + (1 - self.floor) * min(1.0, (1 - progress.part) / self.decay)
