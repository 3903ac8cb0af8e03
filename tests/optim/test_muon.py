from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.optim import AdamW

from autotune.errors import UserError
from autotune.models.mlp import MLP
from autotune.optim.muon import MuonWithAdamW

pytestmark = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="the installed torch has no Muon")


def losses(network: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> list[float]:
    generator = torch.Generator().manual_seed(0)
    features, target = torch.randn(32, 6, generator=generator), torch.randn(32, generator=generator)
    found = []
    for _ in range(steps):
        loss = functional.mse_loss(network(features).squeeze(1), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


def test_matrices_are_muons_and_all_else_adamws() -> None:
    torch.manual_seed(0)
    ours = MLP((6,), 1, hidden=(8,), batch_norm=True)
    theirs = copy.deepcopy(ours)
    both = MuonWithAdamW(ours.parameters(), lr=0.02, weight_decay=0.1, adamw_lr=1e-2)
    apart = [
        torch.optim.Muon([p for p in theirs.parameters() if p.ndim == 2], lr=0.02, momentum=0.95, weight_decay=0.1),
        AdamW([p for p in theirs.parameters() if p.ndim != 2], lr=1e-2, weight_decay=0.1),
    ]

    class Apart(torch.optim.Optimizer):
        def __init__(self) -> None:
            super().__init__(theirs.parameters(), {})

        def step(self, closure: object = None) -> None:
            for part in apart:
                part.step()

    assert losses(ours, both, 5) == losses(theirs, Apart(), 5)


def test_a_schedule_that_sets_the_groups_sets_both_parts() -> None:
    network = MLP((6,), 1, hidden=(8,))
    before = copy.deepcopy(network.state_dict())
    optimizer = MuonWithAdamW(network.parameters())
    assert [group["lr"] for group in optimizer.param_groups] == [0.02, 1e-3]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    losses(network, optimizer, 3)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_going_on_from_a_kept_state_is_going_on() -> None:
    torch.manual_seed(0)
    network = MLP((6,), 1, hidden=(8,))
    optimizer = MuonWithAdamW(network.parameters())
    losses(network, optimizer, 3)
    other = copy.deepcopy(network)
    again = MuonWithAdamW(other.parameters())
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert losses(other, again, 3) == losses(network, optimizer, 3)


def test_a_model_without_a_matrix_is_refused() -> None:
    with pytest.raises(UserError, match=r"^optimizer: the model has no matrix for Muon; give another optimizer$"):
        MuonWithAdamW(nn.BatchNorm1d(3).parameters())
