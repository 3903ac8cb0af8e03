"""Asynchronous successive halving at a cost that does not grow with the study."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections import defaultdict

from optuna.pruners import SuccessiveHalvingPruner
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial


class SuccessiveHalving(SuccessiveHalvingPruner):
    """Optuna's asynchronous successive halving (Li et al. 2020) that remembers the values at its rungs.

    It decides and notes on the trials what `optuna.pruners.SuccessiveHalvingPruner` does, which reads every trial of
    the study at every rung. It prunes one study.

    Args:
        min_resource: The step of the first rung; auto: found out from the first trials that end.
        reduction_factor: One of so many goes on.
        min_early_stopping_rate: How many rungs are left out at the beginning.
        bootstrap_count: How many trials a rung needs before any goes on from it.
    """

    NOTE = "completed_rung_{}"

    def __init__(
        self,
        min_resource: str | int = "auto",
        reduction_factor: int = 4,
        min_early_stopping_rate: int = 0,
        bootstrap_count: int = 0,
    ) -> None:
        super().__init__(min_resource, reduction_factor, min_early_stopping_rate, bootstrap_count)
        self._first = (
            None if isinstance(min_resource, str) else min_resource * reduction_factor**min_early_stopping_rate
        )
        self._factor = reduction_factor
        self._bootstrap = bootstrap_count
        self._rungs: defaultdict[int, list[float]] | None = None

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether the trial is stopped at a rung it has come to."""
        if self._first is None:
            return super().prune(study, trial)
        step = trial.last_step
        if step is None:
            return False
        value = trial.intermediate_values[step]
        rung = self._rung(trial)
        while step >= self._first * self._factor**rung:
            if math.isnan(value):
                return True
            if self._rungs is None:
                self._rungs = self._noted(study)
            insort(self._rungs[rung], value)
            # Optuna has no public way for a pruner to note anything; its own do it so.
            study._storage.set_trial_system_attr(trial._trial_id, self.NOTE.format(rung), value)
            if not self._goes_on(value, self._rungs[rung], study.direction):
                return True
            rung += 1
        return False

    def _goes_on(self, value: float, rivals: list[float], direction: StudyDirection) -> bool:
        """Whether a value is among the best at its rung; among fewer than one of which would go on, the best does."""
        if len(rivals) <= self._bootstrap:
            return False
        maximized = direction == StudyDirection.MAXIMIZE
        better = len(rivals) - bisect_right(rivals, value) if maximized else bisect_left(rivals, value)
        return better < max(1, len(rivals) // self._factor)

    def _rung(self, trial: FrozenTrial) -> int:
        """The first rung that the trial has not come to yet."""
        rung = 0
        while self.NOTE.format(rung) in trial.system_attrs:
            rung += 1
        return rung

    def _noted(self, study: Study) -> defaultdict[int, list[float]]:
        """The values that earlier trials had at the rungs, from the worst or best on."""
        rungs: defaultdict[int, list[float]] = defaultdict(list)
        for trial in study.get_trials(deepcopy=False):
            for rung in range(self._rung(trial)):
                rungs[rung].append(trial.system_attrs[self.NOTE.format(rung)])
        for values in rungs.values():
            values.sort()
        return rungs
