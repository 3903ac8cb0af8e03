"""A task's losses and metrics for many members at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics import Metric

from autotune.device import most_exact
from autotune.task import REGRESSION_LOSSES, Task, exact_weights, weights_on

# Up to so many classes a softmax is faster, on CPUs three times, over a dimension that is not the last.
FEW_CLASSES = 24


def losses(task: Task, outputs: Tensor, target: Tensor, judged: bool = False) -> Tensor:
    """Each member's `Task.loss`, or `Task.judged_loss`, of a batch.

    Args:
        task: What they are trained for.
        outputs: [k, n, outputs].
        target: [k, n] or [k, n, labels].
        judged: Whether label smoothing and class weights are left out.

    Returns:
        [k].
    """
    smoothing = 0.0 if judged else task.label_smoothing
    given = None if judged else task.class_weights
    weights = None if given is None else weights_on(outputs.device, outputs.dtype, given)
    match task.kind:
        case "multiclass":
            few = outputs.shape[2] <= FEW_CLASSES
            each = functional.cross_entropy(
                outputs.transpose(1, 2) if few else outputs.flatten(0, 1),
                target if few else target.flatten(),
                weight=weights,
                reduction="none",
                label_smoothing=smoothing,
            ).view(target.shape)
            return each.mean(1) if weights is None else each.sum(1) / weights[target].sum(1)
        case "regression":
            each = REGRESSION_LOSSES[task.regression_loss](outputs.squeeze(2), target, reduction="none")
            return each.mean(1)
    smooth = target if smoothing == 0 else target * (1 - smoothing) + smoothing / 2
    if task.kind == "multilabel":
        each = functional.binary_cross_entropy_with_logits(outputs, smooth, pos_weight=weights, reduction="none")
        return each.mean((1, 2))
    each = functional.binary_cross_entropy_with_logits(outputs.squeeze(2), smooth, reduction="none")
    if weights is None:
        return each.mean(1)
    weighing = weights[target.long()]
    return (each * weighing).sum(1) / weighing.sum(1)


def masses(task: Task, target: Tensor) -> Tensor:
    """What each member's mean training loss of a batch weighs among its others, see `Task.mass`: [k] in float64."""
    if task.class_weights is None or task.kind not in ("binary", "multiclass"):
        return torch.full((len(target),), float(target.shape[1]), dtype=most_exact(target.device), device=target.device)
    return exact_weights(task.class_weights, target.device)[target.long()].sum(1)


class StackedMetrics:
    """A task's metrics over a part of the data, for many members at once.

    Those that are sums over samples are added up for all members together, the others by torchmetrics, one by one.

    Args:
        task: Whose metrics.
        members: How many.
    """

    def __init__(self, task: Task, members: int) -> None:
        self._task = task
        names = task.metrics()
        self._sums: dict[str, Tensor | None] = {name: None for name in names if (task.kind, name) in _SUMMED}
        self._others: dict[str, list[Metric]] = {
            name: [task.metrics()[name] for _ in range(members)] for name in names if name not in self._sums
        }
        self._names = list(names)
        self._samples = 0

    def update(self, outputs: Tensor, target: Tensor) -> None:
        """Take in a batch: outputs [k, n, outputs], the target of all members [n] or [n, labels]."""
        outputs = outputs.float()
        truth = self._task.truth(target)
        if self._task.kind == "multiclass":
            answers = torch.softmax(outputs.transpose(1, 2), 1).transpose(1, 2)
        else:
            answers = self._task.answer(outputs.flatten(0, 1))
            answers = answers.view(*outputs.shape[:2], *answers.shape[1:])
        for name, total in self._sums.items():
            found = _SUMMED[self._task.kind, name](answers, truth).sum(1)
            self._sums[name] = found if total is None else total + found
        for metrics in self._others.values():
            for metric, answer in zip(metrics, answers, strict=True):
                metric.to(answer.device).update(answer, truth)
        self._samples += len(target)

    def compute(self) -> dict[str, Tensor]:
        """By name, [k] each."""
        found = {}
        for name in self._names:
            total = self._sums.get(name)
            if total is not None:
                mean = total / self._samples
                found[name] = mean.sqrt() if name == "rmse" else mean
            else:
                found[name] = torch.stack([metric.compute() for metric in self._others[name]])
        return found


def _log_loss(answers: Tensor, truth: Tensor) -> Tensor:
    if answers.ndim == 3 and truth.ndim == 1:
        true = answers.gather(2, truth.expand(len(answers), -1).unsqueeze(2)).squeeze(2)
    else:
        true = torch.where(truth == 1, answers, 1 - answers)
    return -true.clamp_min(torch.finfo(true.dtype).tiny).log()


def _probabilities(answers: Tensor) -> Tensor:
    """As torchmetrics takes binary answers: for logits where one of a batch is no probability, NaN for instance."""
    certain = ((answers >= 0) & (answers <= 1)).all(1, keepdim=True)
    return torch.where(certain, answers, answers.sigmoid())


# For each kind of task the metrics that are means over samples: answers [k, n, ...] and the truth [n] -> [k, n].
# The largest class is looked up by max, which on CPUs takes a fifth of the time of argmax.
_SUMMED: Mapping[tuple[str, str], Any] = {
    ("binary", "accuracy"): lambda answers, truth: ((_probabilities(answers) > 0.5) == (truth == 1)).float(),
    ("multiclass", "accuracy"): lambda answers, truth: (answers.max(2).indices == truth).float(),
    ("binary", "log_loss"): _log_loss,
    ("multiclass", "log_loss"): _log_loss,
    ("regression", "rmse"): lambda answers, truth: (answers - truth).square(),
    ("regression", "mae"): lambda answers, truth: (answers - truth).abs(),
}
