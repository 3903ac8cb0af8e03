from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, LinearLR, LRScheduler, SequentialLR

from autotune.assembly import build_schedule
from autotune.errors import UserError
from autotune.optim.schedules import Constant, Cosine, Dynamic, Exponential, OneCycle, Progress, Schedule, Step, Warmup

from .rates import factors, rates, torchs


def test_the_rate_grows_by_the_same_amount_at_each_update_up_to_the_base_rate() -> None:
    assert rates(Warmup(Constant(), 0.4), [1.0] * 5, updates_per_epoch=2) == [0.2, 0.4, 0.6, 0.8] + [1.0] * 6


def test_the_schedule_has_the_rest_as_if_it_were_all() -> None:
    behind = factors(Warmup(Cosine(), 0.25), [1.0] * 4, updates_per_epoch=3)[3:]
    assert behind == factors(Cosine(), [1.0] * 3, updates_per_epoch=3)


def test_a_schedule_of_epochs_counts_them_from_the_end_of_the_warm_up() -> None:
    # The warm-up takes 2 updates of 8; an epoch has 4.
    assert rates(Warmup(Step(0.5, 1), 0.25), [1.0] * 2, 4) == pytest.approx([1 / 3, 2 / 3, 1, 1, 1, 1, 0.5, 0.5])


@given(ramp=st.integers(1, 6), rest=st.integers(2, 10))
def test_it_is_torchs_linear_lr_followed_by_the_schedule(ramp: int, rest: int) -> None:
    def make(peer: torch.optim.Optimizer) -> LRScheduler:
        warmup = LinearLR(peer, start_factor=1 / (ramp + 1), total_iters=ramp)
        return SequentialLR(peer, [warmup, CosineAnnealingLR(peer, T_max=rest)], milestones=[ramp])

    total = ramp + rest
    expected = torchs(make, total, base=0.1)
    assert rates(Warmup(Cosine(), ramp / total), [1.0] * total, base=0.1) == pytest.approx(expected, abs=1e-12)


@given(ramp=st.integers(1, 6), rest=st.integers(2, 10), decay=st.floats(0.1, 1.0))
def test_it_is_torchs_also_where_the_schedule_is_exponential(ramp: int, rest: int, decay: float) -> None:
    def make(peer: torch.optim.Optimizer) -> LRScheduler:
        warmup = LinearLR(peer, start_factor=1 / (ramp + 1), total_iters=ramp)
        return SequentialLR(peer, [warmup, ExponentialLR(peer, gamma=decay)], milestones=[ramp])

    total = ramp + rest
    expected = torchs(make, total, base=0.1)
    assert rates(Warmup(Exponential(decay), ramp / total), [1.0] * total, base=0.1) == pytest.approx(expected)


def test_it_rises_to_where_the_schedule_begins() -> None:
    # 8 updates: 4 of warm-up, then a rise from 1/2 to 1 within 0.5 * 4 - 1 = 1 update.
    cycle = rates(Warmup(OneCycle(rise=0.5, start=0.5), 0.5), [1.0] * 8)
    assert cycle[:6] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 1.0])


def test_a_schedule_that_hears_the_loss_hears_that_of_the_warm_up() -> None:
    losses = [1.0, 1.0, 1.0, 1.0]  # flat, so that 1 + beta divides the rate from the third epoch on
    assert rates(Warmup(Dynamic(1.0), 0.25), losses) == pytest.approx([0.5, 1.0, 0.5, 0.5])


def test_one_update_is_left_for_the_schedule() -> None:
    assert rates(Warmup(Constant(), 0.99), [1.0] * 2, updates_per_epoch=2) == [0.25, 0.5, 0.75, 1.0]
    assert rates(Warmup(Constant(), 0.99), [1.0]) == [1.0]


def test_a_warm_up_may_follow_a_warm_up() -> None:
    assert rates(Warmup(Warmup(Constant(), 0.5), 0.5), [1.0] * 8)[3:] == pytest.approx([4 / 15, 1 / 3, 2 / 3, 1, 1])


@pytest.mark.parametrize("warmup", [-0.1, 1.0, float("nan"), None, "0.1"])
def test_a_warm_up_that_is_no_part_is_refused(warmup: float) -> None:
    message = f"schedule.warmup: {warmup} is no part of the training; give a number from 0 to below 1"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        Warmup(Constant(), warmup)


class Mine(Schedule):
    """A user's schedule, with a warm-up of its own."""

    def __init__(self, warmup: int) -> None:
        self.warmup = warmup

    def factor(self, progress: Progress, memory: Any) -> float:
        return 1.0


COSINE = {"name": "cosine", "_target_": "autotune.optim.schedules.Cosine", "floor": 0.1}


def test_any_schedule_of_a_config_can_have_one() -> None:
    assert build_schedule({**COSINE, "warmup": 0.1}) == Warmup(Cosine(0.1), 0.1)
    assert build_schedule({**COSINE, "warmup": 0.0}) == Cosine(0.1)
    assert build_schedule(COSINE) == Cosine(0.1)


def test_a_schedule_with_a_warm_up_of_its_own_keeps_it() -> None:
    made = build_schedule({"_target_": f"{__name__}.Mine", "warmup": 5})
    assert isinstance(made, Mine)
    assert made.warmup == 5


def test_a_warm_up_in_a_config_that_is_no_part_is_refused() -> None:
    with pytest.raises(UserError, match=r"^schedule.warmup: 1.5 is no part of the training; "):
        build_schedule({**COSINE, "warmup": 1.5})
