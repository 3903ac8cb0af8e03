"""Dropout draws the same in every way, where torch's own layers do and where they do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from autotune import dropout
from autotune.dropout import drawn, has_dropout

CPU = torch.device("cpu")

KINDS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "numbers": (lambda: nn.Dropout(0.3), (6, 5)),
    "numbers in place": (lambda: nn.Dropout(0.3, inplace=True), (6, 5)),
    "maps of sequences": (lambda: nn.Dropout1d(0.3), (6, 5, 4)),
    "maps of images": (lambda: nn.Dropout2d(0.3), (6, 5, 4, 4)),
    "maps of volumes": (lambda: nn.Dropout3d(0.3), (2, 5, 3, 4, 4)),
    "one sample's maps": (lambda: nn.Dropout1d(0.3), (5, 4)),
    "all": (lambda: nn.Dropout(1.0), (6, 5)),
    "none": (lambda: nn.Dropout(0.0), (6, 5)),
    "a function": (lambda: Functional(), (6, 5)),
}


class Functional(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(x, 0.4, training=self.training)


def passed(layer: nn.Module, shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """The outputs, the gradient, and where the generator is left."""
    torch.manual_seed(0)
    x = torch.linspace(1, 2, torch.Size(shape).numel()).view(shape).requires_grad_()
    outputs = layer(x * 1)
    (gradient,) = torch.autograd.grad(outputs.square().sum(), x)
    return outputs, gradient, torch.get_rng_state()


def same(one: Any, other: Any) -> bool:
    return all(torch.equal(*pair) for pair in zip(one, other, strict=True))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("make", "shape"), KINDS.values(), ids=KINDS)
def test_what_is_drawn_is_what_torch_draws_on_a_cpu(
    make: Callable[[], nn.Module], shape: tuple[int, ...], training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = make().train(training)
    expected = passed(layer, shape)
    monkeypatch.setattr(dropout, "AS_TORCH", ())
    with drawn(CPU):
        found = passed(layer, shape)
    assert same(found, expected)


def test_it_is_drawn_from_the_generator_that_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = nn.Dropout(0.5), torch.ones(4, 6)
    torch.manual_seed(7)
    expected = layer(x)
    monkeypatch.setattr(dropout, "AS_TORCH", ())
    generator, before = torch.Generator().manual_seed(7), torch.get_rng_state()
    with drawn(CPU, generator):
        assert torch.equal(layer(x), expected)
        assert not torch.equal(layer(x), expected)
    assert torch.equal(torch.get_rng_state(), before)


def test_behind_it_torch_draws_again() -> None:
    with drawn(torch.device("meta")):
        pass
    torch.manual_seed(0)
    first = nn.Dropout(0.5)(torch.ones(9))
    torch.manual_seed(0)
    assert torch.equal(functional.dropout(torch.ones(9), 0.5), first)


def test_layers_of_dropout_are_found() -> None:
    assert has_dropout(nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Dropout2d())).modules())
    assert not has_dropout(nn.Linear(2, 2).modules())
