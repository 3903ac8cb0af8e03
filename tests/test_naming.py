from __future__ import annotations

import pytest

from autotune import naming

CONFIG = {
    "optimizer": {"name": "adam", "lr": 3e-3},
    "data": {"batch_size": 128},
    "model": {"batch_norm": True},
    "schedule": {"name": "cosine"},
}


def test_a_trials_name_tells_its_strategy() -> None:
    assert naming.trial(7, CONFIG) == "t0007 adam lr 3e-3 b128 bn cosine"


def test_what_a_config_does_not_say_is_left_out() -> None:
    bare = {"optimizer": {"_target_": "mine.Lion"}, "data": {}, "model": {}, "schedule": {"name": "own"}}
    assert naming.strategy(bare) == "lion own"
    assert (
        naming.strategy({**CONFIG, "data": {"batch_size": "full"}, "model": {"batch_norm": False}})
        == "adam lr 3e-3 full batch cosine"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (0.05, "0.05"),
        (1.0, "1"),
        (3e-3, "3e-3"),
        (1.53e-4, "1.5e-4"),
        (0.0123, "0.012"),
        (9.96e-3, "1e-2"),
        (250.0, "2.5e2"),
    ],
)
def test_rates_are_short(value: float, text: str) -> None:
    assert naming.short(value) == text
