from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import MultiStepLR

from autotune.errors import UserError
from autotune.optim.schedules import MultiStep

from .rates import rates, torchs


def test_the_rate_falls_by_the_decay_at_each_milestone() -> None:
    # He et al. 2016, section 4.2: 64k updates, the rate divided by 10 at 32k and 48k; here a thousandth of them.
    expected = [0.1] * 32 + [0.01] * 16 + [0.001] * 16
    assert rates(MultiStep(0.1), [1.0] * 16, updates_per_epoch=4, base=0.1) == pytest.approx(expected)


@given(data=st.data(), decay=st.floats(0.01, 1.0), updates=st.integers(2, 30))
def test_it_is_torchs_multi_step_lr(data: st.DataObject, decay: float, updates: int) -> None:
    milestones = sorted(data.draw(st.sets(st.integers(1, updates - 1), min_size=1, max_size=4)))
    expected = torchs(lambda peer: MultiStepLR(peer, milestones, gamma=decay), updates, base=0.1)
    parts = MultiStep(decay, [milestone / updates for milestone in milestones])
    assert rates(parts, [1.0], updates, base=0.1) == pytest.approx(expected, rel=1e-9)


def test_a_list_changed_afterwards_changes_nothing() -> None:
    milestones = [0.5]
    schedule = MultiStep(0.1, milestones)
    milestones.append(0.6)
    assert schedule == MultiStep(0.1, (0.5,))


WRONG = {
    "no decay": ((0.0, [0.5]), "schedule.decay: 0.0 lets no step fall; give a number above 0 up to 1"),
    "an epoch": ((0.1, [15]), "schedule.milestones: [15] do not rise between 0 and 1; give parts: [0.5,0.75]"),
    "falling": (
        (0.1, [0.7, 0.3]),
        "schedule.milestones: [0.7, 0.3] do not rise between 0 and 1; give parts: [0.5,0.75]",
    ),
    "twice": ((0.1, [0.5, 0.5]), "schedule.milestones: [0.5, 0.5] do not rise between 0 and 1; give parts: [0.5,0.75]"),
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG)
def test_values_without_meaning_are_refused(arguments: tuple[float, list[float]], message: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        MultiStep(*arguments)
