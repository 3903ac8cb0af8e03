"""Networks as a user might write them: [n, 4] numbers, or [n, 2, 6, 6] images, -> [n, 3]."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional


def vectors(samples: int) -> Tensor:
    return torch.randn(samples, 4)


def images(samples: int) -> Tensor:
    return torch.randn(samples, 2, 6, 6)


def codes(samples: int) -> Tensor:
    return torch.randint(0, 5, (samples, 4)).float()


class Written(nn.Module):
    """A forward pass written as a function of the layers; what it holds besides is given by name."""

    def __init__(self, forward: Callable[..., Tensor], **held: object) -> None:
        super().__init__()
        self.written = forward
        for name, value in held.items():
            if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)

    def forward(self, x: Tensor) -> Tensor:
        return self.written(self, x)


def two_layers(self: nn.Module, x: Tensor) -> Tensor:
    answer: Tensor = self.b(torch.tanh(self.a(x)))
    return answer


def mlp(**changes: object) -> nn.Module:
    return Written(two_layers, **{"a": nn.Linear(4, 5), "b": nn.Linear(5, 3), **changes})


class Noted(nn.Module):
    """Counts its calls, and answers otherwise from the fiftieth on."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        y: Tensor = self.layer(x)
        return y if self.calls < 50 else 2 * y


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, 5, batch_first=True)
        self.output = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.lstm(x.unsqueeze(2))
        answer: Tensor = self.output(states[:, -1])
        return answer


# What is traced, or goes through vmap as a whole, and answers as it does alone.


def embedded(**arguments: object) -> nn.Module:
    return Written(
        lambda self, x: self.b(self.e(x.long()).flatten(1)), e=nn.Embedding(5, 2, **arguments), b=nn.Linear(8, 3)
    )


def _no_grad(self: nn.Module, x: Tensor) -> Tensor:
    h = self.a(x)
    with torch.no_grad():
        size = h.square().mean(1, keepdim=True).sqrt()
    answer: Tensor = self.b(h / (size + 1))
    return answer


def _chunked(self: nn.Module, x: Tensor) -> Tensor:
    one, other = self.a(x).chunk(2, dim=1)
    answer: Tensor = self.b(one * torch.sigmoid(other))
    return answer


def _in_place(self: nn.Module, x: Tensor) -> Tensor:
    h = self.a(x)
    h += 1
    answer: Tensor = self.b(functional.relu(h, inplace=True))
    return answer


def _by_length(self: nn.Module, x: Tensor) -> Tensor:
    answer: Tensor = self.b(torch.tanh(self.a(x))) * (2 if len(x) > 5 else 1)
    return answer


def _residual(self: nn.Module, x: Tensor) -> Tensor:
    answer: Tensor = self.b(x + torch.relu(self.a(x)) * self.c(x))
    return answer


WORKING: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Tensor]]] = {
    "layers in a row": (lambda: nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)), vectors),
    "without bias": (lambda: nn.Sequential(nn.Linear(4, 5, bias=False), nn.GELU(), nn.Linear(5, 3)), vectors),
    "embedding": (embedded, codes),
    "embedding whose gradients are scaled": (lambda: embedded(scale_grad_by_freq=True), codes),
    "layer norm": (lambda: nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Linear(5, 3)), vectors),
    "group norm": (
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(64, 3)),
        images,
    ),
    "conv1d": (
        lambda: nn.Sequential(
            nn.Unflatten(1, (2, 2)), nn.Conv1d(2, 3, 1), nn.BatchNorm1d(3), nn.Flatten(), nn.Linear(6, 3)
        ),
        vectors,
    ),
    "pooling": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1),
            nn.MaxPool2d(2),
            nn.AvgPool2d(2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, 3),
        ),
        images,
    ),
    "batch norm of images": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(48, 3)
        ),
        images,
    ),
    "batch norm without factors": (
        lambda: nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5, affine=False), nn.Linear(5, 3)),
        vectors,
    ),
    "batch norm of its own momentum": (
        lambda: nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5, eps=1e-2, momentum=0.3), nn.Linear(5, 3)),
        vectors,
    ),
    "batch norm that remembers nothing": (
        lambda: nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5, track_running_stats=False), nn.Linear(5, 3)),
        vectors,
    ),
    "linear over more dimensions": (
        lambda: nn.Sequential(
            nn.Linear(6, 5), nn.Tanh(), nn.Flatten(1, 2), nn.Linear(5, 2), nn.Flatten(), nn.Linear(24, 3)
        ),
        images,
    ),
    "flattened from behind": (
        lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(-3), nn.Linear(48, 3)),
        images,
    ),
    "residual": (
        lambda: Written(_residual, a=nn.Linear(4, 4), b=nn.Linear(4, 3), c=nn.Linear(4, 4)),
        vectors,
    ),
    "concatenated": (
        lambda: Written(
            lambda self, x: self.b(torch.cat([x, self.a(x).relu()], dim=1)), a=nn.Linear(4, 2), b=nn.Linear(6, 3)
        ),
        vectors,
    ),
    "view by its number of samples": (
        lambda: Written(
            lambda self, x: self.b(self.a(x).view(x.size(0), -1)), a=nn.Conv2d(2, 1, 3), b=nn.Linear(16, 3)
        ),
        images,
    ),
    "reshaped by its shape": (
        lambda: Written(lambda self, x: self.b(x.reshape(x.shape[0], x.shape[1] * 36)), b=nn.Linear(72, 3)),
        images,
    ),
    "parameters used directly": (
        lambda: Written(
            lambda self, x: self.scale * (x @ self.weight) + self.bias,
            scale=nn.Parameter(torch.randn(())),
            weight=nn.Parameter(torch.randn(4, 3)),
            bias=nn.Parameter(torch.randn(3)),
        ),
        vectors,
    ),
    "buffers used directly": (
        lambda: Written(
            lambda self, x: self.a((x - self.mean) @ self.turn),
            a=nn.Linear(4, 3),
            mean=torch.randn(4),
            turn=torch.randn(4, 4),
        ),
        vectors,
    ),
    "a layer used twice": (
        lambda: Written(lambda self, x: self.b(self.a(torch.tanh(self.a(x)))), a=nn.Linear(4, 4), b=nn.Linear(4, 3)),
        vectors,
    ),
    "operations in place": (
        lambda: Written(_in_place, a=nn.Linear(4, 5), b=nn.Linear(5, 3)),
        vectors,
    ),
    "halves of what a layer makes": (lambda: Written(_chunked, a=nn.Linear(4, 6), b=nn.Linear(3, 3)), vectors),
    "attention": (
        lambda: Written(
            lambda self, x: self.b(self.t(x.unsqueeze(2).expand(-1, -1, 4)).mean(1)),
            t=nn.TransformerEncoderLayer(4, 2, 5, dropout=0.0, batch_first=True),
            b=nn.Linear(4, 3),
        ),
        vectors,
    ),
    "looks at its length": (lambda: Written(_by_length, a=nn.Linear(4, 5), b=nn.Linear(5, 3)), vectors),
    "looks up a layer by a word of its shape": (
        lambda: Written(
            lambda self, x: self.layers[f"of {x.shape[1]}"](x), layers=nn.ModuleDict({"of 4": nn.Linear(4, 3)})
        ),
        vectors,
    ),
    "weights under a norm": (
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 5)), nn.Linear(5, 3)),
        vectors,
    ),
    "dropout": (lambda: nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.4), nn.Linear(5, 3), nn.Dropout(0.1)), vectors),
    "dropout of maps": (
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.Dropout2d(0.4), nn.Flatten(), nn.Linear(64, 3)),
        images,
    ),
    "dropout of everything": (lambda: nn.Sequential(nn.Linear(4, 5), nn.Dropout(1.0), nn.Linear(5, 3)), vectors),
}


# What is refused, and what the reason says.


def _branching(self: nn.Module, x: Tensor) -> Tensor:
    answer: Tensor = self.a(x) if x.sum() > 0 else self.b(x)
    return answer


def _frozen() -> nn.Module:
    network = mlp()
    network.a.weight.requires_grad_(False)
    return network


def _tied() -> nn.Module:
    layer = nn.Linear(4, 4)
    return Written(lambda self, x: self.c(self.b(torch.tanh(self.a(x)))), a=layer, b=layer, c=nn.Linear(4, 3))


def _hooked(register: str) -> nn.Module:
    network = mlp()
    getattr(network.a, register)(lambda *_: None)
    return network


def _skipping(self: nn.Module, x: Tensor) -> Tensor:
    if self.training and torch.rand(()).item() < 0.2:
        return self.b(x)  # type: ignore[no-any-return]
    return self.b(x + self.a(x))  # type: ignore[no-any-return]


def _skipping_by_python(self: nn.Module, x: Tensor) -> Tensor:
    if self.training and random.random() < 0.2:
        return self.b(x)  # type: ignore[no-any-return]
    return self.b(x + self.a(x))  # type: ignore[no-any-return]


def _with_a_hook_on_a_parameter() -> nn.Module:
    network = mlp()
    network.a.weight.register_hook(lambda gradient: 0 * gradient)
    return network


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(_: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(_: object, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return 2 * gradient


REFUSED: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Tensor], str | None]] = {
    "lstm": (Recurrent, vectors, None),
    "branches by its data": (
        lambda: Written(_branching, a=nn.Linear(4, 3), b=nn.Linear(4, 3)),
        vectors,
        "data-dependent",
    ),
    "functional dropout": (
        lambda: Written(lambda self, x: self.a(functional.dropout(x, 0.5, self.training)), a=nn.Linear(4, 3)),
        vectors,
        "random",
    ),
    "noise": (lambda: Written(lambda self, x: self.a(x + torch.randn_like(x)), a=nn.Linear(4, 3)), vectors, "random"),
    "frozen": (_frozen, vectors, "^its parameter a.weight is frozen$"),
    "unused": (
        lambda: mlp(unused=nn.Linear(2, 2)),
        vectors,
        "^its parameter unused.weight takes no part in the forward pass$",
    ),
    "tied": (_tied, vectors, "^it uses a parameter in two places$"),
    "forward hooks": (lambda: _hooked("register_forward_hook"), vectors, "^its module a has hooks$"),
    "forward pre-hooks": (lambda: _hooked("register_forward_pre_hook"), vectors, "^its module a has hooks$"),
    "backward hooks": (lambda: _hooked("register_full_backward_hook"), vectors, "^its module a has hooks$"),
    "sparse embedding": (
        lambda: embedded(sparse=True),
        codes,
        "^its embedding e is sparse, has a padding or keeps a largest norm$",
    ),
    "embedding of a largest norm": (
        lambda: embedded(max_norm=1.0),
        codes,
        "^its embedding e is sparse, has a padding or keeps a largest norm$",
    ),
    "batch norm that averages evenly": (
        lambda: nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5, momentum=None), nn.Linear(5, 3)),
        vectors,
        None,
    ),
    "skips a layer at random": (lambda: Written(_skipping, a=nn.Linear(4, 4), b=nn.Linear(4, 3)), vectors, None),
    "skips a layer by Python's chance": (
        lambda: Written(_skipping_by_python, a=nn.Linear(4, 4), b=nn.Linear(4, 3)),
        vectors,
        None,
    ),
    "hook on a parameter": (_with_a_hook_on_a_parameter, vectors, "hook"),
    "backward pre-hooks": (lambda: _hooked("register_full_backward_pre_hook"), vectors, "hook"),
    "counts its calls": (Noted, vectors, None),
    "a parameter registered twice as another's": (
        lambda: Written(
            lambda self, x: x @ self.a.weight.T + self.w.sum(), a=(a := nn.Linear(4, 3, bias=False)), w=a.weight
        ),
        vectors,
        "^it uses a parameter in two places$",
    ),
}


# What may be refused or work, but not answer otherwise than alone.

EITHER: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Tensor]]] = {
    "embedding with a padding": (lambda: embedded(padding_idx=1), codes),
    "maxima of samples, in a tuple": (
        lambda: Written(lambda self, x: self.a(x / (1 + x.abs().max(dim=1, keepdim=True).values)), a=nn.Linear(4, 3)),
        vectors,
    ),
    "a part without gradient": (lambda: Written(_no_grad, a=nn.Linear(4, 5), b=nn.Linear(5, 3)), vectors),
    "doubled frequencies of a buffer": (
        lambda: Written(
            lambda self, x: self.a(torch.sin(x @ (2 * self.frequencies))),
            a=nn.Linear(5, 3),
            frequencies=torch.randn(4, 5),
        ),
        vectors,
    ),
    "a number of its data": (
        lambda: Written(lambda self, x: self.a(x / (1 + x.abs().max().item())), a=nn.Linear(4, 3)),
        vectors,
    ),
    "a gradient of its own": (lambda: Written(lambda self, x: Doubled.apply(self.a(x)), a=nn.Linear(4, 3)), vectors),
    "halves of its samples": (
        lambda: Written(_halved, a=nn.Linear(4, 3)),
        vectors,
    ),
    "the order of its numbers": (
        lambda: Written(lambda self, x: self.a(x - torch.sort(x, dim=1)[0]), a=nn.Linear(4, 3)),
        vectors,
    ),
    "whether it is all above 0": (
        lambda: Written(lambda self, x: self.a(x) * (2.0 - torch.equal(x, x.abs())), a=nn.Linear(4, 3)),
        vectors,
    ),
    "in place on its samples": (
        lambda: Written(lambda self, x: self.a(x.add_(1)), a=nn.Linear(4, 3)),
        vectors,
    ),
    "mixes its samples": (
        lambda: Written(lambda self, x: self.a(x - x.mean(0)) + self.a(x.flip(0)), a=nn.Linear(4, 3)),
        vectors,
    ),
    "a tensor that is no buffer": (lambda: Written(_by_a_constant, a=nn.Linear(4, 3)), vectors),
    "a running mean of its own": (lambda: Written(_own_mean, a=nn.Linear(4, 3), mean=torch.zeros(4)), vectors),
    "spectral norm": (
        lambda: nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(4, 5)), nn.Linear(5, 3)),
        vectors,
    ),
    "instance norm": (
        lambda: nn.Sequential(
            nn.InstanceNorm2d(2, affine=True, track_running_stats=True), nn.Flatten(), nn.Linear(72, 3)
        ),
        images,
    ),
    "prelu and softmax": (
        lambda: nn.Sequential(nn.Linear(4, 5), nn.PReLU(), nn.Linear(5, 3), nn.Softmax(dim=1)),
        vectors,
    ),
    "softmax over samples": (lambda: nn.Sequential(nn.Linear(4, 3), nn.Softmax(dim=0)), vectors),
    "one BatchNorm in two places": (lambda: _shared_norm(), vectors),
}


def _halved(self: nn.Module, x: Tensor) -> Tensor:
    one, other = x.chunk(2, dim=1)
    answer: Tensor = self.a(x * torch.cat([other, one], dim=1))
    return answer


def _by_a_constant(self: nn.Module, x: Tensor) -> Tensor:
    answer: Tensor = self.a(x * torch.tensor([1.0, 2.0, 3.0, 4.0]))
    return answer


def _own_mean(self: nn.Module, x: Tensor) -> Tensor:
    if self.training:
        with torch.no_grad():
            self.mean.mul_(0.9).add_(0.1 * x.mean(0))
    answer: Tensor = self.a(x - self.mean)
    return answer


def _shared_norm() -> nn.Module:
    norm = nn.BatchNorm1d(5, affine=False)
    return nn.Sequential(nn.Linear(4, 5), norm, nn.Linear(5, 5), norm, nn.Linear(5, 3))
