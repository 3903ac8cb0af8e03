from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, replace_all_batch_norm_modules_, vmap
from torch.nn import functional

from autotune.errors import UserError
from autotune.models.activations import ACTIVATIONS
from autotune.models.mlp import MLP
from autotune.task import Task

WIDTHS = st.lists(st.integers(1, 9), max_size=5)


def parts(network: MLP, kind: type[nn.Module]) -> list[nn.Module]:
    return [part for part in network.modules() if isinstance(part, kind)]


@settings(max_examples=30)
@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    outputs=st.integers(1, 5),
    hidden=WIDTHS,
    batch_norm=st.booleans(),
    samples=st.integers(2, 6),
)
def test_any_depth_takes_samples_of_its_shape_to_its_outputs(
    shape: list[int], outputs: int, hidden: list[int], batch_norm: bool, samples: int
) -> None:
    network = MLP(shape, outputs, hidden, batch_norm=batch_norm)
    assert network(torch.rand(samples, *shape)).shape == (samples, outputs)
    assert len(parts(network, nn.Linear)) == len(hidden) + 1
    assert len(parts(network, nn.BatchNorm1d)) == (len(hidden) if batch_norm else 0)
    assert len(parts(network, nn.ReLU)) == len(hidden)


def test_without_hidden_layers_it_is_linear() -> None:
    network = MLP((3,), 2, hidden=())
    (linear,) = parts(network, nn.Linear)
    features = torch.rand(5, 3)
    assert torch.equal(network(features), linear(features))


def test_the_background_example_is_64_32_1_with_relu() -> None:
    network = MLP((10,), 1, (64, 32))
    # 10 inputs: 10*64 + 64, 64*32 + 32, 32*1 + 1
    assert [parameter.numel() for parameter in network.parameters()] == [640, 64, 2048, 32, 32, 1]
    w1, b1, w2, b2, w3, b3 = network.parameters()
    features = torch.rand(7, 10)
    hidden = (features @ w1.T + b1).clamp(min=0)
    hidden = (hidden @ w2.T + b2).clamp(min=0)
    assert torch.allclose(network(features), hidden @ w3.T + b3, atol=1e-6)


def test_sigmoid_and_binary_cross_entropy_is_what_the_binary_task_computes_from_logits() -> None:
    features, target = torch.rand(20, 10), torch.randint(0, 2, (20,)).float()
    logits = MLP((10,), 1, (64, 32))(features).detach()
    y = torch.sigmoid(logits.squeeze(1))
    by_hand = -(target * y.log() + (1 - target) * (1 - y).log()).mean()
    loss = Task("binary", 1).loss(logits, target)
    assert float(loss) == pytest.approx(float(by_hand), rel=1e-5)
    assert float(loss) == pytest.approx(float(functional.binary_cross_entropy(y, target)), rel=1e-5)


# Ioffe and Szegedy 2015: algorithm 1 in training; running averages with the unbiased variance m/(m-1) sigma^2 and
# algorithm 2 in evaluation. eps and momentum are torch's defaults.
EPS, MOMENTUM = 1e-5, 0.1


def normalised_layer() -> tuple[MLP, Tensor, nn.BatchNorm1d, Tensor]:
    """A network with one normalised layer, a batch, the norm and what goes into it."""
    torch.manual_seed(0)
    network = MLP((3,), 2, hidden=(4,), batch_norm=True).double()
    (norm,) = parts(network, nn.BatchNorm1d)
    assert isinstance(norm, nn.BatchNorm1d)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2.0)
        norm.bias.uniform_(-1.0, 1.0)
    features = torch.randn(8, 3, dtype=torch.float64) * 3 + 1
    first, _ = parts(network, nn.Linear)
    assert isinstance(first, nn.Linear)
    return network, features, norm, features @ first.weight.T


def rest_of(network: MLP, norm: nn.BatchNorm1d, normalised: Tensor) -> Tensor:
    _, last = parts(network, nn.Linear)
    answer: Tensor = last((norm.weight * normalised + norm.bias).clamp(min=0))
    return answer


def test_batch_norm_normalises_over_the_batch_in_training() -> None:
    network, features, norm, x = normalised_layer()
    mu = x.sum(0) / 8
    sigma2 = ((x - mu) ** 2).sum(0) / 8
    expected = rest_of(network, norm, (x - mu) / (sigma2 + EPS).sqrt())
    assert torch.allclose(network.train()(features), expected, rtol=1e-12)


def test_batch_norm_keeps_running_statistics_with_the_unbiased_variance() -> None:
    network, features, norm, x = normalised_layer()
    network.train()
    mean, variance = torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64)
    for batch in (features[:5], features[5:]):
        network(batch)
    for part in (x[:5], x[5:]):
        mu, m = part.mean(0), len(part)
        unbiased = ((part - mu) ** 2).sum(0) / (m - 1)
        mean = (1 - MOMENTUM) * mean + MOMENTUM * mu
        variance = (1 - MOMENTUM) * variance + MOMENTUM * unbiased
    assert torch.allclose(norm.running_mean, mean, rtol=1e-12)
    assert torch.allclose(norm.running_var, variance, rtol=1e-12)


def test_batch_norm_normalises_by_the_running_statistics_in_evaluation() -> None:
    network, features, norm, x = normalised_layer()
    network.train()(features)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, variance = norm.running_mean.clone(), norm.running_var.clone()
    network.eval()
    expected = rest_of(network, norm, (x - mean) / (variance + EPS).sqrt())
    assert torch.allclose(network(features), expected, rtol=1e-12)
    assert torch.allclose(network(features[:1]), expected[:1], rtol=1e-12)
    assert torch.equal(norm.running_mean, mean)


def test_a_bias_before_batch_norm_would_change_nothing_so_there_is_none() -> None:
    first, last = parts(MLP((3,), 2, hidden=(4,), batch_norm=True), nn.Linear)
    assert first.bias is None
    assert last.bias is not None


def test_dropout_sets_its_part_of_each_hidden_layer_to_0_in_training_only() -> None:
    torch.manual_seed(0)
    network = MLP((3,), 1, hidden=(1000, 1000), dropout=0.25)
    seen: list[Tensor] = []
    for part in parts(network, nn.Dropout):
        part.register_forward_hook(lambda _, given, made: seen.append((made == 0).float() - (given[0] == 0).float()))
    features = torch.rand(20, 3)
    network.train()(features)
    assert len(seen) == 2
    for dropped in seen:
        # Only units that were not 0 before the dropout tell: about half of 20,000.
        assert 0 < float(dropped.mean()) < 0.25
    network.eval()
    assert torch.equal(network(features), network(features))
    network.train()
    assert not torch.equal(network(features), network(features))


def test_dropout_drops_as_often_as_it_says_and_scales_what_is_left() -> None:
    torch.manual_seed(0)
    network = MLP((3,), 1, hidden=(1000,), dropout=0.25, activation="sigmoid")
    seen: list[tuple[Tensor, Tensor]] = []
    (part,) = parts(network, nn.Dropout)
    part.register_forward_hook(lambda _, given, made: seen.append((given[0], made)))
    network.train()(torch.rand(20, 3))
    ((given, made),) = seen
    kept = made != 0
    # A sigmoid is never 0. Of 20,000 units, standard deviation sqrt(0.25 * 0.75 / 20,000) = 0.0031; six of them.
    assert float(kept.float().mean()) == pytest.approx(0.75, abs=0.019)
    assert torch.allclose(made[kept], given[kept] / 0.75)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_stands_behind_each_hidden_layer_by_its_name(name: str) -> None:
    network = MLP((3,), 1, hidden=(4, 5), activation=name)
    assert len(parts(network, ACTIVATIONS[name])) == 2
    # torch's functions have the same names.
    function = getattr(functional, name, None) or getattr(torch, name)
    first, second, last = parts(network, nn.Linear)
    features = torch.randn(6, 3)
    assert torch.allclose(network(features), last(function(second(function(first(features))))))


def test_an_unknown_activation_is_answered_with_the_nearest() -> None:
    message = "model.activation: no activation rellu; did you mean relu?"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        MLP((3,), 1, activation="rellu")


def test_an_activation_like_no_other_is_answered_with_all() -> None:
    message = "model.activation: no activation xyz; known are elu, gelu, leaky_relu, relu, sigmoid, silu, tanh"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        MLP((3,), 1, activation="xyz")


@settings(max_examples=30)
@given(numbers=st.integers(0, 3), cardinalities=st.lists(st.integers(1, 5), min_size=1, max_size=3))
def test_categories_enter_one_hot_behind_the_numbers(numbers: int, cardinalities: list[int]) -> None:
    torch.manual_seed(0)
    network = MLP((numbers + len(cardinalities),), 2, (4,), cardinalities=cardinalities)
    torch.manual_seed(0)
    wide = MLP((numbers + sum(cardinalities),), 2, (4,))
    given_numbers = torch.randn(6, numbers)
    codes = [torch.randint(0, cardinality, (6,)) for cardinality in cardinalities]
    features = torch.cat([given_numbers, torch.stack(codes, dim=1)], dim=1)
    hot = [functional.one_hot(code, cardinality) for code, cardinality in zip(codes, cardinalities, strict=True)]
    assert torch.equal(network(features), wide(torch.cat([given_numbers, *hot], dim=1)))


def test_a_code_that_is_no_category_enters_as_zeros() -> None:
    network, linear = MLP((2,), 1, (), cardinalities=(2, 2)), torch.tensor([[0.0, 0.0, 0.0, 1.0]])
    (layer,) = parts(network, nn.Linear)
    assert torch.equal(network(torch.tensor([[7.0, 1.0]])), layer(linear))


@pytest.mark.parametrize("shape", [(1,), (1, 8, 8)])
def test_categories_are_columns_of_a_row(shape: tuple[int, ...]) -> None:
    message = (
        f"model.cardinalities: [2, 3] says that 2 columns are categories, and the data gives {list(shape)}; "
        "give one cardinality for each of the last columns of a row"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        MLP(shape, 1, cardinalities=(2, 3))


KINDS = {"binary": 1, "multiclass": 3, "regression": 1}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_back_propagation_agrees_with_finite_differences(kind: str, batch_norm: bool, activation: str) -> None:
    torch.manual_seed(2)
    outputs = KINDS[kind]
    network = MLP((3,), outputs, (5, 4), batch_norm=batch_norm, activation=activation).double().train()
    replace_all_batch_norm_modules_(network)  # leaves the running statistics out, which vmap cannot update
    features = torch.randn(6, 3, dtype=torch.float64)
    target = torch.arange(6) % outputs if kind == "multiclass" else (torch.arange(6) % 2).double()
    task = Task(kind, outputs)
    names, parameters = zip(*network.named_parameters(), strict=True)
    sizes = [parameter.numel() for parameter in parameters]
    theta = torch.cat([parameter.detach().flatten() for parameter in parameters])

    def loss(theta: Tensor) -> Tensor:
        values = {
            name: part.view_as(parameter)
            for name, parameter, part in zip(names, parameters, theta.split(sizes), strict=True)
        }
        return task.loss(functional_call(network, values, features), target)

    gradient = torch.autograd.grad(loss(theta.requires_grad_()), theta)[0]
    with torch.no_grad():
        h = 1e-6
        steps = torch.eye(len(theta), dtype=torch.float64) * h
        differences = (vmap(loss)(theta + steps) - vmap(loss)(theta - steps)) / (2 * h)
    # Central differences are off by about h^2 and by rounding, 1e-16 / h; a kink within h of a unit would show.
    assert gradient.abs().max() > 1e-3
    assert torch.allclose(gradient, differences, rtol=1e-6, atol=1e-8)
