"""The tree-structured Parzen estimator: Optuna's own suggestions, at a cost that hardly grows with the study."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import Study
from optuna.trial import FrozenTrial

from autotune.errors import UserError
from autotune.samplers.groups import Groups
from autotune.samplers.history import History, Numbers, internal
from autotune.samplers.parzen import Floats, Parzen

# A tenth of the trials are the best ones, and no more than so many.
MOST_BEST = 25


class TPE(BaseSampler):
    """Draws where good trials lie more densely than the others (Bergstra et al. 2011; Falkner et al. 2018).

    From the same seed and the same trials of one objective it suggests what `optuna.samplers.TPESampler` does, to the
    rounding of the last digits; where candidates are equally promising to those, it may take another of them. It is
    cheaper since each trial is read once, and since kernels are worked out together.

    Args:
        n_startup_trials: How many are drawn by chance first.
        n_ei_candidates: Of how many draws the most promising is taken.
        multivariate: Whether parameters are modelled together.
        group: Whether the parameters of a branch are.
        constant_liar: Whether trials in training count, as bad ones.
        seed: Of all draws.

    Raises:
        UserError: Branches are to be modelled together and parameters are not.
    """

    def __init__(
        self,
        n_startup_trials: int = 10,
        n_ei_candidates: int = 24,
        multivariate: bool = True,
        group: bool = True,
        constant_liar: bool = True,
        seed: int | None = None,
    ) -> None:
        if group and not multivariate:
            raise UserError("sampler.group", "true models parameters together", "give sampler.multivariate=true too")
        self._startup = n_startup_trials
        self._candidates = n_ei_candidates
        self._multivariate = multivariate
        self._groups = Groups() if group else None
        self._shared = IntersectionSearchSpace(include_pruned=True)
        self._counts_running = constant_liar
        self._chance = np.random.RandomState(seed)
        self._by_chance = RandomSampler(seed=seed)
        self._history = History(MOST_BEST)

    def reseed_rng(self) -> None:
        """Another random state."""
        self._chance.seed()
        self._by_chance.reseed_rng()

    def reseed(self, seed: int) -> None:
        """Draw by another seed from here on: what follows is settled by it and the study."""
        self._chance.seed(seed)
        if self._history.over < self._startup:
            self._by_chance = RandomSampler(seed=seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """What is drawn together with others."""
        self._history.read(study)
        ended = self._history.ended()
        if not self._multivariate:
            return {}
        if self._groups is None:
            shared = self._shared.calculate(study)
            return {name: each for name, each in shared.items() if not each.single()}
        for each in ended:
            self._groups.part(each.distributions)
        return {name: each for group in self._groups.searched() for name, each in group.items()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Values of all groups, those of the branches not taken too."""
        if self._history.over < self._startup:
            return {}
        drawn: dict[str, Any] = {}
        split = self._split(trial)
        for group in [search_space] if self._groups is None else self._groups.searched():
            # Where another sampler holds some parameters fixed, it asks for the others only.
            asked = {name: search_space[name] for name in group if name in search_space}
            if asked:
                drawn |= self._draw(asked, *split)
        self._history.keep_drawn(trial.number, internal(search_space, drawn))
        return drawn

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A value of one parameter alone."""
        self._history.read(study)
        if self._history.over < self._startup:
            return self._by_chance.sample_independent(study, trial, param_name, param_distribution)
        return self._draw({param_name: param_distribution}, *self._split(trial))[param_name]

    def _split(self, trial: FrozenTrial) -> tuple[Numbers, Numbers]:
        """The best trials, a tenth, and the others."""
        best = min(math.ceil(0.1 * self._history.over), MOST_BEST)
        return self._history.split(best, self._counts_running, trial.number)

    def _draw(self, space: Mapping[str, BaseDistribution], best: Numbers, others: Numbers) -> dict[str, Any]:
        """Of the candidates drawn where the best trials lie, the one where the others are sparsest by comparison."""
        near, far = (Parzen(space, self._history.columns(space, numbers)) for numbers in (best, others))
        points = _distinct(near.draw(self._chance, self._candidates))
        place = np.argmax(near.log_density(points) - far.log_density(points))
        return {name: each.to_external_repr(points[name][place].item()) for name, each in space.items()}


def _distinct(points: Mapping[str, Floats]) -> dict[str, Floats]:
    """Each point once, where it comes first."""
    rows = dict.fromkeys(zip(*(values.tolist() for values in points.values()), strict=True))
    return {name: np.array(values) for name, values in zip(points, zip(*rows, strict=True), strict=True)}
