"""What a network for images needs of them."""

from __future__ import annotations

from collections.abc import Sequence

from autotune.errors import UserError


def image_shape(name: str, input_shape: Sequence[int], smallest: int, remedy: str) -> tuple[int, int, int]:
    """Channels, height and width of the data's images.

    Args:
        name: The model, as the user names it.
        input_shape: Shape of one sample.
        smallest: The least height and width the network can take.
        remedy: What helps where the images are smaller.

    Raises:
        UserError: The samples are no images, or too small.
    """
    given = f"and the data gives {list(input_shape)}"
    if len(input_shape) != 3:
        raise UserError(
            "model",
            f"{name} takes images of shape [channels, height, width], {given}",
            "give data of images, or model=mlp",
        )
    channels, height, width = input_shape
    if min(height, width) < smallest:
        raise UserError("model", f"{name} takes images from {smallest}x{smallest} pixels on, {given}", remedy)
    return channels, height, width
