"""RMSprop (Tieleman and Hinton 2012, lecture 6.5), with momentum or without."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer, RMSprop

from autotune.optim.stacked._row_rule import RowRule, Rows


class StackedRMSprop(RowRule):
    """v <- alpha v + (1 - alpha) g^2, b <- momentum b + g / (sqrt(v) + eps), theta <- theta - lr b.

    The state ``second`` is v / (1 - alpha), as `StackedAdam`'s, and ``past`` is in the unit that follows. The centred
    rule is left out: it takes the root of a difference that rounding alone can make negative, so that its steps are
    only torch's if every rounding is.
    """

    optimizers = (RMSprop,)
    reads = frozenset({"lr", "alpha", "momentum", "eps", "weight_decay"})
    _heavy = Rows(False, None)

    @classmethod
    def claims(cls, optimizer: Optimizer) -> bool:
        return super().claims(optimizer) and optimizer.param_groups[0]["alpha"] < 1

    def _read(self, optimizer: Optimizer, group: dict[str, Any]) -> dict[str, float]:
        return {
            "alpha": group["alpha"],
            "momentum": group["momentum"],
            "eps": group["eps"],
            "coupled": group["weight_decay"],
        }

    def _begins(self, options: dict[str, float]) -> dict[str, float]:
        return {"second": 0.0, "past": 0.0} if options["momentum"] else {"second": 0.0}

    def _coefficients(self, rates: Tensor, updates: Tensor) -> dict[str, Tensor]:
        alpha = self._option("alpha")
        scale = (1 - alpha).sqrt()
        return {
            "alpha": alpha,
            "eps": self._option("eps") / scale,
            "momentum": self._option("momentum"),
            "rate": -rates / scale,
        }

    def _prepare(self) -> None:
        self._heavy = self._rows("momentum")

    def _update(self, parameters: Tensor, gradients: Tensor, columns: dict[str, Tensor]) -> None:
        second = self._state["second"]
        second.mul_(columns["alpha"]).addcmul_(gradients, gradients)
        size = torch.sqrt(second, out=self._spare(gradients)).add_(columns["eps"])
        direction = gradients.div_(size)
        if self._heavy.any:
            past = self._state["past"]
            self._heavy.fill_others(past, 0.0)
            direction = torch.addcmul(direction, past, columns["momentum"], out=past)
        parameters.addcmul_(direction, columns["rate"])
