"""Exponential decay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from autotune.errors import UserError
from autotune.optim.schedules._progress import Progress, Schedule


@dataclass(frozen=True, slots=True)
class Exponential(Schedule):
    """``decay ** epoch``.

    Args:
        decay: The factor from one epoch to the next, in (0, 1].
    """

    decay: float

    def __post_init__(self) -> None:
        if not 0 < self.decay <= 1:
            raise UserError("schedule.decay", f"{self.decay} lets no exponential fall", "give a number above 0 up to 1")

    def factor(self, progress: Progress, memory: Any) -> float:
        """``decay ** epoch``."""
        return float(self.decay**progress.epoch)
