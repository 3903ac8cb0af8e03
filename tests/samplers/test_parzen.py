"""Parzen estimators: densities that add up, draws that lie where they may, whatever was seen."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from autotune.samplers import parzen
from autotune.samplers.parzen import Parzen

LISTED: dict[str, tuple[BaseDistribution, np.ndarray]] = {
    "choice": (CategoricalDistribution(("a", "b", "c")), np.arange(3.0)),
    "int": (IntDistribution(1, 100), np.arange(1.0, 101)),
    "int, in steps": (IntDistribution(-6, 99, step=7), np.arange(-6.0, 100, 7)),
    "int, log": (IntDistribution(1, 100, log=True), np.arange(1.0, 101)),
    "float, in steps": (FloatDistribution(0.5, 3, step=0.25), np.arange(0.5, 3.1, 0.25)),
}
every_listed = pytest.mark.parametrize("name", LISTED)

FAR = {"x": np.array([-1e6, 0.5, 1e6])}


@every_listed
@pytest.mark.parametrize("seen", [0, 1, 2, 30, 5000])
def test_the_densities_of_all_values_add_up_to_one(name: str, seen: int) -> None:
    distribution, values = LISTED[name]
    chance = np.random.RandomState(seen)
    estimator = Parzen({"x": distribution}, {"x": chance.choice(values, size=seen)})
    assert np.exp(estimator.log_density({"x": values})).sum() == pytest.approx(1)


@pytest.mark.parametrize("seen", [[], [0.5], [0.0, 0.3, 0.3, 3.0]])
def test_of_an_interval_they_add_up_to_the_constant_that_is_left_out(seen: list[float]) -> None:
    estimator = Parzen({"x": FloatDistribution(0, 3)}, {"x": np.array(seen)})
    values = np.linspace(0, 3, 20_001)
    density = np.exp(estimator.log_density({"x": values}))
    assert np.trapezoid(density, values) == pytest.approx(math.sqrt(2 * math.pi), rel=1e-6)


def test_parameters_are_modelled_together() -> None:
    space = {"x": FloatDistribution(0, 1), "y": CategoricalDistribution((0, 1))}
    estimator = Parzen(space, {"x": np.array([0.1, 0.12, 0.9, 0.92]), "y": np.array([0.0, 0, 1, 1])})
    together, crossed = estimator.log_density({"x": np.array([0.1, 0.1]), "y": np.array([0.0, 1])})
    assert together > crossed + 0.5


@every_listed
@given(seed=st.integers(0, 2**20), seen=st.integers(0, 40))
@settings(max_examples=20, deadline=None)
def test_what_is_drawn_is_one_of_the_values(name: str, seed: int, seen: int) -> None:
    distribution, values = LISTED[name]
    chance = np.random.RandomState(seed)
    drawn = Parzen({"x": distribution}, {"x": chance.choice(values, size=seen)}).draw(chance, 24)["x"]
    assert len(drawn) == 24
    assert all(np.isclose(values, each).any() for each in drawn)


@given(low=st.floats(1e-6, 1e3), ratio=st.floats(1.01, 1e6), log=st.booleans(), seed=st.integers(0, 2**20))
@settings(max_examples=50, deadline=None)
def test_what_is_drawn_of_an_interval_lies_within(low: float, ratio: float, log: bool, seed: int) -> None:
    chance = np.random.RandomState(seed)
    distribution = FloatDistribution(low, low * ratio, log=log)
    seen = np.clip(chance.uniform(low, low * ratio, size=5), low, low * ratio)
    drawn = Parzen({"x": distribution}, {"x": seen}).draw(chance, 24)["x"]
    assert ((drawn >= low * (1 - 1e-12)) & (drawn <= low * ratio * (1 + 1e-12))).all()


def test_what_is_drawn_is_as_dense_as_it_says() -> None:
    distribution, values = LISTED["int"]
    estimator = Parzen({"x": distribution}, {"x": np.array([10.0, 12, 80])})
    drawn = estimator.draw(np.random.RandomState(0), 20_000)["x"]
    expected = np.exp(estimator.log_density({"x": values}))
    assert np.bincount(drawn.astype(int), minlength=101)[1:] / 20_000 == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize("distribution", [FloatDistribution(0, 1), IntDistribution(0, 1)])
def test_what_was_seen_outside_the_range_leaves_a_density(distribution: BaseDistribution) -> None:
    estimator = Parzen({"x": distribution}, FAR)
    assert np.isfinite(estimator.log_density({"x": np.array([0.0, 1.0])})).all()
    drawn = estimator.draw(np.random.RandomState(0), 100)["x"]
    assert ((drawn >= 0) & (drawn <= 1)).all()


@every_listed
def test_blocks_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    distribution, values = LISTED[name]
    estimator = Parzen({"x": distribution}, {"x": np.resize(values, 50)})
    whole = estimator.log_density({"x": values})
    monkeypatch.setattr(parzen, "BLOCK", 7)
    assert estimator.log_density({"x": values}) == pytest.approx(whole)


def test_the_latest_count_most() -> None:
    seen = np.array([0.0] * 30 + [1.0] * 30)
    estimator = Parzen({"x": CategoricalDistribution(("early", "late"))}, {"x": seen})
    early, late = np.exp(estimator.log_density({"x": np.array([0.0, 1.0])}))
    assert late > 2 * early
