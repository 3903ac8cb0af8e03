"""A bound on how many trials a sampler learns from, so that asking it costs the same however long a study is."""

from __future__ import annotations

import random
from bisect import insort
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from autotune.samplers._as_asked import AsAsked
from autotune.space import suggest

LEARNT_FROM = (TrialState.COMPLETE, TrialState.PRUNED)

# TPE tells the best tenth, 25 at most, from the others (`optuna.samplers.TPESampler`, gamma).
MOST_BEST = 25

# How full the study is made, so that it need not be made anew for each trial. Where it is made anew more seldom, the
# same gaps in the sample mislead too many draws in a row.
FILLED = 0.95


class Bounded(AsAsked):
    """Asks another sampler in a study of its own that holds the best trials and a sample of the others.

    Each trial has a counterpart in that study, which is asked, and told, the same. When more than `at_most` of them are
    over, the study is made anew: of the best trials, all that train, and a fresh sample of all others there ever were.

    Args:
        sampler: What is asked.
        at_most: How many trials that are over it learns from; None for all.
        seed: Of the samples.
    """

    def __init__(self, sampler: BaseSampler, at_most: int | None, seed: int | None = None) -> None:
        self._sampler = sampler
        self._at_most = at_most
        self._random = random.Random(seed)
        self._study: Study | None = None
        self._filled = 0  # how many in the study are over
        self._counterparts: dict[int, optuna.Trial] = {}
        self._given: set[int] = set()  # of trials whose points were not asked of us, and are not heard of yet
        self._over: list[tuple[int, FrozenTrial]] = []  # all there ever were, with their numbers
        self._best: list[tuple[tuple[float, ...], int, int]] = []  # rank, number, place in _over

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Begin the trial's counterpart, in a study that has room for it."""
        if self._study is None:
            for earlier in study.get_trials(deepcopy=False, states=LEARNT_FROM):
                self._keep(study.direction, earlier, earlier.state, earlier.values)
            self._refill(study.direction)
        self._hear_given(study)
        if self._at_most is not None and self._filled > self._at_most:
            self._refill(study.direction)
        fixed = trial.system_attrs.get("fixed_params")
        self._counterparts[trial.number] = self._begin(fixed)
        if fixed:
            self._given.add(trial.number)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """What the counterpart is given."""
        return suggest(self._counterparts[trial.number], param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """End the counterpart as the trial ends."""
        assert self._study is not None
        counterpart = self._counterparts.pop(trial.number)
        self._given.discard(trial.number)
        _have(counterpart, trial.distributions)
        if trial.intermediate_values:
            step, value = max(trial.intermediate_values.items())
            counterpart.report(value, step)
        if state == TrialState.COMPLETE:
            self._study.tell(counterpart, values)
        else:
            self._study.tell(counterpart, state=state)
        self._filled += 1
        if self._at_most is not None and state in LEARNT_FROM:
            self._keep(study.direction, trial, state, values)

    def reseed_rng(self) -> None:
        """Give the sampler another random state."""
        self._sampler.reseed_rng()

    def _begin(self, params: Mapping[str, Any] | None) -> optuna.Trial:
        assert self._study is not None
        if params:
            self._study.enqueue_trial(dict(params))
        return self._study.ask()

    def _hear_given(self, study: Study) -> None:
        """Let the counterparts of given points have them: trials in training count too."""
        if self._given:
            for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                if trial.number in self._given and trial.distributions:
                    _have(self._counterparts[trial.number], trial.distributions)
                    self._given.discard(trial.number)

    def _keep(
        self, direction: StudyDirection, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Remember a trial that is over, without what no sampler reads."""
        last = [max(trial.intermediate_values.items())] if trial.intermediate_values else []
        kept = create_trial(
            state=state,
            values=values,
            params=trial.params,
            distributions=trial.distributions,
            intermediate_values=dict(last),
        )
        insort(self._best, (_rank(kept, direction), trial.number, len(self._over)))
        del self._best[MOST_BEST:]
        self._over.append((trial.number, kept))

    def _refill(self, direction: StudyDirection) -> None:
        """Make the study anew of trials that are over, and of those in training."""
        kept = self._chosen()
        self._study = optuna.create_study(direction=direction, sampler=self._sampler)
        self._study.add_trials(trial for _, trial in kept)
        self._filled = len(kept)
        for number, old in self._counterparts.items():
            self._counterparts[number] = self._begin(old.params)
            _have(self._counterparts[number], old.distributions)

    def _chosen(self) -> list[tuple[int, FrozenTrial]]:
        """The best and a fair sample of the others, by number."""
        chosen = self._over
        if self._at_most is not None and len(self._over) > (room := int(FILLED * self._at_most)):
            best = [place for _, _, place in self._best[: -(-room // 10)]]
            # Of so many drawn as many are left, whichever of them are among the best.
            drawn = [place for place in self._random.sample(range(len(self._over)), room) if place not in best]
            chosen = [self._over[place] for place in (best + drawn)[:room]]
        return sorted(chosen, key=lambda each: each[0])


def _have(trial: optuna.Trial, distributions: Mapping[str, BaseDistribution]) -> None:
    """Let a trial have parameters that it was given when it began."""
    for name, distribution in distributions.items():
        suggest(trial, name, distribution)


def _rank(trial: FrozenTrial, direction: StudyDirection) -> tuple[float, ...]:
    """What TPE orders trials by: those trained to their end by their value, then the others, the longest first."""
    sign = -1 if direction == StudyDirection.MAXIMIZE else 1
    if trial.state == TrialState.COMPLETE:
        return 0, 0, sign * trial.values[0]
    if not trial.intermediate_values:
        return 1, 1, 0
    step, value = max(trial.intermediate_values.items())
    return 1, -step, float("inf") if value != value else sign * value
