from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import ReduceLROnPlateau

from autotune.errors import UserError
from autotune.optim.schedules import Plateau

from .rates import optimizer, rates


def test_the_rate_is_reduced_when_patience_runs_out() -> None:
    # Better in epochs 0 and 1; epochs 2 and 3 are let pass, the third stalled one reduces. 0.7 is better again.
    losses = [1.0, 0.8, 0.8, 0.9, 0.8, 0.7, 0.7, 0.7, 0.7, 0.7]
    expected = [1.0] * 5 + [0.5] * 4 + [0.25]
    assert rates(Plateau(0.5, patience=2), losses) == expected


def test_an_epoch_after_a_reduction_rests() -> None:
    assert rates(Plateau(0.5, patience=0, cooldown=1), [1.0] * 6) == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]


def test_the_rate_stays_above_the_floor_and_changes_between_epochs_only() -> None:
    falling = rates(Plateau(0.5, patience=0, floor=0.4), [1.0] * 4, updates_per_epoch=2)
    assert falling == [1.0] * 4 + [0.5] * 2 + [0.4] * 2


@given(
    losses=st.lists(st.sampled_from([0.0, 0.5, 0.9, 0.99995, 1.0, 1.1, float("nan"), float("inf")]), min_size=1),
    decay=st.floats(0.05, 0.99),
    patience=st.integers(0, 4),
    threshold=st.sampled_from([0.0, 1e-4, 0.1]),
    cooldown=st.integers(0, 3),
    floor=st.sampled_from([0.0, 0.3]),
)
def test_it_is_torchs_reduce_lr_on_plateau(
    losses: list[float], decay: float, patience: int, threshold: float, cooldown: int, floor: float
) -> None:
    peer = optimizer()
    schedule = ReduceLROnPlateau(
        peer, factor=decay, patience=patience, threshold=threshold, cooldown=cooldown, min_lr=floor, eps=0.0
    )
    expected = []
    for loss in losses:
        expected.append(peer.param_groups[0]["lr"])
        schedule.step(loss)
    assert rates(Plateau(decay, patience, threshold, cooldown, floor), losses) == expected


WRONG = {
    "decay": ({"decay": 0.0}, "schedule.decay: 0.0 is no reduction; give a number above 0 up to 1"),
    "patience": (
        {"decay": 0.5, "patience": -1},
        "schedule.patience: -1 is no number of epochs; give a whole number from 0 on",
    ),
    "cooldown": (
        {"decay": 0.5, "cooldown": 0.5},
        "schedule.cooldown: 0.5 is no number of epochs; give a whole number from 0 on",
    ),
    "threshold": (
        {"decay": 0.5, "threshold": 1.0},
        "schedule.threshold: 1.0 is no part of a loss; give 0 up to below 1",
    ),
    "floor": ({"decay": 0.5, "floor": 2.0}, "schedule.floor: 2.0 is no part of the rate; give a number from 0 to 1"),
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG)
def test_values_without_meaning_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        Plateau(**arguments)  # type: ignore[arg-type]
