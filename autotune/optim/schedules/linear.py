"""Linear decay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from autotune.errors import UserError
from autotune.optim.schedules._progress import Progress, Schedule


@dataclass(frozen=True, slots=True)
class Linear(Schedule):
    """``1 - (1 - floor) t``, t the part of all updates made (Li, Yumer and Ramanan 2020, budgeted training).

    torch.optim.lr_scheduler.LinearLR from 1 to the floor over all updates.

    Args:
        floor: The factor at the end, in [0, 1].
    """

    floor: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.floor <= 1:
            raise UserError("schedule.floor", f"{self.floor} is no part of the rate", "give a number from 0 to 1")

    def factor(self, progress: Progress, memory: Any) -> float:
        """Falls from 1 to the floor along a straight line."""
        return 1 - (1 - self.floor) * progress.part
