"""No schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from autotune.optim.schedules._progress import Progress, Schedule


@dataclass(frozen=True, slots=True)
class Constant(Schedule):
    """The base learning rate throughout."""

    def factor(self, progress: Progress, memory: Any) -> float:
        """Always 1."""
        return 1.0
