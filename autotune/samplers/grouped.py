"""Grouped TPE that draws a branch only where it is taken.

Optuna's own draws every group of a tree for each trial, those of the branches not taken too, and finds the groups anew
from all trials each time. This one has the same groups and the same estimate of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState


class GroupedTPE(TPESampler):
    """Draws together the parameters that trials have together, as they are asked (Bergstra et al. 2011).

    Args:
        settings: See `optuna.samplers.TPESampler`; of them multivariate and group are said here.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(multivariate=True, **settings)
        self._distributions: dict[str, BaseDistribution] = {}
        self._groups: list[frozenset[str]] = []  # no parameter is in two of them
        self._drawn: dict[int, dict[str, tuple[BaseDistribution, Any]]] = {}
        self._has_looked = False

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Learn the groups of the trials that were added to the study, and forget what was drawn under this number."""
        super().before_trial(study, trial)
        if not self._has_looked:
            for earlier in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)):
                self._regroup(earlier.distributions)
            self._has_looked = True
        self._drawn[trial.number] = {}

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """None: a group is drawn when the first of it is asked."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing."""
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The parameter's value, its group drawn with it."""
        drawn = self._drawn.setdefault(trial.number, {})
        if param_name not in drawn:
            group = next((group for group in self._groups if param_name in group), frozenset())
            # Sorted, since the order of a set differs between runs.
            space = {
                name: self._distributions[name] for name in sorted(group) if not self._distributions[name].single()
            }
            if param_name in space:
                space[param_name] = param_distribution
            values = super().sample_relative(study, trial, space)
            drawn |= {name: (space[name], value) for name, value in values.items()}
        distribution, value = drawn.get(param_name, (None, None))
        if distribution == param_distribution:
            return value
        return super().sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Learn which parameters a trial had together."""
        super().after_trial(study, trial, state, values)
        self._drawn.pop(trial.number, None)
        if state != TrialState.FAIL:
            self._regroup(trial.distributions)

    def _regroup(self, distributions: Mapping[str, BaseDistribution]) -> None:
        """Part each group into what a trial has of it and what it has not."""
        self._distributions |= distributions
        names = frozenset(distributions)
        parts = [part for group in self._groups for part in (group & names, group - names)]
        known = frozenset[str]().union(*self._groups)
        self._groups = [part for part in (*parts, names - known) if part]
