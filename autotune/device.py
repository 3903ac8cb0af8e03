"""What differs between a processor and the devices beside it."""

from __future__ import annotations

import torch


def synchronize(device: torch.device) -> None:
    """Wait until a device has done what it was given; a clock that is read before measures launches, not work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def most_exact(device: torch.device) -> torch.dtype:
    """The floating type of most digits that a device computes in."""
    return torch.float32 if device.type == "mps" else torch.float64


def default_generator(device: torch.device) -> torch.Generator:
    """The generator that a device draws from where it is given none."""
    if device.type == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call] # which makes them
        number = torch.cuda.current_device() if device.index is None else device.index
        return torch.cuda.default_generators[number]
    if device.type == "mps":
        return torch.mps._get_default_mps_generator()
    return torch.default_generator
