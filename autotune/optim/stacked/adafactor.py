"""Adafactor (Shazeer and Stern 2018), from torch 2.5 on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.linalg import vector_norm
from torch.optim import Optimizer

from autotune.optim.stacked._row_rule import RowRule


class StackedAdafactor(RowRule):
    """Steps relative to a parameter's own root mean square; a matrix' second moments from its row and column means.

    The state ``moments`` has in a row, parameter by parameter, a matrix' row means and then its column means (over the
    last two dimensions), or a vector's second moments themselves.
    """

    optimizers = (torch.optim.Adafactor,) if hasattr(torch.optim, "Adafactor") else ()
    reads = frozenset({"lr", "beta2_decay", "eps", "d", "weight_decay"})

    def __init__(self, shapes: Sequence[torch.Size], like: Tensor) -> None:
        super().__init__(shapes, like)
        self._width = sum(sum(_moments(shape)) for shape in self._shapes)

    def _read(self, optimizer: Optimizer, group: dict[str, Any]) -> dict[str, float]:
        smallest, least_size = group["eps"]
        return {
            "beta2_decay": group["beta2_decay"],
            "smallest": torch.finfo(self._like.dtype).eps if smallest is None else smallest,
            "least_size": least_size,
            "largest_step": group["d"],
            # Between the size's measurement and the step, so it is not the base's to do.
            "weight_decay": group["weight_decay"],
        }

    def _begins(self, options: dict[str, float]) -> dict[str, float]:
        return {"moments": 0.0}

    def _coefficients(self, rates: Tensor, updates: Tensor) -> dict[str, Tensor]:
        smallest = self._option("smallest")
        return {
            "new": updates ** self._option("beta2_decay"),
            "rate": torch.minimum(rates, updates**-0.5),
            "shrinks": 1 - rates * self._option("weight_decay"),
            "smallest": smallest,
            "smallest_square": smallest**2,
            "least_size": self._option("least_size"),
            "largest_step": self._option("largest_step"),
        }

    def _prepare(self) -> None:
        self._decays = self._rows("weight_decay").any

    def _update(self, parameters: Tensor, gradients: Tensor, columns: dict[str, Tensor]) -> None:
        sizes = [shape.numel() for shape in self._shapes]
        widths = [width for shape in self._shapes for width in _moments(shape)]
        moments = iter(torch.split(self._state["moments"], widths, dim=1))
        flat = (torch.split(each, sizes, dim=1) for each in (parameters, gradients, self._spare(gradients)))
        for shape, values, slopes, step in zip(self._shapes, *flat, strict=True):
            rows, others = next(moments), next(moments)
            if not shape.numel():
                continue
            root = shape.numel() ** 0.5
            # A size that is not a number is passed over, as torch's max() does.
            size = torch.fmax(vector_norm(values, dim=1, keepdim=True).div_(root), columns["least_size"])
            if self._decays:
                values.mul_(columns["shrinks"])
            torch.mul(slopes, slopes, out=step)
            if len(shape) > 1:
                _estimate_matrix(step, rows, others, shape, columns)
            else:
                rows.lerp_(step, columns["new"])
                step.copy_(rows)
            torch.maximum(step, columns["smallest_square"], out=step).rsqrt_().mul_(slopes)
            length = vector_norm(step, dim=1, keepdim=True).div_(columns["largest_step"] * root)
            rate = size.mul_(columns["rate"]).div_(length.fmax(torch.ones_like(length))).neg_()
            values.addcmul_(step, rate)


def _moments(shape: torch.Size) -> tuple[int, int]:
    """How many numbers of state a parameter has: row and column means, or a vector's own."""
    if len(shape) < 2:
        return shape.numel(), 0
    return shape[:-1].numel(), shape[:-2].numel() * shape[-1]


def _estimate_matrix(
    squares: Tensor, rows: Tensor, others: Tensor, shape: torch.Size, columns: dict[str, Tensor]
) -> None:
    """Update a matrix' moments by a gradient's squares, and put the second moments that follow in their place."""
    k = len(squares)
    matrix = squares.view(k, *shape)
    by_row = rows.view(k, *shape[:-1], 1)
    by_column = others.view(k, *shape[:-2], 1, shape[-1])
    new, smallest = (columns[name].view(k, *[1] * len(shape)) for name in ("new", "smallest"))
    by_row.lerp_(matrix.mean(dim=-1, keepdim=True), new)
    by_column.lerp_(matrix.mean(dim=-2, keepdim=True), new)
    torch.mul(by_row, by_column, out=matrix)
    matrix.div_(by_row.mean(dim=-2, keepdim=True).clamp_(min=smallest))
