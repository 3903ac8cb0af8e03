"""A model of a study's scores over its space, which says what lies between the trials, and how sure that is."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from omegaconf import OmegaConf
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import BaseTrial

from autotune.errors import UserError
from autotune.kept.outcome import Outcome
from autotune.report.ends import End
from autotune.space import Space
from autotune.standing import Estimate

Array = npt.NDArray[np.float64]
Point = Mapping[str, Any]

ENDS = 15  # the fewest that a model is made of
MEASURED = 8  # and of trials trained to their end
FITTED = 150  # ends that the kernel is fitted to: the time grows with their cube
STEPS = 25  # of that fit; further ones change little
KEPT = 600
RESAMPLED = 40


class Draws:
    """Points of a space by chance, uniform over it, or as far as they are fixed.

    Args:
        space: The space.
        seed: Of the draws.
    """

    def __init__(self, space: Space, seed: int = 0) -> None:
        self._space = space
        self._random = np.random.default_rng(seed)

    def point(self, fixed: Point | None = None) -> dict[str, Any]:
        """A point that has the fixed values where it has the parameters."""
        return self._space.suggest(cast(BaseTrial, _Dice(self._random, fixed or {})))

    @property
    def parameters(self) -> dict[str, BaseDistribution]:
        """Every parameter of the space by name."""
        return {name: each.distribution for name, each in self._space.parameters().items()}


class _Dice:
    """What a space asks as it asks an Optuna trial."""

    def __init__(self, random: np.random.Generator, fixed: Point) -> None:
        self._random = random
        self._fixed = fixed

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        if name in self._fixed:
            return self._fixed[name]
        return choices[int(self._random.integers(len(choices)))]

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False) -> Any:
        if name in self._fixed:
            return self._fixed[name]
        return placed(FloatDistribution(low, high, log=log, step=step), float(self._random.random()))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> Any:
        if name in self._fixed:
            return self._fixed[name]
        return round(placed(IntDistribution(low, high, log=log, step=step), float(self._random.random())))


def placed(distribution: FloatDistribution | IntDistribution, part: float) -> float:
    """The value at a part, 0 to 1, of a range, by orders of magnitude where it is logarithmic."""
    low, high = distribution.low, distribution.high
    if distribution.log:
        return float(math.exp(math.log(low) + part * (math.log(high) - math.log(low))))
    return float(low + part * (high - low))


def part_of(distribution: FloatDistribution | IntDistribution, value: float) -> float:
    """At which part of a range, 0 to 1, a value lies; a half where the range is a point."""
    low, high = float(distribution.low), float(distribution.high)
    if low == high:
        return 0.5
    if distribution.log:
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)


def numbers(distribution: BaseDistribution) -> list[float] | None:
    """The choices in ascending order where all of them are numbers, else None."""
    if not isinstance(distribution, CategoricalDistribution):
        return None
    choices = distribution.choices
    if any(isinstance(each, bool) or not isinstance(each, int | float) for each in choices):
        return None
    return sorted(float(cast(float, each)) for each in choices)


def role(name: str) -> str:
    """What a parameter is, whichever branch it stands in: ``optimizer.lr`` of ``optimizer.sgd.lr``."""
    parts = name.split(".")
    return name if len(parts) < 3 else f"{parts[0]}.{parts[-1]}"


class Encoding:
    """Points as rows of numbers: a column for each option of a choice and for each range, ranges scaled to 0 to 1.

    Ranges of one role share a column, each on its own scale; a parameter that a point has not is in the middle.

    Args:
        parameters: Every parameter of the space.
    """

    def __init__(self, parameters: Mapping[str, BaseDistribution]) -> None:
        self._parameters = parameters
        columns: dict[tuple[str, Any], int] = {}
        for name, distribution in parameters.items():
            if isinstance(distribution, CategoricalDistribution) and numbers(distribution) is None:
                for choice in distribution.choices:
                    columns.setdefault((name, choice), len(columns))
            else:
                columns.setdefault((role(name), None), len(columns))
        self._columns = columns
        self._ordered = {name: ordered for name, each in parameters.items() if (ordered := numbers(each)) is not None}
        self.width = len(columns)

    def rows(self, points: Sequence[Point]) -> Array:
        """One row a point."""
        table = np.zeros((len(points), self.width))
        for (_, choice), column in self._columns.items():
            if choice is None:
                table[:, column] = 0.5
        for row, point in zip(table, points, strict=True):
            for name, value in point.items():
                distribution = self._parameters.get(name)
                if distribution is None:
                    continue
                ordered = self._ordered.get(name)
                if ordered is not None:
                    at = ordered.index(float(value)) / max(1, len(ordered) - 1) if float(value) in ordered else 0.5
                    row[self._columns[role(name), None]] = at
                elif isinstance(distribution, FloatDistribution | IntDistribution):
                    row[self._columns[role(name), None]] = part_of(distribution, value)
                elif (name, value) in self._columns:
                    row[self._columns[name, value]] = 1.0
        return table


@dataclass(frozen=True)
class Surrogate:
    """A Gaussian process over a study's space (Rasmussen and Williams 2006, algorithm 2.1):
    a linear part and a Matern 5/2 part.

    Attributes:
        draws: Points of the space.
        ends: What it learnt from.
    """

    draws: Draws
    ends: Sequence[End]
    _encoding: Encoding
    _process: Any
    _resampled: Array
    _mean: float
    _scale: float

    @classmethod
    def of(cls, outcome: Outcome, ends: Sequence[End]) -> Surrogate | None:
        """Learn from ends; None where they are too few or all the same, or the space cannot be read."""
        try:
            draws = Draws(Space(OmegaConf.create(dict(outcome.config))))
        except UserError:
            return None
        usable = _most_telling(ends)
        values = np.array([end.value for end in usable])
        if not is_enough(ends) or not draws.parameters or np.ptp(values) == 0:
            return None
        encoding = Encoding(draws.parameters)
        rows = encoding.rows([end.params for end in usable])
        mean, scale = float(values.mean()), float(values.std())
        errors = np.array([end.error for end in usable]) / scale
        process = _fitted(rows, (values - mean) / scale, errors)
        resampled = _resampled(process, usable, (values - mean) / scale, errors)
        return cls(draws, usable, encoding, process, resampled, mean, scale)

    def predicted(self, points: Sequence[Point]) -> Array:
        """The expected scores at some points."""
        return np.asarray(self._kernel(points) @ self._process.alpha_) * self._scale + self._mean

    def difference(self, points: Sequence[Point], others: Sequence[Point]) -> Estimate:
        """By how much the mean score at some points is larger than at as many others, with its 95 % interval.

        The interval has what the process does not know of the scores, what other trials would have told it (bootstrap)
        and what chance does in the draw of the points.
        """
        import scipy.linalg

        count = len(points)
        both = [*points, *others]
        weights = np.concatenate([np.full(count, 1 / count), np.full(count, -1 / count)])
        kernel = self._process.kernel_.k1(self._encoding.rows(both))
        cross = self._kernel(both)
        seen = cross.T @ weights
        scores = cross @ self._process.alpha_
        pairs = scores[:count] - scores[count:]
        known = scipy.linalg.solve_triangular(self._process.L_, seen, lower=True)
        unknown = max(0.0, float(weights @ kernel @ weights - known @ known))
        variance = unknown + float((seen @ self._resampled).var()) + float(pairs.var()) / count
        half = 1.96 * math.sqrt(variance) * self._scale
        mean = float(pairs.mean()) * self._scale
        return Estimate(mean, mean - half, mean + half, count)

    def _kernel(self, points: Sequence[Point]) -> Array:
        return np.asarray(self._process.kernel_.k1(self._encoding.rows(points), self._process.X_train_))


def is_enough(ends: Sequence[End]) -> bool:
    """Whether a model can be made of so many."""
    return len(ends) >= ENDS and len({end.number for end in ends if end.is_measured}) >= MEASURED


def _most_telling(ends: Sequence[End]) -> list[End]:
    """All of them, or where they are very many those that were measured first, and the best of the rest by chance."""
    if len(ends) <= KEPT:
        return list(ends)
    order = np.random.default_rng(0).permutation(len(ends))
    chosen = sorted(order, key=lambda index: not ends[index].is_measured)[:KEPT]
    return [ends[index] for index in sorted(chosen)]


def _fitted(rows: Array, values: Array, errors: Array) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, Matern, WhiteKernel

    variance = errors**2 + 1e-8
    # What each option and range does by itself, and on top what they do together.
    alone = ConstantKernel(0.1, (1e-4, 10.0)) * DotProduct(0.01, "fixed")
    together = ConstantKernel(1.0, (1e-3, 50.0)) * Matern(np.ones(rows.shape[1]), (0.3, 20.0), nu=2.5)
    kernel = (alone + together) + WhiteKernel(0.1, (1e-5, 2.0))
    some = np.random.default_rng(0).permutation(len(rows))[:FITTED]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a length at its bound: the parameter does not matter
        first = GaussianProcessRegressor(kernel, alpha=variance[some], optimizer=_fit).fit(rows[some], values[some])
        return GaussianProcessRegressor(first.kernel_, alpha=variance, optimizer=None).fit(rows, values)


def _resampled(process: Any, ends: Sequence[End], values: Array, errors: Array) -> Array:
    """The process's weights where other trials had been drawn, a column each; a trial left out weighs nothing.

    What is expected of the trials that were stopped at one epoch is off by one share of their errors: the line that it
    comes from is the same.
    """
    random = np.random.default_rng(0)
    kernel = process.kernel_.k1(process.X_train_)
    noise = process.kernel_.k2.noise_level + errors**2 + 1e-8
    numbers, of_trial = np.unique([end.number for end in ends], return_inverse=True)
    rungs, of_rung = np.unique([end.epochs for end in ends], return_inverse=True)
    columns = []
    for _ in range(RESAMPLED):
        counts = np.bincount(random.integers(len(numbers), size=len(numbers)), minlength=len(numbers))[of_trial]
        shifted = values + errors * random.standard_normal(len(rungs))[of_rung]
        chosen = np.flatnonzero(counts)
        matrix = kernel[np.ix_(chosen, chosen)] + np.diag(noise[chosen] / counts[chosen])
        column = np.zeros(len(values))
        column[chosen] = np.linalg.solve(matrix, shifted[chosen])
        columns.append(column)
    return np.stack(columns, axis=1)


def _fit(loss: Callable[[Array], tuple[float, Array]], start: Array, bounds: Array) -> tuple[Array, float]:
    from scipy.optimize import minimize

    found = minimize(loss, start, method="L-BFGS-B", jac=True, bounds=bounds, options={"maxiter": STEPS})
    return np.asarray(found.x), float(found.fun)
