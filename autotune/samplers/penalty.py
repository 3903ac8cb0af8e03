"""The value that a sampler is given of a trial that diverged, which has none of its own."""

from __future__ import annotations

import copy
import math
from collections.abc import Container, Sequence

from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from autotune.settings import LARGEST, Objective


class PenaltyStorage(InMemoryStorage):
    """Optuna's storage in memory for one study, in which every trial that diverged has a penalty for its value.

    The penalty is the worst measured value so far and, beyond it, the distance from there to the best: worse than all
    that were measured, and near enough for a model of the values to learn from. A trial that ended early is measured by
    its last value. As the study is read at each ask, so is the penalty; it never becomes less. Before anything is
    measured nothing can be said to be worse, and such a trial has no value.

    Args:
        objective: A value of its own (``objective.worst``) is the penalty instead.
        as_pruned: Whether the sampler learns from pruned trials too. Where it does, those that diverged are shown to it
            as stopped before the first step, so that it ranks them below all that were stopped later. Where it does
            not, they are shown as trained to their end.
    """

    def __init__(self, objective: Objective, as_pruned: bool) -> None:
        super().__init__()
        self._objective = objective
        self._as_pruned = as_pruned
        self._diverged: dict[int, FrozenTrial | None] = {}  # by number, as it was last shown
        self._best: float | None = None
        self._worst: float | None = None

    @property
    def penalty(self) -> float | None:
        """The value that those that diverged have now; None while nothing is measured."""
        if self._objective.worst is not None:
            return self._objective.worst
        if self._worst is None or self._best is None:
            return None
        spread = self._worst - self._best
        if spread == 0:  # one value says nothing of how far values lie apart
            spread = math.copysign(abs(self._worst) or 1.0, -1 if self._objective.direction == "maximize" else 1)
        return min(max(self._worst + spread, -LARGEST), LARGEST)

    def penalize(self, number: int) -> None:
        """Give a trial the penalty for its value from now on; it must not be told to have ended with one before."""
        self._diverged[number] = None

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """See `optuna.storages.BaseStorage`."""
        self._measure(self.get_trial_number_from_id(trial_id), values)
        return super().set_trial_state_values(trial_id, state, values)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """See `optuna.storages.BaseStorage`."""
        trial_id = super().create_new_trial(study_id, template_trial)
        if template_trial is not None:
            self._measure(self.get_trial_number_from_id(trial_id), template_trial.values)
        return trial_id

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """See `optuna.storages.BaseStorage`."""
        if not self._diverged or states == (TrialState.WAITING,):
            return super().get_all_trials(study_id, deepcopy, states)
        trials = super().get_all_trials(study_id, deepcopy=False)
        penalty = self.penalty
        for number, shown in self._diverged.items():
            if trials[number].state.is_finished():
                if shown is None or shown.value != penalty:
                    shown = self._diverged[number] = self._penalized(trials[number], penalty)
                trials[number] = shown
        if states is not None:
            trials = [trial for trial in trials if trial.state in states]
        return copy.deepcopy(trials) if deepcopy else trials

    def _penalized(self, trial: FrozenTrial, penalty: float | None) -> FrozenTrial:
        shown = copy.copy(trial)
        shown.state = TrialState.PRUNED if self._as_pruned or penalty is None else TrialState.COMPLETE
        shown.value = penalty
        shown.intermediate_values = {} if penalty is None else {0: penalty}
        return shown

    def _measure(self, number: int, values: Sequence[float] | None) -> None:
        if not values or number in self._diverged or not math.isfinite(values[0]):
            return
        value = values[0]
        if self._best is None or self._objective.better(value, self._best):
            self._best = value
        if self._worst is None or self._objective.better(self._worst, value):
            self._worst = value
