"""The numbers of many networks of one structure, a row for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Row:
    """One network's numbers.

    Attributes:
        parameters: All of them, one flattened behind the other, [P].
        average: Their running average, [P]; None where none is kept.
        buffers: By name.
    """

    parameters: Tensor
    average: Tensor | None
    buffers: Mapping[str, Tensor]

    @classmethod
    def of(cls, network: nn.Module, averaged: bool) -> Row:
        """The numbers of a network that is not trained yet."""
        flat = torch.cat([parameter.detach().reshape(-1) for parameter in network.parameters()])
        return cls(flat, flat if averaged else None, dict(network.named_buffers()))


class Stack:
    """The numbers of k networks: what is trained, its gradients, its running averages and its buffers.

    Args:
        network: One of them, for names and shapes.
        rows: Of all of them, at least one.
    """

    def __init__(self, network: nn.Module, rows: Sequence[Row]) -> None:
        self._shapes = {name: parameter.shape for name, parameter in network.named_parameters()}
        self.parameters = torch.stack([row.parameters for row in rows])
        self.gradients = torch.empty_like(self.parameters)
        averages = [row.average for row in rows if row.average is not None]
        self.averages = torch.stack(averages) if averages else None
        self.buffers = {name: torch.stack([row.buffers[name] for row in rows]) for name in rows[0].buffers}

    def __len__(self) -> int:
        return len(self.parameters)

    @property
    def judged(self) -> Tensor:
        """What is judged: the averages where they are kept, [k, P]."""
        return self.parameters if self.averages is None else self.averages

    def row(self, number: int) -> Row:
        """One network's numbers, in the place where they are kept."""
        average = None if self.averages is None else self.averages[number]
        return Row(self.parameters[number], average, {name: each[number] for name, each in self.buffers.items()})

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """The parameters by name, [k, ...] each, within rows of theirs [k, P]."""
        found, start = {}, 0
        for name, shape in self._shapes.items():
            found[name] = flat[:, start : start + shape.numel()].view(len(flat), *shape)
            start += shape.numel()
        return found

    def clip(self, limits: Tensor, by: str) -> None:
        """Clip each network's gradients, as torch.nn.utils.clip_grad_norm_ and clip_grad_value_ do.

        Args:
            limits: [k, 1].
            by: ``norm`` of all of them together, or ``value`` of each number.
        """
        if by == "value":
            self.gradients.clamp_(-limits, limits)
        else:
            norms = torch.linalg.vector_norm(self.gradients, dim=1, keepdim=True)
            self.gradients.mul_((limits / (norms + 1e-6)).clamp_max_(1.0))

    def average(self, weights: Tensor) -> None:
        """Move the averages toward the parameters, each by its own weight, [k, 1]."""
        if self.averages is not None:
            self.averages.lerp_(self.parameters, weights)

    def kept_buffers(self) -> dict[str, Tensor]:
        """A copy of the buffers, for `restore`."""
        return {name: buffer.clone() for name, buffer in self.buffers.items()}

    def restore(self, kept: Mapping[str, Tensor]) -> None:
        """Put the buffers back."""
        for name, buffer in kept.items():
            self.buffers[name].copy_(buffer)
