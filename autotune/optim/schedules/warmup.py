"""A linear warm-up in front of any schedule."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from autotune.errors import UserError
from autotune.optim.schedules._progress import Progress, Schedule


@dataclass(frozen=True, slots=True)
class Warmup(Schedule):
    """``(u + 1) / (w + 1)`` of where a schedule begins for the first w updates, then that schedule over the rest.

    Goyal et al. 2017 (section 2.2): the rate grows by the same amount at each update; w is the given part of all
    updates. torch.optim.lr_scheduler.SequentialLR of LinearLR (start_factor 1 / (w + 1), total_iters w) and the
    schedule. A schedule that hears the training loss hears that of the warm-up too.

    Args:
        schedule: What follows.
        warmup: The part of all updates, in [0, 1).
    """

    schedule: Schedule
    warmup: float

    def __post_init__(self) -> None:
        number = isinstance(self.warmup, int | float) and not isinstance(self.warmup, bool)
        if not number or not 0 <= self.warmup < 1:
            raise UserError(
                "schedule.warmup", f"{self.warmup} is no part of the training", "give a number from 0 to below 1"
            )

    def begin(self) -> Any:
        """What the schedule remembers."""
        return self.schedule.begin()

    def after_epoch(self, memory: Any, loss: float) -> Any:
        """What the schedule remembers."""
        return self.schedule.after_epoch(memory, loss)

    def factor(self, progress: Progress, memory: Any) -> float:
        """Rises to where the schedule begins, then follows it."""
        # At least one update is left for the schedule.
        ramp = min(round(self.warmup * progress.updates), progress.updates - 1)
        begun_at = progress.begun_at + ramp
        behind = replace(progress, update=max(progress.update, begun_at), begun_at=begun_at)
        return min(1.0, (progress.made + 1) / (ramp + 1)) * self.schedule.factor(behind, memory)
