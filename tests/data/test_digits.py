from __future__ import annotations

import torch
from sklearn.datasets import load_digits

from autotune.data.digits import Digits
from autotune.data.source import held_out, split


def test_there_are_1797_images_of_64_pixels_in_10_classes() -> None:
    # scikit-learn's description of the set: 1797 instances, 64 attributes, integers 0..16.
    made = split(Digits())
    assert (len(made.train), len(made.val), len(held_out(Digits()))) == (1077, 360, 360)
    assert made.train.features.shape == (1077, 64)
    assert made.outputs == 10
    assert made.train.target.unique().tolist() == list(range(10))


def test_pixels_lie_between_0_and_1() -> None:
    features = split(Digits()).train.features
    assert (float(features.min()), float(features.max())) == (0.0, 1.0)


def test_pixels_are_divided_by_16() -> None:
    raw = torch.tensor(load_digits().data, dtype=torch.float32)
    assert torch.equal(split(Digits()).preprocess(raw), raw / 16)


def test_each_part_has_a_tenth_of_each_digit() -> None:
    made = split(Digits())
    for part in (made.train, made.val, held_out(Digits())):
        shares = torch.bincount(part.target) / len(part)
        # The set itself has 174 (eights) to 183 (threes) of each: 9.7 % to 10.2 %.
        assert shares.min() > 0.09
        assert shares.max() < 0.11


def test_they_may_be_images() -> None:
    images, flat = split(Digits(images=True)), split(Digits())
    assert images.input_shape == (1, 8, 8)
    assert torch.equal(images.train.features.flatten(1), flat.train.features)
    assert torch.equal(images.train.target, flat.train.target)
    # The first digit of the set is a 0: dark in the middle, blank at the left edge.
    first = torch.tensor(load_digits().images[0])
    assert torch.equal(torch.tensor(Digits(images=True).load().features[0, 0]), first)
