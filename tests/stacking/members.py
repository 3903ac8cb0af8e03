"""Members of one structure, each its own network, and the same ones stacked."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autotune.stacking.layers import Pass
from autotune.stacking.network import StackedNetwork
from autotune.stacking.structure import dropout_rate

Build = Callable[[], nn.Module]


def members_of(builds: Build | Sequence[Build], count: int = 3) -> list[nn.Module]:
    """Networks in float64, each of weights and buffers that its seed draws."""
    made = []
    for seed, build in enumerate([builds] * count if callable(builds) else builds):
        torch.manual_seed(seed)
        network = build().double().train()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += 0.3 * torch.randn_like(parameter)
        made.append(network)
    return made


@dataclass
class Together:
    """Networks and what a stacked one makes of their numbers.

    Attributes:
        members: Each with the generator that its dropout draws from, seeded by its number.
        stacked: Tried on the first.
    """

    members: Sequence[nn.Module]
    stacked: StackedNetwork

    def __post_init__(self) -> None:
        self.parameters = {
            name: torch.stack([dict(each.named_parameters())[name].detach() for each in self.members]).requires_grad_()
            for name, _ in self.members[0].named_parameters()
        }
        self.buffers = {
            name: torch.stack([dict(each.named_buffers())[name] for each in self.members]).clone()
            for name, _ in self.members[0].named_buffers()
        }
        self.rates = {name: [dropout_rate(each, name) for each in self.members] for name in self.stacked.dropouts}
        self.generators = [torch.Generator().manual_seed(seed) for seed in range(len(self.members))]
        self.own_states = [generator.get_state() for generator in self.generators]

    def stacked_answer(self, features: Tensor, training: bool = True) -> Tensor:
        return self.stacked(Pass(self.parameters, self.buffers, training, self.generators, self.rates), features)

    def own_answer(self, number: int, features: Tensor, training: bool = True) -> Tensor:
        """What a member answers by itself, its dropout going on from where it was."""
        with torch.random.fork_rng():
            torch.set_rng_state(self.own_states[number])
            answer: Tensor = self.members[number].train(training)(features)
            self.own_states[number] = torch.get_rng_state()
        return answer


def stacked(builds: Build | Sequence[Build], draw: Callable[[int], Tensor]) -> Together:
    """Networks, and the first of them stacked for all."""
    members = members_of(builds)
    torch.manual_seed(100)
    return Together(members, StackedNetwork(copy.deepcopy(members[0]), draw(4).double()))


def same_as_alone(together: Together, draw: Callable[[int], Tensor], steps: int = 3) -> None:
    """Each member's answers, gradients and buffers are its own, over several steps on batches of its own."""
    members = together.members
    for step in range(steps):
        features = torch.stack([draw(5 + step).double() for _ in members])
        answer = together.stacked_answer(features.clone())
        gradients = torch.autograd.grad(answer.square().sum(), list(together.parameters.values()))
        for number, member in enumerate(members):
            own = together.own_answer(number, features[number].clone())
            torch.testing.assert_close(answer[number], own, rtol=1e-10, atol=1e-10)
            expected = torch.autograd.grad(own.square().sum(), list(member.parameters()))
            for (name, _), found, right in zip(member.named_parameters(), gradients, expected, strict=True):
                torch.testing.assert_close(
                    found[number], right, rtol=1e-10, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}"
                )
            _same_buffers(together, number)
        with torch.no_grad():
            for (name, stacked), gradient in zip(together.parameters.items(), gradients, strict=True):
                stacked -= 0.01 * gradient.sign()
                for number, member in enumerate(members):
                    dict(member.named_parameters())[name].copy_(stacked[number])
    shared = draw(7).double()
    answer = together.stacked_answer(shared.expand(len(members), *shared.shape), training=False)
    for number in range(len(members)):
        own = together.own_answer(number, shared, training=False)
        torch.testing.assert_close(answer[number], own, rtol=1e-10, atol=1e-10)
        _same_buffers(together, number)


def _same_buffers(together: Together, number: int) -> None:
    for name, buffer in together.members[number].named_buffers():
        torch.testing.assert_close(together.buffers[name][number], buffer, rtol=1e-10, atol=1e-10)
