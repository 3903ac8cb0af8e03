"""Decay by the inverse of time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from autotune.errors import UserError
from autotune.optim.schedules._progress import Progress, Schedule


@dataclass(frozen=True, slots=True)
class InverseTime(Schedule):
    """``1 / (1 + decay t)``, t the epochs passed, parts of one included.

    The rate of Robbins and Monro 1951 as Bottou 2012 writes it, and Keras's InverseTimeDecay with
    decay_steps the updates of an epoch and no staircase. In epochs, so that the decay factor means the same whatever
    the batch size.

    Args:
        decay: At least 0; after ``1 / decay`` epochs the rate is halved.
    """

    decay: float

    def __post_init__(self) -> None:
        if not 0 <= self.decay < float("inf"):
            raise UserError("schedule.decay", f"{self.decay} is no decay", "give a number not below 0")

    def factor(self, progress: Progress, memory: Any) -> float:
        """``1 / (1 + decay t)``."""
        return 1 / (1 + self.decay * progress.passed)
