"""Preprocessing that is fitted on the training part, saved with the model and applied at prediction."""

from __future__ import annotations

from typing import Protocol

import numpy
import torch
from torch import Tensor, nn

from autotune.data.rows import Rows, chunks


class Preprocess(Protocol):
    """Turns raw features into what a model is given.

    Attributes:
        raw_dtype: What raw features are given as.
        cardinalities: How many categories each of the last columns of what it makes has.
    """

    @property
    def raw_dtype(self) -> torch.dtype: ...

    @property
    def cardinalities(self) -> tuple[int, ...]: ...

    def __call__(self, features: Tensor, /) -> Tensor:
        """[n, ...] raw -> [n, ...] float32."""


class Standardize(nn.Module):
    """``(x - mean) / std``, each a buffer, so that they move and are saved with the model.

    Args:
        mean: Shape of one sample, or a scalar.
        std: Likewise, above 0.
    """

    raw_dtype = torch.float32
    cardinalities: tuple[int, ...] = ()

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    @classmethod
    def fitted(cls, features: numpy.ndarray) -> Standardize:
        """Mean and standard deviation of each feature; a constant feature becomes 0."""
        mean, std = torch.as_tensor(features.mean(axis=0)).float(), torch.as_tensor(features.std(axis=0)).float()
        # Rounding gives a constant such as 0.1 a standard deviation of 1e-17, not 0.
        constant = torch.as_tensor(features.max(axis=0) == features.min(axis=0)) | (std == 0)
        return cls(mean, torch.where(constant, 1.0, std))

    @classmethod
    def fixed(cls, mean: float, std: float) -> Standardize:
        """The same for every feature, known beforehand."""
        return cls(torch.tensor(mean), torch.tensor(std))

    @classmethod
    def of_pixels(cls, images: Rows) -> Standardize:
        """Mean and standard deviation of all pixels, 0 to 255, together.

        Pixels are counted by value, so that the sums are exact in whatever order and portions they are read.
        """
        counts = numpy.zeros(256, numpy.int64)
        for some in chunks(images, 1024):
            counts += numpy.bincount(some.ravel(), minlength=256)
        values, total = numpy.arange(256), counts.sum()
        mean = float((counts * values).sum() / total)
        std = float((counts * (values - mean) ** 2).sum() / total) ** 0.5
        return cls.fixed(mean, std or 1.0)

    def forward(self, features: Tensor) -> Tensor:
        """Standardise a batch, [n, ...]."""
        return (features - self.mean) / self.std
