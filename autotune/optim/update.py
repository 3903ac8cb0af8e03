"""How an update is made besides the optimizer's step: accumulation, micro-batches, clipping, decay, averaging."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch.optim import Optimizer

from autotune.data.batches import Batch
from autotune.errors import UserError

CLIP_BY = ("norm", "value")


@dataclass(frozen=True, slots=True)
class Update:
    """What an update does besides the optimizer's step.

    Args:
        clip: Gradients are clipped to this before the step; None leaves them as they are.
        clip_by: ``norm`` of all gradients together, or ``value`` of each number.
        accumulate: Batches an update; the gradient is that of all their samples together.
        micro_batch: Samples whose gradient is taken at once, where a whole batch does not fit in memory. Weighted by
            their sizes, so that the gradient is the batch's own; BatchNorm sees each micro-batch by itself.
        decay: Decoupled weight decay: theta <- theta - a decay theta beside the step (Loshchilov and Hutter 2019).
        average: Decay of the exponential moving average of the weights that is judged and kept; None keeps the weights
            themselves (Polyak and Juditsky 1992; Izmailov et al. 2018).
    """

    clip: float | None = None
    clip_by: str = "norm"
    accumulate: int = 1
    micro_batch: int | None = None
    decay: float = 0.0
    average: float | None = None

    def __post_init__(self) -> None:
        if self.clip is not None and not self.clip > 0:
            raise UserError(
                "trainer.gradient_clip_val", f"{self.clip} clips everything", "give a number above 0, or null"
            )
        if self.clip_by not in CLIP_BY:
            problem = f"{self.clip_by} is no way to clip"
            raise UserError("trainer.gradient_clip_algorithm", problem, f"give {' or '.join(CLIP_BY)}")
        if self.micro_batch is not None and self.micro_batch < 1:
            raise UserError("optimizer.micro_batch", f"{self.micro_batch} holds no sample", "give 1 or more, or null")
        if self.average is not None and not 0 <= self.average < 1:
            raise UserError("trainer.ema", f"{self.average} is no decay", "give a number from 0 to below 1, or null")

    def groups(self, batches: Iterable[Batch]) -> Iterator[list[Batch]]:
        """The micro-batches of each update, in order."""
        remaining = iter(batches)
        while taken := list(islice(remaining, self.accumulate)):
            yield [piece for batch in taken for piece in self._pieces(batch)]

    def decays(self, optimizer: Optimizer) -> None:
        """Decay the weights, each by its own group's learning rate."""
        for group in optimizer.param_groups:
            torch._foreach_mul_([each.data for each in group["params"]], 1 - group["lr"] * self.decay)

    def _pieces(self, batch: Batch) -> list[Batch]:
        features, target = batch
        if self.micro_batch is None or len(target) <= self.micro_batch:
            return [batch]
        pieces = zip(torch.split(features, self.micro_batch), torch.split(target, self.micro_batch), strict=True)
        return list(pieces)
