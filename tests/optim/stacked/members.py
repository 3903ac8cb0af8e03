"""Members with options of their own, and the way each goes alone under torch's own optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam, AdamW, NAdam, Optimizer, RAdam, RMSprop

from autotune.optim.muon import MuonWithAdamW
from autotune.optim.stacked import StackedOptimizer, stacked_for

SHAPES = tuple(torch.Size(each) for each in ((5, 3), (5,), (2, 3, 2, 2), (), (5, 3), (1, 5), (4,)))
SIZES = [shape.numel() for shape in SHAPES]
P = sum(SIZES)
UPDATES = 25

Make = Callable[[Iterable[nn.Parameter]], Optimizer]
Adafactor = getattr(torch.optim, "Adafactor", None)


@dataclass(frozen=True)
class Member:
    """Makes an optimizer; start, gradients and factors are drawn from a seed."""

    make: Make
    decay: float = 0.0
    seed: int = 0
    dtype: torch.dtype = torch.float64
    start: Tensor = field(init=False)
    gradients: Tensor = field(init=False)
    factors: list[float] = field(init=False)

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(self.seed)
        random = torch.randn(UPDATES + 1, P, generator=generator, dtype=torch.float64)
        object.__setattr__(self, "start", random[0].to(self.dtype))
        object.__setattr__(self, "gradients", random[1:].to(self.dtype))
        object.__setattr__(self, "factors", torch.rand(UPDATES, generator=generator).mul(2).tolist())

    def parameters(self) -> list[nn.Parameter]:
        return [nn.Parameter(each.view(s).clone()) for each, s in zip(self.start.split(SIZES), SHAPES, strict=True)]

    def optimizer(self) -> Optimizer:
        return self.make(self.parameters())

    def alone(self, updates: int = UPDATES) -> Tensor:
        """[updates + 1, P]: the start, and the parameters after each update under torch's own optimizer."""
        parameters = self.parameters()
        optimizer = self.make(parameters)
        bases = [group["lr"] for group in optimizer.param_groups]
        way = [self.start]
        for gradient, factor in zip(self.gradients[:updates], self.factors, strict=False):
            for parameter, slope in zip(parameters, gradient.split(SIZES), strict=True):
                parameter.grad = slope.view(parameter.shape).clone()
            for group, base in zip(optimizer.param_groups, bases, strict=True):
                group["lr"] = base * factor
                for parameter in group["params"]:
                    parameter.data.mul_(1 - group["lr"] * self.decay)
            optimizer.step()
            way.append(torch.cat([each.detach().flatten() for each in parameters]))
        return torch.stack(way)


def together(members: Sequence[Member], plans: Sequence[int] = (10, 15)) -> Tensor:
    """[k, updates + 1, P]: the same of all members at once, planned in pieces, in the middle of a larger buffer."""
    rule = rule_of(members)
    for each in members:
        rule.join(each.optimizer(), each.decay)
    buffer = torch.full((2, len(members) + 3, P), 7.0, dtype=members[0].dtype)
    parameters, gradients = buffer[:, 1:-2]
    parameters.copy_(torch.stack([each.start for each in members]))
    way, made = [parameters.clone()], 0
    for updates in plans:
        rule.plan([[each.factors[made + i] for each in members] for i in range(updates)])
        for _ in range(updates):
            gradients.copy_(torch.stack([each.gradients[made] for each in members]))
            rule.step(parameters, gradients)
            way.append(parameters.clone())
            made += 1
    assert (buffer[:, [0, -2, -1]] == 7).all()
    return torch.stack(way, dim=1)


def rule_of(members: Sequence[Member]) -> StackedOptimizer:
    kinds = {stacked_for(each.optimizer()) for each in members}
    assert len(kinds) == 1
    return kinds.pop()(SHAPES, members[0].start)


class TwoGroups(Optimizer):
    """A user's own: plain descent, vectors at a rate of their own."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float) -> None:
        given = list(params)
        vectors = [each for each in given if each.ndim < 2]
        others = [each for each in given if each.ndim >= 2]
        super().__init__([{"params": vectors, "lr": 3 * lr}, {"params": others}], {"lr": lr})

    @torch.no_grad()
    def step(self, closure: object = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for each in group["params"]:
                each.sub_(each.grad, alpha=group["lr"])


class OwnSGD(SGD):
    """A subclass may step in any way."""


def partials(optimizer: Callable[..., Optimizer], *options: dict[str, object]) -> list[Make]:
    return [partial(optimizer, **each) for each in options]


# By family, what differs in every way that matters; the first has torch's defaults.
MAKES: dict[str, list[Make]] = {
    "sgd": partials(
        SGD,
        {"lr": 0.1},
        {"lr": 0.2, "momentum": 0.9},
        {"lr": 0.05, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1},
        {"lr": 0.05, "momentum": 0.7, "dampening": 0.3},
        {"lr": 0.3, "weight_decay": 0.2},
        {"lr": 0.01, "dampening": 0.5},
    ),
    "sgd without momentum": partials(SGD, {"lr": 0.1}, {"lr": 0.2, "weight_decay": 0.1}),
    "sgd with nesterov": partials(SGD, *({"lr": 0.1, "momentum": each, "nesterov": True} for each in (0.5, 0.9))),
    "adam": [
        *partials(
            Adam,
            {},
            {"lr": 0.01, "betas": (0.5, 0.9), "eps": 1e-3},
            {"lr": 0.1, "weight_decay": 0.1},
            {"lr": 0.1, "betas": (0.0, 0.0)},
        ),
        *partials(AdamW, {"lr": 0.1}, {"lr": 0.02, "betas": (0.8, 0.99), "weight_decay": 0.3}),
    ],
    "rmsprop": partials(
        RMSprop,
        {},
        {"lr": 0.01, "momentum": 0.9},
        {"lr": 0.02, "alpha": 0.5, "eps": 1e-3, "weight_decay": 0.1},
        {"lr": 0.02, "alpha": 0.0, "momentum": 0.3},
    ),
    "rmsprop without momentum": partials(RMSprop, {}, {"lr": 0.02, "alpha": 0.9}),
    "adagrad": partials(
        Adagrad,
        {},
        {"lr": 0.1, "lr_decay": 0.1, "eps": 1e-3},
        {"lr": 0.2, "initial_accumulator_value": 0.5, "weight_decay": 0.1},
    ),
    "nadam": partials(
        NAdam,
        {},
        {"lr": 0.01, "betas": (0.5, 0.9), "eps": 1e-3, "momentum_decay": 0.1},
        {"lr": 0.1, "weight_decay": 0.1},
        {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True, "betas": (0.0, 0.99)},
    ),
    "radam": partials(
        RAdam,
        {},
        {"lr": 0.01, "betas": (0.5, 0.9), "eps": 1e-3},
        {"lr": 0.1, "weight_decay": 0.1, "betas": (0.8, 0.3)},
        {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True, "betas": (0.0, 0.99)},
    ),
    "two groups": [partial(TwoGroups, lr=0.1), partial(TwoGroups, lr=0.01)],
    "own": [partial(OwnSGD, lr=0.1, momentum=0.9), partial(OwnSGD, lr=0.01)],
}
if Adafactor is not None:
    MAKES["adafactor"] = partials(
        Adafactor,
        {},
        {"lr": 0.1, "beta2_decay": -0.5, "weight_decay": 0.1},
        {"lr": 0.5, "eps": (1e-2, 0.1), "d": 2.0},
        {"lr": 0.02, "eps": (0.0, 0.0)},
    )
if hasattr(torch.optim, "Muon"):
    MAKES["muon"] = partials(MuonWithAdamW, {}, {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.1, "adamw_lr": 0.01})

# Those that are made at once.
AT_ONCE = [family for family in MAKES if family not in ("two groups", "own", "muon")]


def members(family: str, dtype: torch.dtype = torch.float64) -> list[Member]:
    """Each of the family's options, with decoupled decay besides for every third."""
    return [Member(make, 0.2 * (i % 3 == 1), i, dtype) for i, make in enumerate(MAKES[family])]


def same(found: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance, equal_nan=True)


every_family = pytest.mark.parametrize("family", MAKES)
every_family_at_once = pytest.mark.parametrize("family", AT_ONCE)
