"""What every executor does. One that is added inherits these tests and gives its fixture `executor`."""

from __future__ import annotations

import math
import traceback
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autotune.errors import UserError
from autotune.trial import Epoch, Executor, Reason

from ..fakes import FakeDesk, resolved

HERE = "tests.executors.contract"


class Raising(nn.Module):
    """A user's module whose forward pass raises."""

    def __init__(self, error: str, said: str) -> None:
        super().__init__()
        self.layer = nn.Linear(10, 1)
        kinds = {"memory": MemoryError, "runtime": RuntimeError, "key": KeyError, "device": torch.OutOfMemoryError}
        self.error = kinds[error](said)

    def forward(self, features: Tensor) -> Tensor:
        raise self.error


def raising(error: str, said: str = "") -> dict[str, Any]:
    return resolved(model={"_target_": f"{HERE}.Raising", "error": error, "said": said})


def same(one: list[Epoch], other: list[Epoch]) -> bool:
    """Whether two trials measured exactly the same, NaN included."""
    return repr([(epoch.epoch, dict(sorted(epoch.metrics.items()))) for epoch in one]) == repr(
        [(epoch.epoch, dict(sorted(epoch.metrics.items()))) for epoch in other]
    )


CONFIGS: dict[str, dict[str, Any]] = {
    "sgd": resolved(),
    "bgd": resolved(data={"batch_size": "full"}, optimizer={"lr": 0.5}),
    "adam": resolved(optimizer={"_target_": "torch.optim.Adam", "lr": 0.01}, data={"batch_size": 7}),
    "batch norm and dropout": resolved(model={"batch_norm": True, "dropout": 0.2}),
    "dynamic": resolved(schedule={"_target_": "autotune.optim.schedules.Dynamic", "decay": 4.0}),
    "multiclass": resolved(data={"_target_": "autotune.data.digits.Digits", "batch_size": 256}),
    "regression": resolved(
        data={"_target_": "autotune.data.synthetic.Synthetic", "task": "regression", "samples": 100, "batch_size": 32},
        objective={"metric": "val/rmse"},
        optimizer={"lr": 0.01},
    ),
}

every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


class ExecutorContract:
    @pytest.fixture
    def executor(self) -> Executor:
        raise NotImplementedError

    # It trains what it is handed.

    def test_it_trains_all_that_is_handed_out(self, executor: Executor) -> None:
        desk = FakeDesk([resolved(seed=seed) for seed in range(3)])
        executor.run(desk)
        assert desk.next_trial() is None
        assert sorted(end.number for end in desk.ends) == [0, 1, 2]
        assert {end.reason for end in desk.ends} == {Reason.COMPLETED}

    def test_with_nothing_to_train_it_returns(self, executor: Executor) -> None:
        desk = FakeDesk([])
        executor.run(desk)
        assert (desk.epochs, desk.ends) == ([], [])

    @every_config
    def test_each_epoch_is_told_once_and_in_order(self, executor: Executor, config: dict[str, Any]) -> None:
        desk = FakeDesk([config])
        executor.run(desk)
        assert [(epoch.number, epoch.epoch) for epoch in desk.epochs] == [(0, 0), (0, 1), (0, 2)]
        assert desk.end_of(0).reason == Reason.COMPLETED
        assert desk.end_of(0).error is None

    def test_trials_of_different_length_each_have_their_epochs(self, executor: Executor) -> None:
        lengths = [2, 4, 1]
        desk = FakeDesk([resolved(trainer={"max_epochs": epochs}) for epochs in lengths])
        executor.run(desk)
        for number, epochs in enumerate(lengths):
            assert [epoch.epoch for epoch in desk.epochs_of(number)] == list(range(epochs))

    @every_config
    def test_losses_the_task_s_metric_and_the_rate_are_measured(
        self, executor: Executor, config: dict[str, Any]
    ) -> None:
        desk = FakeDesk([config])
        executor.run(desk)
        metric = "val/rmse" if config["objective"]["metric"] == "val/rmse" else "val/accuracy"
        for epoch in desk.epochs:
            assert set(epoch.metrics) == {"train/loss", "val/loss", metric, "lr"}
            assert all(type(value) is float for value in epoch.metrics.values())

    def test_the_objective_s_metric_is_measured_too(self, executor: Executor) -> None:
        desk = FakeDesk([resolved(objective={"metric": "val/f1"})])
        executor.run(desk)
        assert set(desk.epochs[0].metrics) == {"train/loss", "val/loss", "val/accuracy", "val/f1", "lr"}

    def test_the_rate_is_that_of_the_epoch_s_last_update(self, executor: Executor) -> None:
        exponential = {"_target_": "autotune.optim.schedules.Exponential", "decay": 0.5}
        cosine = {"_target_": "autotune.optim.schedules.Cosine"}
        desk = FakeDesk([resolved(schedule=exponential), resolved(schedule=cosine)])
        executor.run(desk)
        assert [epoch.metrics["lr"] for epoch in desk.epochs_of(0)] == pytest.approx([0.1, 0.05, 0.025])
        # Three epochs of four updates: the last ones are updates 3, 7 and 11 of 12.
        expected = [0.1 * (1 + math.cos(math.pi * update / 12)) / 2 for update in (3, 7, 11)]
        assert [epoch.metrics["lr"] for epoch in desk.epochs_of(1)] == pytest.approx(expected)

    def test_training_lowers_the_loss_of_what_can_be_learnt(self, executor: Executor) -> None:
        desk = FakeDesk([CONFIGS["multiclass"]])
        executor.run(desk)
        assert all(
            later.metrics["train/loss"] < sooner.metrics["train/loss"] for sooner, later in pairwise(desk.epochs)
        )

    # A trial is a function of its config and seed.

    @every_config
    def test_the_same_config_and_seed_measure_exactly_the_same(
        self, executor: Executor, config: dict[str, Any]
    ) -> None:
        desk = FakeDesk([config, config])
        executor.run(desk)
        assert same(desk.epochs_of(0), desk.epochs_of(1))

    def test_another_seed_measures_something_else(self, executor: Executor) -> None:
        desk = FakeDesk([resolved(seed=1), resolved(seed=2)])
        executor.run(desk)
        assert not same(desk.epochs_of(0), desk.epochs_of(1))

    def test_what_is_trained_before_or_beside_a_trial_changes_nothing(self, executor: Executor) -> None:
        configs = [CONFIGS[name] for name in ("batch norm and dropout", "sgd", "adam")]
        there, back = FakeDesk(configs), FakeDesk(configs[::-1])
        executor.run(there)
        executor.run(back)
        for number in range(3):
            assert same(there.epochs_of(number), back.epochs_of(2 - number))

    # It does as the desk says.

    @pytest.mark.parametrize("reason", [Reason.PRUNED, Reason.DIVERGED, Reason.INTERRUPTED])
    def test_it_stops_right_after_the_epoch_that_was_judged(self, executor: Executor, reason: Reason) -> None:
        desk = FakeDesk([resolved(trainer={"max_epochs": 9})], judge=lambda epoch: reason if epoch.epoch == 1 else None)
        executor.run(desk)
        assert [epoch.epoch for epoch in desk.epochs] == [0, 1]
        assert desk.end_of(0).reason == reason

    def test_a_trial_judged_in_its_last_epoch_ends_as_judged(self, executor: Executor) -> None:
        desk = FakeDesk([resolved()], judge=lambda epoch: Reason.DIVERGED if epoch.epoch == 2 else None)
        executor.run(desk)
        assert len(desk.epochs) == 3
        assert desk.end_of(0).reason == Reason.DIVERGED

    def test_one_trial_that_is_stopped_does_not_stop_the_others(self, executor: Executor) -> None:
        desk = FakeDesk([resolved(), resolved(), resolved()], judge=lambda e: Reason.PRUNED if e.number == 1 else None)
        executor.run(desk)
        assert [len(desk.epochs_of(number)) for number in range(3)] == [3, 1, 3]
        assert [desk.end_of(number).reason for number in range(3)] == [
            Reason.COMPLETED,
            Reason.PRUNED,
            Reason.COMPLETED,
        ]

    def test_interrupted_within_an_epoch_it_ends_at_the_next_batch(self, executor: Executor) -> None:
        # An epoch has four batches.
        desk = FakeDesk([resolved(trainer={"max_epochs": 1000})], interrupted=lambda asked: asked >= 2)
        executor.run(desk)
        assert desk.epochs == []
        assert desk.end_of(0).reason == Reason.INTERRUPTED

    def test_interrupted_later_it_keeps_the_epochs_it_had_told(self, executor: Executor) -> None:
        desk = FakeDesk([resolved(trainer={"max_epochs": 1000})], interrupted=lambda _: len(desk.epochs) == 2)
        executor.run(desk)
        assert [epoch.epoch for epoch in desk.epochs] == [0, 1]
        assert desk.end_of(0).reason == Reason.INTERRUPTED

    @pytest.mark.parametrize(
        "error",
        [
            UserError("objective.metric", "val/f2 is not logged", "name one that is"),
            ValueError("the coordinator's own"),
            MemoryError("the coordinator's own"),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_what_the_desk_raises_passes_through(self, executor: Executor, error: Exception) -> None:
        def judge(_: Epoch) -> None:
            raise error

        desk = FakeDesk([resolved()], judge=judge)
        with pytest.raises(type(error)) as caught:
            executor.run(desk)
        assert caught.value is error
        assert desk.ends == []

    # What goes wrong in a trial is that trial's end.

    @pytest.mark.parametrize(
        ("error", "said"),
        [
            ("memory", ""),
            ("device", "CUDA out of memory. Tried to allocate 20.00 MiB"),
            ("runtime", "CUDA error: out of memory"),
            ("runtime", "[enforce fail at alloc_cpu.cpp:113] . DefaultCPUAllocator: can't allocate memory: you tried"),
        ],
        ids=["Python", "torch", "CUDA", "CPU"],
    )
    def test_out_of_memory_ends_the_trial_and_the_others_go_on(self, executor: Executor, error: str, said: str) -> None:
        desk = FakeDesk([raising(error, said), resolved()])
        executor.run(desk)
        assert desk.end_of(0).reason == Reason.OOM
        assert said in str(desk.end_of(0).error)
        assert desk.epochs_of(0) == []
        assert desk.end_of(1).reason == Reason.COMPLETED

    @pytest.mark.parametrize(
        ("error", "kind", "said"), [("key", KeyError, "pixels"), ("runtime", RuntimeError, "mat1 and mat2 differ")]
    )
    def test_what_the_user_s_code_raises_is_handed_over_with_its_traceback(
        self, executor: Executor, error: str, kind: type[Exception], said: str
    ) -> None:
        desk = FakeDesk([raising(error, said)])
        executor.run(desk)
        end = desk.end_of(0)
        assert end.reason == Reason.ERROR
        assert type(end.error) is kind
        assert said in str(end.error)
        assert "in forward" in "".join(traceback.format_exception(end.error))

    def test_a_mistake_in_a_config_passes_through(self, executor: Executor) -> None:
        with pytest.raises(UserError, match=r"^model.activation: no activation rellu; did you mean relu\?$"):
            executor.run(FakeDesk([resolved(model={"activation": "rellu"})]))

    @pytest.mark.parametrize("metric", ["val/accuracy", "val/roc_auc"])
    def test_nan_is_measured_and_does_not_crash(self, executor: Executor, metric: str) -> None:
        # A rate that is no number makes every parameter NaN in the first step; a large one does not on every processor.
        desk = FakeDesk([resolved(optimizer={"lr": math.nan}, objective={"metric": metric})])
        executor.run(desk)
        assert desk.end_of(0).reason == Reason.COMPLETED
        assert len(desk.epochs) == 3
        assert math.isnan(desk.epochs[-1].metrics["train/loss"])
        assert math.isnan(desk.epochs[-1].metrics["val/loss"])

    # What a model costs.

    @pytest.mark.parametrize("judge", [lambda _: None, lambda _: Reason.PRUNED], ids=["completed", "pruned"])
    def test_a_trial_that_ends_in_order_is_costed(self, executor: Executor, judge: Any) -> None:
        desk = FakeDesk([resolved()], judge=judge)
        executor.run(desk)
        cost = desk.end_of(0).cost
        assert set(cost) == {
            "cost/parameters",
            "cost/model_bytes",
            "cost/peak_memory_bytes",
            "cost/epoch_seconds",
            "cost/samples_per_second",
            "cost/latency_batch_seconds",
            "cost/latency_sample_seconds",
        }
        # 10-8-4-1: 10*8 + 8, 8*4 + 4, 4 + 1, each of 4 bytes
        assert cost["cost/parameters"] == 129
        assert cost["cost/model_bytes"] == 4 * 129
        assert cost["cost/samples_per_second"] * cost["cost/epoch_seconds"] == pytest.approx(60)
        assert all(value >= 0 for value in cost.values())

    # Before training.

    def test_it_refuses_what_cannot_work_and_nothing_else(self, executor: Executor) -> None:
        normalised = {"batch_norm": True}
        assert executor.refuses(resolved(model=normalised)) is None
        assert executor.refuses(resolved(model=normalised, data={"batch_size": 59})) == (
            "BatchNorm cannot normalise a batch of one, and 60 samples in batches of 59 end with one"
        )

    @pytest.mark.parametrize(
        ("config", "message"),
        [
            (resolved(model={"activation": "rellu"}), r"^model.activation: no activation rellu; did you mean relu\?$"),
            (resolved(optimizer={"lrr": 1}), "^optimizer.lrr: torch.optim.SGD takes no argument lrr; did you mean lr"),
            (resolved(schedule={"decay": 1}), "^schedule.decay: .*Constant takes no argument decay"),
        ],
        ids=["model", "optimizer", "schedule"],
    )
    def test_a_rehearsal_finds_what_cannot_be_built(
        self, executor: Executor, config: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(UserError, match=message):
            executor.rehearse(config)

    def test_a_rehearsal_of_what_can_be_built_is_silent(self, executor: Executor) -> None:
        for config in CONFIGS.values():
            executor.rehearse(config)

    def test_it_knows_what_guessing_reaches(self, executor: Executor) -> None:
        # Digits has 10 classes of about equal size, and a guess always says the same one.
        found = executor.chance(resolved(data={"_target_": "autotune.data.digits.Digits"}))
        assert found is not None
        assert found.metric == "val/accuracy"
        assert found.level == pytest.approx(0.1, abs=0.02)
        regression = resolved(data={"_target_": "autotune.data.synthetic.Synthetic", "task": "regression"})
        guess = executor.chance(regression)
        assert guess is not None
        assert guess.metric == "val/rmse"
        assert guess.level > guess.error > 0
