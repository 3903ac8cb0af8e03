from __future__ import annotations

import re

import numpy
import pytest

from autotune.data.source import split
from autotune.data.synthetic import Synthetic
from autotune.errors import UserError


@pytest.mark.parametrize(("task", "classes", "outputs"), [("multiclass", 3, 3), ("binary", 3, 1)])
def test_classification_has_the_classes_it_was_asked_for(task: str, classes: int, outputs: int) -> None:
    source = Synthetic(task=task, classes=classes, samples=120, features=8)
    arrays = source.load()
    assert arrays.features.shape == (120, 8)
    assert set(arrays.target) == set(range(3 if task == "multiclass" else 2))
    assert split(source).outputs == outputs


def test_without_noise_each_class_is_equally_frequent() -> None:
    target = Synthetic(task="multiclass", classes=4, samples=200, noise=0.0).load().target
    assert numpy.bincount(target).tolist() == [50, 50, 50, 50]


def test_regression_without_noise_is_linear_in_half_of_the_features() -> None:
    arrays = Synthetic(task="regression", samples=60, features=10, noise=0.0).load()
    weights, residuals, _, _ = numpy.linalg.lstsq(arrays.features, arrays.target)
    assert residuals.max() < 1e-15 * (arrays.target**2).sum() * 60
    assert (abs(weights) > 1e-6).sum() == 5


def test_noise_is_the_standard_deviation_of_the_target_around_the_line() -> None:
    arrays = Synthetic(task="regression", samples=5000, features=4, noise=2.0).load()
    _, residuals, _, _ = numpy.linalg.lstsq(arrays.features, arrays.target)
    # Its standard error is 2 / sqrt(2 * 5000) = 0.02; six of them.
    assert (residuals[0] / 5000) ** 0.5 == pytest.approx(2.0, abs=0.12)


def test_the_same_seed_makes_the_same_data_and_another_one_other_data() -> None:
    first, second, other = (Synthetic(task="binary", samples=50, seed=seed).load() for seed in (3, 3, 4))
    assert numpy.array_equal(first.features, second.features)
    assert not numpy.array_equal(first.features, other.features)


def test_what_scikit_learn_cannot_make_is_refused_with_its_reason() -> None:
    message = (
        "data: no such data can be made (n_classes(10) * n_clusters_per_class(1) must be smaller or equal "
        "2**n_informative(2)=4); change data.features, data.classes or data.noise"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        Synthetic(task="multiclass", features=4, classes=10).load()
