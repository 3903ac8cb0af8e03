"""What memory holds, and what is freed where it ran out."""

from __future__ import annotations

import gc
import traceback
import weakref
from collections.abc import Iterator
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from autotune.executors.lightning import LightningExecutor
from autotune.executors.memory import release
from autotune.trial import End, Reason

from ..fakes import FakeDesk, resolved
from .test_ways import Lane

HERE = "tests.executors.test_memory"


class Hungry(nn.Module):
    """Makes an activation; from then on that it is told to has no memory for the next, in training or when judged."""

    activations: ClassVar[list[weakref.ref[Tensor]]] = []

    def __init__(self, runs_out_in: bool | None = True) -> None:
        super().__init__()
        self.layer = nn.Linear(10, 1)
        self.runs_out_in = runs_out_in
        Hungry.activations.clear()

    def forward(self, features: Tensor) -> Tensor:
        activation: Tensor = self.layer(features).exp()
        if self.runs_out_in == self.training:
            Hungry.activations.append(weakref.ref(activation))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return activation


@pytest.fixture(autouse=True)
def _no_chance_collection() -> Iterator[None]:
    """Only what is tested collects garbage."""
    gc.disable()
    yield
    gc.enable()


def fails() -> None:
    Hungry(runs_out_in=True)(torch.ones(2, 10))


def test_an_error_that_is_kept_keeps_no_tensor_of_what_it_ended() -> None:
    with pytest.raises(torch.OutOfMemoryError) as caught:
        fails()
    assert Hungry.activations[0]() is not None
    release(caught.value)
    assert Hungry.activations[0]() is None
    assert "in forward" in "".join(traceback.format_exception(caught.value))


def test_where_memory_ran_out_garbage_is_collected() -> None:
    class Knot:
        pass

    def tie() -> weakref.ref[Knot]:
        one = Knot()
        one.itself = one  # type: ignore[attr-defined]
        return weakref.ref(one)

    knot = tie()
    release(ValueError("no such pixel"))
    assert knot() is not None
    release(MemoryError())
    assert knot() is None


@pytest.mark.parametrize("training", [True, False])
def test_a_member_that_failed_keeps_no_activation(training: bool) -> None:
    lane = Lane(lambda: Hungry(runs_out_in=None), shape=(10,))
    lane.seats[1].network.runs_out_in = training
    way = lane.in_turn()
    if training:
        way.differentiate(lane.features, torch.zeros_like(lane.target))
    else:
        way.outputs(lane.features[0])
    assert [type(seat.failure).__name__ for seat in lane.seats[:3]] == [
        "NoneType",
        "OutOfMemoryError",
        "NoneType",
    ]
    assert [activation() for activation in Hungry.activations] == [None]


def test_a_trial_that_failed_alone_keeps_no_activation() -> None:
    class Desk(FakeDesk):
        alive: list[Tensor | None]

        def ended(self, end: End) -> None:
            super().ended(end)
            self.alive = [activation() for activation in Hungry.activations]

    desk = Desk([resolved(model={"_target_": f"{HERE}.Hungry"})])
    LightningExecutor().run(desk)
    assert desk.end_of(0).reason == Reason.OOM
    assert desk.alive == [None]
