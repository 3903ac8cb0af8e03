"""A schedule at work on an optimizer."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer

from autotune.optim.schedules import Progress, Schedule


class LearningRate:
    """Sets an optimizer's learning rates before each update, as a schedule says.

    Args:
        optimizer: Its rates as they are now are the base rates.
        schedule: The factor on them.
        updates_per_epoch: Updates of one epoch; None where the first one is to be counted.
        epochs: Epochs of the whole training.
        most: Updates after which it ends at the latest; None where its epochs alone end it.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedule: Schedule,
        updates_per_epoch: int | None,
        epochs: float,
        most: int | None = None,
    ) -> None:
        self._optimizer = optimizer
        self._bases = [group["lr"] for group in optimizer.param_groups]
        self._schedule = schedule
        self._updates_per_epoch = None if updates_per_epoch is None else max(1, updates_per_epoch)
        self._epochs, self._most = epochs, most
        self._update = 0
        self._memory: Any = schedule.begin()

    def before_update(self) -> None:
        """Set the rates for the next update."""
        progress = Progress(self._update, self._updates_per_epoch, self._epochs, most=self._most)
        factor = self._schedule.factor(progress, self._memory)
        for group, base in zip(self._optimizer.param_groups, self._bases, strict=True):
            group["lr"] = base * factor
        self._update += 1

    def after_epoch(self, loss: float) -> None:
        """Hear an epoch's mean training loss."""
        self._memory = self._schedule.after_epoch(self._memory, loss)
        if self._updates_per_epoch is None:
            self._updates_per_epoch = max(1, self._update)
        # An epoch cut short by the user's code still counts as a whole one.
        self._update = -(-self._update // self._updates_per_epoch) * self._updates_per_epoch

    def state_dict(self) -> dict[str, Any]:
        """Where it is, as plain values."""
        counted = {"updates_per_epoch": self._updates_per_epoch, "update": self._update}
        return {"bases": list(self._bases), **counted, "memory": self._schedule.kept(self._memory)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where another was, of the same schedule."""
        self._bases, self._update = list(state["bases"]), state["update"]
        self._updates_per_epoch = state.get("updates_per_epoch", self._updates_per_epoch)
        self._memory = self._schedule.remembered(state["memory"])
