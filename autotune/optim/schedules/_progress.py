"""What a schedule is told, and what it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training is.

    Attributes:
        update: The update about to be made, counted from 0.
        updates_per_epoch: At least 1.
        epochs: The epochs of the whole training, at least 1.
    """

    update: int
    updates_per_epoch: int
    epochs: int

    @property
    def epoch(self) -> int:
        """The epoch the update belongs to, counted from 0."""
        return self.update // self.updates_per_epoch

    @property
    def part(self) -> float:
        """The part of all updates already made, in [0, 1]."""
        return min(1.0, self.update / (self.updates_per_epoch * self.epochs))


class Schedule:
    """A factor on the base learning rate, from progress alone or also from the training loss.

    What a schedule remembers of the losses is a value that goes in and comes out, so that any number of trainings can
    share one schedule, stop and go on.
    """

    def begin(self) -> Any:
        """What is remembered before the first epoch; None where nothing ever is."""
        return None

    def after_epoch(self, memory: Any, loss: float) -> Any:
        """What is remembered after an epoch with this mean training loss."""
        return memory

    def factor(self, progress: Progress, memory: Any) -> float:
        """The factor for an update, not below 0."""
        raise NotImplementedError
