from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from autotune.errors import UserError
from autotune.executors.lightning import LightningExecutor
from autotune.executors.population import PopulationExecutor
from autotune.trial import End, Epoch, Executor, Reason, Trial

from ..data.tables import rows, written
from ..fakes import FakeDesk, resolved
from ..test_assembly import OWN_DATA, OWN_MODULE
from .contract import ExecutorContract, raising, same
from .lanes import alone, double, optimizer, same_curve, schedule, together
from .lanes import same as same_training

HERE = "tests.executors.test_population"


class TestPopulationExecutor(ExecutorContract):
    @pytest.fixture
    def executor(self) -> Executor:
        return PopulationExecutor(slots=8)


# A trial's result does not depend on who shares its lane, when it joined or who left.

POOL: list[dict[str, Any]] = [
    double(trainer={"max_epochs": 4}, optimizer=optimizer("sgd"), schedule=schedule("cosine")),
    double(trainer={"max_epochs": 3}, optimizer=optimizer("adam", lr=0.02, weight_decay=0.01), seed=1),
    double(trainer={"max_epochs": 2}, optimizer=optimizer("rmsprop"), seed=2),
    double(trainer={"max_epochs": 5}, optimizer=optimizer("sgd", momentum=0.0, lr=0.5), schedule=schedule("dynamic")),
    double(trainer={"max_epochs": 3}, optimizer=optimizer("muon"), schedule=schedule("wsd"), seed=3),
    double(trainer={"max_epochs": 1}, optimizer=optimizer("adafactor"), seed=3),
    double(trainer={"max_epochs": 3}, model={"dropout": 0.3}, optimizer=optimizer("nadam")),
    double(trainer={"max_epochs": 4}, model={"dropout": 0.6}, optimizer=optimizer("radam"), seed=4),
    double(trainer={"max_epochs": 2, "ema": 0.9}, model={"batch_norm": True}, optimizer=optimizer("adamw")),
    double(trainer={"max_epochs": 3, "ema": 0.5}, model={"batch_norm": True}, optimizer=optimizer("adagrad"), seed=5),
    double(trainer={"max_epochs": 3}, data={"batch_size": "full"}, optimizer=optimizer("bgd")),
]


@settings(max_examples=12)
@given(
    order=st.permutations(range(len(POOL))).map(lambda order: order[:7]),
    slots=st.integers(1, 6),
    pruned=st.dictionaries(st.integers(0, 6), st.integers(0, 3), max_size=4),
)
def test_whoever_joins_and_leaves_a_trial_goes_as_it_goes_alone(
    order: Sequence[int], slots: int, pruned: dict[int, int]
) -> None:
    configs = [POOL[number] for number in order]
    population = together(configs, slots, judge=lambda e: Reason.PRUNED if pruned.get(e.number) == e.epoch else None)
    for number, config in enumerate(configs):
        expected = alone(config)
        last = min(len(expected.curve), pruned.get(number, len(expected.curve)) + 1)
        is_pruned = number in pruned and pruned[number] < len(expected.curve)
        found = [epoch.metrics for epoch in population.desk.epochs_of(number)]
        same_curve(found, expected.curve[:last], 1e-10)
        assert population.desk.end_of(number).reason == (Reason.PRUNED if is_pruned else Reason.COMPLETED)
        if last == len(expected.curve):
            same_training(population.trained[number], expected)


# What goes wrong in a trial is that trial's alone.

NAMES = ("sgd", "adam", "rmsprop", "adagrad", "nadam", "radam", "adafactor", "muon")
SANE = [optimizer(name) for name in NAMES]
EXPLODING = [
    *(optimizer(name, lr=1e200) for name in NAMES),
    optimizer("sgd", lr=1e4, momentum=0.99),
    optimizer("sgd", lr=1e30, weight_decay=1e30),
    *(optimizer("sgd", lr=math.nan, momentum=momentum) for momentum in (0.0, 0.9)),  # certain to, on every processor
]


KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "BatchNorm and dropout": {"model": {"batch_norm": True, "dropout": 0.2}},
    "clipped by norm and averaged": {"trainer": {"gradient_clip_val": 1e20, "ema": 0.5}},
    "clipped by value": {"trainer": {"gradient_clip_val": 1e20, "gradient_clip_algorithm": "value"}},
    "accumulated and weighted": {
        "trainer": {"accumulate_grad_batches": 2},
        "task": {"class_weights": [0.25, 2.0], "metrics": ["f1", "roc_auc"]},
    },
}


@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)
def test_a_trial_that_explodes_leaves_the_others_of_its_lane_as_they_are(changes: dict[str, Any]) -> None:
    changes = {**changes, "trainer": {"max_epochs": 3, **changes.get("trainer", {})}}
    sane = [double(**changes, optimizer=each, seed=seed) for seed, each in enumerate(SANE)]
    exploding = [double(**changes, optimizer=each, seed=seed) for seed, each in enumerate(EXPLODING)]
    population = together([*exploding[:5], *sane, *exploding[5:]])
    assert len(population.lanes[0]) == len(sane) + len(exploding)
    assert {end.reason for end in population.desk.ends} == {Reason.COMPLETED}
    exploded = [each for number, each in population.trained.items() if not 5 <= number < 5 + len(sane)]
    assert sum(not each.parameters.isfinite().all() for each in exploded) > 1
    for number, config in enumerate(sane, start=5):
        same_training(population.trained[number], alone(config))


def together_now(features: Tensor) -> int:
    """How many members a forward pass is computed for at once; 0 where it is one's own."""
    if not torch._C._functorch.is_batchedtensor(features):
        return 0
    return len(torch._C._functorch.get_unwrapped(features))


class Fragile(nn.Module):
    """At an epoch's last batch it cannot be computed for several at once, and raises by itself where it is told to."""

    errors: ClassVar = {0.25: KeyError, 0.75: MemoryError}

    def __init__(self, input_shape: Sequence[int], outputs: int, told: float = 0.1) -> None:
        super().__init__()
        self.layer = nn.Linear(input_shape[0], outputs)
        self.told = nn.Dropout(told)  # a rate, which members of a lane may differ in

    def forward(self, features: Tensor) -> Tensor:
        answer: Tensor = self.layer(features)
        if self.training and len(features) == 12:
            if together_now(features):
                raise RuntimeError("not for several at once")
            if self.told.p in self.errors:
                raise self.errors[self.told.p]("pixels")
        return answer


@pytest.mark.parametrize(("told", "reason"), [(0.25, Reason.ERROR), (0.75, Reason.OOM)])
def test_a_member_whose_code_raises_ends_and_the_others_of_its_lane_go_on(told: float, reason: Reason) -> None:
    model = {"_target_": f"{HERE}.Fragile"}
    configs = [double(model=model), double(model={**model, "told": told}), double(model=model, seed=1)]
    population = together(configs, slots=3)
    assert sorted(population.lanes[0]) == [0, 1, 2]
    assert sorted(population.lanes[-1]) == [0, 2]
    desk = population.desk
    assert [desk.end_of(number).reason for number in range(3)] == [Reason.COMPLETED, reason, Reason.COMPLETED]
    assert desk.epochs_of(1) == []
    assert type(desk.end_of(1).error) is Fragile.errors[told]
    for number in (0, 2):
        same_training(population.trained[number], alone(configs[number]))


class Greedy(nn.Module):
    """At an epoch's last batch memory holds no more than two at once."""

    def __init__(self, input_shape: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(input_shape[0], outputs)

    def forward(self, features: Tensor) -> Tensor:
        answer: Tensor = self.layer(features)
        if len(features) == 12 and together_now(features) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return answer


def test_where_memory_holds_fewer_at_once_all_go_as_each_goes_alone() -> None:
    configs = [double(model={"_target_": f"{HERE}.Greedy"}, seed=seed) for seed in range(7)]
    population = together(configs)
    assert {end.reason for end in population.desk.ends} == {Reason.COMPLETED}
    for number, config in enumerate(configs):
        same_training(population.trained[number], alone(config))


def test_what_raises_among_others_ends_alone() -> None:
    desk = FakeDesk([resolved(), raising("memory"), resolved(seed=1), raising("device", "CUDA out of memory")])
    PopulationExecutor(slots=4).run(desk)
    reasons = [desk.end_of(number).reason for number in range(4)]
    assert reasons == [Reason.COMPLETED, Reason.OOM, Reason.COMPLETED, Reason.OOM]


# Who shares a lane.


def test_members_of_a_lane_may_differ_in_all_that_is_no_shape() -> None:
    population = together(
        [
            double(model={"dropout": 0.1}),
            double(model={"dropout": 0.6}, seed=3, optimizer=optimizer("adam")),
            double(model={"dropout": 0.2}, optimizer=optimizer("adamw", weight_decay=0.3)),
            double(model={"dropout": 0.2}, optimizer=optimizer("sgd", momentum=0.3), schedule=schedule("step")),
            double(model={"dropout": 0.2}, trainer={"max_epochs": 2}),
        ]
    )
    assert sorted(population.lanes[0]) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "changes",
    [
        {"data": {"batch_size": 17}},
        {"model": {"hidden": [8, 5]}},
        {"model": {"batch_norm": True}},
        {"model": {"activation": "tanh"}},
        {"optimizer": {"micro_batch": 5}},
        {"trainer": {"gradient_clip_val": 1.0}},
        {"trainer": {"ema": 0.9}},
        {"trainer": {"accumulate_grad_batches": 2}},
        {"trainer": {"precision": "32-true", "max_epochs": 1}},  # four updates, in which rounding errors do not grow
        {"task": {"label_smoothing": 0.1}},
        {"data": {"_target_": "autotune.data.seed_mlp.SeedMLP", "task": "binary", "batch_size": 16, "seed": 5}},
    ],
    ids=str,
)
def test_what_is_computed_otherwise_makes_another_lane(changes: dict[str, Any]) -> None:
    population = together([double(), double(**changes)])
    assert [0, 1] not in [sorted(lane) for lane in population.lanes]
    for number, config in enumerate([double(), double(**changes)]):
        same_curve(
            [epoch.metrics for epoch in population.desk.epochs_of(number)],
            alone(config).curve,
            1e-5 if "32-true" in str(changes) else 1e-10,
        )


def test_trainings_of_different_precision_follow_one_another() -> None:
    configs = [resolved(seed=seed, trainer={"precision": p}) for seed, p in enumerate(["32-true", "64-true"] * 3)]
    population = together(configs, slots=4)
    assert {end.reason for end in population.desk.ends} == {Reason.COMPLETED}
    for number in range(6):
        assert population.trained[number].parameters.dtype == (torch.float64 if number % 2 else torch.float32)


# Slots.


class CountingDesk(FakeDesk):
    """Counts the trials that are begun and not ended."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.begun: set[int] = set()
        self.most = 0

    def next_trial(self) -> Trial | None:
        trial = super().next_trial()
        if trial is not None:
            self.begun.add(trial.number)
            self.most = max(self.most, len(self.begun))
        return trial

    def ended(self, end: End) -> None:
        self.begun.remove(end.number)
        super().ended(end)


def own_module(**changes: Any) -> dict[str, Any]:
    return resolved(model=OWN_MODULE, data=OWN_DATA, objective={"metric": "val_loss"}, **changes)


@pytest.mark.parametrize("slots", [1, 2, 5])
def test_no_more_trials_are_begun_than_there_are_slots(slots: int) -> None:
    configs = [
        *(resolved(seed=seed, trainer={"max_epochs": 1 + seed % 3}) for seed in range(7)),
        own_module(),
        *(resolved(data={"batch_size": 7}, seed=seed) for seed in range(3)),
        raising("key"),
    ]
    desk = CountingDesk(configs, judge=lambda epoch: Reason.PRUNED if epoch.number % 4 == 3 else None)
    PopulationExecutor(slots=slots).run(desk)
    assert desk.most == slots
    assert desk.begun == set()
    assert len(desk.ends) == len(configs)


def test_slots_are_filled_as_soon_as_a_trial_ends() -> None:
    population = together([double(trainer={"max_epochs": epochs}) for epochs in (1, 3, 1, 1)], slots=2)
    assert [sorted(lane) for lane in population.lanes] == [[0, 1], [1, 2], [1, 3]]


@pytest.mark.parametrize(("members", "first"), [(3, "full"), (7, "full"), (9, "small")])
def test_lanes_of_many_batches_an_epoch_wait_until_they_are_fuller(members: int, first: str) -> None:
    small = [double(data={"batch_size": 4}, trainer={"max_epochs": 2}, seed=seed) for seed in range(members)]
    full = [double(data={"batch_size": "full"}, trainer={"max_epochs": 2}, seed=seed) for seed in range(2)]
    lanes = [sorted(lane) for lane in together([*small, *full], slots=members + 2).lanes]
    turns = {"small": [list(range(members))] * 2, "full": [[members, members + 1]] * 2}
    assert lanes == turns[first] + turns["small" if first == "full" else "full"]


@pytest.mark.parametrize("slots", [0, -1, 1.5, True, "many", None])
def test_what_is_no_number_of_slots_is_refused(slots: Any) -> None:
    with pytest.raises(UserError) as caught:
        PopulationExecutor(slots=slots)
    assert str(caught.value) == (
        f"executor.slots: {slots} is no number of slots; give a whole number from 1 on, or auto"
    )


def test_automatic_slots_train_all() -> None:
    desk = CountingDesk([resolved(seed=seed) for seed in range(12)])
    PopulationExecutor().run(desk)
    assert len(desk.ends) == 12


# What is not stacked is trained alone.


def lazy(folder: Path) -> dict[str, Any]:
    path = written(folder, rows())
    data = {"_target_": "autotune.data.csv.Csv", "path": str(path), "target": "price", "in_memory_limit": 0}
    return resolved(data={**data, "batch_size": 16}, objective={"metric": "val/rmse"}, optimizer={"lr": 0.01})


def test_what_cannot_be_stacked_is_trained_alone_while_others_are_stacked(tmp_path: Path) -> None:
    configs = [resolved(), own_module(), resolved(seed=1), lazy(tmp_path), resolved(seed=2)]
    population = together(configs, slots=5)
    assert {end.reason for end in population.desk.ends} == {Reason.COMPLETED}
    assert {number for lane in population.lanes for number in lane} == {0, 2, 4}
    there = FakeDesk(configs)
    LightningExecutor().run(there)
    for number in (1, 3):
        assert same(population.desk.epochs_of(number), there.epochs_of(number))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, 3, batch_first=True)
        self.output = nn.Linear(3, 1)

    def forward(self, features: Tensor) -> Tensor:
        states, _ = self.lstm(features.unsqueeze(2))
        answer: Tensor = self.output(states[:, -1])
        return answer


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(10, 1)

    def forward(self, features: Tensor) -> Tensor:
        answer: Tensor = self.layer(features)
        return answer if features.sum() > 0 else -answer


def unstackable(folder: Path) -> dict[str, tuple[dict[str, Any], str]]:
    """Configs, and what is said of them."""
    return {
        "recurrent": (resolved(model={"_target_": f"{HERE}.Recurrent"}), ""),
        "branching": (resolved(model={"_target_": f"{HERE}.Branching"}), "data-dependent"),
        "own module": (own_module(), "OwnModule is a LightningModule with a training_step of its own"),
        "lazy": (lazy(folder), "the data is larger than data.in_memory_limit and read batch by batch"),
        "callbacks": (
            resolved(trainer={"callbacks": [{"_target_": "tests.test_assembly.Said", "word": "hello"}]}),
            "trainer.callbacks is for one training alone",
        ),
        "precision": (
            resolved(trainer={"precision": "bf16-true"}),
            "trainer.precision=bf16-true scales or rounds one training's numbers",
        ),
        "no end": (resolved(trainer={"max_epochs": -1}), "trainer.max_epochs=-1 has no end"),
    }


@pytest.mark.parametrize("name", ["recurrent", "branching", "own module", "lazy", "callbacks", "precision", "no end"])
def test_what_cannot_be_stacked_is_found_out_before_the_first_trial(name: str, tmp_path: Path) -> None:
    config, why = unstackable(tmp_path)[name]
    with pytest.raises(UserError) as caught:
        PopulationExecutor().rehearse(config)
    said = str(caught.value)
    assert said.startswith("executor: population cannot train this: ")
    assert why in said
    assert said.endswith("; give executor=lightning, or executor=auto, which takes what holds")


def test_a_network_of_two_groups_of_alike_parameters_is_trained_all_the_same() -> None:
    given = {"_target_": f"{HERE}.halves", "lr": 0.1}
    desk = FakeDesk([double(optimizer=given), double()])
    PopulationExecutor(slots=2).run(desk)
    assert {end.reason for end in desk.ends} == {Reason.COMPLETED}
    same_curve([epoch.metrics for epoch in desk.epochs_of(0)], alone(double(optimizer=given)).curve, 1e-10)


def halves(params: Any, lr: float) -> torch.optim.Optimizer:
    """Layers by turns at two rates, so that parameters of one shape are in both."""
    given = list(params)
    return torch.optim.SGD([{"params": given[::3], "lr": 2 * lr}, {"params": given[1::3]}, {"params": given[2::3]}], lr)


# Interrupted.


@pytest.mark.parametrize("after", [0, 1, 5, 20])
def test_interrupted_all_that_are_begun_end_so_once(after: int, tmp_path: Path) -> None:
    configs = [
        *(resolved(seed=seed, trainer={"max_epochs": 50}) for seed in range(3)),
        own_module(trainer={"max_epochs": 2}),
        resolved(data={"batch_size": 7}, trainer={"max_epochs": 50}),
        resolved(trainer={"max_epochs": 50, "precision": "64-true"}),
        lazy(tmp_path),
        *(resolved(seed=seed) for seed in range(3)),
    ]
    desk = CountingDesk(configs, interrupted=lambda asked: asked >= after)
    PopulationExecutor(slots=6).run(desk)
    assert desk.begun == set()
    numbers = [end.number for end in desk.ends]
    assert len(numbers) == len(set(numbers))
    ended = {end.number: end.reason for end in desk.ends}
    assert {ended[number] for number in range(6) if number != 3} == {Reason.INTERRUPTED}
    assert set(ended.values()) <= {Reason.INTERRUPTED, Reason.COMPLETED}


def test_interrupted_what_had_ended_has_ended() -> None:
    desk = FakeDesk(
        [resolved(trainer={"max_epochs": epochs}) for epochs in (1, 100, 100)],
        interrupted=lambda _: len(desk.epochs) >= 6,
    )
    PopulationExecutor(slots=2).run(desk)
    assert [desk.end_of(number).reason for number in range(3)] == [
        Reason.COMPLETED,
        Reason.INTERRUPTED,
        Reason.INTERRUPTED,
    ]


def test_the_learning_rate_and_the_epochs_told_are_the_trial_s_own() -> None:
    heard: list[Epoch] = []
    desk = FakeDesk(
        [resolved(optimizer={"lr": lr}, trainer={"max_epochs": 2}) for lr in (0.1, 0.2, 0.3)], judge=heard.append
    )
    PopulationExecutor(slots=2).run(desk)
    assert [(e.number, e.epoch) for e in sorted(heard, key=lambda e: (e.number, e.epoch))] == [
        (number, epoch) for number in range(3) for epoch in range(2)
    ]
    assert all(epoch.metrics["lr"] == pytest.approx(0.1 * (epoch.number + 1)) for epoch in heard)
