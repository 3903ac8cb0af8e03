"""Layers that serve many members at once, each by its own parameters.

A stacked tensor has the members in front, [k, ...]. Layers that are common and costly have a rule of their own here;
all others go through `torch.func.vmap`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from autotune.dropout import DROPOUTS, draw


@dataclass(slots=True)
class Pass:
    """One forward pass of all members.

    Attributes:
        parameters: By name, [k, ...] each.
        buffers: By name, [k, ...] each; changed in place, as layers change theirs.
        training: Whether layers behave as in training.
        generators: One for each member, which its dropout draws from.
        rates: By the name of a dropout layer, each member's rate.
    """

    parameters: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]
    training: bool
    generators: Sequence[torch.Generator]
    rates: Mapping[str, Sequence[float]]


Rule = Callable[[Pass, Tensor], Tensor]


class BatchNormalisation(torch.autograd.Function):
    """``y = (x - mean) / sqrt(var + eps) * weight + bias`` over the samples of each member (Ioffe and Szegedy 2015).

    vmap would normalise [n, k * channels], which on CPUs takes several times as long.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        """[k, n, channels, ...], [k, 1, channels, ...] twice -> the same as x; mean and biased variance, as weight."""
        over = _samples_and_pixels(x)
        mean = x.mean(over, keepdim=True)
        centred = x - mean
        variance = (centred * centred).mean(over, keepdim=True)
        inverse = torch.rsqrt(variance + eps)
        scale = weight * inverse
        ctx.save_for_backward(centred, inverse, scale)
        ctx.mark_non_differentiable(mean, variance)
        return torch.addcmul(bias, centred, scale), mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Through the mean and the variance too."""
        centred, inverse, scale = ctx.saved_tensors
        gradient, over = gradients[0], _samples_and_pixels(centred)
        count = centred.numel() // inverse.numel()
        for_bias = gradient.sum(over, keepdim=True)
        along = (gradient * centred).sum(over, keepdim=True).mul_(inverse)
        for_x = torch.addcmul(gradient - for_bias / count, centred, along * inverse / count, value=-1)
        return for_x.mul_(scale), along, for_bias, None


def _samples_and_pixels(x: Tensor) -> tuple[int, ...]:
    return (1, *range(3, x.ndim))


def rule_for(name: str, module: nn.Module) -> Rule | None:
    """The rule of a layer, by its exact class; None where it has none.

    Args:
        name: Of the layer within the network.
        module: The layer.
    """
    make = _RULES.get(type(module))
    return None if make is None else make(name, module)


def in_place(module: nn.Module) -> Rule | None:
    """The rule of a layer whose input nobody else reads, not even to differentiate; None where it has none."""
    return (lambda _, x: torch.relu_(x)) if type(module) is nn.ReLU else None


def keeps_no_output(module: nn.Module) -> bool:
    """Whether a layer's rule differentiates without its output, which may then be overwritten."""
    return isinstance(module, nn.Linear) or (isinstance(module, _BatchNorm) and _batch_norm("", module) is not None)


def _elementwise(_: str, module: nn.Module) -> Rule:
    return lambda _, x: module(x)


def _flatten(_: str, module: nn.Module) -> Rule | None:
    assert isinstance(module, nn.Flatten)
    if module.start_dim < 1:
        return None
    start, end = module.start_dim + 1, module.end_dim if module.end_dim < 0 else module.end_dim + 1
    return lambda _, x: x.flatten(start, end)


def _linear(name: str, module: nn.Module) -> Rule:
    weight_name, bias_name = f"{name}.weight", f"{name}.bias"
    has_bias = module.bias is not None

    def apply(now: Pass, x: Tensor) -> Tensor:
        rows = x.flatten(1, -2) if x.ndim != 3 else x
        weight = now.parameters[weight_name].transpose(1, 2)
        y = torch.baddbmm(now.parameters[bias_name].unsqueeze(1), rows, weight) if has_bias else torch.bmm(rows, weight)
        return y if x.ndim == 3 else y.view(*x.shape[:-1], y.shape[-1])

    return apply


def _batch_norm(name: str, module: nn.Module) -> Rule | None:
    assert isinstance(module, _BatchNorm)
    if not module.affine or not module.track_running_stats or module.momentum is None:
        return None
    momentum, eps = module.momentum, module.eps
    keys = [f"{name}.{each}" for each in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")]

    def apply(now: Pass, x: Tensor) -> Tensor:
        by_channel = (len(x), 1, x.shape[2], *(1 for _ in x.shape[3:]))
        weight, bias = (now.parameters[key].view(by_channel) for key in keys[:2])
        mean, variance, batches = (now.buffers[key] for key in keys[2:])
        if not now.training:
            scale = weight * torch.rsqrt(variance.view(by_channel) + eps)
            shift = torch.addcmul(bias, mean.view(by_channel), scale, value=-1)
            return torch.addcmul(shift, x.to(scale.dtype), scale).to(x.dtype)
        count = x.numel() // (len(x) * x.shape[2])
        if count == 1:
            raise ValueError(f"Expected more than 1 value per channel when training, got input size {x.shape[1:]}")
        normalised = BatchNormalisation.apply(x.to(weight.dtype), weight, bias, eps)  # type: ignore[no-untyped-call]
        y, batch_mean, batch_variance = normalised
        batches.add_(1)
        mean.lerp_(batch_mean.view_as(mean), momentum)
        variance.mul_(1 - momentum).add_(batch_variance.view_as(variance), alpha=momentum * count / (count - 1))
        return y.to(x.dtype)  # type: ignore[no-any-return]

    return apply


def _dropout(name: str, module: nn.Module) -> Rule:
    """Each member's mask from its own generator, as it is drawn where the member is computed by itself."""
    whole_maps = not isinstance(module, nn.Dropout)

    def apply(now: Pass, x: Tensor) -> Tensor:
        if not now.training:
            return x
        shape = (*x.shape[:3], *(1 for _ in x.shape[3:])) if whole_maps else x.shape
        mask = torch.empty(shape, dtype=x.dtype, device=x.device)
        for each, rate, generator in zip(mask, now.rates[name], now.generators, strict=True):
            draw(each, rate, generator)
        return x * mask

    return apply


def _folded(_: str, module: nn.Module) -> Rule:
    """Layers without parameters that treat each sample by itself."""
    return lambda _, x: module(x.flatten(0, 1)).unflatten(0, x.shape[:2])


_ELEMENTWISE = (
    *(nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh),
    *(nn.Sigmoid, nn.LogSigmoid, nn.Softplus, nn.Softsign, nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish),
)

_RULES: Mapping[type[nn.Module], Callable[[str, nn.Module], Rule | None]] = {
    **dict.fromkeys(_ELEMENTWISE, _elementwise),
    **dict.fromkeys(DROPOUTS, _dropout),
    **dict.fromkeys((nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d), _folded),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), _batch_norm),
    nn.Flatten: _flatten,
    nn.Linear: _linear,
}
