"""Arrays that a program gave (`autotune.run_search`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy

from autotune import given
from autotune.data.columns import Column
from autotune.data.source import Arrays, Source
from autotune.data.target import target_of
from autotune.errors import UserError


@dataclass(frozen=True, kw_only=True)
class InMemory(Source):
    """Features and target as they were given; the task is found as that of a table is.

    Args:
        arrays: The name they were given under.
    """

    arrays: str
    task: str | None = None

    def load(self) -> Arrays:
        """Features [n, ...]; target [n], or [n, labels].

        Raises:
            UserError: They were given to another process, or cannot be learnt from.
        """
        try:
            features, target = given.look_up(self.arrays)
        except AttributeError as error:
            raise UserError("data.arrays", str(error), "give them again: autotune.run_search(..., data=...)") from error
        if features.dtype.kind not in "biuf" or not numpy.isfinite(features).all():
            raise UserError(
                "data", "the features are not all finite numbers", "make numbers of them, and fill the gaps"
            )
        found = target_of(*_columns(target), self.task, target.ndim > 1)
        return Arrays(features, found.values, found.class_names, found.task)


def _columns(target: numpy.ndarray) -> tuple[list[Column], numpy.ndarray]:
    """The columns of a target and their values, [n, columns]."""
    if target.dtype.kind in "biuf":
        values = target.reshape(len(target), -1).astype(float)
        if not numpy.isfinite(values).all():
            raise UserError("data", "the target has gaps or infinite values", "leave those samples out")
        return [
            Column(f"target {at}" if target.ndim > 1 else "target", "number") for at in range(values.shape[1])
        ], values
    if target.ndim > 1:
        raise UserError("data", "a target of several labels is not all numbers", "give 0 and 1")
    levels, codes = numpy.unique(target.astype(str), return_inverse=True)
    return [Column("target", "category", None, tuple(levels.tolist()))], codes.reshape(-1, 1).astype(float)
