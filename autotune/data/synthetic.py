"""Made-up data of any size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy
from sklearn.datasets import make_classification, make_regression

from autotune.data.source import Arrays, Source
from autotune.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Synthetic(Source):
    """scikit-learn's make_classification or make_regression; half of the features carry information.

    Args:
        samples: How many.
        features: How many a sample has, at least 4.
        classes: Of a multiclass task.
        noise: Regression: standard deviation on the target. Classification: the part of labels drawn at random.
    """

    samples: int = 1000
    features: int = 20
    classes: int = 4
    noise: float = 0.1

    def load(self) -> Arrays:
        """Features [samples, features], target [samples]."""
        try:
            return Arrays(*self._made(max(2, self.features // 2)))
        except ValueError as error:
            said = " ".join(str(error).split())
            remedy = "change data.features, data.classes or data.noise"
            raise UserError("data", f"no such data can be made ({said})", remedy) from error

    def _made(self, informative: int) -> tuple[numpy.ndarray, numpy.ndarray]:
        made: tuple[numpy.ndarray, numpy.ndarray]
        if self.task == "regression":
            made = make_regression(
                self.samples, self.features, n_informative=informative, noise=self.noise, random_state=self.seed
            )
        else:
            made = make_classification(
                self.samples,
                self.features,
                n_informative=informative,
                n_redundant=0,
                n_classes=2 if self.task == "binary" else self.classes,
                n_clusters_per_class=1,
                flip_y=self.noise,
                random_state=self.seed,
            )
        return made
