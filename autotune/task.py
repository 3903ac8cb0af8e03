"""What a model is trained for: its loss, its metrics, and what its outputs mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics import Metric, R2Score
from torchmetrics.classification import (
    BinaryAccuracy,
    BinaryAUROC,
    BinaryF1Score,
    MulticlassAccuracy,
    MulticlassF1Score,
)
from torchmetrics.regression import MeanAbsoluteError, MeanSquaredError

from autotune.errors import UserError, nearest

Loss = Callable[[Tensor, Tensor], Tensor]
MakeMetric = Callable[[int], Metric]


def binary_loss(outputs: Tensor, target: Tensor) -> Tensor:
    """Mean binary cross-entropy; outputs are logits, [n, 1], target is 0 or 1, [n]."""
    return functional.binary_cross_entropy_with_logits(outputs.squeeze(1), target)


def regression_loss(outputs: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of the standardised target; outputs [n, 1], target [n]."""
    return functional.mse_loss(outputs.squeeze(1), target)


# Multiclass outputs are logits, [n, classes], its target is a class counted from 0, [n].
LOSSES: Mapping[str, Loss] = {
    "binary": binary_loss,
    "multiclass": functional.cross_entropy,
    "regression": regression_loss,
}

# For each task its metrics; the first one is always measured.
METRICS: Mapping[str, Mapping[str, MakeMetric]] = {
    "binary": {
        "accuracy": lambda _: BinaryAccuracy(validate_args=False),
        "f1": lambda _: BinaryF1Score(validate_args=False),
        "roc_auc": lambda _: BinaryAUROC(validate_args=False),
    },
    "multiclass": {
        "accuracy": lambda classes: MulticlassAccuracy(classes, average="micro", validate_args=False),
        "balanced_accuracy": lambda classes: MulticlassAccuracy(classes, average="macro", validate_args=False),
        "f1": lambda classes: MulticlassF1Score(classes, average="macro", validate_args=False),
    },
    "regression": {
        "rmse": lambda _: MeanSquaredError(squared=False),
        "mae": lambda _: MeanAbsoluteError(),
        "r2": lambda _: R2Score(),
    },
}


@dataclass(frozen=True)
class Task:
    """A kind of task on one data set.

    Args:
        kind: binary, multiclass or regression.
        outputs: How many numbers the model answers with.
        target_scale: Mean and standard deviation that a regression target was standardised by.
        judged_by: The objective's metric; measured too where it is one of the task's (``val/f1``).

    Raises:
        UserError: There is no such kind.
    """

    kind: str
    outputs: int
    target_scale: tuple[float, float] = (0.0, 1.0)
    judged_by: str = ""
    loss: Loss = field(init=False)

    def __post_init__(self) -> None:
        if self.kind not in LOSSES:
            raise UserError("data.task", f"no task {self.kind}", nearest(str(self.kind), LOSSES))
        object.__setattr__(self, "loss", LOSSES[self.kind])

    def metrics(self) -> dict[str, Metric]:
        """Fresh metrics by name, for one pass over a part."""
        known = METRICS[self.kind]
        asked = self.judged_by.removeprefix("val/")
        names = dict.fromkeys([next(iter(known)), *([asked] if asked in known else [])])
        return {name: known[name](self.outputs) for name in names}

    def answer(self, outputs: Tensor) -> Tensor:
        """What the outputs mean: probabilities [n, classes] or [n], or numbers in the target's own unit [n]."""
        match self.kind:
            case "binary":
                return torch.sigmoid(outputs.squeeze(1))
            case "multiclass":
                return torch.softmax(outputs, dim=1)
        mean, std = self.target_scale
        return outputs.squeeze(1) * std + mean

    def truth(self, target: Tensor) -> Tensor:
        """The target as metrics compare it with `answer`."""
        match self.kind:
            case "binary":
                return target.long()
            case "multiclass":
                return target
        mean, std = self.target_scale
        return target * std + mean
