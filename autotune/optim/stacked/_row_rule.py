"""What the rules share that make all members' steps at once."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from autotune.optim.stacked._stacked import StackedOptimizer

# Options of torch's that say how a step is computed, not what it is.
WITHOUT_EFFECT = frozenset({"params", "param_names", "foreach", "fused"})

# Coefficients are of the buffers' dtype, and in a shorter one 0.999 would be 1.
DTYPES = (torch.float32, torch.float64)


@dataclass(slots=True)
class Member:
    """A member's options, the updates it has made, and what it carries from one plan to the next."""

    options: dict[str, float]
    updates: int = 0
    carried: float = 1.0


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of which something holds.

    Attributes:
        any: Whether there is one.
        others: The indices of all other rows; None where it holds of all.
    """

    any: bool
    others: Tensor | None

    def fill_others(self, buffer: Tensor, value: float) -> None:
        """Fill the other rows of a buffer; a product with 0 would let an infinite number through as NaN."""
        if self.others is not None:
            buffer.index_fill_(0, self.others, value)


class RowRule(StackedOptimizer):
    """A rule whose every operation is on all rows, the members' coefficients a column [k, 1] beside them.

    Coefficients are worked out in float64 for many updates ahead, so that a step costs the device's work alone.

    A rule says which of torch's optimizers it makes the steps of, which of their options it reads, which state it keeps
    and how it steps. Its weight decay is named ``coupled`` or ``decoupled`` and is done here, before its step.
    """

    optimizers: ClassVar[tuple[type[Optimizer], ...]]
    reads: ClassVar[frozenset[str]]

    def __init__(self, shapes: Sequence[torch.Size], like: Tensor) -> None:
        super().__init__(shapes, like)
        self._size = sum(shape.numel() for shape in self._shapes)
        self._width = self._size
        self._members: list[Member] = []
        self._state: dict[str, Tensor] = {}
        self._names: tuple[str, ...] = ()
        self._columns = self._like.new_empty(0)
        self._planned = self._made = 0
        self._shrinks = False
        self._coupled = Rows(False, None)
        self._scratch = self._like.new_empty(0, self._size)

    @classmethod
    def claims(cls, optimizer: Optimizer) -> bool:
        if type(optimizer) not in cls.optimizers or len(optimizer.param_groups) != 1:
            return False
        group = optimizer.param_groups[0]
        return (
            all(each.dtype in DTYPES for each in group["params"])
            and all(_is_plain(group[name]) for name in cls.reads if name in group)
            # An option this rule does not know may be there as long as it is off.
            and not any(group[name] for name in group.keys() - cls.reads - WITHOUT_EFFECT)
        )

    def join(self, optimizer: Optimizer, decay: float = 0.0) -> None:
        self._settle()
        group = optimizer.param_groups[0]
        self._members.append(Member({"rate": group["lr"], "decay": decay, **self._read(optimizer, group)}))

    def keep(self, members: Sequence[int]) -> None:
        self._settle()
        self._grow()
        self._members = [self._members[i] for i in members]
        rows = self._on_device(list(members))
        needed = self._needed()
        self._state = {name: each[rows] for name, each in self._state.items() if name in needed}

    def state_of(self, member: int) -> dict[str, Any]:
        self._settle()
        self._grow()
        own = self._members[member]
        rows = {name: self._state[name][member].clone() for name in self._begins(own.options)}
        return {"updates": own.updates, "carried": own.carried, "rows": rows}

    def restore(self, member: int, state: dict[str, Any]) -> None:
        self._settle()
        self._grow()
        own = self._members[member]
        own.updates, own.carried = state["updates"], state["carried"]
        for name in self._begins(own.options):
            self._state[name][member] = state["rows"][name]

    def __len__(self) -> int:
        return len(self._members)

    def plan(self, factors: Sequence[Sequence[float]]) -> None:
        self._check(factors)
        self._settle()
        self._grow()
        count, k = len(factors), len(self)
        rates = torch.tensor(factors, dtype=torch.float64).reshape(count, k) * self._option("rate")
        made = torch.tensor([each.updates for each in self._members], dtype=torch.float64)
        updates = made + torch.arange(1, count + 1, dtype=torch.float64)[:, None]
        shrink = (1 - rates * self._option("decay")) * (1 - rates * self._option("decoupled"))
        columns = {"shrink": shrink, "coupled": self._option("coupled"), **self._coefficients(rates, updates)}
        self._names = tuple(columns)
        stacked = torch.stack([each.expand(count, k) for each in columns.values()], dim=1)
        # Rounded first: not every device knows float64.
        self._columns = stacked[..., None].to(self._like.dtype).to(self._like.device)
        self._planned = count
        self._shrinks = bool((shrink != 1).any())
        self._coupled = self._rows("coupled")
        self._prepare()

    @torch.no_grad()
    def step(self, parameters: Tensor, gradients: Tensor) -> None:
        if self._made == self._planned:
            raise RuntimeError("no update is planned")
        if self._members:
            self._step(parameters, gradients)
        self._made += 1

    def _step(self, parameters: Tensor, gradients: Tensor) -> None:
        columns = dict(zip(self._names, self._columns[self._made].unbind(), strict=True))
        if self._shrinks:
            parameters.mul_(columns["shrink"])
        if self._coupled.any:
            self._decay_through(gradients, parameters, columns["coupled"])
        self._update(parameters, gradients, columns)

    @abstractmethod
    def _read(self, optimizer: Optimizer, group: dict[str, Any]) -> dict[str, float]:
        """A member's options as numbers; all members have the same ones."""

    @abstractmethod
    def _begins(self, options: dict[str, float]) -> dict[str, float]:
        """The state a member needs, rows of numbers, each with the number it is filled with at first."""

    @abstractmethod
    def _coefficients(self, rates: Tensor, updates: Tensor) -> dict[str, Tensor]:
        """The coefficients of the planned updates, each [updates, k] or [k].

        Args:
            rates: [updates, k], learning rates with their factors.
            updates: [updates, k], the members' own counts, 1 at their first.
        """

    @abstractmethod
    def _update(self, parameters: Tensor, gradients: Tensor, columns: dict[str, Tensor]) -> None:
        """Make one step, the weights already decayed; columns are the coefficients, each [k, 1]."""

    def _prepare(self) -> None:
        """Look at what the members have in common, before the planned updates."""

    def _option(self, name: str) -> Tensor:
        """[k], float64; 0 where a member has none of that name."""
        return torch.tensor([each.options.get(name, 0.0) for each in self._members], dtype=torch.float64)

    def _rows(self, name: str) -> Rows:
        """The rows whose option is not 0."""
        return self._rows_where((self._option(name) != 0).tolist())

    def _rows_where(self, flags: Sequence[bool]) -> Rows:
        others = [i for i, flag in enumerate(flags) if not flag]
        return Rows(any(flags), self._on_device(others) if others else None)

    def _on_device(self, rows: list[int]) -> Tensor:
        return torch.tensor(rows, dtype=torch.long, device=self._like.device)

    def _spare(self, buffer: Tensor) -> Tensor:
        """A buffer [k, P] for what does not last, the same one each time."""
        if len(self._scratch) != len(buffer):
            self._scratch = torch.empty_like(buffer, memory_format=torch.contiguous_format)
        return self._scratch

    def _decay_through(self, gradients: Tensor, parameters: Tensor, coupled: Tensor) -> None:
        """Add the gradient of (coupled / 2) theta^2."""
        if self._coupled.others is None:
            gradients.addcmul_(parameters, coupled)
            return
        decay = torch.mul(parameters, coupled, out=self._spare(parameters))
        self._coupled.fill_others(decay, 0.0)
        gradients.add_(decay)

    def _needed(self) -> set[str]:
        return {name for each in self._members for name in self._begins(each.options)}

    def _grow(self) -> None:
        """Give the members that joined their rows of state, and all members those only a new one needs."""
        for name in sorted(self._needed()):
            there = self._state.get(name, self._like.new_empty(0, self._width))
            if len(there) == len(self):
                continue
            new = self._like.new_zeros(len(self), self._width)
            new[: len(there)] = there
            for row in range(len(there), len(self)):
                new[row] = self._begins(self._members[row].options).get(name, 0.0)
            self._state[name] = new

    def _settle(self) -> None:
        """Count the updates made since the plan, and forget the rest of it."""
        for each in self._members:
            each.updates += self._made
        self._planned = self._made = 0


def _is_plain(value: Any) -> bool:
    """Whether it is a number, None, or several such; a tensor's value may change between plan and step."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return all(_is_plain(each) for each in value)
    return value is None or isinstance(value, int | float)
