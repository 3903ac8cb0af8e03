"""Small residual network for small images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from autotune.errors import UserError, nearest
from autotune.models.activations import activation_named
from autotune.models.images import image_shape

SHORTCUTS = ("identity", "projection")


class ResNetSmall(nn.Module):
    """The residual network for CIFAR of He, Zhang, Ren and Sun (2016), section 4.2: three stages of `blocks` each.

    A 3x3 convolution, the stages, the average over the pixels, a linear output: 6 `blocks` + 2 layers with weights.
    Each stage after the first halves the image. Weights are drawn as the paper does (He et al. 2015).

    Without BatchNorm each residual branch ends with a learnt factor (SkipInit: De and Smith 2020), which may start from
    0 up to 1 / sqrt(d) in a network of d residual blocks. It starts from the latter: d branches of variance 1/d let
    signals grow by (1 + 1/d)^d < e at any depth, and all weights learn from the first update on, not the factors alone.

    Args:
        input_shape: Channels, height and width of an image, the sides at least 2 ** stages.
        outputs: How many numbers it answers with.
        channels: How many maps each stage has; as many stages as there are numbers, at least one.
        blocks: Residual blocks of a stage; the paper has 3, 5, 7, 9 and 18.
        shortcut: What stands beside the branch of a block that changes the maps' shape: ``identity``, every second
            pixel and zeros for new maps (the paper's option A, no weights), or ``projection``, a 1x1 convolution (B).
            A stage with fewer maps than the one before is projected all the same.
        batch_norm: Whether each convolution is normalised over the batch and the pixels (Ioffe and Szegedy 2015).
        dropout: The part of the output layer's inputs set to 0 in training, in [0, 1); the paper has none.
        activation: A key of `autotune.models.activations.ACTIVATIONS`.

    Raises:
        UserError: The data gives no images or too small ones, or there is no such shortcut or activation.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        outputs: int,
        channels: Sequence[int] = (16, 32, 64),
        blocks: int = 1,
        shortcut: str = "identity",
        batch_norm: bool = True,
        dropout: float = 0.0,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        remedy = "give larger images, fewer model.channels (one a stage), or model=cnn"
        colours, _, _ = image_shape("resnet_small", input_shape, 2 ** len(channels), remedy)
        if shortcut not in SHORTCUTS:
            raise UserError("model.shortcut", f"no shortcut {shortcut}", nearest(str(shortcut), SHORTCUTS))
        activated = activation_named(activation)
        self.stem = nn.Sequential(*_convolution(colours, channels[0], 3, 1, batch_norm), activated())
        stages: list[nn.Module] = []
        maps, scale = channels[0], None if batch_norm else (blocks * len(channels)) ** -0.5
        for stage, next_maps in enumerate(channels):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                stages.append(_Block(maps, next_maps, stride, shortcut, scale, activated))
                maps = next_maps
        self.stages = nn.Sequential(*stages)
        self.dropout = nn.Dropout(dropout) if dropout > 0 else nn.Identity()
        self.output = nn.Linear(maps, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """[n, channels, height, width] -> [n, outputs]."""
        maps = self.stages(self.stem(images))
        answer: Tensor = self.output(self.dropout(maps.mean(dim=(2, 3))))
        return answer


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut: activation(shortcut(x) + branch(x)).

    `scale` is what the branch's factor starts from; None for BatchNorm in its place.
    """

    def __init__(
        self, maps: int, next_maps: int, stride: int, shortcut: str, scale: float | None, activated: type[nn.Module]
    ) -> None:
        super().__init__()
        batch_norm = scale is None
        self.branch = nn.Sequential(
            *_convolution(maps, next_maps, 3, stride, batch_norm),
            activated(),
            *_convolution(next_maps, next_maps, 3, 1, batch_norm),
        )
        self.scale = None if scale is None else nn.Parameter(torch.full((1,), scale))
        self.shortcut: nn.Module
        if stride == 1 and maps == next_maps:
            self.shortcut = nn.Identity()
        elif shortcut == "projection" or next_maps < maps:
            self.shortcut = nn.Sequential(*_convolution(maps, next_maps, 1, stride, batch_norm))
        else:
            self.shortcut = _Padded(stride, next_maps - maps)
        self.activation = activated()

    def forward(self, maps: Tensor) -> Tensor:
        """[n, maps, h, w] -> [n, next_maps, h / stride, w / stride], rounded up."""
        branch = self.branch(maps)
        if self.scale is not None:
            branch = self.scale * branch
        answer: Tensor = self.activation(self.shortcut(maps) + branch)
        return answer


class _Padded(nn.Module):
    """Every `stride`-th pixel, and zeros for new maps."""

    def __init__(self, stride: int, new: int) -> None:
        super().__init__()
        self.stride = stride
        self.new = new

    def forward(self, maps: Tensor) -> Tensor:
        """[n, maps, h, w] -> [n, maps + new, h / stride, w / stride], rounded up."""
        return functional.pad(maps[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new))


def _convolution(maps: int, next_maps: int, size: int, stride: int, batch_norm: bool) -> list[nn.Module]:
    convolution = nn.Conv2d(maps, next_maps, size, stride, padding=size // 2, bias=not batch_norm)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return [convolution, nn.BatchNorm2d(next_maps)] if batch_norm else [convolution]
