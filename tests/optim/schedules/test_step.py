from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import StepLR

from autotune.errors import UserError
from autotune.optim.schedules import Step

from .rates import rates, torchs


def test_the_rate_falls_by_the_decay_after_every_so_many_epochs() -> None:
    assert rates(Step(0.5, every=2), [1.0] * 5, updates_per_epoch=2) == [1.0] * 4 + [0.5] * 4 + [0.25] * 2


@given(decay=st.floats(0.01, 1.0), every=st.integers(1, 12), epochs=st.integers(1, 30))
def test_it_is_torchs_step_lr(decay: float, every: int, epochs: int) -> None:
    expected = torchs(lambda peer: StepLR(peer, every, gamma=decay), epochs, base=0.1)
    assert rates(Step(decay, every), [1.0] * epochs, base=0.1) == pytest.approx(expected, rel=1e-9)


WRONG = {
    "no decay": ({"decay": 0.0, "every": 1}, "schedule.decay: 0.0 lets no step fall; give a number above 0 up to 1"),
    "growth": ({"decay": 1.5, "every": 1}, "schedule.decay: 1.5 lets no step fall; give a number above 0 up to 1"),
    "no epochs": ({"decay": 0.5, "every": 0}, "schedule.every: 0 epochs are no step; give a whole number above 0"),
    "half epochs": (
        {"decay": 0.5, "every": 1.5},
        "schedule.every: 1.5 epochs are no step; give a whole number above 0",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG)
def test_values_without_meaning_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        Step(**arguments)  # type: ignore[arg-type]
