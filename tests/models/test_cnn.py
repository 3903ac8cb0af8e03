from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from autotune.errors import UserError
from autotune.models.cnn import CNN

SIDES = st.integers(2, 20)


def parts(network: CNN, kind: type[nn.Module]) -> list[nn.Module]:
    return [part for part in network.modules() if isinstance(part, kind)]


@settings(max_examples=40)
@given(
    colours=st.sampled_from([1, 3]),
    height=SIDES,
    width=SIDES,
    channels=st.lists(st.integers(1, 5), min_size=1, max_size=5),
    head=st.sampled_from(["average", "flatten"]),
    batch_norm=st.booleans(),
    samples=st.integers(2, 4),
)
def test_any_blocks_take_any_images_and_pool_down_to_2x2(
    colours: int, height: int, width: int, channels: list[int], head: str, batch_norm: bool, samples: int
) -> None:
    network = CNN((colours, height, width), 3, channels, head, batch_norm)
    images = torch.rand(samples, colours, height, width)
    assert network(images).shape == (samples, 3)
    assert [(part.in_channels, part.out_channels) for part in parts(network, nn.Conv2d)] == list(
        zip([colours, *channels], channels, strict=False)
    )
    assert len(parts(network, nn.BatchNorm2d)) == (len(channels) if batch_norm else 0)
    # The shorter side s can be halved floor(log2(s)) - 1 times before less than 2 pixels would be left.
    halvings = min(len(channels), min(height, width).bit_length() - 2)
    assert len(parts(network, nn.MaxPool2d)) == halvings
    assert network.blocks(images).shape == (samples, channels[-1], height >> halvings, width >> halvings)


def test_one_block_by_hand() -> None:
    torch.manual_seed(0)
    network = CNN((2, 4, 4), 3, (5,), "flatten", batch_norm=False).double()
    images = torch.randn(6, 2, 4, 4, dtype=torch.float64)
    (convolution,) = parts(network, nn.Conv2d)
    padded = torch.zeros(6, 2, 6, 6, dtype=torch.float64)
    padded[:, :, 1:5, 1:5] = images
    maps = torch.zeros(6, 5, 4, 4, dtype=torch.float64)
    for row in range(4):
        for column in range(4):
            patch = padded[:, None, :, row : row + 3, column : column + 3]
            maps[:, :, row, column] = (patch * convolution.weight).sum((2, 3, 4)) + convolution.bias
    pooled = maps.clamp(min=0).reshape(6, 5, 2, 2, 2, 2).amax((3, 5))
    assert torch.allclose(network(images), network.output(pooled.reshape(6, 20)), rtol=1e-12)


def test_the_average_head_sees_what_is_there_and_the_flat_head_also_where() -> None:
    torch.manual_seed(0)
    images = torch.rand(4, 1, 8, 8)
    # A convolution that only looks at its own pixel, so that moving pixels moves what it says of them.
    turned = {}
    for head in ("average", "flatten"):
        network = CNN((1, 8, 8), 3, (2,), head, batch_norm=False)
        (convolution,) = parts(network, nn.Conv2d)
        with torch.no_grad():
            convolution.weight[:, :, [0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 0, 2, 0, 1, 2]] = 0
        turned[head] = torch.allclose(network(images), network(images.flip(3)), atol=1e-6)
    assert turned == {"average": True, "flatten": False}


def test_the_average_head_has_as_many_weights_for_large_images_as_for_small_ones() -> None:
    def weights(side: int, head: str) -> int:
        return sum(parameter.numel() for parameter in CNN((1, side, side), 10, (4, 8), head, False).parameters())

    # Convolutions 4*9 + 4 and 8*4*9 + 8; outputs 10 * inputs + 10, where flat inputs are 8 maps of (side / 4)^2.
    assert weights(8, "average") == weights(28, "average") == 40 + 296 + 90
    assert (weights(8, "flatten"), weights(28, "flatten")) == (40 + 296 + 330, 40 + 296 + 3930)


# Ioffe and Szegedy 2015, section 3.2: as in one dimension, with a map's pixels counted as samples, so that m is samples
# times pixels. eps and momentum are torch's defaults.
EPS, MOMENTUM = 1e-5, 0.1


def normalised_block() -> tuple[CNN, Tensor, nn.BatchNorm2d, Tensor]:
    """A network with one normalised block, a batch, the norm and what goes into it."""
    torch.manual_seed(0)
    network = CNN((2, 3, 3), 2, (4,), batch_norm=True).double()
    (convolution,), (norm,) = parts(network, nn.Conv2d), parts(network, nn.BatchNorm2d)
    assert isinstance(norm, nn.BatchNorm2d)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2.0)
        norm.bias.uniform_(-1.0, 1.0)
    images = torch.randn(8, 2, 3, 3, dtype=torch.float64) * 3 + 1
    return network, images, norm, convolution(images).detach()


def per_map(values: Tensor) -> Tensor:
    return values.view(1, 4, 1, 1)


def rest_of(network: CNN, norm: nn.BatchNorm2d, normalised: Tensor) -> Tensor:
    maps = (per_map(norm.weight) * normalised + per_map(norm.bias)).clamp(min=0)
    answer: Tensor = network.output(maps.mean((2, 3)))
    return answer


def test_batch_norm_normalises_each_map_over_samples_and_pixels_in_training() -> None:
    network, images, norm, x = normalised_block()
    m = 8 * 9
    mu = x.sum((0, 2, 3)) / m
    sigma2 = ((x - per_map(mu)) ** 2).sum((0, 2, 3)) / m
    expected = rest_of(network, norm, (x - per_map(mu)) / (per_map(sigma2) + EPS).sqrt())
    assert torch.allclose(network.train()(images), expected, rtol=1e-12)


def test_batch_norm_keeps_running_statistics_with_the_unbiased_variance() -> None:
    network, images, norm, x = normalised_block()
    network.train()
    mean, variance = torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64)
    for taken in (slice(0, 5), slice(5, 8)):
        network(images[taken])
        pixels = x[taken].transpose(0, 1).reshape(4, -1)
        m = pixels.shape[1]
        mu = pixels.sum(1) / m
        unbiased = ((pixels - mu[:, None]) ** 2).sum(1) / (m - 1)
        mean = (1 - MOMENTUM) * mean + MOMENTUM * mu
        variance = (1 - MOMENTUM) * variance + MOMENTUM * unbiased
    assert torch.allclose(norm.running_mean, mean, rtol=1e-12)
    assert torch.allclose(norm.running_var, variance, rtol=1e-12)
    network.eval()
    expected = rest_of(network, norm, (x - per_map(mean)) / (per_map(variance) + EPS).sqrt())
    assert torch.allclose(network(images), expected, rtol=1e-12)
    assert torch.allclose(network(images[:1]), expected[:1], rtol=1e-12)


def test_a_bias_before_batch_norm_would_change_nothing_so_there_is_none() -> None:
    assert [part.bias is None for part in parts(CNN((1, 8, 8), 2, batch_norm=True), nn.Conv2d)] == [True, True]
    assert [part.bias is None for part in parts(CNN((1, 8, 8), 2, batch_norm=False), nn.Conv2d)] == [False, False]


WRONG = {
    "rows": (
        {"input_shape": (64,)},
        "model: cnn takes images of shape [channels, height, width], and the data gives [64]; "
        "give data of images, or model=mlp",
    ),
    "no channels": (
        {"input_shape": (28, 28)},
        "model: cnn takes images of shape [channels, height, width], and the data gives [28, 28]; "
        "give data of images, or model=mlp",
    ),
    "one row of pixels": (
        {"input_shape": (3, 1, 28)},
        "model: cnn takes images from 2x2 pixels on, and the data gives [3, 1, 28]; give larger images, or model=mlp",
    ),
    "head": ({"head": "avrage"}, "model.head: no head avrage; did you mean average?"),
    "activation": ({"activation": "rellu"}, "model.activation: no activation rellu; did you mean relu?"),
}


@pytest.mark.parametrize(("values", "message"), WRONG.values(), ids=WRONG)
def test_what_it_cannot_take_is_said_with_what_would_be_right(values: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        CNN(**{"input_shape": (1, 8, 8), "outputs": 3, **values})  # type: ignore[arg-type]
