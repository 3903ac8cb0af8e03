"""Convolutional network for images."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from autotune.errors import UserError, nearest
from autotune.models.activations import activation_named
from autotune.models.images import image_shape

HEADS = ("average", "flatten")
SMALLEST = 2  # pixels a side, of images and of what pooling leaves


class CNN(nn.Module):
    """``Conv 3x3 [BatchNorm] activation [MaxPool 2x2]`` for each of `channels`, then a head and a linear output.

    Stacked 3x3 convolutions as by Simonyan and Zisserman (2015). A block pools as long as 2x2 pixels are left, so that
    small images can have as many blocks as large ones.

    Args:
        input_shape: Channels, height and width of an image.
        outputs: How many numbers it answers with.
        channels: How many maps each block makes, at least one block.
        head: How the last maps become the output layer's inputs: ``average`` over the pixels (Lin, Chen and Yan 2014),
            or ``flatten``, which keeps where something is and has more weights.
        batch_norm: Whether each block is normalised over the batch and the pixels (Ioffe and Szegedy 2015).
        dropout: The part of the output layer's inputs set to 0 in training, in [0, 1).
        activation: A key of `autotune.models.activations.ACTIVATIONS`.

    Raises:
        UserError: The data gives no images or too small ones, or there is no such head or activation.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        outputs: int,
        channels: Sequence[int] = (16, 32),
        head: str = "average",
        batch_norm: bool = True,
        dropout: float = 0.0,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        maps, height, width = image_shape("cnn", input_shape, SMALLEST, "give larger images, or model=mlp")
        if head not in HEADS:
            raise UserError("model.head", f"no head {head}", nearest(str(head), HEADS))
        activated = activation_named(activation)
        layers: list[nn.Module] = []
        for next_maps in channels:
            # BatchNorm subtracts the mean, so a bias before it would change nothing.
            layers.append(nn.Conv2d(maps, next_maps, 3, padding=1, bias=not batch_norm))
            if batch_norm:
                layers.append(nn.BatchNorm2d(next_maps))
            layers.append(activated())
            if min(height, width) >= 2 * SMALLEST:
                layers.append(nn.MaxPool2d(2))
                height, width = height // 2, width // 2
            maps = next_maps
        self.blocks = nn.Sequential(*layers)
        self.average = head == "average"
        self.dropout = nn.Dropout(dropout) if dropout > 0 else nn.Identity()
        self.output = nn.Linear(maps if self.average else maps * height * width, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """[n, channels, height, width] -> [n, outputs]."""
        maps = self.blocks(images)
        features = maps.mean(dim=(2, 3)) if self.average else maps.flatten(1)
        answer: Tensor = self.output(self.dropout(features))
        return answer
