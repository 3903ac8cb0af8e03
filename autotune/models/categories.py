"""Category columns: the last columns of a row, as codes 0..cardinality-1 kept as floats beside the numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from autotune.errors import UserError


def numbers_among(input_shape: Sequence[int], cardinalities: Sequence[int]) -> int:
    """How many columns of a row are numbers: those before the categories.

    Args:
        input_shape: Shape of one sample.
        cardinalities: How many categories each of the last columns has.

    Raises:
        UserError: A sample is no row of so many columns.
    """
    if len(input_shape) != 1 or len(cardinalities) > input_shape[0]:
        raise UserError(
            "model.cardinalities",
            f"{list(cardinalities)} says that {len(cardinalities)} columns are categories, and the data gives "
            f"{list(input_shape)}",
            "give one cardinality for each of the last columns of a row",
        )
    return input_shape[0] - len(cardinalities)


class OneHot(nn.Module):
    """The last columns as zeros and a one; a code that is no category becomes zeros alone.

    Compared with all codes at once, without a loop over columns and without looking at the values, so that it can be
    exported and vmapped (`torch.nn.functional.one_hot` checks the values).

    Args:
        numbers: How many columns stay as they are, in front.
        cardinalities: How many categories each further column has.
    """

    columns: Tensor
    codes: Tensor

    def __init__(self, numbers: int, cardinalities: Sequence[int]) -> None:
        super().__init__()
        self.numbers = numbers
        self.width = numbers + sum(cardinalities)
        columns = [numbers + column for column, size in enumerate(cardinalities) for _ in range(size)]
        codes = [code for size in cardinalities for code in range(size)]
        # They follow from the data and are no part of what was learnt.
        self.register_buffer("columns", torch.tensor(columns, dtype=torch.long), persistent=False)
        self.register_buffer("codes", torch.tensor(codes, dtype=torch.long), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """[n, numbers + categories] -> [n, width]."""
        hot = features[:, self.columns] == self.codes
        return torch.cat([features[:, : self.numbers], hot.to(features.dtype)], dim=1)
