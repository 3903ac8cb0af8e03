"""What has diverged, whatever the unit and the sign of a loss."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.divergence import divergence, is_loss


@pytest.mark.parametrize("name", ["train/loss", "val_loss", "loss", "train_loss_epoch", "valid/kl-loss", "train_nll"])
def test_what_is_a_loss(name: str) -> None:
    assert is_loss(name)


@pytest.mark.parametrize("name", ["val/accuracy", "lr", "val/rmse", "lossless", "gloss"])
def test_what_is_none(name: str) -> None:
    assert not is_loss(name)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_finite_number_has_diverged_in_any_epoch(value: float) -> None:
    assert divergence({"val_loss": value, "lr": 0.1}, {}, None) == f"val_loss is {value}"
    assert divergence({"val_loss": value}, {"val_loss": [1.0]}, 1e4) == f"val_loss is {value}"


@pytest.mark.parametrize("name", ["val/accuracy", "val_auc", "lr"])
def test_a_metric_that_is_no_number_has_not(name: str) -> None:
    assert divergence({"train/loss": 1.0, name: math.nan}, {"train/loss": [1.0]}, 10) is None


@given(st.floats(1e-12, 1e12), st.floats(0.01, 100), st.booleans())
def test_a_limit_knows_no_unit(unit: float, growth: float, is_negative: bool) -> None:
    first = -unit if is_negative else unit
    found = divergence({"loss": growth * unit}, {"loss": [math.nan, first]}, 10)
    assert (found is not None) == (growth * unit > 10 * unit)
    assert divergence({"loss": growth * unit}, {"loss": [first]}, None) is None


def test_a_loss_that_falls_without_end_gets_better() -> None:
    assert divergence({"loss": -1e30}, {"loss": [-1.0, -100.0]}, 10) is None


def test_each_loss_is_measured_by_its_own_first_values() -> None:
    earlier = {"train_loss": [1e11, 9e10], "val_loss": [1.0, 2.0, 3.0, 1e9]}
    assert divergence({"train_loss": 2e11, "val_loss": 29.0}, earlier, 10) is None
    found = divergence({"train_loss": 2e11, "val_loss": 31.0}, earlier, 10)
    assert found == "val_loss is 31, more than objective.explodes_above=10 times the 3 of the first epochs"


def test_the_first_value_alone_and_zeros_are_no_measure() -> None:
    assert divergence({"loss": 1e30}, {}, 10) is None
    assert divergence({"loss": 1.0}, {"loss": [0.0, 0.0]}, 10) is None
