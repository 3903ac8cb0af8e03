"""Several processes that train for one desk."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from torch import Tensor, nn

from autotune.errors import UserError
from autotune.executors import lightning
from autotune.executors.auto import AutoExecutor
from autotune.executors.lightning import LightningExecutor
from autotune.executors.population import PopulationExecutor
from autotune.executors.workers import counted
from autotune.trial import End, Epoch, Reason, Trial

from ..fakes import FakeDesk, resolved
from .contract import ExecutorContract

HERE = "tests.executors.test_workers"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks")


class TestPopulationInProcesses(ExecutorContract):
    @pytest.fixture
    def executor(self) -> PopulationExecutor:
        return PopulationExecutor(slots=4, workers=2)


class WatchedDesk(FakeDesk):
    """Remembers how many trials were in training at once, and how many processes there were."""

    most = begun = processes = 0

    def next_trial(self) -> Trial | None:
        trial = super().next_trial()
        self.begun += trial is not None
        self.most = max(self.most, self.begun - len(self.ends))
        return trial

    def judge(self, epoch: Epoch) -> Reason | None:
        self.processes = max(self.processes, len(forks()))
        return super().judge(epoch)


def forks() -> list[psutil.Process]:
    """The living forks of this process."""
    return [each for each in psutil.Process().children() if each.status() != psutil.STATUS_ZOMBIE]


def mixed(count: int) -> list[dict[str, Any]]:
    """Trials of several lanes."""
    return [
        resolved(
            seed=seed,
            data={"batch_size": (8, 16, 50)[seed % 3]},
            model={"batch_norm": seed % 2 == 0},
            trainer={"precision": "64-true"},
        )
        for seed in range(count)
    ]


@pytest.mark.parametrize("slots", [2, 5, 64])
def test_each_trial_goes_as_it_goes_in_one_process(slots: int) -> None:
    one, several = FakeDesk(mixed(12)), WatchedDesk(mixed(12))
    PopulationExecutor(slots=slots).run(one)
    before = len(forks())
    PopulationExecutor(slots=slots, workers=3).run(several)
    assert sorted(end.number for end in several.ends) == list(range(12))
    for number in range(12):
        expected, found = one.epochs_of(number), several.epochs_of(number)
        assert [epoch.epoch for epoch in found] == [epoch.epoch for epoch in expected]
        for ours, theirs in zip(found, expected, strict=True):
            # Each process chooses its own way to compute a lane; in float64 they differ by less than metrics, which are
            # computed in float32, are rounded by.
            assert ours.metrics == pytest.approx(theirs.metrics, rel=1e-5)
    assert several.most <= max(slots, 2)
    assert several.processes - before == min(slots, 3)
    assert len(forks()) == before


class Failing(nn.Module):
    """A user's module that fails in its own way."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.layer = nn.Linear(10, 1)
        self.how = how

    def forward(self, features: Tensor) -> Tensor:
        if self.training:
            if self.how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise Unsendable(lambda: self.how)
        answer = self.layer(features)
        assert isinstance(answer, Tensor)
        return answer


class Unsendable(Exception):  # noqa: N818
    """Cannot be pickled."""

    def __str__(self) -> str:
        return "what it said"


def failing(how: str) -> dict[str, Any]:
    return resolved(model={"_target_": f"{HERE}.Failing", "how": how})


def test_what_a_users_code_raises_is_told_with_its_name_its_words_and_where() -> None:
    desk = FakeDesk([failing("raises")])
    LightningExecutor(workers=2).run(desk)
    (end,) = desk.ends
    assert (end.reason, end.said) == (Reason.ERROR, "Unsendable: what it said")
    assert end.error is not None
    assert "in forward" in str(end.error.__cause__)


def test_a_process_that_dies_ends_the_training_and_says_so() -> None:
    desk = FakeDesk([failing("killed"), *mixed(2)])
    with pytest.raises(UserError, match=r"^executor.workers: one of 2 processes died \(signal 9\); give fewer where"):
        LightningExecutor(workers=2).run(desk)
    assert 0 not in {end.number for end in desk.ends}


def test_interrupted_all_that_are_begun_end_so() -> None:
    desk = WatchedDesk(mixed(30), interrupted=lambda _: len(desk.epochs) > 8)
    PopulationExecutor(slots=6, workers=2).run(desk)
    assert len(desk.ends) == desk.begun < 30
    assert len({end.number for end in desk.ends}) == desk.begun
    assert {end.reason for end in desk.ends} <= {Reason.INTERRUPTED, Reason.COMPLETED}
    assert Reason.INTERRUPTED in {end.reason for end in desk.ends}


class StoppingDesk(WatchedDesk):
    """Stops the search at the first end."""

    def ended(self, end: End) -> None:
        super().ended(end)
        if end.reason == Reason.COMPLETED:
            raise LookupError("enough")


def test_what_the_desk_raises_ends_all_and_is_raised() -> None:
    desk = StoppingDesk(mixed(12))
    with pytest.raises(LookupError, match="enough"):
        PopulationExecutor(slots=6, workers=2).run(desk)
    assert len(desk.ends) == desk.begun
    assert [end.reason for end in desk.ends].count(Reason.INTERRUPTED) > 0


def test_what_is_said_is_said_by_the_process_that_searches(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="autotune"):
        PopulationExecutor(slots=6, workers=2).run(FakeDesk(mixed(6)))
    said = [record for record in caplog.records if record.name == "autotune.executors.crew"]
    assert len(said) >= 2
    assert {record.process for record in said}.isdisjoint({os.getpid()})


ORPHANS = """
import os, sys
from autotune.executors.population import PopulationExecutor
from tests.executors.test_workers import WatchedDesk, mixed

class Desk(WatchedDesk):
    def judge(self, epoch):
        print(open("/proc/self/task/%d/children" % os.getpid()).read(), flush=True)
        return super().judge(epoch)

held = open(sys.argv[1], "w")
import fcntl
fcntl.flock(held, fcntl.LOCK_EX)
PopulationExecutor(slots=4, workers=2).run(Desk(mixed(3000)))
"""


def test_they_die_with_whom_they_train_for_and_hold_nothing(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    process = subprocess.Popen(
        [sys.executable, "-c", ORPHANS, str(lock)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )
    assert process.stdout is not None
    with process.stdout as said:
        children = [psutil.Process(int(each)) for each in said.readline().split()]
    assert len(children) == 2
    for child in children:
        assert str(lock) not in {each.path for each in child.open_files()}
    process.kill()
    process.wait()
    with lock.open() as mine:
        fcntl.flock(mine, fcntl.LOCK_EX | fcntl.LOCK_NB)
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []


def test_a_gpu_is_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cuda", 0)))
    monkeypatch.setattr(lightning, "make_trainer", lambda *_: trainer)
    told = (
        r"^executor.workers: 2 processes cannot share the cuda device; "
        r"give executor.workers=1, or trainer.accelerator=cpu$"
    )
    with pytest.raises(UserError, match=told):
        PopulationExecutor(workers=2).rehearse(resolved())
    PopulationExecutor(workers=1).rehearse(resolved())


def test_what_is_chosen_says_in_how_many() -> None:
    executor = AutoExecutor(workers=2)
    executor.rehearse(resolved())
    assert executor.chosen == "population in 2 processes"
    assert LightningExecutor(workers=3).chosen == "lightning in 3 processes"


@pytest.mark.parametrize("given", [0, -1, 1.5, True, "many", None])
def test_what_is_no_number_of_processes_is_refused(given: Any) -> None:
    with pytest.raises(UserError) as caught:
        counted(given)
    assert str(caught.value) == (f"executor.workers: {given} is no number of processes; give one from 1 on, or auto")


def test_automatic_is_a_process_for_each_core() -> None:
    assert counted("auto") == (1 if torch.cuda.is_available() else len(os.sched_getaffinity(0)))


def test_a_system_that_cannot_fork_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert counted("auto") == counted(1) == 1
    with pytest.raises(UserError, match=r"^executor.workers: 2 processes need Linux; give executor.workers=1$"):
        counted(2)
