"""Data larger than memory: the same batches as in memory, by workers that end with the training."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn

from autotune.assembly import assemble
from autotune.data.batches import ArrayData, Batches, Epochs, Slices
from autotune.data.files import FileSource
from autotune.data.lazy import Reader
from autotune.data.preprocess import Preprocess, Standardize
from autotune.data.rows import Rows
from autotune.data.source import Arrays, LazyPart, Part
from autotune.errors import UserError
from autotune.executors.lightning import LightningExecutor
from autotune.trial import Reason

from ..fakes import FakeDesk, resolved
from .tables import rows as table_rows
from .tables import written

HERE = "tests.data.test_lazy"

WORKERS = pytest.mark.parametrize("workers", [0, 2])


class Read:
    """Sample i has the features [i, -i]; says in which process it was read, and cannot read sample `torn`."""

    def __init__(self, samples: int, torn: int = -1) -> None:
        self.shape = (samples, 3)
        self.torn = torn

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any, /) -> numpy.ndarray:
        number = numpy.arange(len(self))[rows]
        if self.torn in number:
            raise UserError("data.path", f"sample {self.torn} is torn", "mend it")
        return numpy.stack([number, -number, numpy.full(len(number), os.getpid() % 2**20)], axis=1).astype("f4")


@dataclass(frozen=True, kw_only=True)
class Numbers(FileSource):
    """Samples that are read lazily."""

    task: str = "binary"
    path: str = __file__
    samples: int = 50
    torn: int = -1
    in_memory_limit: int = 0
    made: int = field(default=0, compare=False)

    def load(self) -> Arrays:
        rows: Rows = Read(self.samples, self.torn)
        lazy = self.in_memory_limit == 0
        return Arrays(rows if lazy else rows[:], numpy.arange(self.samples) % 2, lazy=lazy)

    def prepare(self, arrays: Arrays, rows: numpy.ndarray) -> Preprocess:
        return Standardize.fixed(0.0, 1.0)


def part(samples: int = 50, torn: int = -1) -> LazyPart:
    return LazyPart(Read(samples, torn), Standardize.fixed(0.0, 1.0), torch.arange(samples) % 3)


def in_memory(lazy: LazyPart) -> Part:
    return Part(lazy.read(numpy.arange(len(lazy))), lazy.target)


@pytest.fixture
def reader() -> Iterator[Any]:
    made: list[Reader] = []

    def make(lazy: LazyPart, workers: int) -> Reader:
        made.append(Reader(lazy, workers))
        return made[-1]

    yield make
    for each in made:
        each.close()


def served(batches: Any) -> list[tuple[Tensor, Tensor]]:
    """Batches without the process they were read in."""
    return [(features[:, :2], target) for features, target in batches]


def same(one: list[tuple[Tensor, Tensor]], other: list[tuple[Tensor, Tensor]]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(mine[0], theirs[0]) and torch.equal(mine[1], theirs[1])
        for mine, theirs in zip(one, other, strict=True)
    )


def processes(batches: Any) -> set[int]:
    return {int(number) for features, _ in batches for number in features[:, 2]}


# Batches.


@WORKERS
def test_batches_are_those_in_memory_epoch_by_epoch(reader: Any, workers: int) -> None:
    lazy = part()
    mine, theirs = Epochs(reader(lazy, workers), 7, seed=3), Epochs(in_memory(lazy), 7, seed=3)
    for epoch in (0, 1, 2, 1):
        assert same(served(mine.batches(epoch)), served(theirs.batches(epoch)))


@WORKERS
def test_slices_and_single_batches_are_those_in_memory(reader: Any, workers: int) -> None:
    lazy = part(1100)
    assert same(served(Slices(reader(lazy, workers))), served(Slices(in_memory(lazy))))
    mine, theirs = Batches(Epochs(reader(lazy, workers), 300, 1)), Batches(Epochs(in_memory(lazy), 300, 1))
    assert len(mine) == 4
    assert same(served(mine), served(theirs))


def test_one_batch_of_everything_is_served_as_it_lies(reader: Any) -> None:
    lazy = part(10)
    assert same(served(Epochs(reader(lazy, 0), 10, 0).batches(5)), served(Epochs(in_memory(lazy), 10, 0).batches(5)))


def test_workers_read_and_live_over_the_epochs(reader: Any) -> None:
    epochs = Epochs(reader(part(), 2), 7, seed=0)
    first, second = processes(epochs.batches(0)), processes(epochs.batches(1))
    assert first == second
    assert len(first) == 2
    assert os.getpid() % 2**20 not in first
    assert processes(Epochs(reader(part(), 0), 7, seed=0).batches(0)) == {os.getpid() % 2**20}


@WORKERS
def test_an_epoch_that_is_broken_off_does_not_disturb_the_next(reader: Any, workers: int) -> None:
    lazy = part()
    mine = Epochs(reader(lazy, workers), 7, seed=3)
    next(mine.batches(0))
    assert same(served(mine.batches(1)), served(Epochs(in_memory(lazy), 7, seed=3).batches(1)))


@WORKERS
def test_the_random_state_is_left_alone(reader: Any, workers: int) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    list(Epochs(reader(part(), workers), 7, seed=0).batches(0))
    assert torch.equal(torch.get_rng_state(), before)


@WORKERS
def test_what_cannot_be_read_is_the_user_s_mistake(reader: Any, workers: int) -> None:
    with pytest.raises(UserError, match=r"^data.path: sample 9 is torn; mend it$"):
        list(Epochs(reader(part(torn=9), workers), 7, seed=0).batches(0))


def test_closed_its_workers_are_gone(reader: Any) -> None:
    made = reader(part(), 2)
    next(Epochs(made, 7, seed=0).batches(0))
    assert len(multiprocessing.active_children()) == 2
    made.close()
    made.close()
    assert multiprocessing.active_children() == []


def test_workers_leave_ctrl_c_to_the_process_they_read_for(reader: Any) -> None:
    batches = Epochs(reader(part(), 2), 7, seed=0).batches(0)
    begun = [next(batches), next(batches)]  # one from each worker, so both are up
    for worker in multiprocessing.active_children():
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGINT)
    assert len([*begun, *batches]) == 8


# Trainings.


def trained(config: dict[str, Any]) -> list[dict[str, float]]:
    desk = FakeDesk([config])
    LightningExecutor().run(desk)
    assert desk.end_of(0).reason == Reason.COMPLETED, desk.end_of(0).error
    return [dict(epoch.metrics) for epoch in desk.epochs]


class Averaging(nn.Module):
    """Reads the first two features, whichever process they come from; has dropout."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, outputs))

    def forward(self, features: Tensor) -> Tensor:
        made: Tensor = self.layers(features[:, :2] / 50)
        return made


@WORKERS
def test_a_training_is_that_in_memory(workers: int) -> None:
    lazy = resolved(
        data={"_target_": f"{HERE}.Numbers", "batch_size": 7, "workers": workers},
        model={"_target_": f"{HERE}.Averaging"},
    )
    there = {**lazy, "data": {**lazy["data"], "in_memory_limit": 1}}
    assert trained(lazy) == trained(there)
    assert multiprocessing.active_children() == []


@WORKERS
def test_a_training_on_a_table_is_that_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    data = {
        "_target_": "autotune.data.csv.Csv",
        "path": str(written(tmp_path, table_rows(150))),
        "target": "garden",
        "batch_size": 32,
        "workers": workers,
    }
    model = {"_target_": "autotune.models.tabular.Tabular", "hidden": [8], "dropout": 0.2, "batch_norm": True}
    lazy = resolved(data={**data, "in_memory_limit": 0}, model=model)
    assert trained(lazy) == trained(resolved(data=data, model=model))


@pytest.mark.parametrize(
    ("torn", "judged", "reason"),
    [(-1, Reason.PRUNED, Reason.PRUNED), (-1, Reason.INTERRUPTED, Reason.INTERRUPTED)],
    ids=["pruned", "interrupted"],
)
def test_workers_end_with_a_trial_that_is_stopped(torn: int, judged: Reason, reason: Reason) -> None:
    config = resolved(
        data={"_target_": f"{HERE}.Numbers", "batch_size": 7, "workers": 2, "torn": torn},
        model={"_target_": f"{HERE}.Averaging"},
        trainer={"max_epochs": 9},
    )
    desk = FakeDesk([config], judge=lambda epoch: judged if epoch.epoch == 1 else None)
    LightningExecutor().run(desk)
    assert desk.end_of(0).reason == reason
    assert multiprocessing.active_children() == []


class Raising(nn.Module):
    """Raises when it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, features: Tensor) -> Tensor:
        raise KeyError("pixels")


def test_workers_end_with_a_trial_that_raises() -> None:
    config = resolved(
        data={"_target_": f"{HERE}.Numbers", "batch_size": 7, "workers": 2}, model={"_target_": f"{HERE}.Raising"}
    )
    desk = FakeDesk([config])
    LightningExecutor().run(desk)
    assert desk.end_of(0).reason == Reason.ERROR
    assert multiprocessing.active_children() == []


def test_a_torn_file_ends_a_search_as_a_mistake() -> None:
    config = resolved(
        data={"_target_": f"{HERE}.Numbers", "batch_size": 7, "workers": 2, "torn": torn_train_sample()},
        model={"_target_": f"{HERE}.Averaging"},
    )
    with pytest.raises(UserError, match=r"^data.path: sample \d+ is torn; mend it$"):
        LightningExecutor().run(FakeDesk([config]))
    assert multiprocessing.active_children() == []


def torn_train_sample() -> int:
    """A sample of the training part that is not among those kept as examples."""
    data = ArrayData(Numbers(), 7, 0)
    assert isinstance(data.split.train, LazyPart)
    return int(data.split.train.read(numpy.arange(len(data.split.train)))[-1, 0])


def test_a_source_says_how_many_workers_without_being_another() -> None:
    assert Numbers(workers=2) == Numbers()
    assert replace(Numbers(), samples=9) != Numbers()
    data = assemble(
        resolved(data={"_target_": f"{HERE}.Numbers", "workers": 2}, model={"_target_": f"{HERE}.Averaging"})
    ).data
    assert isinstance(data, ArrayData)
    assert not data.in_memory


def test_a_folder_for_temporary_files_that_is_no_place_for_sockets_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("deep" * 20)
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    with pytest.raises(UserError) as caught:
        Reader(part(4), 2)
    assert caught.value.key == "TMPDIR"
    assert "data.workers=0" in caught.value.remedy
    assert len(Reader(part(4), 0)) == 4
