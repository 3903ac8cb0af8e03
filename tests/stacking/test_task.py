from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from autotune.stacking.task import StackedMetrics, losses, masses
from autotune.task import KINDS, METRICS, REGRESSION_LOSSES, Task

OUTPUTS = {"binary": 1, "multiclass": 4, "multilabel": 3, "regression": 1}
MEMBERS = 3

TASKS: dict[str, dict[str, Any]] = {
    **{kind: {"kind": kind} for kind in KINDS},
    **{f"regression by {name}": {"kind": "regression", "regression_loss": name} for name in REGRESSION_LOSSES},
    **{f"{kind} smoothed": {"kind": kind, "label_smoothing": 0.2} for kind in KINDS if kind != "regression"},
    "binary weighted": {"kind": "binary", "class_weights": (0.25, 2.0)},
    "multiclass weighted": {"kind": "multiclass", "class_weights": (0.25, 2.0, 1.0, 4.0)},
    "multilabel weighted": {"kind": "multilabel", "class_weights": (0.25, 2.0, 1.0)},
    "binary smoothed and weighted": {"kind": "binary", "class_weights": (0.25, 2.0), "label_smoothing": 0.1},
    "multiclass smoothed and weighted": {
        "kind": "multiclass",
        "class_weights": (0.25, 2.0, 1.0, 4.0),
        "label_smoothing": 0.1,
    },
    "multilabel smoothed and weighted": {
        "kind": "multilabel",
        "class_weights": (0.25, 2.0, 1.0),
        "label_smoothing": 0.1,
    },
}

every_task = pytest.mark.parametrize("task", [Task(outputs=OUTPUTS[t["kind"]], **t) for t in TASKS.values()], ids=TASKS)


def drawn(kind: str, samples: int, seed: int, members: int = MEMBERS) -> tuple[Tensor, Tensor]:
    """Outputs and targets of each member's own batch."""
    random = torch.Generator().manual_seed(seed)
    outputs = 2 * torch.randn(members, samples, OUTPUTS[kind], generator=random, dtype=torch.float64)
    if kind == "regression":
        return outputs, torch.randn(members, samples, generator=random, dtype=torch.float64)
    if kind == "multiclass":
        return outputs, torch.randint(0, 4, (members, samples), generator=random)
    shape = (members, samples, 3) if kind == "multilabel" else (members, samples)
    return outputs, torch.randint(0, 2, shape, generator=random).double()


@every_task
@settings(max_examples=10)
@given(samples=st.integers(1, 9), seed=st.integers(0, 1000), judged=st.booleans())
def test_losses_are_the_task_s_of_each_member(task: Task, samples: int, seed: int, judged: bool) -> None:
    outputs, target = drawn(task.kind, samples, seed)
    own, stacked = outputs.clone().requires_grad_(), outputs.clone().requires_grad_()
    found = losses(task, stacked, target, judged)
    loss = task.judged_loss if judged else task.loss
    expected = torch.stack([loss(out, truth) for out, truth in zip(own, target, strict=True)])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    found.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(stacked.grad, own.grad, rtol=1e-12, atol=1e-12)


@every_task
@settings(max_examples=10)
@given(samples=st.integers(1, 9), seed=st.integers(0, 1000))
def test_masses_are_the_task_s_of_each_member(task: Task, samples: int, seed: int) -> None:
    _, target = drawn(task.kind, samples, seed)
    found = masses(task, target)
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx([float(task.mass(each)) for each in target], rel=1e-14)


@every_task
@pytest.mark.parametrize("spoilt", [float("nan"), float("inf"), -float("inf")])
def test_a_member_s_loss_that_is_no_number_is_its_own(task: Task, spoilt: float) -> None:
    outputs, target = drawn(task.kind, 5, 0)
    found = losses(task, outputs, target)
    outputs = outputs.clone()
    outputs[1] = spoilt
    outputs.requires_grad_()
    with_it = losses(task, outputs, target)
    assert torch.equal(with_it[[0, 2]], found[[0, 2]])
    gradient = torch.autograd.grad(with_it.sum(), outputs)[0]
    assert gradient[[0, 2]].isfinite().all()


def own_metrics(task: Task, batches: list[tuple[Tensor, Tensor]]) -> list[dict[str, float]]:
    """What a Learner measures of each member."""
    found = []
    for member in range(len(batches[0][0])):
        metrics = task.metrics()
        for outputs, target in batches:
            answer, truth = task.answer(outputs[member].float()), task.truth(target)
            for metric in metrics.values():
                metric.update(answer, truth)
        found.append({name: float(metric.compute()) for name, metric in metrics.items()})
    return found


def together(task: Task, batches: list[tuple[Tensor, Tensor]]) -> list[dict[str, float]]:
    metrics = StackedMetrics(task, len(batches[0][0]))
    for outputs, target in batches:
        metrics.update(outputs, target)
    found = metrics.compute()
    assert all(value.shape == (len(batches[0][0]),) for value in found.values())
    return [{name: float(value[member]) for name, value in found.items()} for member in range(len(batches[0][0]))]


def same(found: list[dict[str, float]], expected: list[dict[str, float]]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert list(one) == list(other)
        assert one == pytest.approx(other, rel=1e-5, abs=1e-6, nan_ok=True)


def measuring(kind: str) -> Task:
    """A task that measures all it can."""
    scale = (100.0, 15.0) if kind == "regression" else (0.0, 1.0)
    return Task(kind, OUTPUTS[kind], scale, "val/loss", tuple(METRICS[kind]))


def batches_of(kind: str, sizes: list[int], seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    """Outputs of each member, and one target for all."""
    return [(outputs, target[0]) for outputs, target in (drawn(kind, size, seed + i) for i, size in enumerate(sizes))]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8)
@given(sizes=st.lists(st.integers(2, 20), min_size=1, max_size=3), seed=st.integers(0, 100))
def test_every_metric_is_the_task_s_of_each_member(kind: str, sizes: list[int], seed: int) -> None:
    task, batches = measuring(kind), batches_of(kind, [max(sizes[0], 12), *sizes[1:]], seed)
    assert set(together(task, batches)[0]) == set(METRICS[kind])
    same(together(task, batches), own_metrics(task, batches))


@pytest.mark.parametrize("kind", KINDS)
def test_extreme_outputs_are_measured_as_the_task_measures_them(kind: str) -> None:
    batches = batches_of(kind, [16, 9])
    for outputs, _ in batches:
        outputs[0] *= 1e4
        outputs[1] = 0.0
    same(together(measuring(kind), batches), own_metrics(measuring(kind), batches))


EVERY_METRIC = [(kind, name) for kind in KINDS for name in METRICS[kind]]


def spoilt_batches(kind: str, part: slice) -> list[tuple[Tensor, Tensor]]:
    """Some of the second member's outputs are NaN in the first of two batches."""
    batches = batches_of(kind, [16, 9])
    batches[0][0][1, part] = float("nan")
    return batches


@pytest.mark.parametrize("part", [slice(None), slice(3, 5)], ids=["all of a batch", "some samples"])
@pytest.mark.parametrize(("kind", "name"), EVERY_METRIC)
@pytest.mark.filterwarnings("ignore:Encountered `nan` values in tensor")
def test_a_member_s_nan_touches_no_other_s_metric(kind: str, name: str, part: slice) -> None:
    task = Task(kind, OUTPUTS[kind], judged_by=f"val/{name}")
    clean, spoilt = (together(task, batches) for batches in (batches_of(kind, [16, 9]), spoilt_batches(kind, part)))
    assert [clean[0], clean[2]] == [spoilt[0], spoilt[2]]


@pytest.mark.filterwarnings("ignore:Encountered `nan` values in tensor")
@pytest.mark.parametrize(
    ("kind", "name", "some"),
    [(kind, name, some) for kind, name in EVERY_METRIC for some in (False, True)],
)
def test_a_member_s_nan_is_measured_as_the_task_measures_it(kind: str, name: str, some: bool) -> None:
    task = Task(kind, OUTPUTS[kind], judged_by=f"val/{name}")
    batches = spoilt_batches(kind, slice(3, 5) if some else slice(None))
    same(together(task, batches), own_metrics(task, batches))


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_of_nothing_but_nan_is_measured_without_a_warning(kind: str) -> None:
    task = Task(kind, OUTPUTS[kind])
    batches = [(torch.full_like(outputs, float("nan")), target) for outputs, target in batches_of(kind, [8])]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same(together(task, batches), own_metrics(task, batches))
