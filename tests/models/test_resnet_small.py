from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from autotune.errors import UserError
from autotune.models.resnet_small import ResNetSmall

SIDES = st.integers(8, 17)


def parts(network: nn.Module, kind: type[nn.Module]) -> list[nn.Module]:
    return [part for part in network.modules() if isinstance(part, kind)]


@settings(max_examples=25)
@given(
    colours=st.sampled_from([1, 3]),
    height=SIDES,
    width=SIDES,
    channels=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    blocks=st.integers(1, 2),
    shortcut=st.sampled_from(["identity", "projection"]),
    batch_norm=st.booleans(),
)
def test_each_stage_after_the_first_halves_the_image(
    colours: int, height: int, width: int, channels: list[int], blocks: int, shortcut: str, batch_norm: bool
) -> None:
    network = ResNetSmall((colours, height, width), 3, channels, blocks, shortcut, batch_norm)
    images = torch.rand(2, colours, height, width)
    assert network(images).shape == (2, 3)
    maps = network.stem(images)
    for number, block in enumerate(network.stages):
        maps = block(maps)
        stage = number // blocks
        sides = (-(-side // 2**stage) for side in (height, width))
        assert maps.shape == (2, channels[stage], *sides)
    convolutions = [part for part in parts(network, nn.Conv2d) if part.kernel_size == (3, 3)]
    assert len(convolutions) == 1 + 2 * blocks * len(channels)
    assert (len(parts(network, nn.BatchNorm2d)) > 0) == batch_norm


# He et al. 2016, table 6: layers and millions of parameters of its networks for CIFAR-10.
@pytest.mark.parametrize(("layers", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)])
def test_it_is_as_large_as_the_papers(layers: int, millions: float) -> None:
    with torch.device("meta"):
        network = ResNetSmall((3, 32, 32), 10, (16, 32, 64), blocks=(layers - 2) // 6)
    assert len(parts(network, nn.Conv2d)) + len(parts(network, nn.Linear)) == layers
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert parameters / 1e6 == pytest.approx(millions, abs=0.035 if layers == 110 else 0.005)


def convolution_of(part: nn.Module, maps: Tensor) -> Tensor:
    assert isinstance(part, nn.Conv2d)
    return functional.conv2d(maps, part.weight, part.bias, part.stride, part.padding)


def test_a_block_adds_its_branch_to_its_shortcut() -> None:
    torch.manual_seed(0)
    network = ResNetSmall((1, 9, 8), 3, (2, 5), shortcut="identity", batch_norm=False)
    same, changing = network.stages
    maps = torch.randn(3, 2, 9, 8)
    with torch.no_grad():
        same.scale.fill_(0.5)
        changing.scale.fill_(2.0)
    for block, scale, shortcut in (
        (same, 0.5, maps),
        (changing, 2.0, torch.cat([maps[:, :, ::2, ::2], torch.zeros(3, 3, 5, 4)], dim=1)),  # option A
    ):
        first, second = parts(block, nn.Conv2d)
        branch = convolution_of(second, convolution_of(first, maps).clamp(min=0))
        assert torch.allclose(block(maps), (shortcut + scale * branch).clamp(min=0), atol=1e-6)


def test_a_projection_learns_the_shortcut_where_maps_change() -> None:
    torch.manual_seed(0)
    same, changing = ResNetSmall((1, 9, 8), 3, (2, 5), shortcut="projection", batch_norm=False).stages
    maps = torch.randn(3, 2, 9, 8)
    assert len(parts(same, nn.Conv2d)) == 2
    *_, projection = parts(changing, nn.Conv2d)
    assert projection.weight.shape == (5, 2, 1, 1)
    every_second = torch.einsum("oi,nihw->nohw", projection.weight[:, :, 0, 0], maps[:, :, ::2, ::2])
    expected = every_second + projection.bias.view(1, 5, 1, 1)
    with torch.no_grad():
        changing.scale.zero_()  # leaves the shortcut alone
    assert torch.allclose(changing(maps), expected.clamp(min=0), atol=1e-6)


def test_a_stage_with_fewer_maps_is_projected_all_the_same() -> None:
    stages = ResNetSmall((1, 8, 8), 3, (5, 2, 4), shortcut="identity").stages
    assert [len(parts(stage, nn.Conv2d)) for stage in stages] == [2, 3, 2]


def test_weights_are_drawn_so_that_relu_keeps_the_size_of_signals() -> None:
    torch.manual_seed(0)
    _, *within = parts(ResNetSmall((3, 8, 8), 3, (64, 64)), nn.Conv2d)
    for convolution in within:
        # He et al. 2015: variance 2 / inputs. Of 36,864 weights the deviation is known to 1 / sqrt(2 * 36,864) = 0.4%.
        assert float(convolution.weight.detach().std()) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.023)


def test_without_batch_norm_the_branches_start_small_enough_for_any_depth() -> None:
    torch.manual_seed(0)
    network = ResNetSmall((1, 8, 8), 3, (4, 4), blocks=15, batch_norm=False)
    assert [float(block.scale.detach()) for block in network.stages] == pytest.approx([30**-0.5] * 30)
    stem = network.stem(torch.rand(5, 1, 8, 8))
    assert network.stages(stem).std() < 3 * stem.std()
    with torch.no_grad():
        for block in network.stages:
            block.scale.fill_(1.0)
    # Plain sums double the variance at each block.
    assert network.stages(stem).std() > 1000 * stem.std()


@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_deep_network_trains_with_and_without_batch_norm(batch_norm: bool) -> None:
    torch.manual_seed(0)
    network = ResNetSmall((1, 8, 8), 2, (8, 8), blocks=6, batch_norm=batch_norm).train()
    images, target = torch.rand(16, 1, 8, 8), torch.arange(16) % 2
    images[target == 1, :, 2:6, 2:6] += 1
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    losses = []
    for _ in range(25):
        loss = functional.cross_entropy(network(images), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 4


WRONG = {
    "rows": (
        {"input_shape": (64,)},
        "model: resnet_small takes images of shape [channels, height, width], and the data gives [64]; "
        "give data of images, or model=mlp",
    ),
    "small image": (
        {"input_shape": (1, 8, 7)},
        "model: resnet_small takes images from 8x8 pixels on, and the data gives [1, 8, 7]; "
        "give larger images, fewer model.channels (one a stage), or model=cnn",
    ),
    "many stages": (
        {"channels": (4, 8, 16, 32)},
        "model: resnet_small takes images from 16x16 pixels on, and the data gives [1, 8, 8]; "
        "give larger images, fewer model.channels (one a stage), or model=cnn",
    ),
    "shortcut": ({"shortcut": "project"}, "model.shortcut: no shortcut project; did you mean projection?"),
    "activation": ({"activation": "rellu"}, "model.activation: no activation rellu; did you mean relu?"),
}


@pytest.mark.parametrize(("values", "message"), WRONG.values(), ids=WRONG)
def test_what_it_cannot_take_is_said_with_what_would_be_right(values: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        ResNetSmall(**{"input_shape": (1, 8, 8), "outputs": 3, **values})  # type: ignore[arg-type]
