"""Parts of the data on the device that trains: one copy of each, whichever trials are trained on it."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from torch import Tensor

from autotune.data.source import Part

KEPT = 6  # three parts of two sources, as many as `split` keeps

_copies: dict[Hashable, Part] = {}  # the longest unused first


def placed(key: Hashable, part: Part, place: Callable[[Tensor], Tensor]) -> Part:
    """A part on its device, copied where there is no copy yet.

    Args:
        key: Of the part, the device and the precision.
        part: In memory.
        place: Copies a tensor to the device.
    """
    copy = _copies.pop(key, None)
    if copy is None:
        while len(_copies) >= KEPT:  # before, so that memory holds the next
            _copies.pop(next(iter(_copies)), None)
        copy = Part(place(part.features), place(part.target))
    _copies[key] = copy
    return copy


def forget() -> None:
    """Drop all copies that no training holds."""
    _copies.clear()
