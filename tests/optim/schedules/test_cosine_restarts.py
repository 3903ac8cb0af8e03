from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts

from autotune.errors import UserError
from autotune.optim.schedules import Cosine, CosineRestarts

from .rates import rates, torchs


def test_each_cycle_begins_at_the_base_rate_and_is_longer_than_the_one_before() -> None:
    # Of 14 updates the cycles take 2, 4 and 8.
    falling = rates(CosineRestarts(cycles=3, growth=2.0), [1.0] * 14)
    assert [update for update, rate in enumerate(falling) if rate == 1] == [0, 2, 6]
    assert falling[:8] == pytest.approx([1, 1 / 2, 1, 0.853553, 1 / 2, 0.146447, 1, 0.961940], abs=1e-6)


@given(cycles=st.integers(1, 4), growth=st.integers(1, 3), first=st.integers(1, 4), floor=st.floats(0.0, 1.0))
def test_it_is_torchs_cosine_annealing_warm_restarts(cycles: int, growth: int, first: int, floor: float) -> None:
    total = first * sum(growth**cycle for cycle in range(cycles))
    expected = torchs(
        lambda peer: CosineAnnealingWarmRestarts(peer, T_0=first, T_mult=growth, eta_min=0.1 * floor), total, base=0.1
    )
    assert rates(CosineRestarts(cycles, growth, floor), [1.0] * total, base=0.1) == pytest.approx(expected, abs=1e-12)


@given(growth=st.floats(1.0, 10.0), floor=st.floats(0.0, 1.0), epochs=st.integers(1, 10))
def test_one_cycle_of_it_is_the_cosine(growth: float, floor: float, epochs: int) -> None:
    losses = [1.0] * epochs
    assert rates(CosineRestarts(1, growth, floor), losses, 3) == pytest.approx(rates(Cosine(floor), losses, 3))


WRONG = {
    "no cycles": ((0, 2.0, 0.0), "schedule.cycles: 0 is no number of cycles; give 1 to 100"),
    "half a cycle": ((1.5, 2.0, 0.0), "schedule.cycles: 1.5 is no number of cycles; give 1 to 100"),
    "shrinking": ((2, 0.5, 0.0), "schedule.growth: 0.5 is no growth of a cycle; give a number from 1 to 10"),
    "floor": ((2, 2.0, -1.0), "schedule.floor: -1.0 is no part of the rate; give a number from 0 to 1"),
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG)
def test_values_without_meaning_are_refused(arguments: tuple[int, float, float], message: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        CosineRestarts(*arguments)
