"""Rectified Adam (Liu et al. 2020)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer, RAdam

from autotune.optim.stacked._row_rule import RowRule


class StackedRAdam(RowRule):
    """Adam's step times a factor that makes good the second moment's variance; the first moment alone while it is high.

    The state ``second`` is v / (1 - b2), as `StackedAdam`'s.
    """

    optimizers = (RAdam,)
    reads = frozenset({"lr", "betas", "eps", "weight_decay", "decoupled_weight_decay"})

    def _read(self, optimizer: Optimizer, group: dict[str, Any]) -> dict[str, float]:
        return {
            "beta1": group["betas"][0],
            "beta2": group["betas"][1],
            "eps": group["eps"],
            "decoupled" if group["decoupled_weight_decay"] else "coupled": group["weight_decay"],
        }

    def _begins(self, options: dict[str, float]) -> dict[str, float]:
        return {"first": 0.0, "second": 0.0}

    def _coefficients(self, rates: Tensor, updates: Tensor) -> dict[str, Tensor]:
        beta1, beta2 = self._option("beta1"), self._option("beta2")
        scale = (1 - beta2).sqrt()
        correction = 1 - beta2**updates
        limit = 2 / (1 - beta2) - 1
        length = limit - 2 * updates * beta2**updates / correction
        rectifies = length > 5
        # Where it does not rectify, the square may be negative, and its root is not used.
        square = (length - 4) * (length - 2) * limit / ((limit - 4) * (limit - 2) * length)
        factor = torch.where(rectifies, (square * correction).sqrt() / scale, 1.0)
        self._rectified = [self._rows_where(each) for each in rectifies.expand_as(updates).tolist()]
        return {
            "new": 1 - beta1,
            "beta2": beta2,
            "eps": self._option("eps") / scale,
            "rate": -rates / (1 - beta1**updates) * factor,
        }

    def _update(self, parameters: Tensor, gradients: Tensor, columns: dict[str, Tensor]) -> None:
        first, second = self._state["first"], self._state["second"]
        first.lerp_(gradients, columns["new"])
        second.mul_(columns["beta2"]).addcmul_(gradients, gradients)
        direction, rectified = first, self._rectified[self._made]
        if rectified.any:
            size = torch.sqrt(second, out=gradients).add_(columns["eps"])
            rectified.fill_others(size, 1.0)
            direction = torch.div(first, size, out=size)
        parameters.addcmul_(direction, columns["rate"])
