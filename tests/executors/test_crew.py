"""Memory that runs out where no member's gradient is computed: the population goes on with fewer trials at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from autotune.data.batches import ArrayData
from autotune.data.placed import forget
from autotune.executors import lane
from autotune.executors.checkpoint import Keeper
from autotune.executors.lane import Lane, Member
from autotune.executors.population import PopulationExecutor
from autotune.models.mlp import MLP
from autotune.optim.stacked.sgd import StackedSGD
from autotune.stacking.stack import Stack
from autotune.trial import Epoch, Reason

from ..fakes import FakeDesk
from .lanes import alone, double, same_curve, together

PLACES: dict[str, tuple[Any, str]] = {
    "the data to the device": (ArrayData, "_place"),
    "a network to the device": (MLP, "to"),
    "the rows of a lane": (Stack, "__init__"),
    "an optimizer's step": (StackedSGD, "step"),
    "a metric": (lane.StackedMetrics, "update"),
}


def full(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, is_full: Callable[..., bool]) -> None:
    """Have memory run out at each call that `is_full` says so of."""
    original = getattr(owner, name)

    def call(*arguments: Any, **named: Any) -> Any:
        if is_full(*arguments):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(*arguments, **named)

    monkeypatch.setattr(owner, name, call)


def at_calls(*numbers: int) -> Callable[..., bool]:
    calls = iter(range(10**9))
    return lambda *_: next(calls) in numbers


def four(**changes: Any) -> list[dict[str, Any]]:
    return [double(seed=seed, **{"trainer": {"max_epochs": 3}, **changes}) for seed in range(4)]


def told_as_alone(desk: FakeDesk, configs: list[dict[str, Any]]) -> None:
    """Each trial's epochs were told once, in order, and are what they are without the accident."""
    for number, config in enumerate(configs):
        epochs = desk.epochs_of(number)
        assert [epoch.epoch for epoch in epochs] == list(range(config["trainer"]["max_epochs"]))
        same_curve([epoch.metrics for epoch in epochs], alone(config).curve, 1e-10)
        assert desk.end_of(number).reason == Reason.COMPLETED


@pytest.mark.parametrize("calls", [(0,), (2,), (0, 1), (1, 5)], ids=str)
@pytest.mark.parametrize("place", PLACES)
def test_a_lane_begins_anew_and_tells_each_epoch_once(
    place: str, calls: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = four()
    expected = [alone(config) for config in configs]  # before memory runs out
    assert len(expected) == 4
    forget()
    full(monkeypatch, *PLACES[place], at_calls(*calls))
    told_as_alone(together(configs).desk, configs)


def test_no_more_than_memory_holds_are_trained_at_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    configs = four()
    full(monkeypatch, Stack, "__init__", lambda _, __, rows: len(rows) > 2)
    population = together(configs)
    told_as_alone(population.desk, configs)
    assert max(map(len, population.lanes)) == 2
    assert "out of memory with 4 trials at once: at most 2 from here on" in caplog.text


def test_what_has_memory_for_itself_and_needs_more_ends_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    large = double(model={"hidden": [40]}, trainer={"max_epochs": 3})
    configs = [*four(), large, *four()]
    full(monkeypatch, Stack, "__init__", lambda _, __, rows: rows[0].parameters.numel() > 400)
    population = together(configs, slots=6)
    desk = population.desk
    assert desk.end_of(4).reason == Reason.OOM
    assert str(desk.end_of(4).error) == "CUDA out of memory"
    assert desk.epochs_of(4) == []
    assert [desk.end_of(number).reason for number in range(9) if number != 4] == [Reason.COMPLETED] * 8
    assert max(map(len, population.lanes)) > 1


def test_what_is_pruned_before_stays_pruned(monkeypatch: pytest.MonkeyPatch) -> None:
    def judge(epoch: Epoch) -> Reason | None:
        return Reason.PRUNED if (epoch.number, epoch.epoch) == (1, 0) else None

    full(monkeypatch, StackedSGD, "step", at_calls(9))  # in the third epoch
    desk = together(four(), judge=judge).desk
    assert [len(desk.epochs_of(number)) for number in range(4)] == [3, 1, 3, 3]
    assert [desk.end_of(number).reason for number in (0, 1)] == [Reason.COMPLETED, Reason.PRUNED]


def test_those_that_wait_to_begin_anew_are_interrupted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    full(monkeypatch, Stack, "__init__", lambda _, __, rows: len(rows) > 1)
    desk = FakeDesk(four(), interrupted=lambda _: bool(desk.epochs))
    PopulationExecutor(slots=4).run(desk)
    assert {end.number: end.reason for end in desk.ends} == dict.fromkeys(range(4), Reason.INTERRUPTED)


def test_a_lane_that_begins_anew_goes_on_from_its_checkpoints(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    taken_up = []
    take_up = Member.take_up
    monkeypatch.setattr(Member, "take_up", lambda member, kept: (taken_up.append(kept["epoch"]), take_up(member, kept)))
    configs = four()
    desk = FakeDesk(configs, checkpoints=tmp_path)
    full(monkeypatch, StackedSGD, "step", at_calls(9))
    PopulationExecutor(slots=4, checkpoint_seconds=0).run(desk)
    told_as_alone(desk, configs)
    assert taken_up == [2] * 4
    assert desk.earlier == {}


def test_a_checkpoint_that_memory_does_not_hold_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    full(monkeypatch, Lane, "state_of", at_calls(0, 1, 2, 3))
    kept = []
    keep = Keeper.keep
    monkeypatch.setattr(Keeper, "keep", lambda keeper, state: (kept.append(state["epoch"]), keep(keeper, state)))
    configs = four()
    desk = FakeDesk(configs, checkpoints=tmp_path)
    PopulationExecutor(slots=4, checkpoint_seconds=0).run(desk)
    told_as_alone(desk, configs)
    assert kept == [2] * 4
