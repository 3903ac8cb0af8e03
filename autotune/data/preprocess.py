"""Preprocessing that is fitted on the training part, saved with the model and applied at prediction."""

from __future__ import annotations

import numpy
import torch
from torch import Tensor, nn


class Standardize(nn.Module):
    """``(x - mean) / std``, each a buffer, so that they move and are saved with the model.

    Args:
        mean: Shape of one sample, or a scalar.
        std: Likewise, above 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    @classmethod
    def fitted(cls, features: numpy.ndarray) -> Standardize:
        """Mean and standard deviation of each feature; a constant feature becomes 0."""
        mean, std = features.mean(axis=0), features.std(axis=0)
        std = numpy.where(std > 0, std, 1.0)
        return cls(torch.as_tensor(mean, dtype=torch.float32), torch.as_tensor(std, dtype=torch.float32))

    @classmethod
    def fixed(cls, mean: float, std: float) -> Standardize:
        """The same for every feature, known beforehand."""
        return cls(torch.tensor(mean), torch.tensor(std))

    def forward(self, features: Tensor) -> Tensor:
        """Standardise a batch, [n, ...]."""
        return (features - self.mean) / self.std
