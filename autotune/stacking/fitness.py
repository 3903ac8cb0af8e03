"""Whether a network may be computed among others, and whether that gives what it gives alone."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from autotune.dropout import DROPOUTS
from autotune.stacking.layers import Pass
from autotune.stacking.structure import structure

# How far numbers may lie apart, as a part of the largest, by how many digits they have.
CLOSE = {torch.float32: 1e-4, torch.float64: 1e-9}
# Two members' rates of dropout, where it drops out at all.
RATES = (0.25, 0.5)


class Unstackable(Exception):  # noqa: N818 - nothing went wrong
    """A network cannot be computed among others; says why."""


def check_parts(network: nn.Module) -> None:
    """Look for what no forward pass shows.

    Raises:
        Unstackable: There is such a thing.
    """
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            raise Unstackable(f"its parameter {name} is frozen")
        if parameter._backward_hooks or parameter._post_accumulate_grad_hooks:
            raise Unstackable(f"its parameter {name} has hooks")
    if len(list(network.parameters())) != len(list(network.named_parameters(remove_duplicate=False))):
        raise Unstackable("it uses a parameter in two places")
    for name, module in network.named_modules():
        named = name or type(module).__name__
        if any(getattr(module, f"_{kind}") for kind in _HOOKS):
            raise Unstackable(f"its module {named} has hooks")
        if module.training != network.training:
            raise Unstackable(f"its module {named} is kept from training")
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and (
            module.sparse or module.max_norm is not None or module.padding_idx is not None
        ):
            raise Unstackable(f"its embedding {name} is sparse, has a padding or keeps a largest norm")


_HOOKS = ("forward_hooks", "forward_pre_hooks", "backward_hooks", "backward_pre_hooks")


def check_pass(network: nn.Module, forward: Callable[[Pass, Tensor], Tensor], features: Tensor) -> int:
    """Compare two members, of other weights, buffers, rates and samples, with the network itself.

    Outputs, gradients, buffers, and what is drawn by chance must be the same.

    Args:
        network: As it is built; left as it is.
        forward: Of several members.
        features: [n, ...] with n at least 2.

    Returns:
        The bytes that a training pass keeps for the backward pass, about, for each member and sample.

    Raises:
        Unstackable: Something differs.
        Exception: What the forward pass of several raises.
    """
    dropouts = [name for name, module in network.named_modules() if isinstance(module, DROPOUTS) and module.p > 0]
    members = [_varied(network, number, dropouts) for number in range(2)]
    parameters = {
        name: torch.stack([member.get_parameter(name).detach() for member in members]).requires_grad_()
        for name, _ in network.named_parameters()
    }
    buffers = {
        name: torch.stack([member.get_buffer(name) for member in members]) for name, _ in network.named_buffers()
    }
    half = len(features) // 2
    samples = (
        features[: 2 * half].view(2, half, *features.shape[1:]) if half > 1 else features.expand(2, *features.shape)
    ).clone()  # or what is kept of them would be all that they are a part of
    rates = {name: (0.0, 0.0) for name, module in network.named_modules() if isinstance(module, DROPOUTS)}
    rates |= dict.fromkeys(dropouts, RATES)
    kept: dict[int, int] = {}
    for training in (True, False):
        generators = [torch.Generator(features.device).manual_seed(seed) for seed in range(2)]
        now = Pass(parameters, buffers, training, generators, rates)
        hooks = saved_tensors_hooks(partial(_note, kept), lambda tensor: tensor)
        with torch.set_grad_enabled(training), hooks:
            outputs = forward(now, samples)
        gradients = _slopes(outputs, parameters) if training else {}
        for number, member in enumerate(members):
            before = structure(member.train())
            with torch.set_grad_enabled(training):
                own, drawn = _drawing(partial(member.train(training), samples[number]), number, features.device)
            on_cpu = features.device.type == "cpu"
            if on_cpu and not torch.equal(drawn, generators[number].get_state()):
                raise Unstackable("its forward pass draws by chance outside layers of dropout")
            if structure(member.train()) != before:
                raise Unstackable("its forward pass changes what the network holds besides buffers")
            if not on_cpu and training and dropouts:
                continue  # there each member has masks of its own making
            if own.shape != outputs[number].shape or not _close(own, outputs[number]):
                raise Unstackable("its forward pass answers otherwise for a member among others")
            for name, buffer in member.named_buffers():
                if not _close(buffer, buffers[name][number]):
                    raise Unstackable(f"its buffer {name} changes otherwise for a member among others")
            for name, gradient in _slopes(own, dict(member.named_parameters())).items() if training else ():
                among = gradients[name]
                if gradient is None:
                    raise Unstackable(f"its parameter {name} takes no part in the forward pass")
                if among is None or not _close(gradient, among[number]):
                    raise Unstackable(f"the gradient of its parameter {name} is another among others")
    return sum(kept.values()) // (2 * samples.shape[1])


def samples_are_apart(network: nn.Module, features: Tensor) -> bool:
    """Whether the gradient of a batch is the same in pieces, and no buffer changes that would change with each.

    Args:
        network: As it is built; left as it is.
        features: [n, ...] with n at least 2.
    """
    if any(isinstance(module, DROPOUTS) and module.p > 0 for module in network.modules()):
        return False  # what they draw depends on which samples they draw for
    member, half = copy.deepcopy(network).train(), len(features) // 2
    parameters = dict(member.named_parameters())
    try:
        pieces = torch.cat([member(features[:half].clone()), member(features[half:].clone())])
    except Exception:  # as BatchNorm raises where it is given one sample
        return False
    if not all(torch.equal(*both) for both in zip(network.buffers(), member.buffers(), strict=True)):
        return False
    apart, whole = _slopes(pieces, parameters), _slopes(member(features.clone()), parameters)
    both = ((apart[name], whole[name]) for name in parameters)
    return all(one is not None and other is not None and _close(one, other) for one, other in both)


def _slopes(outputs: Tensor, parameters: Mapping[str, Tensor]) -> dict[str, Tensor | None]:
    """The gradient of a weighted sum of outputs [..., n, outputs], weighted alike for each member."""
    weights = torch.linspace(-1, 1, outputs.shape[-1] * outputs.shape[-2], dtype=outputs.dtype, device=outputs.device)
    total = (outputs * weights.view(outputs.shape[-2:])).sum()
    return dict(zip(parameters, torch.autograd.grad(total, list(parameters.values()), allow_unused=True), strict=True))


def _varied(network: nn.Module, number: int, dropouts: Sequence[str]) -> nn.Module:
    """A copy with numbers of its own."""
    member = copy.deepcopy(network)
    with torch.no_grad():
        for tensor in [*member.parameters(), *member.buffers()]:
            if tensor.is_floating_point():
                tensor.mul_(1 + number / 4).add_(0.01 * (number + 1))
    for name in dropouts:
        member.get_submodule(name).p = RATES[number]  # type: ignore[assignment]
    return member


def _drawing(call: Callable[[], Tensor], seed: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """What a call returns with chance seeded, and where it leaves torch's generator.

    Raises:
        Unstackable: It draws from Python's or numpy's.
    """
    others: tuple[Any, Any] = (random.getstate(), numpy.random.get_state(legacy=True))
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        found, state = call(), torch.get_rng_state()
    now: Any = numpy.random.get_state(legacy=True)
    if random.getstate() != others[0] or now[2] != others[1][2] or (now[1] != others[1][1]).any():
        random.setstate(others[0])
        numpy.random.set_state(others[1])
        raise Unstackable("its forward pass draws by chance outside layers of dropout")
    return found, state


def _note(kept: dict[int, int], tensor: Tensor) -> Tensor:
    """Write down what memory a tensor keeps."""
    storage = tensor.untyped_storage()
    kept[storage.data_ptr()] = storage.nbytes()
    return tensor


def _close(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are the same but for rounding."""
    if not one.is_floating_point():
        return torch.equal(one, other)
    largest = one.detach().abs().max().clamp_min(1.0)
    return bool(((one - other).abs() <= CLOSE.get(one.dtype, 1e-2) * largest).all())
