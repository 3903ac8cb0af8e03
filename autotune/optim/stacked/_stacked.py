"""What the steps of many optimizers at once are to whoever trains many networks at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class StackedOptimizer(ABC):
    """The steps of the optimizers of several members, networks of one shape, each with options of its own.

    A member's parameters are one row of a flat buffer, one parameter flattened behind the other; so are its gradients.
    A member's steps are those of its own optimizer, whoever else is there.

    Args:
        shapes: Of a network's parameters, in the order of ``network.parameters()``; their numbers together are P.
        like: Its dtype and device are the buffers'.
    """

    def __init__(self, shapes: Sequence[torch.Size], like: Tensor) -> None:
        self._shapes = tuple(shapes)
        self._like = like.detach()[:0]

    @classmethod
    @abstractmethod
    def claims(cls, optimizer: Optimizer) -> bool:
        """Whether these are exactly the steps this optimizer makes."""

    @abstractmethod
    def join(self, optimizer: Optimizer, decay: float = 0.0) -> None:
        """A member joins behind the others; what was planned is forgotten.

        Args:
            optimizer: Its own, which has made no step yet, with all parameters of its network; its rates as they are
                now are the base rates.
            decay: Decoupled weight decay: theta <- theta (1 - lr decay) before each step, as `Update.decays`.
        """

    @abstractmethod
    def keep(self, members: Sequence[int]) -> None:
        """Only these members stay, in this order; what was planned is forgotten."""

    @abstractmethod
    def state_of(self, member: int) -> dict[str, Any]:
        """What a member's next updates depend on, as plain values and tensors; what was planned is forgotten."""

    @abstractmethod
    def restore(self, member: int, state: dict[str, Any]) -> None:
        """Have a member that has made no update go on from what `state_of` said of it; what was planned is forgotten.

        Raises:
            KeyError: It is of another rule.
        """

    @abstractmethod
    def __len__(self) -> int:
        """How many members there are, k."""

    @abstractmethod
    def plan(self, factors: Sequence[Sequence[float]]) -> None:
        """Prepare the next updates, in place of those planned before and not made.

        Args:
            factors: [updates][k], a schedule's on the members' base rates.

        Raises:
            ValueError: The factors are not those of k members.
        """

    @abstractmethod
    def step(self, parameters: Tensor, gradients: Tensor) -> None:
        """Make the next planned update, without waiting for the device where all members' steps are made at once.

        Args:
            parameters: [k, P], changed in place.
            gradients: [k, P], of no use afterwards.

        Raises:
            RuntimeError: No update is planned any more.
        """

    def _check(self, factors: Sequence[Sequence[float]]) -> None:
        if any(len(each) != len(self) for each in factors):
            raise ValueError(f"factors are planned for {len(self)} members, one each")
