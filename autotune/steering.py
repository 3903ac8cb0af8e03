"""What steers a search: the sampler and the pruner that a config names, held against what they have to steer."""

from __future__ import annotations

import math
import warnings
from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from optuna.distributions import FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, NopPruner, SuccessiveHalvingPruner, ThresholdPruner
from optuna.samplers import (
    BaseSampler,
    BruteForceSampler,
    CmaEsSampler,
    GPSampler,
    GridSampler,
    NSGAIIISampler,
    NSGAIISampler,
    QMCSampler,
)
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial

from autotune.construct import accepts, construct, target
from autotune.errors import UserError
from autotune.settings import Objective
from autotune.space import Space

# These model only the parameters that every trial has.
FLAT = (CmaEsSampler, GPSampler, NSGAIISampler, NSGAIIISampler, QMCSampler)

# These learn nothing from a trial that was pruned.
ONLY_COMPLETE = (GPSampler, NSGAIIISampler, NSGAIISampler)

# These end a study by Study.stop, which works inside study.optimize alone.
SELF_ENDING = (BruteForceSampler, GridSampler)


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


def knows_trees(sampler: BaseSampler) -> bool:
    """Whether a sampler can draw from a tree, where a parameter exists in some trials and not in others."""
    return not isinstance(sampler, FLAT)


def build_sampler(section: Mapping[str, Any], space: Space, seed: int) -> BaseSampler:
    """The section ``sampler``, seeded where it takes a seed, given the space where it takes one.

    Raises:
        UserError: It cannot be made, or cannot search this space.
    """
    sampler = _make("sampler", _seeded("sampler", section, seed), space=space)
    if not isinstance(sampler, BaseSampler):
        raise UserError("sampler._target_", f"{section['_target_']} makes no sampler", "name one of optuna.samplers")
    if isinstance(sampler, SELF_ENDING):
        raise UserError("sampler", f"{section['_target_']} works inside study.optimize alone", "give sampler=grid")
    numbers = (FloatDistribution, IntDistribution)
    if isinstance(sampler, CmaEsSampler) and not any(
        isinstance(search.distribution, numbers) and not search.distribution.single()
        for search in space.parameters().values()
    ):
        raise UserError("sampler", "CMA-ES searches numbers, and this space has only choices", "give sampler=tpe")
    return sampler


def remark(sampler: BaseSampler, pruner: BasePruner) -> str | None:
    """What a user should know of the two together before the search begins; None where there is nothing."""
    if isinstance(sampler, ONLY_COMPLETE) and not isinstance(pruner, NopPruner):
        return f"{sampler} learns from trials trained to their end alone; pruner=none gives it all of them"
    return None


def build_pruner(section: Mapping[str, Any], objective: Objective) -> BasePruner:
    """The section ``pruner``.

    Raises:
        UserError: It cannot be made, or would stop the best trials.
    """
    for key, part in _parts("pruner", section):
        if target(key, part) is ThresholdPruner:
            _check_threshold(key, part, objective)
    pruner = _make("pruner", section)
    if not isinstance(pruner, BasePruner):
        raise UserError("pruner._target_", f"{section['_target_']} makes no pruner", "name one of optuna.pruners")
    return pruner


def _check_threshold(key: str, section: Mapping[str, Any], objective: Objective) -> None:
    """A threshold stops what is above `upper` or below `lower`: only one of them is on the bad side."""
    good, bad = ("upper", "lower") if objective.direction == "maximize" else ("lower", "upper")
    if section.get(good) is not None:
        raise UserError(
            f"{key}.{good}",
            f"{section[good]} would stop the best trials, since {objective.metric} is {objective.direction}d",
            f"give {key}.{good}=null and {key}.{bad}=...",
        )
    if section.get(bad) is None:
        raise UserError(f"{key}.{bad}", "is not given", f"give the worst {objective.metric} that may go on")


def _make(key: str, section: Mapping[str, Any], **given: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # that Optuna may change it is no news to the user
        return construct(key, section, **given)


def _seeded(key: str, section: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """A section whose parts all have a seed where they take one."""
    seeded = {
        name: _seeded(f"{key}.{name}", value, seed) if isinstance(value, Mapping) and "_target_" in value else value
        for name, value in section.items()
    }
    return {"seed": seed, **seeded} if "seed" in accepts(target(key, section))[0] else seeded


def _parts(key: str, section: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """A section and the sections in it that name something to be made."""
    yield key, section
    for name, value in section.items():
        if isinstance(value, Mapping) and "_target_" in value:
            yield from _parts(f"{key}.{name}", value)
