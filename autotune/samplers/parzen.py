"""Parzen estimators: the density of points that were seen, a kernel for each and one for what was not seen.

Bergstra et al. 2011 (Algorithms for Hyper-Parameter Optimization, section 4); Falkner et al. 2018 (BOHB, section 4.1).
Every number here, the bandwidths, the weights and the order of draws, is that of `optuna.samplers.TPESampler`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

Floats = NDArray[np.float64]
Shape = Callable[[slice], Floats]

# So many of the latest trials count in full, the earlier ones less and less.
RECENT = 25
# No kernel is narrower than this part of the range.
NARROWEST = 1 / 100
# Less mass than this is as good as none beside the kernel for what was not seen.
LEAST = np.finfo(float).tiny
# So many kernels at once, as the processor's cache holds.
BLOCK = 2048


class Parzen:
    """A mixture of products: each kernel has an axis for each parameter.

    Args:
        distributions: Of each parameter.
        seen: The values of each, as Optuna keeps them (a choice as its place), in the order of the trials.
    """

    def __init__(self, distributions: Mapping[str, BaseDistribution], seen: Mapping[str, Floats]) -> None:
        self._axes = {name: _axis(distribution, seen[name]) for name, distribution in distributions.items()}
        weights = np.append(_recency(len(next(iter(seen.values())))), 1.0)
        self._weights = weights / weights.sum()
        self._heights = np.log(self._weights) + sum(axis.heights for axis in self._axes.values())

    def draw(self, chance: RandomState, count: int) -> dict[str, Floats]:
        """So many points: values of each parameter."""
        kernels = chance.choice(len(self._weights), p=self._weights, size=count)
        drawn: dict[str, Floats] = dict.fromkeys(self._axes, np.empty(0))
        # Choices first: that is the order in which Optuna takes from its random state.
        for name, axis in sorted(self._axes.items(), key=lambda each: not isinstance(each[1], _Choice)):
            drawn[name] = axis.draw(kernels, chance.uniform(size=count))
        return drawn

    def log_density(self, points: Mapping[str, Floats]) -> Floats:
        """Of each point, up to a constant that depends on the distributions alone."""
        shapes = [axis.log_shape(points[name]) for name, axis in self._axes.items()]
        starts = range(0, len(self._weights), BLOCK)
        blocks = [self._log_density(shapes, slice(start, start + BLOCK)) for start in starts]
        return np.asarray(np.logaddexp.reduce(blocks), dtype=float)

    def _log_density(self, shapes: Sequence[Shape], block: slice) -> Floats:
        total = shapes[0](block)
        for shape in shapes[1:]:
            total += shape(block)
        # Last, as Optuna does: of choices alone many are equally promising, and rounding tells which is taken.
        total += self._heights[block]
        most = total.max(axis=1, keepdims=True)
        total -= most
        log_density: Floats = most[:, 0] + np.log(np.exp(total, out=total).sum(axis=1))
        return log_density


class _Axis(Protocol):
    """One parameter of all kernels, the one for what was not seen last."""

    heights: Floats  # their logarithms, beside the shapes

    def draw(self, kernels: NDArray[np.int64], quantiles: Floats) -> Floats:
        """A value of each kernel named, where its quantile is."""

    def log_shape(self, values: Floats) -> Shape:
        """What gives the logarithm of the shape of each kernel of a block (columns), at each value (rows)."""


class _Choice:
    """Of a choice among unordered values: a kernel prefers the one that was seen."""

    def __init__(self, distribution: CategoricalDistribution, seen: Floats) -> None:
        self.heights: Floats = np.zeros(1)
        choices, prior = len(distribution.choices), 1 / (len(seen) + 1)
        # What a kernel gives to each choice, by the choice that it saw; last the kernel that saw none.
        self._given = np.full((choices + 1, choices), prior)
        self._given[np.arange(choices), np.arange(choices)] += 1
        self._given /= self._given.sum(axis=1, keepdims=True)
        self._seen = np.append(seen, choices).astype(int)

    def draw(self, kernels: NDArray[np.int64], quantiles: Floats) -> Floats:
        """See `_Axis`."""
        reached = np.cumsum(self._given[self._seen[kernels]], axis=1)
        reached[:, -1] = 1.0
        return np.asarray((reached < quantiles[:, np.newaxis]).sum(axis=1), dtype=float)

    def log_shape(self, values: Floats) -> Shape:
        """See `_Axis`."""
        table = np.log(self._given.T[values.astype(int)])
        return lambda block: table.take(self._seen[block], axis=1)


class _Number:
    """Of a number: normal kernels, cut off at the ends of the range, in the logarithm where it has one.

    A kernel is as wide as its farther neighbour is far. Of numbers in steps the density is that of a step.
    """

    def __init__(self, distribution: FloatDistribution | IntDistribution, seen: Floats) -> None:
        self._distribution = distribution
        half = (distribution.step or 0) / 2
        low, high = self._scaled(np.array([distribution.low - half, distribution.high + half], dtype=float))
        seen = self._scaled(seen)
        self._order = np.argsort(seen)
        self._centres = np.append(seen, (low + high) / 2)
        self._widths = np.append(_widths(seen, self._order, low, high), high - low)
        self._low, self._high = (low - self._centres) / self._widths, (high - self._centres) / self._widths
        # Kernels lie outside where the range was another once; what they reach of it is too little for numbers as such.
        lies_within = bool(((seen >= low) & (seen <= high)).all())
        self._log_mass = _log_mass if lies_within else _log_mass_of_tails
        self.heights: Floats = -self._log_mass(self._low, self._high)
        if distribution.step is None:
            self.heights -= np.log(self._widths)

    def draw(self, kernels: NDArray[np.int64], quantiles: Floats) -> Floats:
        """See `_Axis`."""
        at = _truncated_quantile(quantiles, self._low[kernels], self._high[kernels])
        values: Floats = at * self._widths[kernels] + self._centres[kernels]
        if self._distribution.log:
            values = np.exp(values)
        low, high, step = self._distribution.low, self._distribution.high, self._distribution.step
        if step is not None:
            values = np.clip(low + np.round((values - low) / step) * step, low, high)
        return values

    def log_shape(self, values: Floats) -> Shape:
        """See `_Axis`."""
        if self._distribution.step is not None:
            return self._log_shape_of_steps(values, self._distribution.step)
        values = self._scaled(values)[:, np.newaxis]
        steepness = -0.5 / self._widths**2

        def shape(block: slice) -> Floats:
            away: Floats = values - self._centres[block]
            away *= away
            away *= steepness[block]
            return away

        return shape

    def _log_shape_of_steps(self, values: Floats, step: float) -> Shape:
        """Worked out once for kernels that are alike: in steps there are few that differ."""
        kinds, places = self._kinds()
        left, right = (
            (self._scaled(values + side)[:, np.newaxis] - self._centres[kinds]) / self._widths[kinds]
            for side in (-step / 2, step / 2)
        )
        table = self._log_mass(left, right)
        return lambda block: table.take(places[block], axis=1)

    def _kinds(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """A kernel of each kind, and the place of each kernel's kind among them."""
        order = np.append(self._order, len(self._order))
        differs = np.ones(len(order), dtype=bool)
        differs[1:] = (np.diff(self._centres[order]) != 0) | (np.diff(self._widths[order]) != 0)
        places = np.empty(len(order), dtype=int)
        places[order] = np.cumsum(differs) - 1
        return order[differs], places

    def _scaled(self, values: Floats) -> Floats:
        return np.log(values) if self._distribution.log else values


def _axis(distribution: BaseDistribution, seen: Floats) -> _Axis:
    if isinstance(distribution, CategoricalDistribution):
        return _Choice(distribution, seen)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return _Number(distribution, seen)


def _recency(count: int) -> Floats:
    """What each of so many trials counts, the first first."""
    return np.append(np.linspace(1 / max(count, 1), 1, max(count - RECENT, 0)), np.ones(min(count, RECENT)))


def _widths(seen: Floats, order: NDArray[np.int64], low: float, high: float) -> Floats:
    """How far each value's farther neighbour is; an end of the range counts as one only to a value alone."""
    gaps = np.diff(seen[order], prepend=low, append=high)
    if len(seen) > 1:
        gaps[0] = gaps[-1] = 0.0
    widths = np.empty(len(seen))
    widths[order] = np.maximum(gaps[:-1], gaps[1:])
    narrowest = (high - low) * max(NARROWEST, 1 / (len(seen) + 2))
    return np.clip(widths, narrowest, high - low)


def _log_mass(low: Floats, high: Floats) -> Floats:
    """The logarithm of how much of a standard normal lies between the two."""
    from scipy.special import ndtr  # takes a third of a second to import

    low, high = _to_the_left(low, high)
    mass: Floats = np.log(np.maximum(ndtr(high) - ndtr(low), LEAST))
    return mass


def _log_mass_of_tails(low: Floats, high: Floats) -> Floats:
    """`_log_mass` where numbers have no room for the mass, though for its logarithm; it takes three times as long."""
    from scipy.special import log_ndtr

    low, high = _to_the_left(low, high)
    below = log_ndtr(high)
    mass: Floats = below + np.log1p(-np.exp(log_ndtr(low) - below))
    return mass


def _to_the_left(low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """The right tail as the left one, where the small numbers are exact."""
    is_right = low > 0
    return np.where(is_right, -high, low), np.where(is_right, -low, high)


def _truncated_quantile(part: Floats, low: Floats, high: Floats) -> Floats:
    """Where so large a part of a standard normal cut off at both ends lies to the left."""
    from scipy.special import log_ndtr, ndtri_exp

    is_left = low < 0
    part = np.where(is_left, np.log(part), np.log1p(-part))
    beyond = log_ndtr(np.where(is_left, low, -high))
    at = ndtri_exp(np.logaddexp(beyond, part + _log_mass_of_tails(low, high)))
    cut_off: Floats = np.clip(np.where(is_left, at, -at), low, high)
    return cut_off
