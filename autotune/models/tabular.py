"""Multi-layer perceptron over embedded categories and numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from autotune.errors import UserError, nearest
from autotune.models.categories import numbers_among
from autotune.models.mlp import MLP

NUMERICAL = ("plain", "periodic")


def embedding_width(cardinality: int) -> int:
    """How many numbers stand for a category: round(1.6 * cardinality^0.56), at most 600 (fastai's `emb_sz_rule`)."""
    return min(600, round(1.6 * math.pow(cardinality, 0.56)))


class Tabular(nn.Module):
    """Embeddings of the categories and, where asked for, of the numbers, side by side into an `MLP`.

    The MLP baseline of Gorishniy, Rubachev, Khrulkov and Babenko (2021), and the periodic embeddings of Gorishniy,
    Rubachev and Babenko (2022), with which it was on a par with transformers.

    Args:
        input_shape: Columns of a row: standardised numbers, then one column for each of `cardinalities`.
        outputs: How many numbers it answers with.
        cardinalities: How many categories each of the last columns has; their codes count from 0.
        embedding: How many numbers stand for a category, the same for each column as in the paper; None for a width by
            the column's cardinality (`embedding_width`).
        numerical: How numbers enter: ``plain`` as they are, or ``periodic``, each through waves of learnt frequencies.
        frequencies: Of each number, where periodic.
        frequency_scale: Standard deviation that frequencies are drawn with; the paper searched 0.01 to 100.
        numerical_width: How many numbers stand for a number, where periodic.
        hidden: The hidden widths, any number of them.
        batch_norm: Whether each hidden layer is normalised over the batch (Ioffe and Szegedy 2015).
        dropout: The part of each hidden layer's outputs set to 0 in training, in [0, 1).
        activation: A key of `autotune.models.activations.ACTIVATIONS`.

    Raises:
        UserError: The data gives no rows of columns, fewer columns than `cardinalities`, or there is no such numerical
            or activation.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        outputs: int,
        cardinalities: Sequence[int] = (),
        embedding: int | None = None,
        numerical: str = "plain",
        frequencies: int = 48,
        frequency_scale: float = 0.01,
        numerical_width: int = 24,
        hidden: Sequence[int] = (128, 128),
        batch_norm: bool = False,
        dropout: float = 0.0,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        if len(input_shape) != 1:
            raise UserError(
                "model",
                f"tabular takes rows of columns, of shape [columns], and the data gives {list(input_shape)}",
                "give model=cnn for images, or model=mlp, which flattens them",
            )
        if numerical not in NUMERICAL:
            raise UserError("model.numerical", f"no numerical {numerical}", nearest(str(numerical), NUMERICAL))
        self.numbers = numbers_among(input_shape, cardinalities)
        widths = [embedding_width(size) if embedding is None else embedding for size in cardinalities]
        self.categories = nn.ModuleList(map(_embedding, cardinalities, widths))
        self.periodic: Periodic | None = None
        number_width = 1
        if numerical == "periodic" and self.numbers > 0:
            self.periodic = Periodic(self.numbers, frequencies, frequency_scale, numerical_width)
            number_width = numerical_width
        entering = self.numbers * number_width + sum(widths)
        self.trunk = MLP((entering,), outputs, hidden, batch_norm, dropout, activation)

    def forward(self, features: Tensor) -> Tensor:
        """[n, columns] -> [n, outputs]."""
        numbers, codes = features[:, : self.numbers], features[:, self.numbers :].long()
        parts = [numbers if self.periodic is None else self.periodic(numbers)]
        parts += [embedded(codes[:, column]) for column, embedded in enumerate(self.categories)]
        answer: Tensor = self.trunk(torch.cat(parts, dim=1))
        return answer


class Periodic(nn.Module):
    """Each number x as ``relu(W [cos(2 pi c x), sin(2 pi c x)] + b)``, with c, W and b its own (Gorishniy 2022: PLR).

    Args:
        numbers: How many.
        frequencies: The length of c.
        scale: c is drawn from a normal distribution of mean 0 and this standard deviation.
        width: The length of b.
    """

    def __init__(self, numbers: int, frequencies: int, scale: float, width: int) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(torch.empty(numbers, frequencies))
        self.weight = nn.Parameter(torch.empty(numbers, 2 * frequencies, width))
        self.bias = nn.Parameter(torch.empty(numbers, width))
        nn.init.normal_(self.frequencies, std=scale)
        bound = 1 / math.sqrt(2 * frequencies)  # as torch draws the weights of a linear layer
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, numbers: Tensor) -> Tensor:
        """[n, numbers] -> [n, numbers * width]."""
        angles = 2 * math.pi * self.frequencies * numbers.unsqueeze(-1)
        waves = torch.cat([angles.cos(), angles.sin()], dim=-1)
        return torch.relu(torch.einsum("nfk,fkw->nfw", waves, self.weight) + self.bias).flatten(1)


def _embedding(cardinality: int, width: int) -> nn.Embedding:
    """Drawn as in the paper's code, each number within 1 / sqrt(width): about as large as a standardised number."""
    embedded = nn.Embedding(cardinality, width)
    nn.init.uniform_(embedded.weight, -1 / math.sqrt(width), 1 / math.sqrt(width))
    return embedded
