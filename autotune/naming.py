"""Names that tell a strategy at a glance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def family(config: Mapping[str, Any]) -> str:
    """The name of a resolved config's optimizer."""
    return _option(config["optimizer"])


def schedule(config: Mapping[str, Any]) -> str:
    """The name of a resolved config's learning-rate schedule."""
    return _option(config["schedule"])


def strategy(config: Mapping[str, Any]) -> str:
    """A resolved config in a few words: ``adam lr 3e-3 b128 bn cosine``; what it does not say is left out."""
    words = [family(config)]
    rate = config["optimizer"].get("lr")
    if isinstance(rate, int | float):
        words.append(f"lr {short(rate)}")
    batch = config["data"].get("batch_size")
    if batch is not None:
        words.append("full batch" if batch == "full" else f"b{batch}")
    if config["model"].get("batch_norm"):
        words.append("bn")
    words.append(schedule(config))
    return " ".join(words)


def trial(number: int, config: Mapping[str, Any]) -> str:
    """The name of a trial: ``t0007 adam lr 3e-3 b128 bn cosine``."""
    return f"t{number:04d} {strategy(config)}"


def confirmation(number: int, seed: int, config: Mapping[str, Any]) -> str:
    """The name of a trial's config trained again with another seed: ``t0007 seed 3 adam lr 3e-3 b128 bn cosine``."""
    return f"t{number:04d} seed {seed} {strategy(config)}"


def short(value: float) -> str:
    """A rate with two digits at most: 3e-3, 0.1, 1.5e-4."""
    if 0.01 <= abs(value) < 100:
        return f"{value:.2g}"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def _option(section: Mapping[str, Any]) -> str:
    target = str(section.get("_target_", "unnamed")).rpartition(".")[2]
    return str(section.get("name") or target.lower())
