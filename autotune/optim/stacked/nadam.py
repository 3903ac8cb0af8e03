"""Adam with Nesterov momentum (Dozat 2016)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import NAdam, Optimizer

from autotune.optim.stacked._row_rule import RowRule


class StackedNAdam(RowRule):
    """Adam's moments; theta steps along the gradient and the first moment, whose momentum mu grows with the updates.

    The state ``second`` is v / (1 - b2), as `StackedAdam`'s.
    """

    optimizers = (NAdam,)
    reads = frozenset({"lr", "betas", "eps", "weight_decay", "momentum_decay", "decoupled_weight_decay"})
    _products: Tensor | None = None

    def _read(self, optimizer: Optimizer, group: dict[str, Any]) -> dict[str, float]:
        return {
            "beta1": group["betas"][0],
            "beta2": group["betas"][1],
            "eps": group["eps"],
            "momentum_decay": group["momentum_decay"],
            "decoupled" if group["decoupled_weight_decay"] else "coupled": group["weight_decay"],
        }

    def _begins(self, options: dict[str, float]) -> dict[str, float]:
        return {"first": 0.0, "second": 0.0}

    def _coefficients(self, rates: Tensor, updates: Tensor) -> dict[str, Tensor]:
        beta1, beta2 = self._option("beta1"), self._option("beta2")
        momentum_decay = self._option("momentum_decay")
        scale = ((1 - beta2) / (1 - beta2**updates)).sqrt()
        momentum = beta1 * (1 - 0.5 * 0.96 ** (updates * momentum_decay))
        following = beta1 * (1 - 0.5 * 0.96 ** ((updates + 1) * momentum_decay))
        products = self._multiply(momentum)
        return {
            "new": 1 - beta1,
            "beta2": beta2,
            "eps": self._option("eps") / scale,
            "now": -rates * (1 - momentum) / (1 - products) / scale,
            "next": -rates * following / (1 - products * following) / scale,
        }

    def _update(self, parameters: Tensor, gradients: Tensor, columns: dict[str, Tensor]) -> None:
        first, second = self._state["first"], self._state["second"]
        first.lerp_(gradients, columns["new"])
        second.mul_(columns["beta2"]).addcmul_(gradients, gradients)
        size = torch.sqrt(second, out=self._spare(gradients)).add_(columns["eps"])
        direction = gradients.mul_(columns["now"]).addcmul_(first, columns["next"])
        parameters.addcdiv_(direction, size)

    def _multiply(self, momentum: Tensor) -> Tensor:
        """[updates, k]: the product of a member's momenta up to each update, rounded as torch rounds it."""
        rounded = torch.float64 if torch.get_default_dtype() == torch.float64 else torch.float32
        product = torch.tensor([each.carried for each in self._members], dtype=rounded)
        self._products = torch.empty_like(momentum)
        for update, factor in enumerate(momentum.to(rounded)):
            product = product * factor
            self._products[update] = product
        return self._products

    def _settle(self) -> None:
        if self._made and self._products is not None:
            for member, product in zip(self._members, self._products[self._made - 1].tolist(), strict=True):
                member.carried = product
        super()._settle()
