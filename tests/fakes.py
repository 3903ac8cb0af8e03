"""Stand-ins for the slow parts: an executor that computes its curves, a tracker that remembers, a desk with a pile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from autotune.tracking import Ending, Study
from autotune.trial import Chance, Desk, End, Epoch, Reason, Record, Trial

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

    name = "fake"

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

    def chance(self, config: Mapping[str, Any]) -> Chance | None:
        return None

    def luck(self, config: Mapping[str, Any], epochs: int, stop: Callable[[], bool]) -> float | None:
        return None

    def rehearse(self, config: Mapping[str, Any]) -> None: ...

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


def resolved(**changes: Mapping[str, Any] | int) -> dict[str, Any]:
    """A small resolved config, sections changed by what is given; a section with a ``_target_`` is replaced."""
    config: dict[str, Any] = {
        "data": {"name": "seed_mlp", "_target_": "autotune.data.seed_mlp.SeedMLP", "task": "binary", "batch_size": 16},
        "model": {"name": "mlp", "_target_": "autotune.models.mlp.MLP", "hidden": [8, 4], "batch_norm": False},
        "optimizer": {"name": "sgd", "_target_": "torch.optim.SGD", "lr": 0.1},
        "schedule": {"name": "constant", "_target_": "autotune.optim.schedules.Constant"},
        "objective": {"metric": "val/accuracy", "direction": "maximize", "worst": 0.0, "explodes_above": 1e4},
        "trainer": {"max_epochs": 3, "accelerator": "cpu", "devices": 1, "deterministic": True},
        "seed": 0,
    }
    for section, change in changes.items():
        replaced = not isinstance(change, Mapping) or "_target_" in change or change.get("name") == "own"
        config[section] = change if replaced else {**config[section], **change}
    return config


class FakeDesk:
    """Hands out configs in their order and remembers what it hears.

    Args:
        configs: To be trained.
        judge: What it answers to an epoch; raising is an answer too.
        interrupted: Asked with how often it was asked before; once true it stays true, and nothing more is handed out.
        checkpoints: A folder for the trials' checkpoints; None where nothing is kept.
        folders: A folder for the folders of the trials' files; None where they have none.
    """

    def __init__(
        self,
        configs: Sequence[Mapping[str, Any]],
        judge: Callable[[Epoch], Reason | None] = lambda _: None,
        interrupted: Callable[[int], bool] = lambda _: False,
        checkpoints: Path | None = None,
        folders: Path | None = None,
    ) -> None:
        self._pile = [
            Trial(
                number,
                config,
                None if checkpoints is None else checkpoints / f"{number}.ckpt",
                None if folders is None else folders / f"{number}",
            )
            for number, config in enumerate(configs)
        ]
        self._judge, self._interrupted = judge, interrupted
        self._asked, self._is_interrupted = 0, False
        self.epochs: list[Epoch] = []
        self.earlier: dict[int, list[Epoch]] = {}
        self.ends: list[End] = []

    @property
    def interrupted(self) -> bool:
        self._is_interrupted = self._is_interrupted or self._interrupted(self._asked)
        self._asked += 1
        return self._is_interrupted

    def next_trial(self) -> Trial | None:
        return self._pile.pop(0) if self._pile and not self._is_interrupted else None

    def resumed(self, number: int, epochs: Sequence[Epoch]) -> None:
        assert number not in self.earlier
        self.earlier[number] = list(epochs)

    def judge(self, epoch: Epoch) -> Reason | None:
        self.epochs.append(epoch)
        return self._judge(epoch)

    def ended(self, end: End) -> None:
        self.ends.append(end)

    def epochs_of(self, number: int) -> list[Epoch]:
        """What one trial measured, in the order it was heard."""
        return [epoch for epoch in self.epochs if epoch.number == number]

    def end_of(self, number: int) -> End:
        """How one trial ended: once."""
        (end,) = (end for end in self.ends if end.number == number)
        return end


class FakeTracker:
    """Remembers what it was told."""

    ui_command = ""

    def __init__(self) -> None:
        self.started: list[Record] = []
        self.advanced: list[Record] = []
        self.ended: list[Record] = []

    def search_started(self, study: Study, settings: Mapping[str, Any], description: str, resumed: bool) -> None: ...

    def trial_started(self, record: Record) -> None:
        self.started.append(record)

    def trial_advanced(self, record: Record) -> None:
        self.advanced.append(record)

    def trial_ended(self, record: Record) -> None:
        self.ended.append(record)

    def search_ended(self, ending: Ending) -> None: ...

    def close(self) -> None: ...


class Loader:
    """Serves what it was given; a list of Lightning's would be several loaders."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Any]:
        return (iter(item) if isinstance(item, list) else item for item in self.items)
