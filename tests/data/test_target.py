from __future__ import annotations

import numpy
import pytest

from autotune.data.columns import Column
from autotune.data.target import FEW_CLASSES, Target, check_classes, target_of
from autotune.errors import UserError

NUMBER = Column("y", "number", ".")


def text(*levels: str) -> Column:
    return Column("y", "category", None, levels)


def make(column: Column, values: object, said: str | None = None) -> Target:
    return target_of([column], numpy.array(values, float)[:, None], said, is_list=False)


def mistake(column: Column, values: object, said: str | None = None) -> str:
    with pytest.raises(UserError) as caught:
        make(column, values, said)
    return str(caught.value)


# What is found where nothing is said.


@pytest.mark.parametrize(
    ("column", "values", "task", "names"),
    [
        (NUMBER, [0, 1] * 5, "binary", ("0", "1")),
        (NUMBER, [2.5, -1] * 5, "binary", ("-1", "2.5")),
        (text("no", "yes"), [0, 1] * 5, "binary", ("no", "yes")),
        (text("false", "true"), [1, 0] * 5, "binary", ("false", "true")),
        (NUMBER, [1, 2, 10] * 5, "multiclass", ("1", "2", "10")),
        (NUMBER, list(range(FEW_CLASSES)) * 3, "multiclass", tuple(map(str, range(FEW_CLASSES)))),
        (text("a", "b", "c"), [0, 1, 2] * 5, "multiclass", ("a", "b", "c")),
        (NUMBER, [1.5, 2, 3] * 5, "regression", ()),
        (NUMBER, list(range(FEW_CLASSES + 1)) * 3, "regression", ()),
    ],
)
def test_the_task_is_found(column: Column, values: list[float], task: str, names: tuple[str, ...]) -> None:
    made = make(column, values)
    assert (made.task, made.class_names) == (task, names)


def test_classes_count_in_the_order_of_their_values() -> None:
    made = make(NUMBER, [10, 2, 1] * 3)
    assert made.values.tolist() == [2, 1, 0] * 3
    assert make(text("a", "b", "c", "d"), [3, 1, 1, 3, 3, 1]).class_names == ("b", "d")  # a and c never occur


# What is said.


def test_what_is_said_is_taken() -> None:
    assert make(NUMBER, [0, 1] * 5, "regression").values.tolist() == [0, 1] * 5
    assert make(NUMBER, [1, 2, 3] * 5, "regression").task == "regression"
    assert make(NUMBER, [0.5, 1.5, 2] * 5, "multiclass").class_names == ("0.5", "1.5", "2")
    assert make(NUMBER, [0, 1] * 5, "multiclass").task == "multiclass"


@pytest.mark.parametrize(
    ("column", "values", "said", "message"),
    [
        (NUMBER, [0, 1] * 5, "binray", "data.task: no task binray; did you mean binary?"),
        (
            text("a", "b"),
            [0, 1] * 5,
            "regression",
            "data.task: y holds text, and a regression predicts numbers; give data.task=multiclass, or another target",
        ),
        (
            NUMBER,
            [0, 1, 2] * 5,
            "binary",
            "data.task: y has 3 different values, and binary has two; give data.task=multiclass or regression",
        ),
        (
            NUMBER,
            [0, 1] * 5,
            "multilabel",
            "data.target: multilabel does not go with one column; give a list: data.target=[a,b]",
        ),
        (NUMBER, [7, 7, 7], None, "data.target: y is 7 in every row; name a column that varies"),
        (NUMBER, [7, 7, 7], "regression", "data.target: y is 7 in every row; name a column that varies"),
        (text("a"), [0, 0, 0], None, "data.target: y is a in every row; name a column that varies"),
        (
            text("cat", "dog"),
            [0, 0, 0, 1, 1],
            None,
            "data.target: class dog has 2 samples, and each part of the data needs one; "
            "give at least 3, or leave the class out",
        ),
        (
            NUMBER,
            [0, 0, 0, 1, 1, 2, 5, 5, 5],
            None,
            "data.target: class 2 has 1 sample, and each part of the data needs one (and 1 more such); "
            "give at least 3, or leave the class out",
        ),
    ],
)
def test_what_cannot_be_learnt_is_refused(column: Column, values: list[float], said: str | None, message: str) -> None:
    assert mistake(column, values, said) == message


# Several labels.

LABELS = [Column("sunny", "number", "."), Column("windy", "category", None, ("false", "true"))]
BOTH = numpy.array([[0, 1], [1, 0], [1, 1], [0, 0]] * 3, float)


def test_a_list_of_columns_makes_labels() -> None:
    made = target_of(LABELS, BOTH, None, is_list=True)
    assert (made.task, made.class_names) == ("multilabel", ("sunny", "windy"))
    assert made.values.tolist() == BOTH.tolist()
    assert target_of(LABELS, BOTH, "multilabel", is_list=True).task == "multilabel"


@pytest.mark.parametrize(
    ("values", "said", "message"),
    [
        (BOTH, "binary", "data.target: binary does not go with a list; give one column: data.target=a"),
        (
            numpy.where(BOTH == 1, 1, [2, 1]),
            None,
            "data.target: label windy has 1 value, and a label is absent or present; name columns of 0 and 1",
        ),
        (
            numpy.vstack([BOTH[:, :] * [1, 0], [[0, 1]]]),
            None,
            "data.target: class windy=present has 1 sample, and each part of the data needs one; "
            "give at least 3, or leave the class out",
        ),
    ],
)
def test_labels_that_cannot_be_learnt_are_refused(values: numpy.ndarray, said: str | None, message: str) -> None:
    with pytest.raises(UserError) as caught:
        target_of(LABELS, values, said, is_list=True)
    assert str(caught.value) == message


def test_one_class_is_refused() -> None:
    with pytest.raises(UserError, match=r"^data: there is one class only \(a\); give samples of two or more$"):
        check_classes("data", numpy.zeros(9, int), ["a", "b"])
