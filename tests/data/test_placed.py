from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from autotune.data import placed
from autotune.data.batches import ArrayData
from autotune.data.source import Part
from autotune.executors.lightning import LightningExecutor
from autotune.executors.population import PopulationExecutor
from autotune.trial import End, Executor

from ..fakes import FakeDesk, resolved


class Device:
    """Copies tensors, and knows which copies are alive."""

    def __init__(self) -> None:
        self.copies = 0
        self._alive: weakref.WeakSet[Tensor] = weakref.WeakSet()

    def place(self, tensor: Tensor) -> Tensor:
        copy = tensor.clone()
        self._alive.add(copy)
        self.copies += 1
        return copy

    @property
    def alive(self) -> int:
        return len(self._alive)


@pytest.fixture
def device() -> Iterator[Device]:
    placed.forget()
    yield Device()
    placed.forget()


def part(number: float) -> Part:
    return Part(torch.full((3, 2), number), torch.zeros(3))


def test_there_is_one_copy_of_each_part(device: Device) -> None:
    first = placed.placed("train", part(1.0), device.place)
    other = placed.placed("val", part(2.0), device.place)
    assert placed.placed("train", part(1.0), device.place) is first
    assert (first.features[0, 0], other.features[0, 0]) == (1.0, 2.0)
    assert device.copies == device.alive == 4


def test_those_that_were_not_used_for_long_are_dropped(device: Device) -> None:
    for number in range(placed.KEPT):
        placed.placed(number, part(number), device.place)
    placed.placed(0, part(0), device.place)
    placed.placed("new", part(9), device.place)
    assert device.alive == 2 * placed.KEPT
    before = device.copies
    placed.placed(0, part(0), device.place)
    assert device.copies == before
    placed.placed(1, part(1), device.place)
    assert device.copies == before + 2


def test_no_more_than_are_kept_are_alive_while_one_is_made(device: Device) -> None:
    alive = []

    def place(tensor: Tensor) -> Tensor:
        alive.append(device.alive)
        return device.place(tensor)

    for number in range(placed.KEPT + 3):
        placed.placed(number, part(number), place)
    assert max(alive) < 2 * placed.KEPT


def test_they_are_forgotten(device: Device) -> None:
    placed.placed("train", part(1.0), device.place)
    placed.forget()
    assert device.alive == 0


class Counting(FakeDesk):
    """Notes how many copies are alive when a trial ends."""

    device: Device

    def ended(self, end: End) -> None:
        super().ended(end)
        self.alive = max(getattr(self, "alive", 0), self.device.alive)


@pytest.mark.parametrize(
    "executor", [LightningExecutor(), PopulationExecutor(slots=3)], ids=["lightning", "population"]
)
def test_all_trials_share_one_copy_and_none_is_left_at_the_end(
    executor: Executor, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ArrayData, "_place", lambda _, tensor: device.place(tensor))
    changes = [{"batch_size": 16}, {"batch_size": 7}, {"batch_size": "full"}]
    desk = Counting([resolved(data=change, trainer={"max_epochs": 1}) for change in changes])
    desk.device = device
    executor.run(desk)
    assert len(desk.ends) == 3
    assert desk.alive == device.copies == 4  # features and target of two parts
    gc.collect()
    assert device.alive == 0


def test_precisions_have_copies_of_their_own(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    place = ArrayData._place
    monkeypatch.setattr(ArrayData, "_place", lambda data, tensor: device.place(place(data, tensor)))
    LightningExecutor().run(FakeDesk([resolved(trainer={"precision": each}) for each in ("32-true", "64-true")]))
    assert device.copies == 8
