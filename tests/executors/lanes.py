"""The same trainings alone, by Lightning, and together, in lanes; data and networks small enough for many."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
import yaml
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor, nn

from autotune.assembly import assemble
from autotune.data.preprocess import Standardize
from autotune.data.source import Arrays, Source
from autotune.executors.lane import Lane
from autotune.executors.lightning import make_trainer, measured
from autotune.executors.population import PopulationExecutor
from autotune.learner import Learner
from autotune.trial import Epoch, Reason

from ..fakes import FakeDesk, resolved

HERE = "tests.executors.lanes"
CONF = Path(__file__).parents[2] / "conf"

# Trainings in float64 are some dozens of updates at most, in which rounding errors of 1e-16 stay far below this.
IN_FLOAT64 = 1e-10
# Metrics other than losses are computed in float32, whatever the precision of the training; they are not trained on.
SUMMED_IN_FLOAT32 = 1e-5


# Configs.


def section(group: str, name: str, **changes: Any) -> dict[str, Any]:
    """An option of conf/, its own defaults changed by what is given."""
    found = yaml.safe_load((CONF / group / f"{name}.yaml").read_text(encoding="utf-8"))
    return {key: value for key, value in {**found, **changes}.items() if key != "_fix_"}


def only(group: str) -> list[str]:
    """The options that a search over all of a group chooses among."""
    names: list[str] = yaml.safe_load((CONF / group / "sweep_all.yaml").read_text(encoding="utf-8"))["only"]
    return names


def double(**changes: Any) -> dict[str, Any]:
    """20 updates in float64: 5 epochs of 16, 16, 16 and 12 samples."""
    trainer = {"max_epochs": 5, "precision": "64-true", **changes.pop("trainer", {})}
    return {"task": changes.pop("task", {}), **resolved(**changes, trainer=trainer)}


def optimizer(name: str, **changes: Any) -> dict[str, Any]:
    return section("optimizer", name, **changes)


def schedule(name: str, **changes: Any) -> dict[str, Any]:
    return section("schedule", name, **changes)


# Data.


@dataclass(frozen=True, kw_only=True)
class Made(Source):
    """Drawn at random: 36 samples to train on, 12 to judge by.

    Args:
        shape: Of a sample.
        classes: Of a multiclass task.
    """

    task: str = "multiclass"
    shape: tuple[int, ...] = (1, 8, 8)
    classes: int = 3

    def load(self) -> Arrays:
        random = numpy.random.default_rng(self.seed)
        features = random.normal(size=(60, *self.shape))
        if self.task == "multilabel":
            return Arrays(features, random.integers(0, 2, (60, 3)))
        return Arrays(features, numpy.arange(60) % self.classes)

    def fit(self, features: numpy.ndarray) -> Standardize:
        return Standardize.fixed(0.0, 1.0)


def made(task: str = "multiclass", shape: Sequence[int] = (1, 8, 8), batch_size: int = 10) -> dict[str, Any]:
    return {"_target_": f"{HERE}.Made", "task": task, "shape": tuple(shape), "batch_size": batch_size}


# Alone.


@dataclass(frozen=True)
class Trained:
    """What came of a training.

    Attributes:
        curve: What each epoch measured.
        parameters: In the end, flattened.
        average: Their running average; None where none is kept.
        buffers: By name.
    """

    curve: list[dict[str, float]]
    parameters: Tensor
    average: Tensor | None
    buffers: dict[str, Tensor]


class Told(Checkpoint):
    """Writes down what each epoch measured."""

    def __init__(self) -> None:
        self.curve: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: Trainer, _: LightningModule) -> None:
        self.curve.append(measured(trainer))


def flat(network: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


KNOWN: dict[str, Trained] = {}


def alone(config: Mapping[str, Any]) -> Trained:
    """A training by a Trainer of its own; of the same config once."""
    key = repr(config)
    if key not in KNOWN:
        KNOWN[key] = _trained_alone(config)
    return KNOWN[key]


def _trained_alone(config: Mapping[str, Any]) -> Trained:
    assembly, told = assemble(config), Told()
    learner = assembly.module
    assert isinstance(learner, Learner)
    make_trainer(assembly, [told]).fit(learner, datamodule=assembly.data)
    average = None if learner.update.average is None else flat(learner.judged_network)
    return Trained(told.curve, flat(learner.network), average, dict(learner.network.named_buffers()))


# Together.


@dataclass
class Population:
    """What came of several trainings.

    Attributes:
        trained: By the trials' numbers.
        lanes: The trials of each epoch of a lane.
        desk: What was heard of them.
    """

    trained: dict[int, Trained] = field(default_factory=dict)
    lanes: list[list[int]] = field(default_factory=list)
    desk: FakeDesk = field(default_factory=lambda: FakeDesk([]))


@contextmanager
def watched(seen: Population) -> Iterator[None]:
    """Within it each epoch of a lane is written down."""
    original = Lane.train_epoch

    def train_epoch(lane: Lane, stop: Callable[[], bool]) -> list[dict[str, float]]:
        found = original(lane, stop)
        seen.lanes.append([member.trial.number for member in lane.members])
        for number, (member, metrics) in enumerate(zip(lane.members, found, strict=True)):
            row = lane._stack.row(number)
            before = seen.trained.get(member.trial.number)
            seen.trained[member.trial.number] = Trained(
                [*([] if before is None else before.curve), metrics],
                row.parameters.clone(),
                None if row.average is None else row.average.clone(),
                {name: buffer.clone() for name, buffer in row.buffers.items()},
            )
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lane, "train_epoch", train_epoch)
        yield


def together(
    configs: Sequence[Mapping[str, Any]],
    slots: int = 64,
    judge: Callable[[Epoch], Reason | None] = lambda _: None,
    executor: PopulationExecutor | None = None,
) -> Population:
    """The trainings of a population."""
    seen = Population(desk=FakeDesk(configs, judge))
    with watched(seen):
        (executor or PopulationExecutor(slots)).run(seen.desk)
    return seen


# Comparing them.


def same_curve(found: Sequence[Mapping[str, float]], expected: Sequence[Mapping[str, float]], within: float) -> None:
    """Losses and rates within a tolerance, metrics within what float32 allows."""
    assert len(found) == len(expected)
    for epoch, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert one.keys() == other.keys()
        for name, value in other.items():
            tolerance = within if name in ("train/loss", "val/loss", "lr") else max(within, SUMMED_IN_FLOAT32)
            assert one[name] == pytest.approx(value, rel=tolerance, abs=tolerance, nan_ok=True), (epoch, name)


def same(found: Trained, expected: Trained, within: float = IN_FLOAT64) -> None:
    """Numbers, averages, buffers and curves."""
    close = {"rtol": within, "atol": within, "equal_nan": True}
    torch.testing.assert_close(found.parameters, expected.parameters, **close)
    assert (found.average is None) == (expected.average is None)
    if found.average is not None:
        torch.testing.assert_close(found.average, expected.average, **close)
    assert found.buffers.keys() == expected.buffers.keys()
    for name, buffer in expected.buffers.items():
        torch.testing.assert_close(found.buffers[name], buffer, **close)
    same_curve(found.curve, expected.curve, within)


def compare(configs: Sequence[Mapping[str, Any]], within: float = IN_FLOAT64) -> None:
    """All of them share one lane, and each goes as it goes alone."""
    population = together(configs)
    assert sorted(population.lanes[0]) == list(range(len(configs)))
    assert {end.reason for end in population.desk.ends} == {Reason.COMPLETED}
    for number, config in enumerate(configs):
        found = population.trained[number]
        assert [epoch.metrics for epoch in population.desk.epochs_of(number)] == found.curve
        same(found, alone(config), within)
