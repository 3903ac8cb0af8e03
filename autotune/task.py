"""What a model is trained for: its loss, its metrics, and what its outputs mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics import MeanMetric, Metric, R2Score
from torchmetrics.classification import (
    BinaryAccuracy,
    BinaryAUROC,
    BinaryF1Score,
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassF1Score,
    MultilabelAccuracy,
    MultilabelAUROC,
    MultilabelF1Score,
    MultilabelRecall,
    MultilabelSpecificity,
)
from torchmetrics.regression import MeanAbsoluteError, MeanSquaredError

from autotune.device import most_exact
from autotune.errors import UserError, nearest

Loss = Callable[..., Tensor]  # of outputs and target
MakeMetric = Callable[["Task"], Metric]

KINDS = ("binary", "multiclass", "multilabel", "regression")
BALANCED = "balanced"

# Losses of a regression, on its standardised target; huber turns from squared to absolute at one standard deviation.
REGRESSION_LOSSES: Mapping[str, Loss] = {
    "mse": functional.mse_loss,
    "mae": functional.l1_loss,
    "huber": functional.huber_loss,
}


class LogLoss(MeanMetric):
    """Mean negative logarithm of the probability given to what is true; NaN where one of them is."""

    def __init__(self) -> None:
        super().__init__(nan_strategy=float("nan"))

    def update(self, value: Tensor, weight: Tensor) -> None:  # type: ignore[override]
        """Take in a batch: probabilities [n], [n, classes] or [n, labels], and the truth [n] or [n, labels]."""
        answer, truth = value, weight
        if answer.ndim == 2 and truth.ndim == 1:
            true = answer.gather(1, truth.unsqueeze(1))
        else:
            true = torch.where(truth == 1, answer, 1 - answer)
        super().update(-true.clamp_min(torch.finfo(true.dtype).tiny).log())


class BalancedBinaryAccuracy(MulticlassAccuracy):
    """The mean of the two classes' recalls."""

    def __init__(self) -> None:
        super().__init__(2, average="macro", validate_args=False)

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Take in a batch: probabilities [n] and truth [n]."""
        super().update((preds > 0.5).long(), target)


class BalancedMultilabelAccuracy(Metric):
    """For each label the mean of its recalls, of presence and of absence; then the mean over the labels.

    Args:
        labels: How many.
    """

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.present = MultilabelRecall(labels, average="macro", validate_args=False)
        self.absent = MultilabelSpecificity(labels, average="macro", validate_args=False)

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Take in a batch: probabilities [n, labels] and truth [n, labels]."""
        self.present.update(preds, target)
        self.absent.update(preds, target)

    def compute(self) -> Tensor:
        """The mean."""
        mean: Tensor = (self.present.compute() + self.absent.compute()) / 2
        return mean

    def reset(self) -> None:
        """Begin anew."""
        super().reset()
        self.present.reset()
        self.absent.reset()


class StandardR2(R2Score):
    """R2 of values far from 0: it is the same of standardised values, and their squares add up without losing digits.

    Args:
        mean: About what the values lie around.
        std: About how far.
    """

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self._mean, self._std = mean, std

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Take in a batch."""
        super().update((preds - self._mean) / self._std, (target - self._mean) / self._std)


# For each kind of task its metrics; the first one is always measured.
METRICS: Mapping[str, Mapping[str, MakeMetric]] = {
    "binary": {
        "accuracy": lambda _: BinaryAccuracy(validate_args=False),
        "balanced_accuracy": lambda _: BalancedBinaryAccuracy(),
        "f1": lambda _: BinaryF1Score(validate_args=False),
        "roc_auc": lambda _: BinaryAUROC(validate_args=False),
        "log_loss": lambda _: LogLoss(),
    },
    "multiclass": {
        "accuracy": lambda task: MulticlassAccuracy(task.outputs, average="micro", validate_args=False),
        "balanced_accuracy": lambda task: MulticlassAccuracy(task.outputs, average="macro", validate_args=False),
        "f1": lambda task: MulticlassF1Score(task.outputs, average="macro", validate_args=False),
        "roc_auc": lambda task: MulticlassAUROC(task.outputs, average="macro", validate_args=False),
        "log_loss": lambda _: LogLoss(),
    },
    "multilabel": {
        "accuracy": lambda task: MultilabelAccuracy(task.outputs, average="micro", validate_args=False),
        "balanced_accuracy": lambda task: BalancedMultilabelAccuracy(task.outputs),
        "f1": lambda task: MultilabelF1Score(task.outputs, average="macro", validate_args=False),
        "roc_auc": lambda task: MultilabelAUROC(task.outputs, average="macro", validate_args=False),
        "log_loss": lambda _: LogLoss(),
    },
    "regression": {
        "rmse": lambda _: MeanSquaredError(squared=False),
        "mae": lambda _: MeanAbsoluteError(),
        "r2": lambda task: StandardR2(*task.target_scale),
    },
}


@dataclass(frozen=True)
class Task:
    """A kind of task on one data set.

    Outputs are logits, [n, 1] for binary, [n, classes] or [n, labels]; [n, 1] numbers for regression. Targets are 0 or
    1, [n] or [n, labels]; a class counted from 0, [n]; or a standardised number, [n].

    Args:
        kind: One of `KINDS`.
        outputs: How many numbers the model answers with.
        target_scale: Mean and standard deviation that a regression target was standardised by.
        judged_by: The objective's metric; measured too where it is one of the task's (``val/f1``).
        also: Further metrics to measure.
        regression_loss: A key of `REGRESSION_LOSSES`.
        label_smoothing: The part of each label spread over all classes in training (Szegedy et al. 2016), in [0, 1).
        class_weights: One for each class, of binary 0 and 1, or for each label's presence; None for equal ones.

    Raises:
        UserError: There is no such kind, metric or loss, or the weights do not fit.
    """

    kind: str
    outputs: int
    target_scale: tuple[float, float] = (0.0, 1.0)
    judged_by: str = ""
    also: tuple[str, ...] = ()
    regression_loss: str = "mse"
    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] | None = None
    loss: Loss = field(init=False, repr=False, compare=False)
    judged_loss: Loss = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError("data.task", f"no task {self.kind}", nearest(str(self.kind), KINDS))
        for name in self.also:
            if name not in METRICS[self.kind]:
                problem = f"{name} is no metric of a {self.kind} task"
                raise UserError("task.metrics", problem, nearest(str(name), METRICS[self.kind]))
        if self.regression_loss not in REGRESSION_LOSSES:
            problem = f"no loss {self.regression_loss}"
            raise UserError("task.regression_loss", problem, nearest(str(self.regression_loss), REGRESSION_LOSSES))
        if not 0 <= self.label_smoothing < 1:
            raise UserError("task.label_smoothing", f"{self.label_smoothing} is no part", "give 0 up to below 1")
        self._check_weights()
        object.__setattr__(self, "loss", self._make_loss(self.label_smoothing, self.class_weights))
        object.__setattr__(self, "judged_loss", self._make_loss(0.0, None))

    def _check_weights(self) -> None:
        if self.class_weights is None:
            return
        wanted = {"binary": 2, "regression": 0}.get(self.kind, self.outputs)
        if len(self.class_weights) != wanted:
            what = "a regression has no classes" if not wanted else f"give {wanted}, one for each"
            raise UserError("task.class_weights", f"{list(self.class_weights)} does not fit", what)
        if any(not weight > 0 for weight in self.class_weights):
            raise UserError("task.class_weights", f"{list(self.class_weights)} is not above 0", "give numbers above 0")

    def _make_loss(self, smoothing: float, weights: tuple[float, ...] | None) -> Loss:
        match self.kind:
            case "multiclass":
                return partial(_multiclass_loss, smoothing, weights)
            case "regression":
                return partial(_regression_loss, REGRESSION_LOSSES[self.regression_loss])
        return partial(_binary_loss if self.kind == "binary" else _multilabel_loss, smoothing, weights)

    def mass(self, target: Tensor) -> float | Tensor:
        """What a batch's mean training loss weighs among others': its samples, or the sum of their weights."""
        if self.class_weights is None or self.kind not in ("binary", "multiclass"):
            return float(len(target))
        return exact_weights(self.class_weights, target.device)[target.long()].sum()

    def metrics(self) -> dict[str, Metric]:
        """Fresh metrics by name, for one pass over a part."""
        known = METRICS[self.kind]
        asked = self.judged_by.removeprefix("val/")
        names = dict.fromkeys([next(iter(known)), *self.also, *([asked] if asked in known else [])])
        return {name: known[name](self) for name in names}

    def answer(self, outputs: Tensor) -> Tensor:
        """What the outputs mean: probabilities [n], [n, classes], [n, labels], or numbers in the target's unit [n]."""
        match self.kind:
            case "binary":
                return torch.sigmoid(outputs.squeeze(1))
            case "multiclass":
                return torch.softmax(outputs, dim=1)
            case "multilabel":
                return torch.sigmoid(outputs)
        mean, std = self.target_scale
        return outputs.squeeze(1) * std + mean

    def truth(self, target: Tensor) -> Tensor:
        """The target as metrics compare it with `answer`."""
        match self.kind:
            case "binary" | "multilabel":
                return target.long()
            case "multiclass":
                return target
        mean, std = self.target_scale
        return target * std + mean


def balanced_weights(kind: str, outputs: int, target: Tensor) -> tuple[float, ...] | None:
    """Class weights n / (classes count), which give each class the same say; None for a regression.

    For multilabel the weight of a label's presence against its absence: how often it is absent for once present.

    Args:
        kind: One of `KINDS`.
        outputs: Of the model.
        target: Of the training part.
    """
    if kind == "regression":
        return None
    if kind == "multilabel":
        present = target.sum(dim=0)
        return tuple(((len(target) - present) / present.clamp_min(1)).clamp_min(1e-3).tolist())
    classes = 2 if kind == "binary" else outputs
    counts = torch.bincount(target.long(), minlength=classes).clamp_min(1)
    return tuple((len(target) / (classes * counts)).tolist())


def weights_of(
    setting: Sequence[float] | str | None, kind: str, outputs: int, target: Tensor
) -> tuple[float, ...] | None:
    """What ``task.class_weights`` says: none, the ones given, or ``balanced`` by the training part.

    Raises:
        UserError: It says something else.
    """
    if setting is None:
        return None
    if setting == BALANCED:
        return balanced_weights(kind, outputs, target)
    if isinstance(setting, str) or not all(isinstance(weight, int | float) for weight in setting):
        raise UserError("task.class_weights", f"{setting} are no weights", "give null, balanced or a list of numbers")
    return tuple(map(float, setting))


@lru_cache(maxsize=8)
def weights_on(device: torch.device, dtype: torch.dtype, weights: tuple[float, ...]) -> Tensor:
    """Class weights as losses take them, of single precision. Made once: each copy would wait for the device."""
    return torch.tensor(weights).to(device, dtype)


@lru_cache(maxsize=8)
def exact_weights(weights: tuple[float, ...], device: torch.device) -> Tensor:
    """Class weights as the weights of batches are sums of."""
    return torch.tensor(weights, dtype=most_exact(device)).to(device)


def _multiclass_loss(smoothing: float, weights: tuple[float, ...] | None, outputs: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy; with weights the weighted mean."""
    placed = None if weights is None else weights_on(outputs.device, outputs.dtype, weights)
    return functional.cross_entropy(outputs, target, weight=placed, label_smoothing=smoothing)


def _binary_loss(smoothing: float, weights: tuple[float, ...] | None, outputs: Tensor, target: Tensor) -> Tensor:
    """Mean binary cross-entropy; with weights the weighted mean, as for more classes."""
    smooth = target if smoothing == 0 else target * (1 - smoothing) + smoothing / 2
    if weights is None:
        return functional.binary_cross_entropy_with_logits(outputs.squeeze(1), smooth)
    each = weights_on(outputs.device, outputs.dtype, weights)[target.long()]
    losses = functional.binary_cross_entropy_with_logits(outputs.squeeze(1), smooth, reduction="none")
    return (losses * each).sum() / each.sum()


def _multilabel_loss(smoothing: float, weights: tuple[float, ...] | None, outputs: Tensor, target: Tensor) -> Tensor:
    """Mean binary cross-entropy over samples and labels; a weight counts a label's presence more."""
    smooth = target if smoothing == 0 else target * (1 - smoothing) + smoothing / 2
    placed = None if weights is None else weights_on(outputs.device, outputs.dtype, weights)
    return functional.binary_cross_entropy_with_logits(outputs, smooth, pos_weight=placed)


def _regression_loss(loss: Loss, outputs: Tensor, target: Tensor) -> Tensor:
    """Mean loss of the standardised target."""
    return loss(outputs.squeeze(1), target)
