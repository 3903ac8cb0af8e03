"""AdaGrad (Duchi, Hazan and Singer 2011)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Adagrad, Optimizer

from autotune.optim.stacked._row_rule import RowRule


class StackedAdagrad(RowRule):
    """s <- s + g^2, theta <- theta - lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps)."""

    optimizers = (Adagrad,)
    reads = frozenset({"lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps"})

    def _read(self, optimizer: Optimizer, group: dict[str, Any]) -> dict[str, float]:
        return {
            "lr_decay": group["lr_decay"],
            "start": group["initial_accumulator_value"],
            "eps": group["eps"],
            "coupled": group["weight_decay"],
        }

    def _begins(self, options: dict[str, float]) -> dict[str, float]:
        return {"sum": options["start"]}

    def _coefficients(self, rates: Tensor, updates: Tensor) -> dict[str, Tensor]:
        return {"eps": self._option("eps"), "rate": -rates / (1 + (updates - 1) * self._option("lr_decay"))}

    def _update(self, parameters: Tensor, gradients: Tensor, columns: dict[str, Tensor]) -> None:
        total = self._state["sum"].addcmul_(gradients, gradients)
        size = torch.sqrt(total, out=self._spare(gradients)).add_(columns["eps"])
        parameters.addcmul_(gradients.div_(size), columns["rate"])
