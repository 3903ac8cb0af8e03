from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autotune.errors import UserError
from autotune.optim.schedules import Exponential

from .rates import optimizer, rates


def test_the_rate_falls_by_the_decay_from_epoch_to_epoch_and_not_within_one() -> None:
    assert rates(Exponential(0.5), [1.0] * 3, updates_per_epoch=2, base=0.8) == [0.8, 0.8, 0.4, 0.4, 0.2, 0.2]


@given(decay=st.floats(0.01, 1.0), epochs=st.integers(1, 30))
def test_it_is_torchs_exponential_lr(decay: float, epochs: int) -> None:
    peer = optimizer(0.1)
    schedule = torch.optim.lr_scheduler.ExponentialLR(peer, gamma=decay)
    expected = []
    for _ in range(epochs):
        expected.append(peer.param_groups[0]["lr"])
        peer.step()
        schedule.step()
    assert rates(Exponential(decay), [1.0] * epochs, base=0.1) == pytest.approx(expected, rel=1e-9)


def test_a_decay_of_1_is_constant() -> None:
    assert rates(Exponential(1.0), [1.0] * 4) == [1.0] * 4


@pytest.mark.parametrize("decay", [0.0, -0.5, 1.01, float("nan")])
def test_a_decay_that_cannot_fall_is_refused(decay: float) -> None:
    message = f"schedule.decay: {decay} lets no exponential fall; give a number above 0 up to 1"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        Exponential(decay)
