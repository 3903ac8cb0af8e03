from __future__ import annotations

import re

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import OneCycleLR

from autotune.errors import UserError
from autotune.optim.schedules import OneCycle

from .rates import rates, torchs


def test_it_rises_from_start_to_the_base_rate_and_falls_to_the_floor() -> None:
    # 10 updates: the peak is at update 0.5 * 10 - 1 = 4, the end at update 9.
    cycle = rates(OneCycle(rise=0.5, start=0.2, floor=0.1), [1.0] * 5, updates_per_epoch=2)
    assert (cycle[0], cycle[2], cycle[4], cycle[9]) == pytest.approx((0.2, 0.6, 1.0, 0.1))
    assert cycle[:5] == sorted(cycle[:5])
    assert cycle[4:] == sorted(cycle[4:], reverse=True)


@given(
    rise=st.floats(0.05, 0.95),
    div=st.floats(1.0, 100.0),
    final_div=st.floats(1.0, 1e5),
    epochs=st.integers(2, 12),
    updates=st.integers(1, 5),
)
def test_it_is_torchs_one_cycle_lr(rise: float, div: float, final_div: float, epochs: int, updates: int) -> None:
    total = epochs * updates
    assume(rise * total != 1)  # torch divides by 0

    def make(peer: torch.optim.Optimizer) -> OneCycleLR:
        return OneCycleLR(
            peer,
            max_lr=0.1,
            total_steps=total,
            pct_start=rise,
            div_factor=div,
            final_div_factor=final_div,
            cycle_momentum=False,
        )

    cycle = OneCycle(rise, 1 / div, 1 / (div * final_div))
    assert rates(cycle, [1.0] * epochs, updates, base=0.1) == pytest.approx(torchs(make, total), abs=1e-12)


@pytest.mark.parametrize(("rise", "updates"), [(0.5, 2), (0.3, 1), (0.2, 3)])
def test_a_training_too_short_to_rise_begins_at_or_below_the_peak(rise: float, updates: int) -> None:
    cycle = rates(OneCycle(rise), [1.0] * updates)
    assert all(0 < rate <= 1 for rate in cycle)
    assert cycle == sorted(cycle, reverse=True)


WRONG = {
    "no rise": ((0.0, 0.1, 0.0), "schedule.rise: 0.0 is no part of the training; give a number between 0 and 1"),
    "start": ((0.3, 0.0, 0.0), "schedule.start: 0.0 is no part of the rate; give a number above 0 up to 1"),
    "floor": ((0.3, 0.1, 2.0), "schedule.floor: 2.0 is no part of the rate; give a number from 0 to 1"),
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG)
def test_values_without_meaning_are_refused(arguments: tuple[float, float, float], message: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        OneCycle(*arguments)
