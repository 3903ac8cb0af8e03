"""A bound on what a sampler learns from: what it sees below it, at it, and of trials in training."""

from __future__ import annotations

from collections.abc import Callable

import optuna
import pytest
from optuna.samplers import RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from autotune.samplers.bounded import MOST_BEST, Bounded


class Seeing(RandomSampler):
    """Remembers the trials it could learn from, last."""

    seen: list[FrozenTrial]

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: object
    ) -> float:
        self.seen = [each for each in study.get_trials(deepcopy=False) if each.number != trial.number]
        return super().sample_independent(study, trial, param_name, param_distribution)  # type: ignore[arg-type, no-any-return]


def x(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", 0.0, 1.0)


def searched(
    trials: int,
    at_most: int | None,
    tell: Callable[[Study, optuna.Trial, float], object] = lambda study, trial, value: study.tell(trial, value),
    direction: str = "minimize",
) -> tuple[Study, Seeing]:
    sampler = Seeing(seed=0)
    study = optuna.create_study(sampler=Bounded(sampler, at_most, seed=0), direction=direction)
    for _ in range(trials):
        trial = study.ask()
        tell(study, trial, x(trial))
    x(study.ask())
    return study, sampler


@pytest.mark.parametrize("at_most", [100, None])
def test_below_the_bound_everything_is_learnt_from(at_most: int | None) -> None:
    study, sampler = searched(100, at_most)
    assert [(each.params, each.values, each.state) for each in sampler.seen] == [
        (each.params, each.values, each.state) for each in study.trials[:-1]
    ]


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_beyond_it_the_best_are_and_a_fair_sample_of_the_others(direction: str) -> None:
    study, sampler = searched(2000, 300, direction=direction)
    assert 285 <= len(sampler.seen) <= 300
    ordered = sorted((each.value or 0.0 for each in study.trials[:-1]), reverse=direction == "maximize")
    seen = sorted((each.value or 0.0 for each in sampler.seen), reverse=direction == "maximize")
    assert seen[:MOST_BEST] == ordered[:MOST_BEST]
    # Of values drawn evenly a fair sample has its quarters where all have them.
    for part in (0.25, 0.5, 0.75):
        value = sorted(each.value or 0.0 for each in sampler.seen)[int(part * len(seen))]
        assert value == pytest.approx(part, abs=0.15)


def test_what_is_seen_keeps_its_order() -> None:
    study, sampler = searched(900, 300)
    numbers = {each.params["x"]: each.number for each in study.trials}
    order = [numbers[each.params["x"]] for each in sampler.seen]
    assert order == sorted(order)


def test_pruned_trials_rank_behind_complete_ones_and_by_how_long_they_trained() -> None:
    def tell(study: Study, trial: optuna.Trial, value: float) -> None:
        epochs = 1 + trial.number % 3
        for epoch in range(1, epochs + 1):
            trial.report(value, epoch)
        if trial.number % 250 == 0:
            study.tell(trial, 2.0)  # worse than all that are pruned
        else:
            study.tell(trial, state=TrialState.PRUNED)

    study, sampler = searched(500, 100, tell)
    seen = {each.params["x"]: each for each in sampler.seen}
    pruned = [each for each in study.trials if each.state == TrialState.PRUNED]
    pruned.sort(key=lambda each: (-len(each.intermediate_values), each.params["x"]))
    best = [study.trials[0], study.trials[250], *pruned[:6]]  # of the tenth of the 95 that are kept
    for each in best:
        counterpart = seen[each.params["x"]]
        assert (counterpart.state, counterpart.value) == (each.state, each.value)
        assert max(counterpart.intermediate_values.items()) == max(each.intermediate_values.items())


def test_failed_trials_are_forgotten() -> None:
    _, sampler = searched(
        350,
        100,
        lambda study, trial, value: study.tell(
            trial, state=TrialState.FAIL if value > 0.2 else None, values=value if value <= 0.2 else None
        ),
    )
    assert len(sampler.seen) <= 200
    assert sum(each.state == TrialState.COMPLETE for each in sampler.seen) > 60


def test_trials_in_training_are_seen_with_their_points_given_ones_too() -> None:
    sampler = Seeing(seed=0)
    study = optuna.create_study(sampler=Bounded(sampler, 100, seed=0))
    study.enqueue_trial({"x": 0.25})
    asked = [study.ask() for _ in range(130)]
    points = [x(trial) for trial in asked]
    assert points[0] == 0.25
    x(study.ask())
    assert [(each.state, each.params.get("x")) for each in sampler.seen] == [
        (TrialState.RUNNING, point) for point in points
    ]
    for trial, point in zip(asked[1:], points[1:], strict=True):
        study.tell(trial, point)
    assert x(study.ask()) >= 0
    running = [each.params.get("x") for each in sampler.seen if each.state == TrialState.RUNNING]
    assert running[:1] == [0.25]
    assert len(running) == 2
    study.tell(asked[0], 0.25)
    assert 0.25 in [each.value for each in study.trials]


def test_a_study_that_goes_on_is_learnt_from_as_far_as_there_is_room() -> None:
    study, _ = searched(1000, None)
    fewer = []
    for _ in range(2):
        sampler = Seeing(seed=0)
        study.sampler = Bounded(sampler, 300, seed=0)
        x(study.ask())
        fewer.append([(each.params, each.values) for each in sampler.seen])
    assert len(fewer[0]) == 285
    assert fewer[0] == fewer[1]
    assert min(value for _, (value,) in fewer[0] if value is not None) == study.best_value


def test_of_the_others_each_sample_is_another() -> None:
    study, sampler = searched(600, 300)
    first = {each.params["x"] for each in sampler.seen}
    for _ in range(20):
        trial = study.ask()
        study.tell(trial, 1 + x(trial))
    x(study.ask())
    second = {each.params["x"] for each in sampler.seen}
    before = {each.params["x"] for each in study.trials[:600]}
    assert len((second - first) & before) > 50


def test_every_trial_is_told_to_the_sampler_once() -> None:
    told: list[tuple[TrialState, object]] = []

    class Told(TPESampler):
        def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: object) -> None:
            told.append((state, values))
            super().after_trial(study, trial, state, values)  # type: ignore[arg-type]

    study = optuna.create_study(sampler=Bounded(Told(seed=0), 100))
    study.optimize(x, n_trials=120)
    assert told == [(TrialState.COMPLETE, trial.values) for trial in study.trials]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
