"""The activations a config may name."""

from __future__ import annotations

from torch import nn

from autotune.errors import UserError, nearest

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "elu": nn.ELU,
    "leaky_relu": nn.LeakyReLU,
}


def activation_named(name: str) -> type[nn.Module]:
    """The class of an activation.

    Args:
        name: A key of `ACTIVATIONS`.

    Raises:
        UserError: There is no such activation.
    """
    if name not in ACTIVATIONS:
        raise UserError("model.activation", f"no activation {name}", nearest(str(name), ACTIVATIONS))
    return ACTIVATIONS[name]
