from __future__ import annotations

import torch

from autotune.optim.learning_rate import LearningRate
from autotune.optim.schedules import Cosine, Exponential

from .schedules.rates import optimizer


def test_each_parameter_group_keeps_its_own_base_rate() -> None:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in (1.0, 0.1)]
    made = torch.optim.SGD(groups)
    rate = LearningRate(made, Exponential(0.5), updates_per_epoch=1, epochs=2)
    rate.before_update()
    rate.after_epoch(0.0)
    rate.before_update()
    assert [group["lr"] for group in made.param_groups] == [0.5, 0.05]


def test_the_rate_is_the_one_of_the_last_update_until_the_next() -> None:
    made = optimizer(0.8)
    rate = LearningRate(made, Exponential(0.5), updates_per_epoch=2, epochs=3)
    assert made.param_groups[0]["lr"] == 0.8
    for _ in range(2):
        rate.before_update()
    rate.after_epoch(1.0)
    assert made.param_groups[0]["lr"] == 0.8
    rate.before_update()
    assert made.param_groups[0]["lr"] == 0.4


def test_an_epoch_cut_short_counts_as_a_whole_one() -> None:
    made = optimizer()
    rate = LearningRate(made, Exponential(0.5), updates_per_epoch=4, epochs=3)
    for expected in (1.0, 0.5, 0.25):
        rate.before_update()
        assert made.param_groups[0]["lr"] == expected
        rate.after_epoch(1.0)


def test_an_epoch_that_said_no_loss_passes_all_the_same() -> None:
    made = optimizer()
    rate = LearningRate(made, Exponential(0.5), updates_per_epoch=1, epochs=3)
    seen = []
    for _ in range(3):
        rate.before_update()
        seen.append(made.param_groups[0]["lr"])
    assert seen == [1.0, 0.5, 0.25]


def test_training_past_the_planned_end_stays_at_the_end_of_the_schedule() -> None:
    made = optimizer()
    rate = LearningRate(made, Cosine(0.25), updates_per_epoch=1, epochs=2)
    for _ in range(5):
        rate.before_update()
    assert made.param_groups[0]["lr"] == 0.25
