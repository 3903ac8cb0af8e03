"""Earlier trials in the space that is searched by now."""

from __future__ import annotations

import json
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from autotune.kept.earlier import draws, parameters_of
from autotune.space import Space

SGD: dict[str, Any] = {"name": "sgd", "_target_": "torch.optim.SGD", "lr": "tag(log,interval(1e-3,1))"}
ADAM: dict[str, Any] = {"name": "adam", "_target_": "torch.optim.Adam", "lr": "interval(0,0.1)"}


def space(optimizer: dict[str, Any] | None = None, **data: Any) -> Space:
    config = {
        "optimizer": optimizer or {"only": None, "sgd": SGD, "adam": ADAM},
        "data": {"batch_size": "choice(32,64,full)", "sizes": [1, "int(interval(2,9))"], **data},
        "trainer": {"max_epochs": 9},
    }
    return Space(config)


def earlier(params: dict[str, Any], now: Space, before: Space | None = None) -> dict[str, Any] | None:
    """What a trial of one space is in another."""
    config = json.loads(json.dumps((before or space()).resolve(params)))
    return parameters_of(now, now.parameters(), params, config)


TRIAL = {"optimizer": "sgd", "optimizer.sgd.lr": 0.1, "data.batch_size": 64, "data.sizes.1": 5}
IN_ADAM = {"optimizer": "adam", "optimizer.adam.lr": 0.05, "data.batch_size": 64, "data.sizes.1": 5}


@given(st.integers(0, 10_000))
def test_in_its_own_space_a_trial_is_what_it_was(seed: int) -> None:
    asked = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()
    params = space().suggest(asked)
    assert earlier(params, space()) == params


def test_a_range_that_changed_has_the_values_that_lie_in_it() -> None:
    for low, inside in ((1e-5, True), (0.1, True), (0.2, False)):
        now = space({"only": None, "sgd": {**SGD, "lr": f"interval({low},1)"}, "adam": ADAM})
        assert earlier(TRIAL, now) == (TRIAL if inside else None)
        assert earlier(IN_ADAM, now) == IN_ADAM


def test_choices_may_be_more_fewer_and_in_another_order() -> None:
    assert earlier(TRIAL, space(batch_size="choice(128,64,32)")) == TRIAL
    assert earlier(TRIAL, space(batch_size="choice(128,32)")) is None


def test_branches_may_come_and_go() -> None:
    further = space({"only": None, "adam": ADAM, "sgd": SGD, "own": {"name": "own", "lr": "interval(0,1)"}})
    assert earlier(TRIAL, further) == TRIAL
    one_left = space({"only": ["sgd"], "sgd": SGD, "adam": ADAM})
    assert earlier(TRIAL, one_left) == {name: value for name, value in TRIAL.items() if name != "optimizer"}
    assert earlier(IN_ADAM, one_left) is None


def test_a_group_that_was_fixed_may_be_searched_and_the_other_way_round() -> None:
    fixed = space(SGD)
    without = {"optimizer.lr": 0.1, "data.batch_size": 64, "data.sizes.1": 5}
    assert earlier(TRIAL, fixed) == without
    assert earlier(IN_ADAM, fixed) is None
    assert earlier(without, space(), before=fixed) == TRIAL


def test_what_is_fixed_by_now_has_to_be_what_it_was() -> None:
    without = {name: value for name, value in TRIAL.items() if name != "data.batch_size"}
    assert earlier(TRIAL, space(batch_size=64)) == without
    assert earlier(TRIAL, space(batch_size=32)) is None
    assert earlier(without, space(), before=space(batch_size=64)) == TRIAL
    assert earlier(without, space(), before=space(batch_size=16)) is None


def test_what_was_never_searched_may_change() -> None:
    assert earlier(TRIAL, space(workers=4)) == TRIAL


@pytest.mark.parametrize(
    ("distribution", "value", "drawn"),
    [
        (FloatDistribution(0, 1), 1.0, True),
        (FloatDistribution(0, 1), 1.1, False),
        (FloatDistribution(0, 1, step=0.5), 0.25, False),
        (IntDistribution(1, 9, step=2), 5, True),
        (IntDistribution(1, 9, step=2), 4, False),
        (CategoricalDistribution(("a", None)), None, True),
        (CategoricalDistribution(("a", None)), "b", False),
    ],
)
def test_whether_a_value_can_be_drawn(distribution: Any, value: Any, drawn: bool) -> None:
    assert draws(distribution, value) == drawn
