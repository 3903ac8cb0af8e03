from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import PolynomialLR

from autotune.errors import UserError
from autotune.optim.schedules import Linear, Polynomial

from .rates import rates, torchs


def test_it_falls_by_its_power_to_the_floor() -> None:
    falling = rates(Polynomial(power=2.0, floor=0.2), [1.0] * 2, updates_per_epoch=2)
    assert falling == pytest.approx([1.0, 0.2 + 0.8 * 9 / 16, 0.2 + 0.8 / 4, 0.2 + 0.8 / 16])


@given(power=st.floats(0.1, 4.0), epochs=st.integers(1, 10), updates=st.integers(1, 5))
def test_it_is_torchs_polynomial_lr_over_all_updates(power: float, epochs: int, updates: int) -> None:
    total = epochs * updates
    expected = torchs(lambda peer: PolynomialLR(peer, total_iters=total, power=power), total, base=0.1)
    # torch computes each value from the last one, so its rounding errors add up.
    assert rates(Polynomial(power), [1.0] * epochs, updates, base=0.1) == pytest.approx(expected, rel=1e-9)


def test_a_power_of_1_is_linear() -> None:
    losses = [1.0] * 7
    assert rates(Polynomial(1.0, 0.1), losses) == pytest.approx(rates(Linear(0.1), losses))


WRONG = {
    "no power": ((0.0, 0.0), "schedule.power: 0.0 is no power; give a number above 0"),
    "floor": ((1.0, 1.5), "schedule.floor: 1.5 is no part of the rate; give a number from 0 to 1"),
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG)
def test_values_without_meaning_are_refused(arguments: tuple[float, float], message: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        Polynomial(*arguments)
