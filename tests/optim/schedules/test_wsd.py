from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import LambdaLR

from autotune.errors import UserError
from autotune.optim.schedules import WSD, Linear, Warmup

from .rates import rates, torchs


def test_it_is_stable_until_the_decay_then_falls_by_the_same_amount_at_each_update() -> None:
    falling = rates(WSD(decay=0.5, floor=0.2), [1.0] * 4, updates_per_epoch=2)
    assert falling == pytest.approx([1.0, 1.0, 1.0, 1.0, 1.0, 0.8, 0.6, 0.4])


@given(ramp=st.integers(0, 5), stable=st.integers(0, 10), fall=st.integers(1, 10))
def test_with_a_warm_up_it_is_the_three_phases_of_the_paper(ramp: int, stable: int, fall: int) -> None:
    # Hägele et al. 2024: n / N_warmup, then 1, then (N - n) / N_decay; the ramp counted so that no update is made at 0.
    total = ramp + stable + fall

    def paper(n: int) -> float:
        if n < ramp:
            return (n + 1) / (ramp + 1)
        return 1.0 if n < total - fall else (total - n) / fall

    schedule = Warmup(WSD(decay=fall / (stable + fall)), ramp / total)
    expected = torchs(lambda peer: LambdaLR(peer, paper), total, base=0.1)
    assert rates(schedule, [1.0] * total, base=0.1) == pytest.approx(expected)


def test_a_decay_over_everything_is_linear() -> None:
    assert rates(WSD(1.0, 0.1), [1.0] * 7) == pytest.approx(rates(Linear(0.1), [1.0] * 7))


WRONG = {
    "no decay": ((0.0, 0.0), "schedule.decay: 0.0 is no part to fall over; give a number above 0 up to 1"),
    "more than all": ((1.1, 0.0), "schedule.decay: 1.1 is no part to fall over; give a number above 0 up to 1"),
    "floor": ((0.2, 1.5), "schedule.floor: 1.5 is no part of the rate; give a number from 0 to 1"),
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG)
def test_values_without_meaning_are_refused(arguments: tuple[float, float], message: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        WSD(*arguments)
