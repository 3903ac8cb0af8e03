"""What a sampler is shown of trials that diverged: worse than all that were measured, at each ask."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from math import log10
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.samplers import CmaEsSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from autotune.samplers import TPE, PenaltyStorage
from autotune.settings import Objective
from autotune.steering import ranks_pruned
from autotune.trial import Reason

from ..steered import search

UP, DOWN = (Objective("m", direction, None, None) for direction in ("maximize", "minimize"))


def study_of(values: Sequence[float | None], storage: PenaltyStorage, direction: str) -> optuna.Study:
    """A study whose trials ended with these values; None is one that diverged after it had a good one."""
    study = optuna.create_study(storage=storage, direction=direction, sampler=RandomSampler(seed=0))
    for value in values:
        trial = study.ask()
        trial.suggest_float("x", 0, 1)
        if value is None:
            trial.report(1e9 if direction == "maximize" else -1e9, 1)
            storage.penalize(trial.number)
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, value)
    return study


measured = st.floats(-1e300, 1e300)


@given(st.lists(measured | st.none(), max_size=9), st.sampled_from([UP, DOWN]), st.booleans())
def test_those_that_diverged_are_worse_than_all_that_were_measured(
    values: list[float | None], objective: Objective, as_pruned: bool
) -> None:
    study = study_of(values, PenaltyStorage(objective, as_pruned), objective.direction)
    shown = study.get_trials(deepcopy=False)
    assert [trial.number for trial in shown] == list(range(len(values)))
    known = [value for value in values if value is not None]
    lost = [trial for trial, value in zip(shown, values, strict=True) if value is None]
    assert [trial.value for trial, value in zip(shown, values, strict=True) if value is not None] == known
    if not known:
        assert all(trial.value is None and trial.state == TrialState.PRUNED for trial in lost)
        return
    state = TrialState.PRUNED if as_pruned else TrialState.COMPLETE
    assert all(trial.state == state and trial.intermediate_values == {0: trial.value} for trial in lost)
    for trial in lost:
        assert trial.value is not None
        assert math.isfinite(trial.value)
        assert all(objective.better(value, trial.value) for value in known)
    assert len(study.get_trials(states=(TrialState.COMPLETE,))) == len(known) + (0 if as_pruned else len(lost))


def test_it_is_one_spread_beyond_the_worst_and_moves_with_both() -> None:
    storage = PenaltyStorage(DOWN, as_pruned=False)
    study = study_of([6e4, None, 9e4], storage, "minimize")
    assert study.trials[1].value == 12e4
    study.tell(study.ask(), 1e4)
    assert study.trials[1].value == 17e4
    study.tell(study.ask(), 10e4)
    assert study.trials[1].value == 19e4
    assert study.best_value == 1e4


@pytest.mark.parametrize(("value", "penalty"), [(5.0, 0.0), (-5.0, -10.0), (0.0, -1.0)])
def test_one_value_has_no_spread(value: float, penalty: float) -> None:
    assert study_of([None, value], PenaltyStorage(UP, as_pruned=True), "maximize").trials[0].value == penalty


def test_a_value_of_the_users_replaces_it() -> None:
    storage = PenaltyStorage(Objective("m", "minimize", 123.0, None), as_pruned=True)
    assert [trial.value for trial in study_of([None, 5.0, 500.0], storage, "minimize").trials] == [123.0, 5.0, 500.0]


def test_a_trial_that_was_stopped_is_measured_by_its_last_value() -> None:
    storage = PenaltyStorage(UP, as_pruned=True)
    study = study_of([0.9, None], storage, "maximize")
    stopped = study.ask()
    stopped.report(0.5, 1)
    study.tell(stopped, state=TrialState.PRUNED)
    assert study.trials[1].value == pytest.approx(0.1)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_which_samplers_learn_from_pruned_trials() -> None:
    assert all(map(ranks_pruned, (TPE(), TPESampler(), CmaEsSampler(consider_pruned_trials=True))))
    assert not any(map(ranks_pruned, (CmaEsSampler(), GPSampler(), NSGAIISampler(), RandomSampler())))


def beside_a_cliff(config: Mapping[str, Any]) -> list[dict[str, float]]:
    """Errors in a large unit; the best rate lies just before those that diverge after one good epoch."""
    rate = config["optimizer"]["lr"]
    values = [6e4 + 5e4 * abs(log10(rate / 0.02)) + 1e4 * left / 9 for left in reversed(range(9))]
    epochs = [{"train/loss": 1.0, "val/loss": 1.0, "val/rmse": value} for value in values]
    return epochs if rate < 0.05 else [epochs[-1], {**epochs[-1], "train/loss": math.nan, "val/rmse": math.nan}]


@pytest.mark.parametrize(("sampler", "pruner"), [("cmaes", "none"), ("cmaes", "asha"), ("gp", "none")])
def test_no_sampler_seeks_divergence(sampler: str, pruner: str) -> None:
    only_a_rate = ["optimizer=sgd", "optimizer.lr=tag(log,interval(1e-4,10))", "data.batch_size=int(interval(16,64))"]
    overrides = [f"sampler={sampler}", "objective=rmse", "schedule=constant", *only_a_rate]
    found = search(*overrides, trials=40, enqueue=[], learn=beside_a_cliff, pruner=pruner)
    ends = Counter(record.reason for record in found.records[20:])
    assert ends[Reason.DIVERGED] <= 5  # of 20; by chance 9
    assert all(record.objective is None for record in found.records if record.reason == Reason.DIVERGED)
    assert min(record.objective for record in found.records if record.objective is not None) < 7e4


@pytest.mark.parametrize("sampler", ["cmaes", "tpe"])
def test_a_search_in_parts_goes_on_as_in_one(sampler: str) -> None:
    few = [f"sampler={sampler}", "objective=rmse", "optimizer=sgd", "schedule=constant"]
    few += ["optimizer.lr=tag(log,interval(1e-4,10))", "data.batch_size=64"]
    whole = search(*few, trials=20, enqueue=[], learn=beside_a_cliff)
    assert {record.reason for record in whole.records} == {Reason.COMPLETED, Reason.DIVERGED}
    storage = None
    for trials in (7, 13, 20):
        parts = search(*few, trials=trials, enqueue=[], learn=beside_a_cliff, storage=storage)
        storage = parts.storage
    assert [record.params for record in parts.records] == [record.params for record in whole.records]
