"""Multi-layer perceptron."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from autotune.models.activations import activation_named
from autotune.models.categories import OneHot, numbers_among


class MLP(nn.Module):
    """``Linear [BatchNorm] activation [Dropout]`` for each hidden width, then a linear output.

    Args:
        input_shape: Shape of one sample; more than one dimension is flattened.
        outputs: How many numbers it answers with.
        hidden: The hidden widths, any number of them.
        batch_norm: Whether each hidden layer is normalised over the batch (Ioffe and Szegedy 2015).
        dropout: The part of each hidden layer's outputs set to 0 in training, in [0, 1).
        activation: A key of `autotune.models.activations.ACTIVATIONS`.
        cardinalities: How many categories each of the last columns has; their codes, from 0, enter one-hot.

    Raises:
        UserError: There is no such activation, or the data has fewer columns than `cardinalities`.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        outputs: int,
        hidden: Sequence[int] = (64, 32),
        batch_norm: bool = False,
        dropout: float = 0.0,
        activation: str = "relu",
        cardinalities: Sequence[int] = (),
    ) -> None:
        super().__init__()
        activated = activation_named(activation)
        layers: list[nn.Module] = [nn.Flatten()] if len(input_shape) > 1 else []
        width = math.prod(input_shape)
        if len(cardinalities) > 0:
            one_hot = OneHot(numbers_among(input_shape, cardinalities), cardinalities)
            layers, width = [one_hot], one_hot.width
        for next_width in hidden:
            # BatchNorm subtracts the mean, so a bias before it would change nothing.
            layers.append(nn.Linear(width, next_width, bias=not batch_norm))
            if batch_norm:
                layers.append(nn.BatchNorm1d(next_width))
            layers.append(activated())
            if dropout > 0:
                layers.append(nn.Dropout(dropout))
            width = next_width
        layers.append(nn.Linear(width, outputs))
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """[n, *input_shape] -> [n, outputs]."""
        answer: Tensor = self.layers(features)
        return answer
