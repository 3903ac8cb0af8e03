"""Arrays of a program: their task, classes and gaps."""

from __future__ import annotations

from typing import Any

import numpy
import pytest

from autotune import given
from autotune.data.in_memory import InMemory
from autotune.data.source import split
from autotune.errors import UserError

FEATURES = numpy.random.default_rng(0).normal(size=(60, 4))


def source(features: Any, target: Any, **changes: Any) -> InMemory:
    return InMemory(arrays=given.data_section((features, target))["arrays"], **changes)


@pytest.mark.parametrize(
    ("target", "task", "names"),
    [
        (numpy.arange(60) % 2, "binary", ("0", "1")),
        (numpy.arange(60) % 2 == 0, "binary", ("0", "1")),
        (numpy.arange(60) % 3, "multiclass", ("0", "1", "2")),
        (numpy.array(["cat", "dog", "eel"] * 20), "multiclass", ("cat", "dog", "eel")),
        (numpy.linspace(0, 1, 60), "regression", ()),
        (numpy.stack([numpy.arange(60) % 2, numpy.arange(60) // 30], 1), "multilabel", ("target 0", "target 1")),
    ],
)
def test_the_task_is_found(target: numpy.ndarray, task: str, names: tuple[str, ...]) -> None:
    arrays = source(FEATURES, target).load()
    assert (arrays.task, arrays.class_names) == (task, names)
    assert numpy.array_equal(arrays.features, FEATURES)
    assert arrays.target.shape == target.shape


def test_it_can_be_said() -> None:
    assert source(FEATURES, numpy.arange(60) % 3, task="regression").load().task == "regression"


def test_it_is_split_and_standardised_as_any_other() -> None:
    parts = split(source(FEATURES, numpy.arange(60) % 2))
    assert (len(parts.train), len(parts.val), parts.input_shape) == (36, 12, (4,))


@pytest.mark.parametrize(
    ("features", "target", "said"),
    [
        (
            numpy.where(numpy.eye(60, 4) > 0, numpy.nan, 0.0),
            numpy.arange(60) % 2,
            "data: the features are not all finite numbers; make numbers of them, and fill the gaps",
        ),
        (
            numpy.full((60, 4), "a"),
            numpy.arange(60) % 2,
            "data: the features are not all finite numbers; make numbers of them, and fill the gaps",
        ),
        (
            FEATURES,
            numpy.where(numpy.arange(60) == 5, numpy.nan, 1.0),
            "data: the target has gaps or infinite values; leave those samples out",
        ),
        (FEATURES, numpy.full((60, 2), "a"), "data: a target of several labels is not all numbers; give 0 and 1"),
        (FEATURES, numpy.zeros(60), "data.target: target is 0 in every row; name a column that varies"),
    ],
)
def test_what_cannot_be_learnt_is_named(features: numpy.ndarray, target: numpy.ndarray, said: str) -> None:
    with pytest.raises(UserError) as caught:
        source(features, target).load()
    assert str(caught.value) == said


def test_arrays_of_another_process_are_asked_for() -> None:
    with pytest.raises(UserError) as caught:
        InMemory(arrays="arrays_missing").load()
    assert str(caught.value) == (
        "data.arrays: nothing called arrays_missing was given to this process; "
        "give them again: autotune.run_search(..., data=...)"
    )
