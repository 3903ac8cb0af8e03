"""TPE at a bounded cost: Optuna's own draws up to the bound, and a search that still learns beyond it."""

from __future__ import annotations

import statistics
from typing import Any

import optuna
import pytest
from optuna.samplers import TPESampler

from autotune.errors import UserError
from autotune.samplers import TPE

experimental = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


def bowl(trial: optuna.Trial) -> float:
    return sum(trial.suggest_float(f"x{index}", -1.0, 1.0) ** 2 for index in range(3))


def points(sampler: optuna.samplers.BaseSampler, trials: int) -> list[dict[str, Any]]:
    study = optuna.create_study(sampler=sampler)
    study.optimize(bowl, n_trials=trials)
    return [trial.params for trial in study.trials]


@experimental
@pytest.mark.parametrize("settings", [{}, {"group": False}, {"multivariate": False, "group": False}])
def test_up_to_the_bound_it_draws_what_optunas_draws(settings: dict[str, bool]) -> None:
    theirs = {"multivariate": True, "group": True, **settings}
    assert points(TPE(learns_from=100, seed=0, **settings), 101) == points(TPESampler(seed=0, **theirs), 101)


@experimental
def test_the_bound_is_where_the_two_part() -> None:
    ours, theirs = (
        points(TPE(learns_from=100, seed=0), 120),
        points(TPESampler(multivariate=True, group=True, seed=0), 120),
    )
    assert ours[:101] == theirs[:101]
    assert ours != theirs
    assert points(TPE(learns_from=None, seed=0), 120) == theirs


def test_it_goes_on_to_learn_beyond_the_bound() -> None:
    study = optuna.create_study(sampler=TPE(learns_from=200, seed=0))
    study.optimize(bowl, n_trials=400)
    values = [trial.value or 0.0 for trial in study.trials]
    assert statistics.median(values[200:]) < statistics.median(values[:100]) / 2


def test_the_same_seed_draws_the_same_points_beyond_the_bound_too() -> None:
    first, again, other = (points(TPE(learns_from=100, seed=seed), 150) for seed in (0, 0, 1))
    assert first == again
    assert first != other


@pytest.mark.parametrize("few", [99, 0, True, "many", 150.5])
def test_too_few_to_learn_from_are_refused(few: Any) -> None:
    with pytest.raises(
        UserError, match=f"^sampler.learns_from: {few} is too little to learn from; give 100 or more, or null$"
    ):
        TPE(learns_from=few)


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
