"""The permutation test of answers: its level on noise of any distribution, and what it finds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autotune.pairing import MOST_ROWS, luck_of_pairing, ranked_errors
from autotune.task import Task

REGRESSION, BINARY = Task("regression", 1), Task("binary", 1)
TASKS = {"regression": REGRESSION, "binary": BINARY, "multiclass": Task("multiclass", 4)}


def luck(task: Task, outputs: np.ndarray, target: np.ndarray) -> float:
    kind = torch.int64 if task.kind == "multiclass" else torch.float32
    two = outputs.reshape(len(outputs), -1)
    return luck_of_pairing(
        ranked_errors(task, torch.tensor(two, dtype=torch.float32), torch.tensor(target, dtype=kind))
    )


def noise(task: str, random: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
    if task == "multiclass":
        return random.normal(size=(rows, 4)), random.choice(4, rows, p=[0.7, 0.1, 0.1, 0.1])
    if task == "binary":
        return random.normal(size=rows), random.random(rows) < 0.1
    return random.standard_t(2, size=rows) - 0.5, np.exp(2 * random.normal(size=rows))


@pytest.mark.parametrize("task", TASKS)
def test_on_noise_no_more_false_alarms_than_stated(task: str) -> None:
    random = np.random.default_rng(0)
    found = np.array([luck(TASKS[task], *noise(task, random, 40)) for _ in range(600)])
    # Three standard errors of a share of 600.
    for stated in (0.05, 0.01):
        assert (found < stated).mean() <= stated + 3 * (stated * (1 - stated) / len(found)) ** 0.5


def test_rare_answers_to_rare_targets_are_no_proof() -> None:
    """Few of both coincide now and then, more often than a normal distribution has it."""
    random = np.random.default_rng(0)
    found = [luck(REGRESSION, random.random(60) < 0.1, random.poisson(0.3, 60)) for _ in range(600)]
    assert (np.array(found) < 0.01).mean() <= 0.01 + 3 * (0.01 / 600) ** 0.5


def test_a_signal_in_a_skewed_target_is_found() -> None:
    random = np.random.default_rng(0)
    signal = random.normal(size=600)
    target = np.minimum(np.exp(0.6 * random.standard_t(4, size=600) + 0.25 * signal), 40)
    assert luck(REGRESSION, signal, target) < 1e-9
    assert luck(REGRESSION, np.exp(signal) + 7, target) == luck(REGRESSION, signal, target)  # ranks alone count


@pytest.mark.parametrize("bias", [0.0, -9.0, 9.0])
def test_a_rare_class_that_is_never_answered_is_told_apart(bias: float) -> None:
    random = np.random.default_rng(0)
    signal = random.normal(size=600)
    target = random.random(600) < 1 / (1 + np.exp(3 - 1.5 * signal))
    assert luck(BINARY, signal + bias, target) < 1e-6


@given(st.integers(1, 30), st.floats(-5, 5))
def test_answers_that_are_all_alike_tell_nothing(rows: int, answer: float) -> None:
    target = np.arange(rows, dtype=float)
    assert luck(REGRESSION, np.full(rows, answer), target) == 1.0


def test_of_few_rows_it_is_no_surer_than_the_ways_to_deal_them_out() -> None:
    for rows in range(2, 6):
        ways = list(itertools.permutations(range(rows)))
        assert luck(REGRESSION, np.arange(rows), np.arange(rows)) >= 0.999 / len(ways)


def test_answers_that_are_worse_than_chance_are_luck() -> None:
    numbers = np.random.default_rng(0).normal(size=50)
    assert luck(REGRESSION, -numbers, numbers) > 0.99


def test_of_many_rows_some_are_compared() -> None:
    numbers = torch.arange(3 * MOST_ROWS, dtype=torch.float32)
    assert ranked_errors(REGRESSION, numbers.unsqueeze(1), numbers).shape == (MOST_ROWS, MOST_ROWS)


def test_labels_are_compared_by_all_of_them() -> None:
    random = np.random.default_rng(0)
    target = torch.tensor(random.random((80, 3)) < 0.3).float()
    outputs = target * 2 - 1 + torch.tensor(random.normal(size=(80, 3))).float()
    task = Task("multilabel", 3)
    assert luck_of_pairing(ranked_errors(task, outputs, target)) < 1e-6
    assert luck_of_pairing(ranked_errors(task, outputs.flip(0), target)) > 0.01
