"""Any optimizer, one member after another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from autotune.optim.stacked._stacked import StackedOptimizer
from autotune.optim.update import Update


@dataclass(frozen=True, slots=True)
class Member:
    """A member's optimizer, its groups with base rates, its parameters with their places in a row, and its decay."""

    optimizer: Optimizer
    groups: list[tuple[dict[str, Any], float]]
    parameters: list[tuple[Tensor, int]]
    update: Update


class OneByOne(StackedOptimizer):
    """Each member's own optimizer, whose parameters and gradients are for a step the member's rows."""

    def __init__(self, shapes: Sequence[torch.Size], like: Tensor) -> None:
        super().__init__(shapes, like)
        self._members: list[Member] = []
        self._factors: Sequence[Sequence[float]] = ()
        self._made = 0

    @classmethod
    def claims(cls, optimizer: Optimizer) -> bool:
        """Whether each parameter's place in the network can be told, by its shape where there are several groups."""
        groups = [{each.shape for each in group["params"]} for group in optimizer.param_groups]
        return sum(map(len, groups)) == len(set().union(*groups))

    def join(self, optimizer: Optimizer, decay: float = 0.0) -> None:
        """A member joins behind the others; what was planned is forgotten.

        Raises:
            ValueError: The optimizer's parameters are not the network's, or their places cannot be told.
        """
        groups = [(group, group["lr"]) for group in optimizer.param_groups]
        self._members.append(Member(optimizer, groups, self._places(optimizer), Update(decay=decay)))
        self._factors = ()

    def keep(self, members: Sequence[int]) -> None:
        self._members = [self._members[i] for i in members]
        self._factors = ()

    def state_of(self, member: int) -> dict[str, Any]:
        return {"optimizer": self._members[member].optimizer.state_dict()}

    def restore(self, member: int, state: dict[str, Any]) -> None:
        own = self._members[member]
        own.optimizer.load_state_dict(state["optimizer"])  # which makes its groups anew
        bases = [base for _, base in own.groups]
        groups = list(zip(own.optimizer.param_groups, bases, strict=True))
        self._members[member] = replace(own, groups=groups)
        self._factors = ()

    def __len__(self) -> int:
        return len(self._members)

    def plan(self, factors: Sequence[Sequence[float]]) -> None:
        self._check(factors)
        self._factors, self._made = factors, 0

    def step(self, parameters: Tensor, gradients: Tensor) -> None:
        if self._made >= len(self._factors):
            raise RuntimeError("no update is planned")
        sizes = [shape.numel() for shape in self._shapes]
        rows = zip(parameters.detach(), gradients.detach(), strict=True)
        for member, factor, (row, gradient) in zip(self._members, self._factors[self._made], rows, strict=True):
            values, slopes = row.split(sizes), gradient.split(sizes)
            for parameter, place in member.parameters:
                parameter.data = values[place].view(parameter.shape)
                parameter.grad = slopes[place].view(parameter.shape)
            for group, base in member.groups:
                group["lr"] = base * factor
            if member.update.decay:
                member.update.decays(member.optimizer)
            member.optimizer.step()
        self._made += 1

    def _places(self, optimizer: Optimizer) -> list[tuple[Tensor, int]]:
        """Each parameter with its place among the network's; those of one shape are in the network's order."""
        given = [each for group in optimizer.param_groups for each in group["params"]]
        if not self.claims(optimizer) or sorted(each.shape for each in given) != sorted(self._shapes):
            raise ValueError(f"{type(optimizer).__name__} does not tell its parameters' places in the network")
        free = {shape: [i for i, each in enumerate(self._shapes) if each == shape] for shape in self._shapes}
        return [(each, free[each.shape].pop(0)) for each in given]
