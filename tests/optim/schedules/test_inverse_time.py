from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import LambdaLR

from autotune.errors import UserError
from autotune.optim.schedules import InverseTime

from .rates import rates, torchs


def test_the_rate_is_halved_after_1_over_decay_epochs() -> None:
    falling = rates(InverseTime(0.5), [1.0] * 5, updates_per_epoch=2)
    assert falling[:5] == pytest.approx([1.0, 1 / 1.25, 1 / 1.5, 1 / 1.75, 1 / 2])


@given(decay=st.floats(0.0, 10.0), epochs=st.integers(1, 10), updates=st.integers(1, 5))
def test_it_is_kerass_inverse_time_decay_over_epochs(decay: float, epochs: int, updates: int) -> None:
    # Keras 3: initial_learning_rate / (1 + decay_rate * step / decay_steps), decay_steps the updates of an epoch
    expected = torchs(lambda peer: LambdaLR(peer, lambda step: 1 / (1 + decay * step / updates)), epochs * updates, 0.1)
    assert rates(InverseTime(decay), [1.0] * epochs, updates, base=0.1) == pytest.approx(expected, rel=1e-12)


def test_a_decay_of_0_is_constant() -> None:
    assert rates(InverseTime(0.0), [1.0] * 4) == [1.0] * 4


@pytest.mark.parametrize("decay", [-0.1, float("nan"), float("inf")])
def test_a_decay_without_meaning_is_refused(decay: float) -> None:
    message = f"schedule.decay: {decay} is no decay; give a number not below 0"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        InverseTime(decay)
