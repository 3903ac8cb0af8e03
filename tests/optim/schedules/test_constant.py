from __future__ import annotations

from autotune.optim.schedules import Constant

from .rates import rates


def test_the_rate_stays_the_base_rate() -> None:
    assert rates(Constant(), [3.0, 1.0, 2.0], updates_per_epoch=2, base=0.3) == [0.3] * 6
