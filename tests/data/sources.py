"""Sources whose samples can be told apart, for the tests of what is done with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy
from torch import Tensor

from autotune.data.preprocess import Standardize
from autotune.data.source import Arrays, Part, Source


@dataclass(frozen=True, kw_only=True)
class Numbered(Source):
    """Sample i has the features [i, -i] as they are, and class i % classes or, for regression, the number i."""

    task: str = "multiclass"
    samples: int = 50
    classes: int = 2

    def load(self) -> Arrays:
        number = numpy.arange(self.samples)
        target = number.astype(float) if self.task == "regression" else number % self.classes
        return Arrays(numpy.stack([number, -number], axis=1).astype(float), target)

    def fit(self, features: numpy.ndarray) -> Standardize:
        return Standardize.fixed(0.0, 1.0)


def numbers(part: Part) -> list[int]:
    """Which samples of a `Numbered` source a part has, in its order."""
    return rows(part.features)


def rows(features: Tensor) -> list[int]:
    """Which samples of a `Numbered` source these features are of."""
    assert (features[:, 0] == -features[:, 1]).all()
    return [int(number) for number in features[:, 0]]


class Watched(numpy.ndarray):
    """An array that writes down which of its rows are taken out."""

    taken: set[int]

    def __getitem__(self, key: object) -> numpy.ndarray:
        self.taken |= {int(row) for row in numpy.arange(len(self))[key]}
        return numpy.asarray(self)[key]
