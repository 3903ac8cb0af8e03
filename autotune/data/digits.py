"""Handwritten digits, shipped with scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy
from sklearn.datasets import load_digits

from autotune.data.preprocess import Standardize
from autotune.data.source import Arrays, Source


@dataclass(frozen=True, kw_only=True)
class Digits(Source):
    """1,797 images of 8 x 8 pixels in 10 classes, as 64 features from 0 to 1 (Alpaydin and Kaynak 1998).

    Args:
        images: Whether a sample is an image [1, 8, 8], for networks that take images, and not 64 features.
    """

    task: str = "multiclass"
    images: bool = False

    def load(self) -> Arrays:
        """Features [1797, 64] or [1797, 1, 8, 8] from 0 to 16, target [1797]."""
        features, target = load_digits(return_X_y=True)
        return Arrays(features.reshape(-1, 1, 8, 8) if self.images else features, target)

    def fit(self, features: numpy.ndarray) -> Standardize:
        """Pixels share one scale, 0 to 16."""
        return Standardize.fixed(0.0, 16.0)
