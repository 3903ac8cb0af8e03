"""Grouped TPE that draws branches as they are asked: where there are none it draws what Optuna's draws."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from autotune.samplers.grouped import GroupedTPE


def flat(trial: optuna.Trial) -> float:
    x, y = trial.suggest_float("x", -1.0, 1.0), trial.suggest_float("y", 1e-3, 1.0, log=True)
    trial.suggest_float("one", 2.0, 2.0)
    return float(x**2 + y + trial.suggest_int("n", 1, 9) + trial.suggest_categorical("c", (0, 1)))


def tree(trial: optuna.Trial) -> float:
    branch = trial.suggest_categorical("branch", ("a", "b"))
    if branch == "a":
        return trial.suggest_float("a.x", 0.0, 1.0) + trial.suggest_float("a.y", 0.0, 1.0)
    return 0.5 + trial.suggest_float("b.x", 0.0, 1.0)


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Which groups are drawn, as they are."""
    drawn: list[list[str]] = []
    draw = TPESampler.sample_relative

    def drawing(self: TPESampler, study: Study, trial: FrozenTrial, space: dict[str, BaseDistribution]) -> Any:
        drawn.extend([list(space)] if space else [])
        return draw(self, study, trial, space)

    monkeypatch.setattr(TPESampler, "sample_relative", drawing)
    return drawn


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_where_there_are_no_branches_it_draws_what_optunas_does() -> None:
    drawn = []
    for sampler in (GroupedTPE(seed=1), TPESampler(multivariate=True, group=True, seed=1)):
        study = optuna.create_study(sampler=sampler)
        study.optimize(flat, n_trials=60)
        drawn.append([trial.params for trial in study.trials])
    assert drawn[0] == drawn[1]


def test_parameters_that_trials_have_together_are_drawn_together_and_only_where_asked(groups: list[list[str]]) -> None:
    study = optuna.create_study(sampler=GroupedTPE(seed=0))
    study.optimize(tree, n_trials=30)
    groups.clear()
    study.enqueue_trial({"branch": "a"})
    study.optimize(tree, n_trials=1)
    assert groups == [["a.x", "a.y"]]
    groups.clear()
    study.optimize(tree, n_trials=1)
    assert groups[0] == ["branch"]
    assert groups[1:] in ([["a.x", "a.y"]], [["b.x"]])


def test_it_learns_the_groups_of_trials_that_were_there_before_it(groups: list[list[str]]) -> None:
    study = optuna.create_study(sampler=TPESampler(seed=0))
    study.optimize(tree, n_trials=30)
    groups.clear()
    study.sampler = GroupedTPE(seed=0)
    study.enqueue_trial({"branch": "a"})
    study.optimize(tree, n_trials=1)
    assert groups == [["a.x", "a.y"]]


def test_a_range_that_changed_is_drawn_from_as_it_is_now() -> None:
    study = optuna.create_study(sampler=GroupedTPE(seed=0))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1) + trial.suggest_float("y", 0, 1), n_trials=20)
    study.optimize(lambda trial: trial.suggest_float("y", 5, 6) + trial.suggest_float("x", 5, 6), n_trials=20)
    assert all(5 <= value <= 6 for trial in study.trials[20:] for value in trial.params.values())


def test_what_failed_teaches_no_group(groups: list[list[str]]) -> None:
    study = optuna.create_study(sampler=GroupedTPE(seed=0))
    study.optimize(tree, n_trials=20)
    asked = study.ask()
    asked.suggest_float("new", 0.0, 1.0)
    study.tell(asked, state=TrialState.FAIL)
    groups.clear()
    study.ask().suggest_float("new", 0.0, 1.0)
    assert not any("new" in group for group in groups)


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
