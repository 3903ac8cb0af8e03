from __future__ import annotations

import re

import pytest
import torch
from torch import nn
from torch.optim import SGD, Optimizer

from autotune.models.mlp import MLP
from autotune.optim.muon import MuonWithAdamW
from autotune.optim.stacked import OneByOne


def groups(*shapes: list[tuple[int, ...]]) -> Optimizer:
    """A group for each list of shapes."""
    return SGD([{"params": [nn.Parameter(torch.ones(each)) for each in group]} for group in shapes], lr=0.1)


def network_shapes(*shapes: tuple[int, ...]) -> list[torch.Size]:
    return [torch.Size(each) for each in shapes]


def test_a_parameters_place_is_told_by_its_shape_where_groups_change_the_order() -> None:
    rule = OneByOne(network_shapes((2,), (2, 1), (2,)), torch.empty(0))
    optimizer = groups([(2, 1)], [(2,), (2,)])
    optimizer.param_groups[1]["lr"] = 1.0
    rule.join(optimizer)
    rule.plan([[1.0]])
    rows = torch.zeros(1, 6)
    rule.step(rows, torch.arange(1.0, 7.0)[None])
    assert rows.tolist() == [pytest.approx([-1, -2, -0.3, -0.4, -5, -6])]


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="the installed torch has no Muon")
def test_muon_with_adamw_is_among_those_whose_places_can_be_told() -> None:
    network = MLP((6,), 6, hidden=(6, 6), batch_norm=True)
    rule = OneByOne([each.shape for each in network.parameters()], torch.empty(0))
    optimizer = MuonWithAdamW(network.parameters())
    assert OneByOne.claims(optimizer)
    rule.join(optimizer)
    rule.plan([[1.0]])
    rows = torch.cat([each.detach().flatten() for each in network.parameters()])[None]
    rule.step(rows, torch.ones_like(rows))
    # The network's own parameters are the row's from then on, each in its place.
    assert torch.equal(torch.cat([each.detach().flatten() for each in network.parameters()]), rows[0])
    assert next(network.parameters()).data_ptr() == rows.data_ptr()


def test_places_that_cannot_be_told_are_refused() -> None:
    optimizer = groups([(2,), (3,)], [(2,)])
    assert not OneByOne.claims(optimizer)
    message = "SGD does not tell its parameters' places in the network"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        OneByOne(network_shapes((2,), (3,), (2,)), torch.empty(0)).join(optimizer)


@pytest.mark.parametrize("shapes", [[(2,)], [(2,), (3,), (3,)], [(2,), (4,)]], ids=str)
def test_an_optimizer_of_other_parameters_is_refused(shapes: list[tuple[int, ...]]) -> None:
    message = "SGD does not tell its parameters' places in the network"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        OneByOne(network_shapes((2,), (3,)), torch.empty(0)).join(groups(shapes))
