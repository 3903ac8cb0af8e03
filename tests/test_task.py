from __future__ import annotations

import math
import re
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor

from autotune.errors import UserError
from autotune.task import METRICS, Task, weights_of


def measured(task: Task, outputs: Tensor, target: Tensor, batches: int = 3) -> dict[str, float]:
    """The task's metrics over a part served in batches."""
    metrics = task.metrics()
    for out, truth in zip(outputs.tensor_split(batches), target.tensor_split(batches), strict=True):
        for metric in metrics.values():
            metric.update(task.answer(out), task.truth(truth))
    return {name: float(metric.compute()) for name, metric in metrics.items()}


def sample(kind: str, samples: int, seed: int) -> tuple[Tensor, Tensor]:
    """Random outputs and targets; every class occurs."""
    random = torch.Generator().manual_seed(seed)
    if kind == "multiclass":
        return torch.randn(samples, 4, generator=random), torch.arange(samples) % 4
    target = torch.randn(samples, generator=random) if kind == "regression" else (torch.arange(samples) % 2).float()
    return torch.randn(samples, 1, generator=random), target


def log_loss(outputs: numpy.ndarray, target: numpy.ndarray) -> float:
    return float(sk.log_loss(target, 1 / (1 + numpy.exp(-outputs[:, 0]))))


SAMPLES = st.integers(8, 40)
SEEDS = st.integers(0, 10_000)


def test_binary_loss_by_hand() -> None:
    # Logits 0 and log 3 mean 1/2 and 3/4; the truth is 1 and 0: -(log(1/2) + log(1/4)) / 2 = 1.5 log 2.
    loss = Task("binary", 1).loss(torch.tensor([[0.0], [math.log(3)]]), torch.tensor([1.0, 0.0]))
    assert float(loss) == pytest.approx(1.5 * math.log(2))


def test_multiclass_loss_by_hand() -> None:
    # softmax of (log 1, log 2, log 5) is (1/8, 2/8, 5/8); the truth is class 1: -log(1/4).
    logits = torch.tensor([[1.0, 2.0, 5.0]]).log()
    assert float(Task("multiclass", 3).loss(logits, torch.tensor([1]))) == pytest.approx(math.log(4))


def test_regression_loss_by_hand() -> None:
    # ((1 - 3)^2 + (2 - 2)^2) / 2
    assert float(Task("regression", 1).loss(torch.tensor([[1.0], [2.0]]), torch.tensor([3.0, 2.0]))) == 2.0


@settings(max_examples=25)
@given(SAMPLES, SEEDS)
def test_losses_are_scikit_learns(samples: int, seed: int) -> None:
    outputs, target = sample("binary", samples, seed)
    assert float(Task("binary", 1).loss(outputs, target)) == pytest.approx(
        log_loss(outputs.numpy(), target.numpy()), rel=1e-5
    )
    outputs, target = sample("multiclass", samples, seed)
    expected = sk.log_loss(target, torch.softmax(outputs.double(), 1))
    assert float(Task("multiclass", 4).loss(outputs, target)) == pytest.approx(expected, rel=1e-5)
    outputs, target = sample("regression", samples, seed)
    expected = sk.mean_squared_error(target, outputs[:, 0])
    assert float(Task("regression", 1).loss(outputs, target)) == pytest.approx(expected, rel=1e-5)


@settings(max_examples=25)
@given(SAMPLES, SEEDS)
def test_binary_metrics_are_scikit_learns(samples: int, seed: int) -> None:
    outputs, target = sample("binary", samples, seed)
    guess = outputs[:, 0] > 0
    found = {
        name: measured(Task("binary", 1, judged_by=f"val/{name}"), outputs, target)[name] for name in METRICS["binary"]
    }
    assert found == pytest.approx(
        {
            "accuracy": sk.accuracy_score(target, guess),
            "balanced_accuracy": sk.balanced_accuracy_score(target, guess),
            "f1": sk.f1_score(target, guess),
            "roc_auc": sk.roc_auc_score(target, outputs[:, 0]),
            "log_loss": log_loss(outputs.numpy(), target.numpy()),
        },
        abs=1e-5,
    )


@settings(max_examples=25)
@given(SAMPLES, SEEDS)
def test_multiclass_metrics_are_scikit_learns(samples: int, seed: int) -> None:
    outputs, target = sample("multiclass", samples, seed)
    guess = outputs.argmax(1)
    found = {
        name: measured(Task("multiclass", 4, judged_by=f"val/{name}"), outputs, target)[name]
        for name in METRICS["multiclass"]
    }
    assert found == pytest.approx(
        {
            "accuracy": sk.accuracy_score(target, guess),
            "balanced_accuracy": sk.balanced_accuracy_score(target, guess),
            "f1": sk.f1_score(target, guess, average="macro"),
            "roc_auc": sk.roc_auc_score(target, torch.softmax(outputs.double(), 1), average="macro", multi_class="ovr"),
            "log_loss": sk.log_loss(target, torch.softmax(outputs.double(), 1)),
        },
        abs=1e-5,
    )


@settings(max_examples=25)
@given(SAMPLES, SEEDS, st.floats(-1e4, 1e4), st.floats(10, 100))
def test_regression_metrics_are_scikit_learns_in_the_target_s_own_unit(
    samples: int, seed: int, mean: float, std: float
) -> None:
    outputs, target = sample("regression", samples, seed)
    truth, guess = target.double() * std + mean, outputs[:, 0].double() * std + mean
    found = {
        name: measured(Task("regression", 1, (mean, std), f"val/{name}"), outputs, target)[name]
        for name in METRICS["regression"]
    }
    assert found == pytest.approx(
        {
            "rmse": sk.root_mean_squared_error(truth, guess),
            "mae": sk.mean_absolute_error(truth, guess),
            "r2": sk.r2_score(truth, guess),
        },
        # float32 has 7 digits, and the mean may be a thousand times the standard deviation.
        rel=1e-3,
        abs=1e-3,
    )


def test_the_answer_of_a_binary_task_is_a_probability() -> None:
    answer = Task("binary", 1).answer(torch.tensor([[0.0], [math.log(3)]]))
    assert answer.tolist() == pytest.approx([0.5, 0.75])


def test_the_answer_of_a_multiclass_task_is_a_probability_of_each_class() -> None:
    answer = Task("multiclass", 3).answer(torch.tensor([[1.0, 2.0, 5.0]]).log())
    assert answer[0].tolist() == pytest.approx([1 / 8, 2 / 8, 5 / 8])


def test_answer_and_truth_of_a_regression_task_are_in_the_target_s_own_unit() -> None:
    task = Task("regression", 1, target_scale=(10.0, 2.0))
    assert task.answer(torch.tensor([[0.0], [1.5]])).tolist() == [10.0, 13.0]
    assert task.truth(torch.tensor([-1.0, 0.5])).tolist() == [8.0, 11.0]


def test_the_truth_of_a_classification_is_its_classes() -> None:
    assert Task("binary", 1).truth(torch.tensor([0.0, 1.0])).dtype == torch.int64
    assert Task("multiclass", 3).truth(torch.tensor([2, 0])).tolist() == [2, 0]


@pytest.mark.parametrize(
    ("kind", "judged_by", "names"),
    [
        ("binary", "", ["accuracy"]),
        ("binary", "val/loss", ["accuracy"]),
        ("binary", "val/roc_auc", ["accuracy", "roc_auc"]),
        ("multiclass", "val/accuracy", ["accuracy"]),
        ("multiclass", "val/f1", ["accuracy", "f1"]),
        ("multiclass", "val/r2", ["accuracy"]),
        ("regression", "val/r2", ["rmse", "r2"]),
    ],
)
def test_the_first_metric_and_the_objective_s_are_measured(kind: str, judged_by: str, names: list[str]) -> None:
    assert list(Task(kind, 3, judged_by=judged_by).metrics()) == names


def test_metrics_are_fresh_each_time() -> None:
    task = Task("binary", 1)
    task.metrics()["accuracy"].update(torch.tensor([0.1]), torch.tensor([1]))
    fresh = task.metrics()["accuracy"]
    fresh.update(torch.tensor([0.9]), torch.tensor([1]))
    assert float(fresh.compute()) == 1.0


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [("binray", "did you mean binary?"), ("ranking", "known are binary, multiclass, multilabel, regression")],
)
def test_an_unknown_task_is_refused(kind: str, remedy: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(f'data.task: no task {kind}; {remedy}')}$"):
        Task(kind, 1)


def test_further_metrics_are_measured_too() -> None:
    assert list(Task("regression", 1, judged_by="val/r2", also=("mae", "r2")).metrics()) == ["rmse", "mae", "r2"]


@settings(max_examples=25)
@given(SAMPLES, SEEDS)
def test_multilabel_loss_and_metrics_are_scikit_learns(samples: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(samples + 2, 3, generator=generator)
    target = torch.randint(0, 2, (samples, 3), generator=generator).float()
    target = torch.cat([target, torch.zeros(1, 3), torch.ones(1, 3)])  # each label is there and missing
    task = Task("multilabel", 3, also=tuple(METRICS["multilabel"]))
    guess, truth = outputs > 0, target.long()
    expected = {
        "accuracy": sk.accuracy_score(truth.flatten(), guess.flatten()),
        "balanced_accuracy": sum(sk.balanced_accuracy_score(truth[:, i], guess[:, i]) for i in range(3)) / 3,
        "f1": sk.f1_score(truth, guess, average="macro"),
        "roc_auc": sk.roc_auc_score(truth, outputs, average="macro"),
        "log_loss": sk.log_loss(truth.flatten(), torch.sigmoid(outputs.double()).flatten()),
    }
    assert measured(task, outputs, target) == pytest.approx(expected, abs=1e-5)
    assert float(task.loss(outputs, target)) == pytest.approx(expected["log_loss"], rel=1e-5)
    assert task.answer(torch.zeros(1, 3)).tolist() == [[0.5, 0.5, 0.5]]


def test_label_smoothing_spreads_a_part_of_the_label_in_training_alone() -> None:
    # Szegedy et al. 2016, section 7: y (1 - s) + s / classes.
    smoothed = -(0.9 * math.log(3 / 4) + 0.1 * math.log(1 / 4))
    for task, logits, target in (
        (Task("multiclass", 2, label_smoothing=0.2), [[0.0, math.log(3)]], torch.tensor([1])),
        (Task("binary", 1, label_smoothing=0.2), [[math.log(3)]], torch.tensor([1.0])),
        (Task("multilabel", 1, label_smoothing=0.2), [[math.log(3)]], torch.tensor([[1.0]])),
    ):
        assert float(task.loss(torch.tensor(logits), target)) == pytest.approx(smoothed)
        assert float(task.judged_loss(torch.tensor(logits), target)) == pytest.approx(-math.log(3 / 4))


def test_weighted_losses_are_weighted_means_whose_mass_is_the_weights_sum() -> None:
    target = torch.tensor([0.0, 1.0])
    weighted = (math.log(2) + 3 * math.log(4 / 3)) / 4
    task = Task("binary", 1, class_weights=(1.0, 3.0))
    assert float(task.loss(torch.tensor([[0.0], [math.log(3)]]), target)) == pytest.approx(weighted)
    assert float(task.mass(target)) == 4.0
    several = Task("multiclass", 2, class_weights=(1.0, 3.0))
    logits = torch.tensor([[0.0, 0.0], [0.0, math.log(3)]])
    assert float(several.loss(logits, target.long())) == pytest.approx(weighted)
    assert float(several.mass(target.long())) == 4.0
    assert Task("multiclass", 2).mass(target.long()) == 2.0


def test_balanced_weights_are_scikit_learns() -> None:
    target = torch.tensor([0, 0, 0, 1, 2, 2])
    expected = compute_class_weight("balanced", classes=numpy.arange(3), y=target.numpy())
    assert weights_of("balanced", "multiclass", 3, target) == pytest.approx(tuple(expected))
    assert weights_of("balanced", "binary", 1, torch.tensor([0.0, 0.0, 1.0])) == pytest.approx((0.75, 1.5))
    assert weights_of("balanced", "multilabel", 2, torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])) == (2.0, 2.0)
    assert weights_of("balanced", "regression", 1, torch.tensor([0.5])) is None
    assert weights_of(None, "binary", 1, target) is None
    assert weights_of([1, 2], "binary", 1, target) == (1.0, 2.0)


@pytest.mark.parametrize(("name", "expected"), [("mse", (1 + 9) / 2), ("mae", (1 + 3) / 2), ("huber", (0.5 + 2.5) / 2)])
def test_the_loss_of_a_regression_is_chosen(name: str, expected: float) -> None:
    outputs, target = torch.tensor([[1.0], [3.0]]), torch.tensor([0.0, 0.0])
    assert float(Task("regression", 1, regression_loss=name).loss(outputs, target)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "binary", "also": ("rmse",)}, "task.metrics: rmse is no metric of a binary task; known are"),
        ({"kind": "regression", "regression_loss": "hubr"}, "task.regression_loss: no loss hubr; did you mean huber?"),
        ({"kind": "binary", "label_smoothing": 1.0}, "task.label_smoothing: 1.0 is no part; give 0 up to below 1"),
        ({"kind": "binary", "class_weights": (1.0,)}, "task.class_weights: [1.0] does not fit; give 2, one for each"),
        ({"kind": "regression", "class_weights": (1.0,)}, "task.class_weights: [1.0] does not fit; a regression has"),
        (
            {"kind": "binary", "class_weights": (0.0, 1.0)},
            "task.class_weights: [0.0, 1.0] is not above 0; give numbers",
        ),
    ],
)
def test_what_does_not_fit_a_task_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        Task(outputs=1, **arguments)


def test_weights_that_are_none_are_refused() -> None:
    with pytest.raises(UserError, match=r"^task.class_weights: heavy are no weights; give null, balanced or a list"):
        weights_of("heavy", "binary", 1, torch.tensor([0.0]))
