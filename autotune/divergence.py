"""Divergence of a training: a loss that is no number, infinite, or far above what it was in the first epochs."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import islice

# Words in a name by which a logged value is a loss.
_LOSSES = {"loss", "losses", "nll"}

# A loss is measured against the largest of its first values: one alone may be near zero by chance.
FIRST = 3


def is_loss(name: str) -> bool:
    """Whether a logged value is a loss, by its name."""
    return not _LOSSES.isdisjoint(re.split(r"[^a-z]+", name.lower()))


def divergence(
    metrics: Mapping[str, float], earlier: Mapping[str, Sequence[float]], explodes_above: float | None
) -> str | None:
    """Say which loss of an epoch has diverged, and by what it is seen; None where none has.

    Each loss has a unit of its own, and a negative one gets better without end. So it is compared with nothing but its
    own first values, by their magnitude.

    Args:
        metrics: What the epoch measured.
        earlier: The curves of the epochs before it; NaN is an epoch without a value.
        explodes_above: How many times as large as in the first epochs a loss may become; None: as large as it will.
    """
    for name, value in metrics.items():
        if not is_loss(name):
            continue
        if not math.isfinite(value):
            return f"{name} is {value}"
        first = max(map(abs, islice(filter(math.isfinite, earlier.get(name, ())), FIRST)), default=0.0)
        if explodes_above is not None and first > 0 and value > explodes_above * first:
            limit = f"objective.explodes_above={explodes_above:g}"
            return f"{name} is {value:.4g}, more than {limit} times the {first:.4g} of the first epochs"
    return None
