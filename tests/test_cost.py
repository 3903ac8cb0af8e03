from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from autotune import cost
from autotune.cost import CostMeter, PeakMemory, latency

CPU = torch.device("cpu")
MIB = 2**20


class Clock:
    """A clock that the test turns; `tick` is how long it takes to look at it."""

    def __init__(self, tick: float = 0.0) -> None:
        self.now, self.tick = 100.0, tick

    def perf_counter(self) -> float:
        self.now += self.tick
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(cost, "time", made)
    return made


class Trainer:
    """As much of one as a meter asks for."""

    class strategy:  # noqa: N801
        root_device = CPU

    class precision_plugin:  # noqa: N801
        val_step_context = nullcontext


class Net(LightningModule):
    """10-64-32-1 with a normalised layer; writes down how it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(10, 64), nn.BatchNorm1d(64), nn.Linear(64, 32), nn.Linear(32, 1))
        self.calls: list[tuple[int, bool, bool]] = []
        self.moves: list[str] = []

    def forward(self, features: Tensor) -> Tensor:
        self.calls.append((len(features), self.training, torch.is_grad_enabled()))
        made: Tensor = self.layers(features)
        return made

    def validation_step(self, batch: Any, index: int) -> None:
        self(batch[0])

    def to(self, *arguments: Any, **named: Any) -> Net:
        self.moves.append(f"to {arguments[0]} after {len(self.calls)} calls")
        return super().to(*arguments, **named)


class Forwardless(LightningModule):
    """Computes in its steps, by no module."""

    def validation_step(self, batch: Any, index: int) -> None:
        batch[0].sum()


def metered(
    meter: CostMeter,
    clock: Clock,
    epochs: list[tuple[float, float]],
    batches: int = 3,
    batch: Any = None,
    module: Any = None,
) -> None:
    """A training as the Trainer goes through it: for each epoch the seconds of training and of validation."""
    trainer: Any = Trainer()
    module = Forwardless() if module is None else module
    batch = [torch.rand(20, 10), torch.rand(20)] if batch is None else batch
    meter.on_fit_start(trainer, module)
    for training, validation in epochs:
        meter.on_train_epoch_start(trainer, module)
        for index in range(batches):
            clock.now += training / batches
            meter.on_train_batch_end(trainer, module, None, batch, index)
        meter.on_validation_start(trainer, module)
        for index in range(2):
            meter.on_validation_batch_start(trainer, module, batch, index)
            with torch.no_grad():
                module.validation_step(batch, index)
            meter.on_validation_batch_end(trainer, module, None, batch, index)
        clock.now += validation
        meter.on_validation_end(trainer, module)
        meter.on_train_epoch_end(trainer, module)


def test_an_epoch_takes_the_median_of_their_times_without_validation(clock: Clock) -> None:
    meter = CostMeter(samples=60)
    metered(meter, clock, [(9.0, 1.0), (2.0, 50.0), (3.0, 1.0)])
    found = meter.cost(Net(), 20)
    assert found["cost/epoch_seconds"] == pytest.approx(3.0)
    assert found["cost/samples_per_second"] == pytest.approx(20.0)


def test_samples_of_the_user_s_own_batches_are_counted(clock: Clock) -> None:
    meter = CostMeter(samples=None)
    metered(meter, clock, [(4.0, 0.0), (4.0, 0.0)], batches=2)
    assert meter.cost(Net(), None)["cost/samples_per_second"] == pytest.approx(2 * 20 / 4)


def test_parameters_are_counted_and_buffers_weigh_too(clock: Clock) -> None:
    meter = CostMeter(60)
    metered(meter, clock, [(1.0, 0.0)])
    found = meter.cost(Net(), 20)
    parameters = 10 * 64 + 64 + 2 * 64 + 64 * 32 + 32 + 32 + 1
    assert found["cost/parameters"] == parameters
    # float32 parameters, running mean and variance of 64, and an int64 count of batches
    assert found["cost/model_bytes"] == 4 * parameters + 2 * 4 * 64 + 8


def test_samples_of_batches_that_say_no_number_of_them_are_not_counted(clock: Clock) -> None:
    meter = CostMeter(samples=None)
    metered(meter, clock, [(4.0, 0.0)], batch=["a text"], module=Habit(lambda *_: None))
    found = meter.cost(Net(), None)
    assert "cost/samples_per_second" not in found
    assert found["cost/epoch_seconds"] == pytest.approx(4)


# Latency is that of the forward passes that a validation step makes.


def test_latency_is_measured_on_one_batch_and_on_one_sample_in_evaluation(clock: Clock) -> None:
    clock.tick = 0.25  # a look at the clock before and one after: each pass takes 0.25 s
    meter, net = CostMeter(60), Net().train()
    metered(meter, clock, [(1.0, 0.0)], module=net)
    net.calls.clear()
    found = meter.cost(net, 16)
    assert found["cost/latency_batch_seconds"] == 0.25
    assert found["cost/latency_sample_seconds"] == 0.25
    # The first pass of each warms up.
    assert net.calls == [(16, False, False)] * 3 + [(1, False, False)] * 3
    assert net.training


def test_latency_without_a_batch_size_is_of_a_whole_validation_batch(clock: Clock) -> None:
    clock.tick = 0.25
    meter, net = CostMeter(None), Net()
    metered(meter, clock, [(1.0, 0.0)], module=net)
    net.calls.clear()
    meter.cost(net, None)
    assert net.calls[0][0] == 20


def test_latency_is_measured_where_the_batch_is_and_the_module_goes_home_again(clock: Clock) -> None:
    # Lightning moves a module to the CPU at the end of a training, its batches stay on the GPU.
    meter, net = CostMeter(60), Net()
    clock.tick = 0.25
    metered(meter, clock, [(1.0, 0.0)], module=net)
    net.calls.clear()
    meter.cost(net, 16)
    assert net.moves == ["to cpu after 0 calls", "to cpu after 6 calls"]


class Part(nn.Linear):
    """A layer of 10 inputs that writes down the shapes it is given."""

    def __init__(self) -> None:
        super().__init__(10, 10)
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:  # noqa: A002
        self.shapes.append(tuple(input.shape))
        made = super().forward(input)
        return made if mask is None else made * mask


class Habit(LightningModule):
    """A module whose step goes about it in its own way."""

    def __init__(self, step: Callable[[Habit, Any], object]) -> None:
        super().__init__()
        self.first, self.second = Part(), Part()
        self.both = nn.Sequential(self.first, self.second)
        self.loss = nn.MSELoss()
        self.step = step

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.second(self.first(features, mask))  # type: ignore[no-any-return]

    def validation_step(self, batch: Any, index: int) -> None:
        self.step(self, batch)


PAIR = [torch.rand(20, 2, 5), torch.rand(20, 10)]


@pytest.mark.parametrize(
    ("step", "batch", "first", "second"),
    [
        (lambda habit, batch: habit(batch[0].flatten(1)), PAIR, [(20, 10), (1, 10)], [(20, 10), (1, 10)]),
        (lambda habit, batch: habit.both(batch[1]), PAIR, [(20, 10), (1, 10)], [(20, 10), (1, 10)]),
        (lambda habit, batch: habit.forward(batch[1]), PAIR, [(20, 10), (1, 10)], [(20, 10), (1, 10)]),
        (
            lambda habit, batch: habit.loss(habit.second(habit.first(batch[1])), batch[1]),
            *(PAIR, [(20, 10), (1, 10)], [(20, 10), (1, 10)]),
        ),
        (lambda habit, batch: habit.first(batch[1]), PAIR, [(20, 10), (1, 10)], []),
        (
            lambda habit, batch: habit(batch["x"], mask=batch["mask"]),
            {"text": ["a"] * 20, "x": torch.rand(20, 10), "mask": torch.ones(20, 1)},
            *([(20, 10), (1, 10)], [(20, 10), (1, 10)]),
        ),
        (lambda habit, batch: habit(batch[0].mT), [torch.rand(20, 10, 3)], *[[(20, 3, 10), (1, 3, 10)]] * 2),
        # As wide as before, since its rows are no samples: what a single one takes is not known.
        (lambda habit, batch: habit(batch.view(-1, 10)), torch.rand(20, 50), [(100, 10)], [(100, 10)]),
    ],
    ids=["flattens", "a part alone", "forward by its name", "two parts", "one of two", "a mapping", "turns", "folds"],
)
def test_latency_is_of_what_the_step_computes(
    step: Callable[[Habit, Any], object],
    batch: Any,
    first: list[tuple[int, ...]],
    second: list[tuple[int, ...]],
    clock: Clock,
) -> None:
    clock.tick = 0.25
    meter, habit = CostMeter(None), Habit(step)
    metered(meter, clock, [(1.0, 0.0)], batch=batch, module=habit)
    assert len(habit.first.shapes) == 2  # a step for each batch, no more
    habit.first.shapes.clear()
    habit.second.shapes.clear()
    found = meter.cost(habit, None)
    assert list(dict.fromkeys(habit.first.shapes)) == first
    assert list(dict.fromkeys(habit.second.shapes)) == second
    assert found["cost/latency_batch_seconds"] == 0.25
    assert ("cost/latency_sample_seconds" in found) is (len(first) == 2)
    assert "forward" not in vars(habit) | vars(habit.first) | vars(habit.both)


def test_a_step_that_computes_by_no_module_has_no_latency(clock: Clock) -> None:
    meter = CostMeter(60)
    metered(meter, clock, [(1.0, 0.0)])
    assert set(meter.cost(Forwardless(), 16)) == {
        "cost/parameters",
        "cost/model_bytes",
        "cost/peak_memory_bytes",
        "cost/epoch_seconds",
        "cost/samples_per_second",
    }


def test_what_raises_in_the_measuring_is_left_blank_and_said_in_one_line(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    class Once(Habit):
        def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
            if self.first.shapes:
                raise LookupError("only once")
            return super().forward(features, mask)

    meter, module = CostMeter(60), Once(lambda habit, batch: habit.first.shapes or habit(batch[1]))
    metered(meter, clock, [(1.0, 0.0)], batch=PAIR, module=module)
    with caplog.at_level(logging.DEBUG):
        found = meter.cost(module.train(), 16)
    assert set(found) == {
        "cost/parameters",
        "cost/model_bytes",
        "cost/peak_memory_bytes",
        "cost/epoch_seconds",
        "cost/samples_per_second",
    }
    assert caplog.messages == ["cost/latency_batch_seconds is left out (LookupError: only once)"]
    assert module.training


def test_a_training_stopped_within_its_first_epoch_has_no_time_yet(clock: Clock) -> None:
    meter = CostMeter(60)
    metered(meter, clock, [])
    assert set(meter.cost(Net(), 16)) == {"cost/parameters", "cost/model_bytes", "cost/peak_memory_bytes"}


class Slow(nn.Module):
    """Takes a while that the test says for each pass."""

    def __init__(self, clock: Clock, seconds: list[float]) -> None:
        super().__init__()
        self.clock, self.seconds = clock, iter(seconds)

    def forward(self, features: Tensor) -> Tensor:
        self.clock.now += next(self.seconds)
        return features


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(1000.0, 5.5), (112.0, 5.0), (0.0, 3.0)],
    ids=["ten passes", "as many as fit", "two at least"],
)
def test_latency_is_the_median_of_some_passes_after_a_first_one(
    limit: float, expected: float, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "LATENCY_SECONDS", limit)
    passes = [5.0, 1.0, 9.0, 2.0, 8.0, 3.0, 7.0, 4.0, 6.0, 10.0]
    slow = Slow(clock, [100.0, *passes])
    assert latency(slow, lambda: slow(torch.rand(2, 1)), CPU) == expected


@pytest.mark.parametrize("resettable", [True, False])
def test_the_peak_of_memory_is_kept_after_it_is_freed(
    resettable: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if not resettable:  # as on other systems than Linux
        monkeypatch.setattr(cost, "_CLEAR_REFS", tmp_path / "nowhere" / "clear_refs")
    meter = PeakMemory(CPU)
    before = meter.peak()
    held = numpy.ones(64 * MIB, dtype=numpy.uint8)
    meter.sample()
    held = held[:0].copy()
    peak = meter.peak()
    assert len(held) == 0
    assert peak - before > 60 * MIB
    assert PeakMemory(CPU).peak() < 32 * MIB


def test_an_epoch_lasts_until_the_device_has_done_its_work(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(_: torch.device) -> None:
        clock.now += 5.0  # what was launched and not done

    monkeypatch.setattr(cost, "synchronize", wait)
    meter = CostMeter(10)
    meter.on_fit_start(Trainer(), None)  # type: ignore[arg-type]
    meter.on_train_epoch_start()
    meter.on_train_epoch_end()
    assert meter.cost(nn.Linear(2, 1), None)["cost/epoch_seconds"] == 5.0  # type: ignore[arg-type]
