"""Decay at milestones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from autotune.errors import UserError
from autotune.optim.schedules._progress import Progress, Schedule


@dataclass(frozen=True, slots=True)
class MultiStep(Schedule):
    """``decay ** (number of milestones passed)``, as He et al. 2016 (section 4.2) divide by 10 after 1/2 and 3/4.

    A milestone is a part of all updates, so that a longer training has its steps in the same places; with epochs in
    its stead it is torch.optim.lr_scheduler.MultiStepLR.

    Args:
        decay: The factor at each milestone, in (0, 1].
        milestones: In (0, 1), rising.
    """

    decay: float
    milestones: Sequence[float] = (0.5, 0.75)

    def __post_init__(self) -> None:
        if not 0 < self.decay <= 1:
            raise UserError("schedule.decay", f"{self.decay} lets no step fall", "give a number above 0 up to 1")
        bounds = (0.0, *self.milestones, 1.0)
        if not all(before < after for before, after in pairwise(bounds)):
            given = list(self.milestones)
            raise UserError("schedule.milestones", f"{given} do not rise between 0 and 1", "give parts: [0.5,0.75]")
        object.__setattr__(self, "milestones", tuple(self.milestones))  # a list could be changed behind our back

    def factor(self, progress: Progress, memory: Any) -> float:
        """``decay`` to the power of the milestones passed."""
        return float(self.decay ** sum(progress.part >= milestone for milestone in self.milestones))
