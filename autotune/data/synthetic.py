"""Made-up data of any size."""

from __future__ import annotations

from dataclasses import dataclass

from sklearn.datasets import make_classification, make_regression

from autotune.data.source import Arrays, Source


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
        informative = max(2, self.features // 2)
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
        return Arrays(*made)
