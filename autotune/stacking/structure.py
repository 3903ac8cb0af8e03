"""What networks must have in common to be stacked."""

from __future__ import annotations

from collections.abc import Mapping
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from autotune.dropout import DROPOUTS

LISTED = 1000  # numbers of a tensor that is no buffer, up to which two are compared


def structure(network: nn.Module) -> Any:
    """What networks have in common that may be stacked: all but the values of parameters and rates of dropout above 0.

    Returns:
        A value that is equal, and hashes alike, exactly for such networks. Modules that hold anything but plain values
        are like themselves alone.
    """
    parts: list[Any] = []
    for name, module in network.named_modules():
        tensors = [
            (key, None if tensor is None else (tensor.shape, tensor.dtype, tensor.requires_grad))
            for key, tensor in [*module._parameters.items(), *module._buffers.items()]
        ]
        plain = [
            (key, value > 0 if key == "p" and isinstance(module, DROPOUTS) else _plain(value))
            for key, value in sorted(module.__dict__.items())
            if key not in _HELD
        ]
        parts.append((name, type(module), tuple(tensors), tuple(plain)))
    return tuple(parts)


# What every nn.Module holds besides what its class gives it.
_HELD = frozenset(nn.Module().__dict__) - {"training"}


def _plain(value: Any) -> Any:
    """Something that is equal for values that are alike."""
    if value is None or isinstance(value, bool | int | float | str | complex | torch.dtype | torch.Size | type):
        return value
    if isinstance(value, tuple | list):
        return tuple(map(_plain, value))
    if isinstance(value, Mapping):
        return tuple((str(key), _plain(each)) for key, each in value.items())
    if isinstance(value, Tensor) and value.numel() <= LISTED:
        return value.dtype, value.shape, tuple(value.flatten().tolist())
    if isinstance(value, FunctionType) and value.__closure__ is None and not value.__defaults__:
        return value.__code__
    return _Itself(value)


class _Itself:
    """A value that is like itself alone."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self._value is other._value

    def __hash__(self) -> int:
        return id(self._value)


def dropout_rate(network: nn.Module, name: str) -> float:
    """The rate of a network's layer of dropout."""
    return float(network.get_submodule(name).p)  # type: ignore[arg-type]
