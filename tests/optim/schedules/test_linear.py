from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import LinearLR

from autotune.errors import UserError
from autotune.optim.schedules import Linear, Progress

from .rates import rates, torchs


def test_it_falls_by_the_same_amount_at_each_update() -> None:
    assert rates(Linear(0.2), [1.0] * 2, updates_per_epoch=2) == pytest.approx([1.0, 0.8, 0.6, 0.4])


@given(floor=st.floats(0.0, 1.0), epochs=st.integers(1, 10), updates=st.integers(1, 5))
def test_it_is_torchs_linear_lr_over_all_updates(floor: float, epochs: int, updates: int) -> None:
    total = epochs * updates
    expected = torchs(lambda peer: LinearLR(peer, 1.0, floor, total_iters=total), total, base=0.1)
    # torch computes each value from the last one, so its rounding errors add up.
    assert rates(Linear(floor), [1.0] * epochs, updates, base=0.1) == pytest.approx(expected, rel=1e-9)


def test_it_ends_at_the_floor() -> None:
    assert Linear(0.2).factor(Progress(40, 4, 10), None) == pytest.approx(0.2)


@pytest.mark.parametrize("floor", [-0.1, 1.1, float("nan")])
def test_a_floor_that_is_no_part_is_refused(floor: float) -> None:
    message = f"schedule.floor: {floor} is no part of the rate; give a number from 0 to 1"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        Linear(floor)
