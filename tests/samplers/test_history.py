"""What a sampler learns from: which trials, in what order, with which values."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.study import Study
from optuna.trial import TrialState

from autotune.samplers.history import History


@pytest.fixture
def study() -> Study:
    return optuna.create_study(sampler=RandomSampler(seed=0))


def told(study: Study, *values: Any, state: TrialState | None = None) -> None:
    """Trials of these values, which their parameters have too."""
    for value in values:
        study.enqueue_trial({"x": value})
        trial = study.ask()
        trial.suggest_float("x", -100, 100)
        study.tell(trial, None if state else value, state=state)


def pruned(study: Study, value: float, steps: int) -> None:
    study.enqueue_trial({"x": value})
    trial = study.ask()
    trial.suggest_float("x", -100, 100)
    for step in range(steps):
        trial.report(value, step)
    study.tell(trial, state=TrialState.PRUNED)


def split(study: Study, best: int, with_running: bool = True, but: int | None = None) -> tuple[list[float], ...]:
    history = History(best=5)
    history.read(study)
    chosen = history.split(best, with_running, len(study.trials) - 1 if but is None else but)
    return tuple(history.columns(["x"], numbers)["x"].tolist() for numbers in chosen)


def test_the_best_are_told_from_the_others_and_all_keep_their_order(study: Study) -> None:
    told(study, 3, 1, 4, 1, 5, 9, 2)
    study.ask()
    assert split(study, 3) == ([1, 1, 2], [3, 4, 5, 9])


def test_where_the_highest_is_best() -> None:
    study = optuna.create_study(direction="maximize", sampler=RandomSampler(seed=0))
    told(study, 3, 1, 4, 1, 5, 9, 2)
    study.ask()
    assert split(study, 3) == ([4, 5, 9], [3, 1, 1, 2])


def test_pruned_trials_rank_behind_complete_ones_by_how_long_they_trained(study: Study) -> None:
    pruned(study, 1, steps=0)
    pruned(study, 2, steps=3)
    pruned(study, 3, steps=9)
    pruned(study, 1.5, steps=3)
    told(study, 50)
    study.ask()
    assert split(study, 1)[0] == [50]
    assert split(study, 2)[0] == [3, 50]
    assert split(study, 3)[0] == [3, 1.5, 50]
    assert split(study, 5)[0] == [1, 2, 3, 1.5, 50]


def test_failed_trials_are_forgotten(study: Study) -> None:
    told(study, 1, 2)
    told(study, 3, state=TrialState.FAIL)
    study.ask()
    assert split(study, 1) == ([1], [2])


def test_trials_in_training_are_among_the_others_if_asked_but_for_the_one_that_asks(study: Study) -> None:
    told(study, 1, 2)
    for value in (7, 8):
        study.enqueue_trial({"x": value})
        study.ask().suggest_float("x", -100, 100)
    assert split(study, 1) == ([1], [2, 7])
    assert split(study, 1, but=2) == ([1], [2, 8])
    assert split(study, 1, with_running=False) == ([1], [2])


def test_what_was_drawn_counts_until_the_trial_ends_and_then_what_it_had() -> None:
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    history = History(best=5)
    trial, asking = study.ask(), study.ask()
    history.read(study)
    history.keep_drawn(trial.number, {"x": 1.0, "y": 2.0})

    def seen(name: str) -> list[float]:
        history.read(study)
        numbers = np.concatenate(history.split(5, True, but=asking.number))
        return history.columns([name], numbers)[name].tolist()

    assert (seen("x"), seen("y")) == ([1], [2])
    x = trial.suggest_float("x", 50, 60)
    assert (seen("x"), seen("y")) == ([x], [2])
    study.tell(trial, 0.0)
    assert (seen("x"), seen("y")) == ([x], [])
    assert history.over == 1


def test_columns_are_of_trials_that_have_all_of_the_parameters(study: Study) -> None:
    for number in range(4):
        trial = study.ask()
        trial.suggest_int("x", number, number)
        if number % 2:
            trial.suggest_categorical("y", ["a", "b"])
        study.tell(trial, number)
    history = History(best=5)
    history.read(study)
    columns = history.columns(["x", "y"], np.arange(4))
    assert columns["x"].tolist() == [1, 3]
    assert columns["y"].tolist() == [["a", "b"].index(study.trials[number].params["y"]) for number in (1, 3)]
    assert history.columns(["unheard"], np.arange(4))["unheard"].tolist() == []


def test_what_ended_is_said_once_by_number(study: Study) -> None:
    first, second = study.ask(), study.ask()
    history = History(best=5)
    history.read(study)
    study.tell(second, 1.0)
    history.read(study)
    study.tell(first, 1.0)
    told(study, 3, state=TrialState.FAIL)
    history.read(study)
    assert [trial.number for trial in history.ended()] == [0, 1]
    assert history.ended() == []


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
