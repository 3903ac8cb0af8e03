"""Multi-layer perceptron."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from autotune.errors import UserError, nearest

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "elu": nn.ELU,
    "leaky_relu": nn.LeakyReLU,
}


class MLP(nn.Module):
    """``Linear [BatchNorm] activation [Dropout]`` for each hidden width, then a linear output.

    Args:
        input_shape: Shape of one sample; more than one dimension is flattened.
        outputs: How many numbers it answers with.
        hidden: The hidden widths, any number of them.
        batch_norm: Whether each hidden layer is normalised over the batch (Ioffe and Szegedy 2015).
        dropout: The part of each hidden layer's outputs set to 0 in training, in [0, 1).
        activation: A key of `ACTIVATIONS`.

    Raises:
        UserError: There is no such activation.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        outputs: int,
        hidden: Sequence[int] = (64, 32),
        batch_norm: bool = False,
        dropout: float = 0.0,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise UserError("model.activation", f"no activation {activation}", nearest(str(activation), ACTIVATIONS))
        layers: list[nn.Module] = [nn.Flatten()] if len(input_shape) > 1 else []
        width = math.prod(input_shape)
        for next_width in hidden:
            # BatchNorm subtracts the mean, so a bias before it would change nothing.
            layers.append(nn.Linear(width, next_width, bias=not batch_norm))
            if batch_norm:
                layers.append(nn.BatchNorm1d(next_width))
            layers.append(ACTIVATIONS[activation]())
            if dropout > 0:
                layers.append(nn.Dropout(dropout))
            width = next_width
        layers.append(nn.Linear(width, outputs))
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """[n, *input_shape] -> [n, outputs]."""
        answer: Tensor = self.layers(features)
        return answer
