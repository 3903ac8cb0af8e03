"""What a schedule is told, and what it is."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from autotune.errors import UserError

UNCOUNTED = "it follows the part of all updates that is made, and the data has no length to tell their number by"
REMEDY = (
    "give +trainer.limit_train_batches=N or +trainer.max_steps=N; optimizer=own schedule=own; or schedule=constant, "
    "exponential, step, inverse_time, plateau or dynamic"
)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training is.

    Attributes:
        update: The update about to be made, counted from 0.
        updates_per_epoch: At least 1; None in the first epoch of data that has no length, until they are counted.
        epochs: The epochs of the whole training, at least 1; infinite where only `most` ends it.
        begun_at: The update that a schedule counts from: the first one behind a warm-up (`Warmup`).
        most: The training ends after so many updates, whatever its epochs; None where they alone end it.
    """

    update: int
    updates_per_epoch: int | None
    epochs: float
    begun_at: int = 0
    most: int | None = None

    @property
    def made(self) -> int:
        """The updates already made."""
        return self.update - self.begun_at

    @property
    def updates(self) -> int:
        """The updates of the whole training, at least 1.

        Raises:
            UserError: The data has no length, and nothing else says.
        """
        by_epochs = math.inf if self.updates_per_epoch is None else self.updates_per_epoch * self.epochs
        whole = by_epochs if self.most is None else min(by_epochs, self.most)
        if math.isinf(whole):
            raise UserError("schedule", UNCOUNTED, REMEDY)
        return int(whole) - self.begun_at

    @property
    def epoch(self) -> int:
        """The epoch the update belongs to, counted from 0."""
        return 0 if self.updates_per_epoch is None else self.made // self.updates_per_epoch

    @property
    def passed(self) -> float:
        """The epochs passed, parts of one included; 0 while it is not known how long one is."""
        return 0.0 if self.updates_per_epoch is None else self.made / self.updates_per_epoch

    @property
    def part(self) -> float:
        """The part of all updates already made, in [0, 1]."""
        return min(1.0, self.made / self.updates)


class Schedule(ABC):
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

    def kept(self, memory: Any) -> Any:
        """What is remembered, for a file: plain values and tuples of them."""
        return tuple(memory) if isinstance(memory, tuple) else memory

    def remembered(self, kept: Any) -> Any:
        """What `kept` was made of."""
        begun = self.begin()
        return type(begun)(*kept) if isinstance(begun, tuple) else kept

    @abstractmethod
    def factor(self, progress: Progress, memory: Any) -> float:
        """The factor for an update, not below 0."""
