"""A study's checkpoints: there while a trial may be taken up, gone when it has ended, and heard of by the study."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import InMemoryStorage

from autotune.confirm import Confirmation
from autotune.kept.checkpoints import Checkpoints
from autotune.kept.ledger import Ledger
from autotune.kept.storage import open_storage
from autotune.pruners import Pruning
from autotune.settings import Budget, Confirm, Objective, Settings
from autotune.space import Space
from autotune.study import Coordinator
from autotune.trial import Desk, End, Epoch, Reason, Record, Trial, TrialCodeError

from ..fakes import FakeExecutor, FakeTracker, learning_curve, resolved
from ..test_study import CONFIG

EPOCHS = 9


class Killed(BaseException):
    """What nothing catches."""


class Keeping(FakeExecutor):
    """Keeps how far a trial is in its checkpoint; the process may be killed after so many epochs."""

    def __init__(self, kill_after: int | None = None, **more: Any) -> None:
        super().__init__(**more)
        self.left = kill_after

    def run(self, desk: Desk) -> None:
        while (trial := desk.next_trial()) is not None:
            self.trained.append(trial)
            desk.ended(End(trial.number, self._train(desk, trial, list(self.curve(trial.config)))))

    def _train(self, desk: Desk, trial: Trial, curve: Sequence[Any]) -> Reason:
        path, begin = trial.checkpoint, 0
        assert path is not None
        if path.exists():
            begin = int(path.read_text())
            desk.resumed(trial.number, [Epoch(trial.number, epoch, curve[epoch]) for epoch in range(begin)])
        for epoch in range(begin, len(curve)):
            if desk.interrupted:
                return Reason.INTERRUPTED
            if isinstance(curve[epoch], Exception):
                return Reason.OOM
            reason = desk.judge(Epoch(trial.number, epoch, curve[epoch]))
            if reason is not None:
                return reason
            path.parent.mkdir(exist_ok=True)
            if epoch % 3 == 2:
                path.write_text(str(epoch + 1))
            if self.left is not None:
                self.left -= 1
                if self.left < 0:
                    raise Killed
        return Reason.COMPLETED


class Search:
    """One run of a search in a home, as a process that may be killed."""

    def __init__(self, home: Path, executor: Keeping, epochs: int | None = None) -> None:
        config = {**CONFIG, "budget": {"trials": 12, "seconds": None, "epochs": epochs}}
        self.settings = Settings.of({**config, "home": str(home)})
        self.folder = self.settings.folder
        self.folder.mkdir(parents=True, exist_ok=True)
        storage, journal = open_storage({"name": "journal"}, self.folder)
        self.ledger = Ledger(storage, journal, "s", "maximize")
        self.ledger.lay_down()
        self.tracker = FakeTracker()
        asha = Pruning(lambda: optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3))
        sampler = optuna.samplers.RandomSampler()
        self.coordinator = Coordinator(
            *(self.settings, Space(config), self.ledger, executor, self.tracker, sampler, asha),
            lambda number: optuna.samplers.RandomSampler(seed=number),
        )

    def run(self) -> Search:
        try:
            self.coordinator.run()
        except Killed:
            pass
        finally:
            self.ledger.close()
        return self

    @property
    def checkpoints(self) -> set[str]:
        folder = self.folder / "checkpoints"
        return {path.name for path in folder.iterdir()} if folder.exists() else set()


def story(record: Record) -> tuple[Any, ...]:
    return record.number, record.state, record.reason, record.objective, record.curves, record.params


def told(folder: Path) -> Iterator[tuple[int, int]]:
    for line in (folder / "study.journal").read_text().splitlines():
        operation = json.loads(line)
        if "intermediate_value" in operation:
            yield operation["trial_id"], operation["step"]


@pytest.mark.parametrize("kill_after", [2, 4, 11, 30, 47])
def test_a_killed_search_that_goes_on_is_as_one_that_was_not(tmp_path: Path, kill_after: int) -> None:
    whole = Search(tmp_path / "whole", Keeping()).run()
    expected = list(map(story, whole.ledger.records()))
    home = tmp_path / "killed"
    first, second = Keeping(kill_after), Keeping(kill_after)
    Search(home, first).run()
    Search(home, second).run()
    last = Search(home, Keeping()).run()
    assert list(map(story, last.ledger.records())) == expected
    assert max(Counter(told(last.folder)).values()) == 1  # no epoch is told twice
    assert last.coordinator.epochs == whole.coordinator.epochs
    assert last.checkpoints == set()
    assert not (last.folder / "checkpoints").exists()


def test_earlier_epochs_count_but_are_not_judged_again(tmp_path: Path) -> None:
    Search(tmp_path, Keeping(kill_after=4)).run()
    search = Search(tmp_path, Keeping(kill_after=0))
    search.run()
    advanced = search.tracker.advanced
    assert [record.epochs for record in advanced] == [3, 4]
    assert search.coordinator.epochs == 5


def test_a_trial_that_ends_leaves_no_checkpoint_and_one_that_is_interrupted_does(tmp_path: Path) -> None:
    def curve(config: Any) -> Any:
        return [*learning_curve(config)[:5], MemoryError()]

    out_of_memory = Search(tmp_path / "oom", Keeping(curve=curve)).run()
    assert {record.reason for record in out_of_memory.ledger.records()} >= {Reason.OOM}
    assert out_of_memory.checkpoints == set()
    interrupted = Search(tmp_path / "spent", Keeping(), epochs=5).run()
    assert interrupted.checkpoints == {"0.ckpt"}
    more = Search(tmp_path / "spent", Keeping(), epochs=9).run()
    assert more.ledger.records()[0].epochs == 9
    assert more.checkpoints == set()


def test_what_nobody_takes_up_is_swept_when_a_search_begins(tmp_path: Path) -> None:
    first = Search(tmp_path, Keeping(kill_after=EPOCHS + 3)).run()
    folder = first.folder / "checkpoints"
    (running,) = first.checkpoints
    for name in ("0.ckpt", "7.ckpt", ".1.ckpt.new", "2-seed3.ckpt"):
        (folder / name).touch()
    Search(tmp_path, Keeping()).ledger.close()
    assert first.checkpoints == {running, "2-seed3.ckpt"}


# Confirmations.

UP = Objective("val/accuracy", "maximize", 0.0, 1e4)


def confirm(home: Path, ledger: Ledger, executor: Keeping) -> Confirmation:
    settings = Settings("s", 0, (), home, Budget(1, None, None), UP, Confirm(2, 2, 2))
    settings.folder.mkdir(parents=True, exist_ok=True)
    confirmation = Confirmation(settings, ledger.records(), ledger, FakeTracker())
    with suppress(Killed):
        confirmation.run(executor)
    return confirmation


def test_a_confirmation_that_was_killed_goes_on_too(tmp_path: Path) -> None:
    ledger = Ledger(InMemoryStorage(), None, "s", "maximize")
    for number, rate in enumerate((0.1, 0.2)):
        config = resolved(optimizer={"lr": rate}, trainer={"max_epochs": EPOCHS})
        ledger.begin(config, {}, {})
        ledger.finish(number, Reason.COMPLETED, 0.5 + number, {"val/accuracy": [0.5]}, {}, {}, None)
    folder = tmp_path / "studies" / "s" / "checkpoints"
    confirm(tmp_path, ledger, Keeping(kill_after=EPOCHS + 4))
    (path,) = folder.iterdir()
    assert path.name == "0-seed1.ckpt"
    executor = Keeping()
    confirm(tmp_path, ledger, executor)
    assert executor.trained[0].checkpoint == path
    assert [(each.number, each.config["seed"], each.epochs) for each in ledger.confirmations()] == [
        *((0, 1, EPOCHS), (0, 2, EPOCHS), (1, 1, EPOCHS), (1, 2, EPOCHS))
    ]
    assert not folder.exists()


def test_paths_are_in_the_studys_folder(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.of_trial(7) == tmp_path / "checkpoints" / "7.ckpt"
    assert checkpoints.of_confirmation(7, 2) == tmp_path / "checkpoints" / "7-seed2.ckpt"
    checkpoints.drop(checkpoints.of_trial(7))  # which is not there


def test_the_users_error_leaves_no_checkpoint(tmp_path: Path) -> None:
    class Raising(Keeping):
        def run(self, desk: Desk) -> None:
            trial = desk.next_trial()
            assert trial is not None
            assert trial.checkpoint is not None
            trial.checkpoint.parent.mkdir()
            trial.checkpoint.write_text("1")
            desk.ended(End(trial.number, Reason.ERROR, error=ValueError("theirs")))

    search = Search(tmp_path, Raising())
    with pytest.raises(TrialCodeError):
        search.run()
    assert search.checkpoints == set()
