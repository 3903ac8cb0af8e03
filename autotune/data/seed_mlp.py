"""The background text's example data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy

from autotune.data.preprocess import Standardize
from autotune.data.source import Arrays, Source


@dataclass(frozen=True, kw_only=True)
class SeedMLP(Source):
    """Uniform inputs in [0, 1) with random 0/1 labels: noise, from which nothing can be learnt.

    Args:
        samples: How many.
        features: How many inputs a sample has.
    """

    task: str = "binary"
    seed: int = 1
    samples: int = 100
    features: int = 10

    def load(self) -> Arrays:
        """Inputs [samples, features], labels [samples]."""
        random = numpy.random.RandomState(self.seed)
        return Arrays(random.rand(self.samples, self.features), random.randint(0, 2, self.samples))

    def fit(self, features: numpy.ndarray) -> Standardize:
        """The inputs are used as they are."""
        return Standardize.fixed(0.0, 1.0)
