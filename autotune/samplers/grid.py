"""Grid search over a space that may be a tree.

Optuna's GridSampler knows no conditional parameters and can only end a study inside study.optimize; this one takes its
points from the space.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from autotune.errors import UserError
from autotune.space import SearchValue, Space

MOST_POINTS = 10_000


class UsedUp(Exception):  # noqa: N818 - nothing went wrong
    """A sampler has nothing left to try."""


def grid_values(search: SearchValue, per_range: int) -> Sequence[Any]:
    """The values of one parameter that a grid has: choices and steps whole, an interval cut evenly (evenly in its
    logarithm where it is logarithmic), both ends included.
    """
    match search.distribution:
        case FloatDistribution(low=low, high=high, step=None, log=log) if low < high:
            return _cut(low, high, per_range, log)
        case IntDistribution(low=low, high=high, step=1, log=log) if high - low >= per_range:
            return list(dict.fromkeys(round(value) for value in _cut(low, high, per_range, log)))
    values = search.options()
    assert values is not None
    return values


def _cut(low: float, high: float, pieces: int, log: bool) -> list[float]:
    parts = [number / (pieces - 1) for number in range(1, pieces - 1)]
    inner = [low * (high / low) ** part if log else low + (high - low) * part for part in parts]
    # The ends as they are: no rounding may put them outside the range.
    return [low, *(min(max(value, low), high) for value in inner), high]


class Grid(BaseSampler):
    """Every point of a grid once, in an order drawn once.

    Args:
        space: What is searched.
        per_range: How many values an interval is cut into, at least 2.
        seed: Of the order.

    Raises:
        UserError: The grid has more than 10,000 points.
    """

    def __init__(self, space: Space, per_range: int = 5, seed: int | None = None) -> None:
        if isinstance(per_range, bool) or not isinstance(per_range, int) or per_range < 2:
            raise UserError("sampler.per_range", f"{per_range} does not cut a range", "give a whole number from 2 on")
        self._values = {name: grid_values(search, per_range) for name, search in space.parameters().items()}
        points = space.points(lambda search: grid_values(search, per_range))
        self._left = list(itertools.islice(points, MOST_POINTS + 1))
        if len(self._left) > MOST_POINTS:
            raise UserError(
                "sampler",
                f"the grid has more than {MOST_POINTS:,} points",
                f"cut the ranges into less than sampler.per_range={per_range}, or search less",
            )
        self._size = len(self._left)
        self._random = random.Random(seed)
        self._random.shuffle(self._left)
        self._points: dict[int, Mapping[str, Any]] = {}
        self._is_new = True

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Take the next point off the grid, unless the trial's point is given.

        Raises:
            UsedUp: There is none left.
        """
        if self._is_new:
            tried = {_key(earlier.params) for earlier in study.get_trials(deepcopy=False)}
            self._left = [point for point in self._left if _key(point) not in tried]
            self._is_new = False
        if "fixed_params" in trial.system_attrs:
            return
        if not self._left:
            raise UsedUp(f"the grid is used up: each of its {self._size:,} points that can work is trained")
        self._points[trial.number] = self._left.pop()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """None: a point is settled before the first of its values is asked for."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing."""
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The point's value; any of the grid's where a given point does not have one."""
        point = self._points.get(trial.number, {})
        return point[param_name] if param_name in point else self._random.choice(self._values[param_name])


def _key(params: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(params.items()))
