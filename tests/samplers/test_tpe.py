"""TPE of our own beside Optuna's, on the same trials and from the same seed: each suggests what the other does."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, PartialFixedSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from autotune.errors import UserError
from autotune.samplers import TPE
from autotune.samplers.parzen import BLOCK
from autotune.space import suggest

Settings = Mapping[str, Any]

FLAT: Settings = {"multivariate": True, "group": False}
ALONE: Settings = {"multivariate": False, "group": False}


class Both(BaseSampler):
    """Asks ours and Optuna's everything that a study asks, keeps what they answer, and answers as Optuna's does."""

    def __init__(self, **settings: Any) -> None:
        self._ours = TPE(**settings)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            self._theirs = TPESampler(**{"multivariate": True, "group": True, **settings})
        self.drawn: list[tuple[dict[str, Any], dict[str, Any]]] = []

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        ours, theirs = (each.infer_relative_search_space(study, trial) for each in (self._ours, self._theirs))
        assert list(ours.items()) == list(theirs.items())
        return theirs

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._keep(*(each.sample_relative(study, trial, search_space) for each in (self._ours, self._theirs)))

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        ours, theirs = (
            {param_name: each.sample_independent(study, trial, param_name, param_distribution)}
            for each in (self._ours, self._theirs)
        )
        return self._keep(ours, theirs)[param_name]

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        self._ours.after_trial(study, trial, state, values)
        self._theirs.after_trial(study, trial, state, values)

    def _keep(self, ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
        self.drawn.append((ours, theirs))
        return theirs

    def assert_alike(self, at_least: int = 1) -> None:
        """What one answers is to nine digits what the other does."""
        assert sum(bool(ours) for ours, _ in self.drawn) >= at_least
        for ours, theirs in self.drawn:
            assert list(ours) == list(theirs)
            assert all(map(alike, ours.values(), theirs.values())), (ours, theirs)


def alike(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
    return type(one) is type(other) and bool(one == other)


def numbers(low: float, high: float) -> st.SearchStrategy[BaseDistribution]:
    return st.sampled_from(
        [
            FloatDistribution(low, high),
            FloatDistribution(high / 1e4, high, log=True),
            # Many steps, since of few two often lie alike among the trials seen.
            FloatDistribution(round(low), round(low) + 250, step=0.25),
            IntDistribution(-3000, 4000, step=7),
            IntDistribution(1, 3000, log=True),
        ]
    )


ranges = st.tuples(st.floats(-1e3, 1e3), st.floats(1.0, 1e3)).flatmap(
    lambda ends: numbers(ends[0], abs(ends[0]) + ends[1])
)
choices = st.integers(1, 5).map(lambda count: CategoricalDistribution(("a", None, True, 2.5, 7)[:count]))
parts = st.lists(ranges | choices, max_size=3)


@dataclass(frozen=True)
class Tree:
    """A space with a branch for each choice of its root."""

    shared: list[BaseDistribution]
    branches: list[list[BaseDistribution]] = field(default_factory=list)

    def suggest(self, trial: optuna.Trial) -> None:
        for number, distribution in enumerate(self.shared):
            suggest(trial, f"shared{number}", distribution)
        if self.branches:
            taken = trial.suggest_categorical("branch", range(len(self.branches)))
            for number, distribution in enumerate(self.branches[taken]):
                suggest(trial, f"branch{taken}.{number}", distribution)


trees = st.builds(Tree, st.lists(ranges | choices, min_size=1, max_size=4), st.lists(parts, max_size=3))


def search(study: Study, tree: Tree, trials: int, at_once: int, seed: int) -> None:
    """Trials that end in every way, in no order, their values drawn by chance."""
    chance = random.Random(seed)
    running: list[optuna.Trial] = []
    for _ in range(trials):
        if chance.random() < 0.1:
            study.enqueue_trial({"branch": 0})
        trial = study.ask()
        running.append(trial)
        tree.suggest(trial)
        while len(running) >= at_once:
            end(study, running.pop(chance.randrange(len(running))), chance)


def end(study: Study, trial: optuna.Trial, chance: random.Random) -> None:
    for step in range(chance.randrange(4)):
        trial.report(chance.choice([chance.gauss(0, 1), 0.5, math.nan]), step)
    if chance.random() < 0.1:
        trial.set_constraint("memory", chance.gauss(0, 1))
    state = chance.choice([TrialState.COMPLETE, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL])
    study.tell(trial, chance.choice([chance.gauss(0, 1), 0.5]) if state == TrialState.COMPLETE else None, state)


# The same examples each time: where candidates are equally promising to the last digits, rounding tells which is drawn.
@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    tree=trees,
    options=st.sampled_from([{}, {}, FLAT, ALONE, {"constant_liar": False, "n_startup_trials": 3}]),
    direction=st.sampled_from(["minimize", "maximize"]),
    at_once=st.sampled_from([1, 4]),
    seed=st.integers(0, 2**20),
)
def test_it_suggests_what_optunas_does(tree: Tree, options: Settings, direction: str, at_once: int, seed: int) -> None:
    both = Both(seed=seed, **options)
    study = optuna.create_study(sampler=both, direction=direction)
    search(study, tree, trials=30, at_once=at_once, seed=seed)
    both.assert_alike(at_least=0)


EVERY_KIND = Tree(
    [FloatDistribution(-5, 5), CategoricalDistribution(("a", "b")), FloatDistribution(1, 1)],
    [
        [FloatDistribution(1e-5, 1, log=True), IntDistribution(1, 1000)],
        [FloatDistribution(0, 10, step=0.01), IntDistribution(1, 500, log=True)],
    ],
)


@pytest.fixture(scope="module")
def long() -> list[FrozenTrial]:
    """More trials than are worked out in one block."""
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    search(study, EVERY_KIND, trials=int(1.5 * BLOCK), at_once=8, seed=0)
    return study.trials


@pytest.mark.parametrize("options", [{}, FLAT, ALONE])
def test_of_a_long_study_that_it_did_not_begin_too(options: Settings, long: list[FrozenTrial]) -> None:
    both = Both(seed=0, **options)
    study = optuna.create_study(sampler=both)
    study.add_trials(long)
    search(study, EVERY_KIND, trials=3, at_once=2, seed=1)
    both.assert_alike(at_least=3)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (FloatDistribution(0, 1), FloatDistribution(500, 501)),
        (FloatDistribution(1e-6, 1, log=True), FloatDistribution(10, 20, log=True)),
        (IntDistribution(0, 1000), IntDistribution(80_000, 80_500)),
        (IntDistribution(1, 1000, log=True), IntDistribution(900, 2000, log=True)),
    ],
)
def test_where_the_range_was_another_once_it_does_too(before: BaseDistribution, after: BaseDistribution) -> None:
    both = Both(seed=0)
    study = optuna.create_study(sampler=both)
    for number, distribution in enumerate([before] * 20 + [after] * 20):
        trial = study.ask()
        study.tell(trial, suggest(trial, "x", distribution) * (-1) ** number)
    both.assert_alike()


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_where_some_parameters_are_held_fixed_it_does_too() -> None:
    both = Both(seed=0)
    study = optuna.create_study(sampler=PartialFixedSampler({"branch": 0}, both))
    search(study, EVERY_KIND, trials=30, at_once=1, seed=0)
    both.assert_alike()


def bowl(trial: optuna.Trial) -> float:
    return sum(trial.suggest_float(f"x{index}", -1.0, 1.0) ** 2 for index in range(3))


def points(sampler: BaseSampler) -> list[dict[str, Any]]:
    study = optuna.create_study(sampler=sampler)
    study.optimize(bowl, n_trials=15)
    return [trial.params for trial in study.trials]


def test_the_same_seed_draws_the_same_points() -> None:
    reseeded = TPE(seed=0)
    reseeded.reseed_rng()
    assert points(TPE(seed=0)) == points(TPE(seed=0))
    assert points(TPE(seed=0)) not in (points(TPE(seed=1)), points(reseeded))


def test_a_study_that_shows_a_part_of_its_trials_is_refused() -> None:
    pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=9)
    study = optuna.create_study(study_name="parted", sampler=TPE(seed=0), pruner=pruner)
    message = "^the sampler learns from all trials of a study, and this one shows a part of them$"
    with pytest.raises(ValueError, match=message):
        study.optimize(lambda trial: trial.should_prune() or bowl(trial), n_trials=30)


def test_parameters_of_a_branch_are_not_modelled_together_where_none_are() -> None:
    message = "^sampler.group: true models parameters together; give sampler.multivariate=true too$"
    with pytest.raises(UserError, match=message):
        TPE(multivariate=False)


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
