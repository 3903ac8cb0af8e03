"""Adam and AdamW (Kingma and Ba 2015; Loshchilov and Hutter 2019)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam, AdamW, Optimizer

from autotune.optim.stacked._row_rule import RowRule


class StackedAdam(RowRule):
    """m <- b1 m + (1 - b1) g, v <- b2 v + (1 - b2) g^2, theta <- theta - lr m_hat / (sqrt(v_hat) + eps).

    The state ``second`` is v / (1 - b2): g^2 is added as it is, which spares a pass over the buffers. That and the
    bias corrections are made good in the coefficients.
    """

    optimizers = (Adam, AdamW)
    reads = frozenset({"lr", "betas", "eps", "weight_decay", "decoupled_weight_decay"})

    def _read(self, optimizer: Optimizer, group: dict[str, Any]) -> dict[str, float]:
        # Older releases of torch say it by the class alone.
        decoupled = isinstance(optimizer, AdamW) or group.get("decoupled_weight_decay", False)
        return {
            "beta1": group["betas"][0],
            "beta2": group["betas"][1],
            "eps": group["eps"],
            "decoupled" if decoupled else "coupled": group["weight_decay"],
        }

    def _begins(self, options: dict[str, float]) -> dict[str, float]:
        return {"first": 0.0, "second": 0.0}

    def _coefficients(self, rates: Tensor, updates: Tensor) -> dict[str, Tensor]:
        beta1, beta2 = self._option("beta1"), self._option("beta2")
        # sqrt(v_hat) = scale sqrt(second)
        scale = ((1 - beta2) / (1 - beta2**updates)).sqrt()
        return {
            "new": 1 - beta1,
            "beta2": beta2,
            "eps": self._option("eps") / scale,
            "rate": -rates / (1 - beta1**updates) / scale,
        }

    def _update(self, parameters: Tensor, gradients: Tensor, columns: dict[str, Tensor]) -> None:
        first, second = self._state["first"], self._state["second"]
        first.lerp_(gradients, columns["new"])
        second.mul_(columns["beta2"]).addcmul_(gradients, gradients)
        size = torch.sqrt(second, out=gradients).add_(columns["eps"])
        parameters.addcmul_(torch.div(first, size, out=size), columns["rate"])
