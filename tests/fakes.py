"""Stand-ins for the slow parts: an executor that computes its curves, a tracker that remembers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from autotune.trial import Desk, End, Epoch, Reason, Record, Trial

Curve = Callable[[Mapping[str, Any]], Sequence[Mapping[str, float] | BaseException]]


def learning_curve(config: Mapping[str, Any]) -> list[dict[str, float]]:
    """The nearer the rate to 0.1, the better; better every epoch."""
    from math import log10

    reach = 1 / (1 + abs(log10(config["optimizer"]["lr"] / 0.1)))
    return [
        {"train/loss": 1 - reach * epoch / 9, "val/loss": 1.0, "val/accuracy": reach * (epoch + 1) / 9, "lr": 0.1}
        for epoch in range(config["trainer"]["max_epochs"])
    ]


class FakeExecutor:
    """Trains by looking the curve up; an exception in it is what the user's code raises."""

    def __init__(
        self,
        curve: Curve = learning_curve,
        refuse: Callable[[Mapping[str, Any]], str | None] = lambda _: None,
        slots: int = 1,
    ) -> None:
        self.curve, self.refuse, self.slots = curve, refuse, slots
        self.trained: list[Trial] = []

    def refuses(self, config: Mapping[str, Any]) -> str | None:
        return self.refuse(config)

    def run(self, desk: Desk) -> None:
        lane: list[tuple[Trial, list[Any], int]] = []
        while True:
            while len(lane) < self.slots and (trial := desk.next_trial()) is not None:
                self.trained.append(trial)
                lane.append((trial, list(self.curve(trial.config)), 0))
            if not lane:
                return
            lane = [member for member in (self._advance(desk, *member) for member in lane) if member is not None]

    def _advance(self, desk: Desk, trial: Trial, curve: list[Any], epoch: int) -> tuple[Trial, list[Any], int] | None:
        cost = {"cost/epoch_seconds": 0.1}
        reason: Reason | None = Reason.COMPLETED
        error = None
        if desk.interrupted:
            reason = Reason.INTERRUPTED
        elif epoch < len(curve):
            if isinstance(curve[epoch], BaseException):
                error = curve[epoch]
                reason = Reason.OOM if isinstance(error, MemoryError) else Reason.ERROR
            else:
                reason = desk.judge(Epoch(trial.number, epoch, curve[epoch]))
                if reason is None:
                    return trial, curve, epoch + 1
        desk.ended(End(trial.number, reason or Reason.COMPLETED, cost, error))
        return None


class FakeTracker:
    """Remembers what it was told."""

    ui_command = ""

    def __init__(self) -> None:
        self.started: list[Record] = []
        self.advanced: list[Record] = []
        self.ended: list[Record] = []

    def search_started(self, study: str, settings: Mapping[str, Any], description: str, resumed: bool) -> None: ...

    def trial_started(self, record: Record) -> None:
        self.started.append(record)

    def trial_advanced(self, record: Record) -> None:
        self.advanced.append(record)

    def trial_ended(self, record: Record) -> None:
        self.ended.append(record)

    def search_ended(
        self,
        best: Record | None,
        states: Mapping[str, int],
        best_history: Sequence[tuple[int, float]],
        files: Sequence[Path],
        status: str,
    ) -> None: ...

    def close(self) -> None: ...
