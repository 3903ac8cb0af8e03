from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from autotune.stacking.layers import BatchNormalisation, rule_for

SHAPES = [(2, 5, 3), (3, 4, 2, 3, 2), (1, 2, 1), (2, 3, 4, 5), (2, 3, 2, 2, 2, 3)]

every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def drawn(shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Samples of members, and their weights and biases by channel."""
    torch.manual_seed(0)
    by_channel = (shape[0], 1, shape[2], *(1 for _ in shape[3:]))
    x = 3 * torch.randn(shape, dtype=torch.float64) + 2
    weight, bias = (torch.randn(by_channel, dtype=torch.float64) for _ in range(2))
    return x.requires_grad_(), weight.requires_grad_(), bias.requires_grad_()


def expected(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return torch.stack(
        [
            functional.batch_norm(each, None, None, w.flatten(), b.flatten(), training=True, eps=eps)
            for each, w, b in zip(x, weight, bias, strict=True)
        ]
    )


@every_shape
def test_batch_normalisation_is_torch_s_of_each_member(shape: tuple[int, ...]) -> None:
    given = drawn(shape)
    y, mean, variance = BatchNormalisation.apply(*given, 1e-3)
    right = expected(*given, 1e-3)
    torch.testing.assert_close(y, right, rtol=1e-10, atol=1e-10)
    over = (1, *range(3, len(shape)))
    torch.testing.assert_close(mean, given[0].mean(over, keepdim=True), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(variance, given[0].var(over, unbiased=False, keepdim=True), rtol=1e-12, atol=1e-12)
    along = torch.randn_like(right)
    for found, exact in zip(
        torch.autograd.grad(y, given, along), torch.autograd.grad(right, given, along), strict=True
    ):
        torch.testing.assert_close(found, exact, rtol=1e-9, atol=1e-10)


@every_shape
def test_its_gradient_agrees_with_finite_differences(shape: tuple[int, ...]) -> None:
    assert torch.autograd.gradcheck(lambda *given: BatchNormalisation.apply(*given, 0.1)[0], drawn(shape))


def test_its_mean_and_variance_carry_no_gradient() -> None:
    _, mean, variance = BatchNormalisation.apply(*drawn((2, 5, 3)), 1e-5)
    assert not mean.requires_grad
    assert not variance.requires_grad


def test_a_member_of_nan_leaves_the_others_as_they_are() -> None:
    x, weight, bias = drawn((3, 5, 2))
    spoilt = x.detach().clone()
    spoilt[1, 2] = float("nan")
    spoilt.requires_grad_()
    results = []
    for given in (x, spoilt):
        y, _, _ = BatchNormalisation.apply(given, weight, bias, 1e-5)
        results.append([y, *torch.autograd.grad(y.square().sum(), (given, weight, bias))])
    for clean, other in zip(*results, strict=True):
        assert torch.equal(clean[[0, 2]], other[[0, 2]])
        assert other[1].isnan().any()


def test_a_batch_of_one_is_refused_as_torch_refuses_it() -> None:
    from autotune.stacking.layers import Pass

    norm = nn.BatchNorm1d(3)
    rule = rule_for("norm", norm)
    assert rule is not None
    parameters = {f"norm.{name}": each.expand(2, *each.shape) for name, each in norm.named_parameters()}
    buffers = {f"norm.{name}": each.expand(2, *each.shape).clone() for name, each in norm.named_buffers()}
    with pytest.raises(ValueError, match=r"^Expected more than 1 value per channel when training"):
        rule(Pass(parameters, buffers, True, [], {}), torch.zeros(2, 1, 3))


class OwnLinear(nn.Linear):
    """A subclass may do anything."""


@pytest.mark.parametrize(
    "layer",
    [
        OwnLinear(2, 3),
        nn.BatchNorm1d(3, affine=False),
        nn.BatchNorm1d(3, momentum=None),
        nn.BatchNorm1d(3, track_running_stats=False),
        nn.Flatten(0),
        nn.Flatten(-1),
        nn.AlphaDropout(0.5),
        nn.RReLU(),
        nn.Softmax(1),
        nn.Conv2d(1, 1, 1),
    ],
    ids=lambda layer: str(layer),
)
def test_what_is_not_exactly_a_known_layer_has_no_rule(layer: nn.Module) -> None:
    assert rule_for("layer", layer) is None
