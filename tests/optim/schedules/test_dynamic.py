from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.errors import UserError
from autotune.optim.schedules import Dynamic

from .rates import factors, rates, remembered

LOSSES = st.lists(st.floats(0, 1e3), min_size=1, max_size=15)
MEMORIES = st.floats(0.0, 0.99)


def test_the_rate_is_the_base_rate_over_1_plus_beta_smooth() -> None:
    # By hand, memory = 1/2:  losses    1     1/2   1/4   1/4   1/4   1        0
    #                         averages  1     3/4   1/2   3/8   5/16  21/32    21/64
    #                         falls           1/4   1/4   1/8   1/16  0        21/64
    #                         smooth    0     0     0     1/2   3/4   1        1 (it never shrinks)
    #                         1/(1+4 s) 1     1     1     1/3   1/4   1/5      1/5
    # Each is the rate of the epoch after.
    losses = [1.0, 0.5, 0.25, 0.25, 0.25, 1.0, 0.0, 0.0]
    a = 0.3
    expected = [a, a, a, a, a / 3, a / 4, a / 5, a / 5]
    assert rates(Dynamic(decay=4.0, memory=0.5), losses, base=a) == pytest.approx(expected, rel=1e-12)


def test_smooth_is_as_computed_by_hand() -> None:
    smooth = [memory.smooth for memory in remembered(Dynamic(4.0, 0.5), [1.0, 0.5, 0.25, 0.25, 0.25, 1.0, 0.0])]
    assert smooth == [0.0, 0.0, 0.0, 0.0, 0.5, 0.75, 1.0, 1.0]


def test_the_rate_changes_between_epochs_only() -> None:
    assert rates(Dynamic(1.0, 0.0), [1.0, 1.0, 1.0], updates_per_epoch=2) == [1.0, 1.0, 1.0, 1.0, 0.5, 0.5]


def test_a_loss_that_falls_as_fast_as_ever_keeps_the_rate() -> None:
    assert rates(Dynamic(50.0, 0.0), [8.0, 6.0, 4.0, 2.0, 0.0]) == [1.0] * 5


@pytest.mark.parametrize("losses", [[0.7] * 4, [0.5, 0.6, 0.7, 0.8]], ids=["flat", "rising"])
def test_a_loss_that_never_fell_is_smooth_at_once(losses: list[float]) -> None:
    assert rates(Dynamic(3.0), losses) == [1.0, 1.0, 0.25, 0.25]


@given(losses=st.lists(st.floats(), min_size=1, max_size=15), beta=st.floats(0, 1e3), memory=MEMORIES)
def test_the_rate_never_rises_whatever_the_losses(losses: list[float], beta: float, memory: float) -> None:
    falling = factors(Dynamic(beta, memory), losses)
    assert all(later <= sooner for sooner, later in pairwise(falling))


@given(losses=LOSSES, beta=st.floats(0, 1e3), memory=MEMORIES)
def test_the_rate_stays_between_a_and_a_over_1_plus_beta(losses: list[float], beta: float, memory: float) -> None:
    assert all(1 / (1 + beta) <= factor <= 1 for factor in factors(Dynamic(beta, memory), losses))


@given(losses=LOSSES, memory=MEMORIES)
def test_a_beta_of_0_is_constant(losses: list[float], memory: float) -> None:
    assert set(factors(Dynamic(0.0, memory), losses)) == {1.0}


@given(losses=LOSSES, beta=st.floats(0, 1e3), more=st.floats(0, 1e3), memory=MEMORIES)
def test_a_larger_beta_never_gives_a_larger_rate(losses: list[float], beta: float, more: float, memory: float) -> None:
    smaller, larger = factors(Dynamic(beta + more, memory), losses), factors(Dynamic(beta, memory), losses)
    assert all(a <= b for a, b in zip(smaller, larger, strict=True))


@given(losses=LOSSES, scale=st.sampled_from([0.25, 0.5, 2.0, 1024.0]), memory=MEMORIES)
def test_the_unit_of_the_loss_does_not_matter(losses: list[float], scale: float, memory: float) -> None:
    # Powers of two, so that scaling rounds nothing; the smallest floats would lose digits.
    losses = [loss if loss > 1e-200 else 0.0 for loss in losses]
    scaled = factors(Dynamic(4.0, memory), [loss * scale for loss in losses])
    assert scaled == factors(Dynamic(4.0, memory), losses)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"decay": -1.0}, "schedule.decay: -1.0 is no beta; give a number not below 0"),
        ({"decay": float("nan")}, "schedule.decay: nan is no beta; give a number not below 0"),
        ({"decay": 1.0, "memory": 1.0}, "schedule.memory: 1.0 is no weight of the past; give 0 up to below 1"),
        ({"decay": 1.0, "memory": -0.1}, "schedule.memory: -0.1 is no weight of the past; give 0 up to below 1"),
    ],
)
def test_values_without_meaning_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        Dynamic(**arguments)
