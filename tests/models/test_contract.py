"""What every model keeps; a new one adds a row to `MODELS`."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.func import functional_call, grad, replace_all_batch_norm_modules_, stack_module_state, vmap
from torch.nn.modules.batchnorm import _BatchNorm

from autotune.models.activations import ACTIVATIONS
from autotune.models.cnn import CNN
from autotune.models.mlp import MLP
from autotune.models.resnet_small import ResNetSmall
from autotune.models.tabular import Tabular

CARDINALITIES = (3, 2)


def vectors(samples: int) -> Tensor:
    return torch.randn(samples, 4)


def images(samples: int) -> Tensor:
    return torch.rand(samples, 1, 8, 8)


def colour_images(samples: int) -> Tensor:
    return torch.rand(samples, 3, 9, 8)


def rows(samples: int) -> Tensor:
    """Two numbers and two categories, each code in turn."""
    codes = [torch.arange(samples) % cardinality for cardinality in CARDINALITIES]
    return torch.cat([torch.randn(samples, 2), torch.stack(codes, dim=1)], dim=1)


@dataclass(frozen=True)
class Case:
    """A small instance of a model.

    Attributes:
        build: Makes it; takes batch_norm, dropout and activation.
        draw: Makes so many samples of what it takes.
    """

    build: Callable[..., nn.Module]
    draw: Callable[[int], Tensor]

    def model(self, seed: int = 0, **values: Any) -> nn.Module:
        torch.manual_seed(seed)
        return self.build(**values)

    def stirred(self, seed: int = 0, **values: Any) -> nn.Module:
        """None of its parameters is at a special value any more, as a factor of 0 is."""
        network = self.model(seed, **values)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += 0.3 * torch.randn_like(parameter)
        return network

    def batch(self, samples: int, seed: int = 0) -> Tensor:
        torch.manual_seed(seed)
        return self.draw(samples)


MODELS = {
    "mlp": Case(lambda **values: MLP((4,), 3, (5, 4), **values), vectors),
    "mlp of images": Case(lambda **values: MLP((1, 8, 8), 3, (5,), **values), images),
    "mlp of rows": Case(lambda **values: MLP((4,), 3, (5,), cardinalities=CARDINALITIES, **values), rows),
    "cnn": Case(lambda **values: CNN((1, 8, 8), 3, (2, 3), **values), images),
    "cnn flattened": Case(lambda **values: CNN((3, 9, 8), 3, (3,), "flatten", **values), colour_images),
    "resnet_small": Case(lambda **values: ResNetSmall((1, 8, 8), 3, (2, 3, 4), **values), images),
    "resnet_small projected": Case(
        lambda **values: ResNetSmall((3, 9, 8), 3, (3, 4), 2, "projection", **values),
        colour_images,
    ),
    "tabular": Case(lambda **values: Tabular((4,), 3, CARDINALITIES, hidden=(5, 4), **values), rows),
    "tabular periodic": Case(
        lambda **values: Tabular(
            (4,), 3, CARDINALITIES, 2, "periodic", 3, 0.5, numerical_width=2, hidden=(5,), **values
        ),
        rows,
    ),
}


@pytest.fixture(params=MODELS)
def case(request: pytest.FixtureRequest) -> Case:
    return MODELS[request.param]


both = pytest.mark.parametrize("batch_norm", [False, True])


@both
def test_every_parameter_learns(case: Case, batch_norm: bool) -> None:
    network = case.model(batch_norm=batch_norm).train()
    nn.functional.cross_entropy(network(case.batch(30)), torch.arange(30) % 3).backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    assert [name for name, gradient in gradients.items() if gradient is None or not gradient.any()] == []


@both
def test_samples_know_of_each_other_in_training_with_batch_norm_only(case: Case, batch_norm: bool) -> None:
    network = case.stirred(batch_norm=batch_norm)
    assert any(isinstance(part, _BatchNorm) for part in network.modules()) == batch_norm
    features = case.batch(8)
    network.train()
    assert torch.allclose(network(features)[:4], network(features[:4]), atol=1e-5) != batch_norm
    network.eval()
    assert torch.allclose(network(features)[:4], network(features[:4]), atol=1e-5)


def test_dropout_is_at_work_in_training_only(case: Case) -> None:
    features = case.batch(8)
    network = case.model(dropout=0.5, batch_norm=False).train()
    assert not torch.equal(network(features), network(features))
    network.eval()
    assert torch.equal(network(features), network(features))
    network = case.model(dropout=0.0, batch_norm=False).train()
    assert torch.equal(network(features), network(features))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_any_activation_takes_the_place_of_relu(case: Case, name: str) -> None:
    def count(network: nn.Module, kind: type[nn.Module]) -> int:
        return sum(type(part) is kind for part in network.modules())

    assert count(case.model(activation=name), ACTIVATIONS[name]) == count(case.model(), nn.ReLU) > 0


@both
def test_initial_weights_follow_the_seed(case: Case, batch_norm: bool) -> None:
    first, again, other = (case.model(seed, batch_norm=batch_norm).state_dict() for seed in (1, 1, 2))
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_it_can_be_built_without_memory(case: Case) -> None:
    with torch.device("meta"):
        network = case.model()
    assert all(each.is_meta for each in [*network.parameters(), *network.buffers()])


@both
def test_its_exported_graph_answers_the_same_for_any_number_of_samples(case: Case, batch_norm: bool) -> None:
    network = case.stirred(batch_norm=batch_norm).eval()
    exported = torch.export.export(network, (case.batch(3),), dynamic_shapes=({0: Dim("samples")},)).module()
    for samples in (2, 7):
        assert torch.allclose(exported(case.batch(samples)), network(case.batch(samples)), atol=1e-6)


@both
def test_stacked_members_answer_as_each_alone(case: Case, batch_norm: bool) -> None:
    members = [case.stirred(seed, batch_norm=batch_norm) for seed in range(3)]
    for seed, member in enumerate(members):
        member.train()(case.batch(10, seed))  # running statistics of its own
        member.eval()
    parameters, buffers = stack_module_state(members)
    shared, own = case.batch(5), torch.stack([case.batch(5, member) for member in range(3)])

    def answer(parameters: dict[str, Tensor], buffers: dict[str, Tensor], features: Tensor) -> Tensor:
        made: Tensor = functional_call(members[0], (parameters, buffers), (features,))
        return made

    together = vmap(answer, in_dims=(0, 0, None))(parameters, buffers, shared)
    apart = vmap(answer)(parameters, buffers, own)
    for number, member in enumerate(members):
        assert torch.allclose(together[number], member(shared), atol=1e-5)
        assert torch.allclose(apart[number], member(own[number]), atol=1e-5)
    assert not torch.allclose(together[0], together[1], atol=1e-3)


@both
def test_stacked_members_learn_as_each_alone(case: Case, batch_norm: bool) -> None:
    members = [case.stirred(seed, batch_norm=batch_norm).train() for seed in range(2)]
    parameters, buffers = stack_module_state([deepcopy(member) for member in members])
    own = torch.stack([case.batch(6, member) for member in range(2)])

    def loss(parameters: dict[str, Tensor], buffers: dict[str, Tensor], features: Tensor) -> Tensor:
        made: Tensor = functional_call(members[0], (parameters, buffers), (features,)).square().mean()
        return made

    gradients = vmap(grad(loss))(parameters, buffers, own)
    for number, member in enumerate(members):
        member(own[number]).square().mean().backward()
        for name, parameter in member.named_parameters():
            assert torch.allclose(gradients[name][number], parameter.grad, rtol=1e-3, atol=1e-5), name


@both
def test_gradients_agree_with_finite_differences(case: Case, batch_norm: bool) -> None:
    network = case.stirred(batch_norm=batch_norm).double().train()
    replace_all_batch_norm_modules_(network)  # leaves the running statistics out, which vmap cannot update
    features = case.batch(6).double()
    names, parameters = zip(*network.named_parameters(), strict=True)
    sizes = [parameter.numel() for parameter in parameters]
    theta = torch.cat([parameter.detach().flatten() for parameter in parameters])

    def loss(theta: Tensor) -> Tensor:
        values = {
            name: part.view_as(parameter)
            for name, parameter, part in zip(names, parameters, theta.split(sizes), strict=True)
        }
        made: Tensor = functional_call(network, values, (features,)).square().mean()
        return made

    gradient = torch.autograd.grad(loss(theta.requires_grad_()), theta)[0]
    with torch.no_grad():
        h = 1e-6
        steps = torch.eye(len(theta), dtype=torch.float64) * h
        around = vmap(loss, chunk_size=64)
        differences = (around(theta + steps) - around(theta - steps)) / (2 * h)
    # Central differences are off by about h^2 and by rounding, 1e-16 / h; a kink within h of a unit would show.
    assert gradient.abs().max() > 1e-3
    assert torch.allclose(gradient, differences, rtol=1e-5, atol=1e-7)
