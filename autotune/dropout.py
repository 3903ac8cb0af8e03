"""Dropout whose masks depend on a generator alone, not on how or among whom a network is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.dropout import _DropoutNd
from torch.overrides import TorchFunctionMode

DROPOUTS: tuple[type[_DropoutNd], ...] = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)

# Where torch's own dropout draws what `draw` does. Elsewhere it has a kernel of its own, which draws something else.
AS_TORCH = ("cpu",)

# torch's functions, and the dimensions of a batch whose maps are dropped as wholes; None for single numbers.
_FUNCTIONS: Mapping[Callable[..., Tensor], int | None] = {
    functional.dropout: None,
    functional.dropout1d: 3,
    functional.dropout2d: 4,
    functional.dropout3d: 5,
}


def is_torchs(device: torch.device) -> bool:
    """Whether a device's own dropout draws what `draw` does."""
    return device.type in AS_TORCH


def draw(mask: Tensor, rate: float, generator: torch.Generator | None) -> Tensor:
    """Fill a mask: 0 where a number is dropped, else what keeps the mean; draws nothing at the rates 0 and 1."""
    if rate in (0, 1):
        return mask.fill_(1 - rate)
    return mask.bernoulli_(1 - rate, generator=generator).div_(1 - rate)


def has_dropout(modules: Iterable[nn.Module]) -> bool:
    """Whether one of them is a layer of dropout."""
    return any(isinstance(module, _DropoutNd) for module in modules)


def drawn(device: torch.device, generator: torch.Generator | None = None) -> AbstractContextManager[Any]:
    """Within it all layers of dropout draw by `draw`, from a generator of the device's or from its default one."""
    return nullcontext() if is_torchs(device) else _Drawn(generator)


class _Drawn(TorchFunctionMode):
    """Takes the place of torch's functions of dropout."""

    def __init__(self, generator: torch.Generator | None) -> None:
        super().__init__()
        self._generator = generator

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func not in _FUNCTIONS:
            return func(*args, **given)
        return self._dropout(func, *args, **given)

    def _dropout(
        self,
        func: Callable[..., Tensor],
        input: Tensor,  # noqa: A002 - torch's name
        p: float = 0.5,
        training: bool = True,
        inplace: bool = False,
    ) -> Tensor:
        dimensions = _FUNCTIONS[func]
        if not training or p == 0 or dimensions not in (None, input.ndim):
            return func(input, p, training, inplace)
        shape = input.shape if dimensions is None else (*input.shape[:2], *(1 for _ in input.shape[2:]))
        mask = draw(torch.empty(shape, dtype=input.dtype, device=input.device), p, self._generator)
        return input.mul_(mask) if inplace else input * mask
