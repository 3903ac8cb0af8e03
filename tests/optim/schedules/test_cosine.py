from __future__ import annotations

import re
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autotune.errors import UserError
from autotune.optim.schedules import Cosine, Progress

from .rates import optimizer, rates


def test_it_passes_the_known_points_of_half_a_cosine() -> None:
    # cos(0) = 1, cos(pi/3) = 1/2, cos(pi/2) = 0, cos(2 pi/3) = -1/2, over six updates
    half = rates(Cosine(), [1.0] * 3, updates_per_epoch=2)
    assert [half[0], half[2], half[3], half[4]] == pytest.approx([1.0, 0.75, 0.5, 0.25])


def test_it_ends_at_the_floor() -> None:
    assert Cosine(0.2).factor(Progress(40, 4, 10), None) == pytest.approx(0.2)


@given(floor=st.floats(0.0, 1.0), epochs=st.integers(1, 10), updates=st.integers(1, 5))
def test_it_is_torchs_cosine_annealing_lr_stepped_at_every_update(floor: float, epochs: int, updates: int) -> None:
    base = 0.1
    peer = optimizer(base)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(peer, T_max=epochs * updates, eta_min=base * floor)
    expected = []
    for _ in range(epochs * updates):
        expected.append(peer.param_groups[0]["lr"])
        peer.step()
        schedule.step()
    # torch computes each value from the last one, so its rounding errors add up.
    assert rates(Cosine(floor), [1.0] * epochs, updates, base) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(floor=st.floats(0.0, 0.99), epochs=st.integers(1, 10), updates=st.integers(1, 5))
def test_it_falls_at_every_update_and_stays_above_the_floor(floor: float, epochs: int, updates: int) -> None:
    falling = rates(Cosine(floor), [1.0] * epochs, updates)
    assert all(later < sooner for sooner, later in pairwise(falling))
    assert falling[-1] > floor


@pytest.mark.parametrize("floor", [-0.1, 1.1, float("nan")])
def test_a_floor_that_is_no_part_is_refused(floor: float) -> None:
    message = f"schedule.floor: {floor} is no part of the rate; give a number from 0 to 1"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        Cosine(floor)
