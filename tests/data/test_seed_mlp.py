from __future__ import annotations

import numpy

from autotune.data.seed_mlp import SeedMLP
from autotune.data.source import split


def test_it_has_100_samples_of_10_uniform_inputs_with_0_1_labels() -> None:
    arrays = SeedMLP().load()
    assert arrays.features.shape == (100, 10)
    assert arrays.target.shape == (100,)
    assert arrays.features.min() >= 0
    assert arrays.features.max() < 1
    assert set(arrays.target) == {0, 1}


def test_its_inputs_spread_as_uniform_numbers_do() -> None:
    features = SeedMLP().load().features
    # Of 1000 uniform numbers: mean 1/2, standard error sqrt(1/12/1000) = 0.0091; six of them.
    assert abs(features.mean() - 0.5) < 0.055
    # Each tenth of [0, 1) is expected 100 times, standard deviation sqrt(90) = 9.5; six of them.
    counts, _ = numpy.histogram(features, bins=10, range=(0, 1))
    assert abs(counts - 100).max() < 57


def test_it_is_the_same_every_time_whatever_the_global_random_state() -> None:
    numpy.random.seed(3)
    first = SeedMLP().load()
    numpy.random.seed(4)
    second = SeedMLP().load()
    assert numpy.array_equal(first.features, second.features)
    assert numpy.array_equal(first.target, second.target)


def test_another_seed_and_size_make_other_data() -> None:
    other = SeedMLP(seed=2, samples=40, features=3).load()
    assert other.features.shape == (40, 3)
    assert not numpy.array_equal(other.features, SeedMLP(seed=1, samples=40, features=3).load().features)


def test_its_inputs_are_used_as_they_are() -> None:
    made = split(SeedMLP())
    raw = SeedMLP().load().features.astype(numpy.float32)
    rows = {row.tobytes() for row in raw}
    assert all(sample.numpy().tobytes() in rows for sample in made.train.features)
    assert (len(made.train), len(made.val), made.outputs) == (60, 20, 1)
