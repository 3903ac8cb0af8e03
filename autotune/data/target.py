"""What a table's target is: the task it makes, its classes or numbers, and whether they can be learnt and judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy

from autotune.data.columns import Column, label
from autotune.errors import UserError, nearest

FEW_CLASSES = 20
TASKS = ("binary", "multiclass", "multilabel", "regression")
FEWEST = 3  # one sample of a class for each part


@dataclass(frozen=True, eq=False)
class Target:
    """A target.

    Attributes:
        task: binary, multiclass, multilabel or regression.
        values: [n], classes counted from 0 or numbers; [n, labels], 0 or 1.
        class_names: What each class is called, or each label.
    """

    task: str
    values: numpy.ndarray
    class_names: tuple[str, ...]


def target_of(columns: Sequence[Column], values: numpy.ndarray, said: str | None, is_list: bool) -> Target:
    """The target that columns make.

    The task is what is said; where nothing is: multilabel for a list of columns; binary for a column of two different
    values; multiclass for text and for whole numbers of at most 20 different values; else regression. Classes count in
    the order of their values, so that of two the larger one is the positive class.

    Args:
        columns: Of the target.
        values: Theirs, [n, columns].
        said: The task, where it is said.
        is_list: Whether the target was given as a list.

    Raises:
        UserError: It cannot be learnt, or is not what is said.
    """
    if said is not None and said not in TASKS:
        raise UserError("data.task", f"no task {said}", nearest(str(said), TASKS))
    if is_list != (said == "multilabel") and said is not None:
        remedy = "give a list: data.target=[a,b]" if said == "multilabel" else "give one column: data.target=a"
        raise UserError("data.target", f"{said} does not go with {'a list' if is_list else 'one column'}", remedy)
    if is_list:
        return _labels(columns, values)
    column, numbers = columns[0], values[:, 0]
    different = numpy.unique(numbers)
    if len(different) == 1:
        what = f"{column.name} is {_named(column, different)[0]} in every row"
        raise UserError("data.target", what, "name a column that varies")
    task = said or _found(column, different)
    if task == "regression":
        if column.kind == "category":
            problem = f"{column.name} holds text, and a regression predicts numbers"
            raise UserError("data.task", problem, "give data.task=multiclass, or another target")
        return Target(task, numbers, ())
    if task == "binary" and len(different) != 2:
        problem = f"{column.name} has {len(different)} different values, and binary has two"
        raise UserError("data.task", problem, "give data.task=multiclass or regression")
    names = _named(column, different)
    classes = numpy.searchsorted(different, numbers)
    check_classes("data.target", classes, names)
    return Target(task, classes, names)


def check_classes(key: str, classes: numpy.ndarray, names: Sequence[str]) -> None:
    """See that each class has a sample for each part.

    Args:
        key: What the classes come from.
        classes: Counted from 0, [n].
        names: Of the classes.

    Raises:
        UserError: There is one class only, or one of too few samples.
    """
    counts = numpy.bincount(classes, minlength=len(names))
    if (counts > 0).sum() < 2:
        raise UserError(key, f"there is one class only ({names[int(counts.argmax())]})", "give samples of two or more")
    few = int(counts.argmin())
    if counts[few] < FEWEST:
        samples = "1 sample" if counts[few] == 1 else f"{counts[few]} samples"
        problem = f"class {names[few]} has {samples}, and each part of the data needs one"
        others = int((counts < FEWEST).sum()) - 1
        more = f" (and {others} more such)" if others else ""
        raise UserError(key, problem + more, "give at least 3, or leave the class out")


def _found(column: Column, different: numpy.ndarray) -> str:
    if len(different) == 2:
        return "binary"
    if column.kind == "category":
        return "multiclass"
    return "multiclass" if len(different) <= FEW_CLASSES and _whole(different) else "regression"


def _labels(columns: Sequence[Column], values: numpy.ndarray) -> Target:
    labels = numpy.empty(values.shape)
    for at, column in enumerate(columns):
        different = numpy.unique(values[:, at])
        if len(different) != 2:
            number = "1 value" if len(different) == 1 else f"{len(different)} different values"
            problem = f"label {column.name} has {number}, and a label is absent or present"
            raise UserError("data.target", problem, "name columns of 0 and 1")
        labels[:, at] = values[:, at] == different[1]
        check_classes("data.target", labels[:, at].astype(int), [f"{column.name}={v}" for v in ("absent", "present")])
    return Target("multilabel", labels, tuple(column.name for column in columns))


def _named(column: Column, different: numpy.ndarray) -> tuple[str, ...]:
    if column.kind == "category":
        return tuple(column.levels[int(level)] for level in different)
    return tuple(label(float(value)) for value in different)


def _whole(numbers: numpy.ndarray) -> bool:
    return bool((numbers == numpy.floor(numbers)).all())
