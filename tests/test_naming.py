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
    assert naming.trial(7, CONFIG, {}) == "t0007 adam lr 3e-3 b128 bn cosine"


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


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"model.lr": 3e-3, "model.width": 64, "data.batch_size": 32}, "lr 3e-3 width 64 b32"),
        (
            {"model.kind": "a text that is longer than others", "model.deep": True},
            "kind a text that is long… deep True b32",
        ),
        ({f"model.x{at}": at for at in range(9)}, "x0 0 x1 1 x2 2 x3 3 x4 4 b32"),
        ({"optimizer": "own", "schedule": "own"}, "b32 net"),
        ({}, "b32 net"),
    ],
)
def test_a_module_with_its_own_optimizer_is_told_by_the_searched_values(params: dict[str, object], said: str) -> None:
    config = {
        "optimizer": {"name": "own"},
        "schedule": {"name": "own"},
        "data": {"batch_size": 32},
        "model": {"_target_": "mine.Net", "lr": 3e-3},
    }
    assert naming.strategy(config, params) == said
    assert naming.trial(7, config, params) == f"t0007 {said}"


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("cost/epoch_seconds", 2.5, "2.5 s"),
        ("cost/epoch_seconds", 0.0125, "12.5 ms"),
        ("cost/latency_sample_seconds", 4.6e-5, "0.046 ms"),
        ("cost/latency_sample_seconds", 1.5, "1500 ms"),
        ("cost/model_bytes", 27448.0, "27.4 kB"),
        ("cost/peak_memory_bytes", 9.77e6, "9.77 MB"),
        ("cost/peak_memory_bytes", 3e9, "3 GB"),
        ("cost/model_bytes", 12.0, "12 bytes"),
        ("cost/parameters", 84750.0, "84,750"),
    ],
)
def test_costs_have_their_units(key: str, value: float, text: str) -> None:
    assert naming.cost(key, value) == text
