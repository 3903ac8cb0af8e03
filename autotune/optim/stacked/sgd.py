"""Gradient descent with momentum (Polyak 1964) and Nesterov's (Sutskever et al. 2013)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from autotune.optim.stacked._row_rule import RowRule, Rows


class StackedSGD(RowRule):
    """b <- momentum b + (1 - dampening) g, b = g at first; theta <- theta - lr b.

    A member without momentum has b = g, one with Nesterov's steps along g + momentum b. Where no member has momentum,
    there is no b.
    """

    optimizers = (SGD,)
    reads = frozenset({"lr", "momentum", "dampening", "weight_decay", "nesterov"})
    _heavy = _nesterov = Rows(False, None)
    _damped = False

    def _read(self, optimizer: Optimizer, group: dict[str, Any]) -> dict[str, float]:
        return {
            "momentum": group["momentum"],
            "dampening": group["dampening"] if group["momentum"] else 0.0,
            "nesterov": float(group["nesterov"]),
            "coupled": group["weight_decay"],
        }

    def _begins(self, options: dict[str, float]) -> dict[str, float]:
        return {"past": 0.0} if options["momentum"] else {}

    def _coefficients(self, rates: Tensor, updates: Tensor) -> dict[str, Tensor]:
        momentum = self._option("momentum")
        return {
            "rate": -rates,
            "momentum": momentum,
            "fresh": torch.where(updates == 1, 1.0, 1 - self._option("dampening")),
            "ahead": torch.where(self._option("nesterov") != 0, momentum, 1.0),
        }

    def _prepare(self) -> None:
        self._heavy, self._nesterov = self._rows("momentum"), self._rows("nesterov")
        self._damped = self._rows("dampening").any

    def _update(self, parameters: Tensor, gradients: Tensor, columns: dict[str, Tensor]) -> None:
        direction = gradients
        if self._heavy.any:
            direction = past = self._state["past"]
            self._heavy.fill_others(past, 0.0)
            if self._damped:
                past.mul_(columns["momentum"]).addcmul_(gradients, columns["fresh"])
            else:
                torch.addcmul(gradients, past, columns["momentum"], out=past)
            if self._nesterov.any:
                # The rows without Nesterov's become b itself.
                self._nesterov.fill_others(gradients, 0.0)
                direction = gradients.addcmul_(past, columns["ahead"])
        parameters.addcmul_(direction, columns["rate"])
