"""Muon for the hidden layers' matrices, AdamW for all else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

from autotune.errors import UserError


class MuonWithAdamW(Optimizer):
    """Muon orthogonalises the momentum of a matrix (Jordan et al. 2024); what is no matrix is left to AdamW, as there.

    Args:
        params: All parameters of a network.
        lr: Muon's, of matrices.
        momentum: Muon's.
        weight_decay: Decoupled, of both.
        adamw_lr: AdamW's, of biases, BatchNorm and convolutions. Under a schedule it keeps its ratio to `lr`.

    Raises:
        UserError: The installed torch has no Muon, or there is no matrix.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        adamw_lr: float = 1e-3,
    ) -> None:
        if not hasattr(torch.optim, "Muon"):
            raise UserError("optimizer", f"torch {torch.__version__} has no Muon", "install torch 2.9 or newer")
        everything = list(params)
        if any(isinstance(each, dict) for each in everything):
            problem = f"Muon groups parameters by itself, and the module has {len(everything)} groups of its own"
            raise UserError("optimizer", problem, "give another optimizer")
        matrices = [each for each in everything if each.ndim == 2]
        others = [each for each in everything if each.ndim != 2]
        if not matrices:
            raise UserError("optimizer", "the model has no matrix for Muon", "give another optimizer")
        self._parts: list[Optimizer] = [torch.optim.Muon(matrices, lr=lr, momentum=momentum, weight_decay=weight_decay)]
        if others:
            self._parts.append(AdamW(others, lr=adamw_lr, weight_decay=weight_decay))
        super().__init__([{"params": everything}], {"lr": lr})
        # The parts' own groups, so that a schedule that sets a group's rate sets theirs.
        self.param_groups = [group for part in self._parts for group in part.param_groups]

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make one update of both."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The state of both."""
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the state of both."""
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self._parts for group in part.param_groups]
