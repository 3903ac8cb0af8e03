from __future__ import annotations

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from autotune.data.preprocess import Standardize


def test_it_subtracts_the_mean_and_divides_by_the_standard_deviation() -> None:
    # By hand: means 2 and 10, population standard deviations 1 and 5.
    fitted = Standardize.fitted(numpy.array([[1.0, 5.0], [3.0, 15.0]]))
    assert fitted.mean.tolist() == [2.0, 10.0]
    assert fitted.std.tolist() == [1.0, 5.0]
    assert fitted(torch.tensor([[1.0, 5.0], [4.0, 10.0]])).tolist() == [[-1.0, -1.0], [2.0, 0.0]]


@given(arrays(numpy.float32, (20, 3), elements=st.floats(-100, 100, width=32), unique=True))
def test_what_it_was_fitted_on_gets_mean_0_and_standard_deviation_1(features: numpy.ndarray) -> None:
    features = features + numpy.arange(20, dtype=numpy.float32)[:, None]  # well spread
    standard = Standardize.fitted(features)(torch.as_tensor(features))
    assert torch.allclose(standard.mean(0), torch.zeros(3), atol=1e-4)
    assert torch.allclose(standard.std(0, correction=0), torch.ones(3), atol=1e-4)


@given(st.floats(-1e6, 1e6) | st.sampled_from([0.1, 0.7, 1e-30, 1e-300, -3.3]), st.integers(2, 40))
def test_a_constant_feature_becomes_0_and_a_new_value_of_it_stays_in_reach(value: float, samples: int) -> None:
    fitted = Standardize.fitted(numpy.full((samples, 1), value))
    assert fitted(torch.full((3, 1), value)).abs().max() <= abs(value) * 1e-6
    assert float(fitted(torch.full((1, 1), value + 1.0))) == pytest.approx(1.0, abs=0.1)


def test_a_feature_that_varies_less_than_float32_can_say_becomes_0() -> None:
    fitted = Standardize.fitted(numpy.array([[1e-60], [3e-60]]))
    assert fitted(torch.tensor([[1e-60], [3e-60]])).tolist() == [[0.0], [0.0]]


def test_more_dimensions_than_one_are_standardised_position_by_position() -> None:
    images = numpy.random.default_rng(0).normal(size=(30, 2, 4, 4))
    fitted = Standardize.fitted(images)
    assert fitted.mean.shape == (2, 4, 4)
    expected = torch.tensor((images - images.mean(axis=0)) / images.std(axis=0), dtype=torch.float32)
    assert torch.allclose(fitted(torch.tensor(images, dtype=torch.float32)), expected, atol=1e-5)


def test_fixed_numbers_hold_for_every_feature() -> None:
    assert Standardize.fixed(2.0, 4.0)(torch.tensor([[2.0, 6.0], [10.0, 0.0]])).tolist() == [[0.0, 1.0], [2.0, -0.5]]


def test_it_is_saved_with_the_model_and_trains_nothing() -> None:
    fitted = Standardize.fitted(numpy.array([[1.0, 5.0], [3.0, 15.0]]))
    other = Standardize(torch.zeros(2), torch.ones(2))
    other.load_state_dict(fitted.state_dict())
    assert torch.equal(other.mean, fitted.mean)
    assert torch.equal(other.std, fitted.std)
    assert list(fitted.parameters()) == []


@given(st.integers(1, 40), st.integers(0, 2**31))
def test_pixels_share_one_mean_and_one_standard_deviation(samples: int, seed: int) -> None:
    images = numpy.random.default_rng(seed).integers(0, 256, (samples, 2, 3, 3), "u1")
    fitted = Standardize.of_pixels(images)
    assert float(fitted.mean) == pytest.approx(images.mean(), rel=1e-6, abs=1e-6)
    assert float(fitted.std) == pytest.approx(images.astype(float).std(), rel=1e-6)


def test_one_grey_is_left_as_far_as_it_is_from_itself() -> None:
    fitted = Standardize.of_pixels(numpy.full((3, 1, 2, 2), 7, "u1"))
    assert fitted(torch.tensor([7.0, 8.0])).tolist() == [0.0, 1.0]
