"""The answers of a model against the same answers dealt out to the rows at random: a permutation test of their errors.

Where nothing is learnable the answers do not depend on the targets: each is as likely to belong to any row as to its
own. Errors are ranks, so that a few large targets hide nothing and make nothing up. The mean and variance
of their sum over all permutations are known (Hoeffding 1951, A combinatorial central limit theorem), its skewness is
measured, and its tail is taken for that of a Pearson distribution of type III (Mielke and Berry 2007).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from autotune.task import Task

Errors = NDArray[np.float64]

MOST_ROWS = 2000  # whose every pair is compared
DEALT = 1000  # permutations that tell how skewed the sum is


def luck_of_pairing(errors: Errors) -> float:
    """How likely the answers, dealt out to the rows at random, would do as well as each at its own row.

    Args:
        errors: [n, n], the error that answer j would make on row i, bounded as ranks are.
    """
    rows = len(errors)
    if rows < 2:
        return 1.0
    centred = errors - errors.mean(axis=0) - errors.mean(axis=1, keepdims=True) + errors.mean()
    variance = float((centred**2).sum()) / (rows - 1)
    if variance <= 1e-12 * rows**3:  # all answers are alike, or all rows
        return 1.0
    from scipy.stats import pearson3, skew

    deals = np.random.default_rng(0).permuted(np.tile(np.arange(rows), (DEALT, 1)), axis=1)
    dealt = centred[np.arange(rows), deals].sum(axis=1)
    distance = -float(np.trace(centred)) / math.sqrt(variance)
    # Where few rows and few answers differ from the rest, the tail is longer on one side.
    alone = float(pearson3.sf(distance, max(0.0, -float(skew(dealt)))))
    return max(alone, math.exp(-math.lgamma(rows + 1)))  # there are no more ways to deal them out


def ranked_errors(task: Task, outputs: Tensor, target: Tensor) -> Errors:
    """The errors that each answer would make on each row, [n, n], as ranks.

    Of numbers it is the squared distance between the rank of the answer and that of the target, as in Spearman's
    correlation; of classes and labels the rank that the log loss of the answer has among those of all on the row.

    Args:
        task: What the outputs mean.
        outputs: [n, outputs], of a model on the rows.
        target: [n] or [n, labels], of the rows.
    """
    from scipy.stats import rankdata

    if len(target) > MOST_ROWS:
        some = torch.linspace(0, len(target) - 1, MOST_ROWS).long()
        outputs, target = outputs[some], target[some]
    outputs = outputs.double()
    ranks: Errors
    if task.kind == "regression":
        ranks = (rankdata(target.numpy())[:, None] - rankdata(outputs.squeeze(1).numpy())) ** 2 / len(target)
    elif task.kind == "multiclass":
        ranks = rankdata(-functional.log_softmax(outputs, dim=1)[:, target].T.numpy(), axis=1)
    else:
        truth = target.double().reshape(len(target), -1)
        ranks = rankdata((functional.softplus(outputs).sum(dim=1) - truth @ outputs.T).numpy(), axis=1)
    return ranks
