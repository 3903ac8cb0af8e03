"""Every option of conf/sampler searches the default tree, by the commands' own way but for the training."""

from __future__ import annotations

import re
import statistics
from math import log10
from typing import Any, ClassVar

import optuna
import pytest
from optuna.trial import TrialState

from autotune.compose import compose, conf_dir, section
from autotune.errors import UserError
from autotune.pruners import Pruning
from autotune.search import check_config
from autotune.space import Space
from autotune.steering import build_sampler, first_seed, knows_trees, remark, sampler_by_trial
from autotune.trial import Record, State

from .steered import search

SAMPLERS = sorted(file.stem for file in (conf_dir() / "sampler").glob("*.yaml"))
every_sampler = pytest.mark.parametrize("name", SAMPLERS)

# Beyond the starting points and the 10 draws by chance of those that begin so.
TRIALS = 16


def test_the_samplers_are_those_promised() -> None:
    assert set(SAMPLERS) == {"tpe", "gp", "cmaes", "qmc", "random", "grid", "nsgaii"}


@every_sampler
def test_it_searches_the_default_tree(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    searched = search(f"sampler={name}", trials=TRIALS)
    assert searched.coordinator.finished == f"budget.trials={TRIALS} is used up"
    assert [record.state for record in searched.records] == [State.COMPLETE] * TRIALS
    assert len({str(record.config) for record in searched.records}) == TRIALS
    for record in searched.records:
        of_branches = {name for name in record.params if name.startswith(("optimizer.", "schedule."))}
        taken = (f"optimizer.{record.params['optimizer']}.", f"schedule.{record.params['schedule']}.")
        assert all(name.startswith(taken) for name in of_branches)
        assert ("data.batch_size" in record.params) == (record.params["optimizer"] != "bgd")
    assert capfd.readouterr().err == "", "nothing that a library warns of reaches the user"


@every_sampler
def test_it_gets_on_with_pruning_and_several_trials_at_once(name: str) -> None:
    trials = 2 * TRIALS
    states = [record.state for record in search(f"sampler={name}", pruner="asha", trials=trials, slots=4).records]
    assert len(states) == trials
    assert states.count(State.PRUNED) > trials / 3
    assert State.COMPLETE in states


@every_sampler
def test_it_gets_on_with_hyperband_which_shows_it_one_bracket_at_a_time(name: str) -> None:
    searched = search(f"sampler={name}", pruner="hyperband", trials=TRIALS)
    assert {record.state for record in searched.records} == {State.COMPLETE, State.PRUNED}
    assert len({str(record.config) for record in searched.records}) == TRIALS


@every_sampler
def test_the_same_seed_draws_the_same_points(name: str) -> None:
    first, again, other = (
        [record.params for record in search(f"sampler={name}", trials=12, seed=seed).records] for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


@every_sampler
def test_it_begins_with_the_starting_points(name: str) -> None:
    records = search(f"sampler={name}", trials=3).records
    assert [record.params["optimizer"] for record in records] == ["adam", "sgd", "bgd"]
    assert [record.config["optimizer"]["lr"] for record in records] == [1e-3, 0.1, 0.5]


@every_sampler
def test_a_study_goes_on(name: str) -> None:
    begun = search(f"sampler={name}", epochs=100)
    assert [record.state for record in begun.records][-1] == State.WAITING
    searched = search(f"sampler={name}", trials=TRIALS, storage=begun.storage)
    assert [record.state for record in searched.records] == [State.COMPLETE] * TRIALS
    assert len({str(record.config) for record in searched.records}) == TRIALS


@pytest.mark.parametrize("pruner", ["none", "asha"])
@pytest.mark.parametrize("sampler", [f"sampler={name}" for name in SAMPLERS])
def test_a_search_in_parts_trains_what_it_trains_in_one(sampler: str, pruner: str) -> None:
    # Within the starting points, twice within one trial, and where those that learn have begun to.
    storage = None
    for epochs in (12, 22, 25, 70, 115):
        storage = search(sampler, pruner=pruner, trials=TRIALS, epochs=epochs, storage=storage).storage
    parts = search(sampler, pruner=pruner, trials=TRIALS, storage=storage)
    whole = search(sampler, pruner=pruner, trials=TRIALS)
    assert [record.config for record in parts.records] == [record.config for record in whole.records]
    assert [record.objective for record in parts.records] == [record.objective for record in whole.records]


@pytest.mark.parametrize("sampler", [f"sampler={name}" for name in SAMPLERS if name not in ("gp", "grid")])
def test_draws_that_became_no_trial_are_known_to_a_later_run_too(sampler: str) -> None:
    few = [sampler, "optimizer=sgd,adam", "optimizer.lr=range(0.01,0.2,0.01)", "schedule=constant"]
    few += ["data.batch_size=64"]
    refuse = lambda config: "too slow" if config["optimizer"]["lr"] < 0.04 else None  # noqa: E731
    whole = search(*few, trials=20, enqueue=[], refuse=refuse)
    assert whole.coordinator.refused
    assert whole.coordinator.duplicates or "qmc" in sampler
    storage = None
    for trials in (3, 9, 14, 20):
        parts = search(*few, trials=trials, enqueue=[], refuse=refuse, storage=storage)
        storage = parts.storage
    assert [record.config for record in parts.records] == [record.config for record in whole.records]


@every_sampler
def test_the_first_points_are_not_drawn_again(name: str) -> None:
    first = search(f"sampler={name}", trials=6, enqueue=[])
    more = search(f"sampler={name}", trials=12, enqueue=[], storage=first.storage)
    assert len({str(record.config) for record in more.records}) == 12
    assert more.coordinator.duplicates == 0, "they are not only dropped"
    assert more.coordinator.finished == "budget.trials=12 is used up"


@every_sampler
def test_a_widened_space_is_searched_with_what_was_learnt(name: str) -> None:
    few = [f"sampler={name}", "schedule=constant", "data.batch_size=choice(32,64)"]
    narrow = [*few, "optimizer=sgd", "optimizer.lr=tag(log,interval(1e-3,1e-2))"]
    wide = [
        *few,
        "optimizer=sgd,adam",
        "optimizer.sgd.lr=tag(log,interval(1e-3,1))",
        "data.batch_size=choice(64,32,16)",
    ]
    begun = search(*narrow, trials=4, enqueue=[])
    learnt = search(*wide, trials=4, enqueue=[], storage=begun.storage).coordinator._copy.get_trials()[:4]
    assert [trial.params["optimizer.sgd.lr"] for trial in learnt] == [
        record.params["optimizer.lr"] for record in begun.records
    ]
    assert [trial.params["optimizer"] for trial in learnt] == ["sgd"] * 4
    assert [trial.value for trial in learnt] == [record.objective for record in begun.records]
    searched = search(*wide, trials=TRIALS, enqueue=[], storage=begun.storage)
    assert [record.state for record in searched.records] == [State.COMPLETE] * TRIALS
    assert {record.params.get("optimizer") for record in searched.records[4:]} == {"sgd", "adam"}


def test_a_sampler_with_a_memory_of_its_own_draws_all_trials() -> None:
    config = compose("search", ["study.name=s", f"sampler._target_={__name__}.Hearing"])
    steered_by = section(config, "sampler")
    steered_by = {"_target_": steered_by["_target_"]}
    sampler = build_sampler(steered_by, Space(config), 0)
    assert sampler_by_trial(sampler, steered_by, 0) is None
    assert first_seed(steered_by, 0, begun=3) != first_seed(steered_by, 0, begun=0)


def test_a_seed_in_the_samplers_section_is_its_own() -> None:
    same = [search("sampler=random", "+sampler.seed=5", trials=5, enqueue=[], seed=seed).records for seed in (0, 1)]
    assert [record.params for record in same[0]] == [record.params for record in same[1]]
    assert len({str(record.params) for record in same[0]}) == 5


def test_tpe_learns_from_what_was_tried_before_the_study_went_on() -> None:
    begun = search("sampler=tpe", pruner="asha", trials=150, slots=4)
    searched = search("sampler=tpe", pruner="asha", trials=200, slots=4, storage=begun.storage)
    assert [record.params for record in searched.records[:150]] == [record.params for record in begun.records]
    assert len({str(record.config) for record in searched.records}) == 200
    late, by_chance = (
        statistics.median(_misses(each.records[150:])) for each in (searched, search("sampler=random", trials=200))
    )
    assert late < by_chance / 2


def _misses(records: list[Record]) -> list[float]:
    """How many decades the rates lie beside the best one."""
    return [
        abs(log10(record.config["optimizer"]["lr"] / (1.0 if record.family == "bgd" else 0.1))) for record in records
    ]


@pytest.mark.parametrize("name", ["tpe", "cmaes", "nsgaii", pytest.param("gp", marks=pytest.mark.slow)])
def test_it_learns_what_is_good_within_the_branches(name: str) -> None:
    trials = 40 if name == "gp" else 80
    late, by_chance = (
        statistics.median(_misses(search(f"sampler={sampler}", trials=trials, enqueue=[]).records[-20:]))
        for sampler in (name, "random")
    )
    assert late < by_chance / 2


def test_an_optimizer_that_insists_on_what_cannot_work_is_given_other_points() -> None:
    # The best rates are refused, so without a mutation all children of the two parents are.
    few = ["sampler=nsgaii", "sampler.population_size=2", "sampler.mutation_prob=0.0"]
    few += ["optimizer=sgd", "optimizer.lr=tag(log,interval(1e-3,1))", "schedule=constant", "data.batch_size=64"]
    refused = "too fast"
    searched = search(
        *few, trials=20, refuse=lambda config: refused if config["optimizer"]["lr"] > 0.02 else None, enqueue=[]
    )
    assert len(searched.records) == 20


class Hearing(optuna.samplers.NSGAIISampler):
    """Remembers what it is told of each point."""

    heard: ClassVar[list[tuple[dict[str, Any], TrialState, float | None]]] = []

    def after_trial(self, study: Any, trial: Any, state: TrialState, values: Any) -> None:
        self.heard.append((trial.params, state, values and values[0]))
        super().after_trial(study, trial, state, values)


def test_an_optimizer_that_comes_back_to_a_point_hears_its_value_again() -> None:
    Hearing.heard.clear()
    few = ["sampler=nsgaii", f"sampler._target_={__name__}.Hearing", "sampler.population_size=2"]
    few += ["optimizer=sgd,adam", "optimizer.lr=0.01,0.1,0.2", "schedule=constant", "data.batch_size=64"]
    searched = search(*few, trials=8, enqueue=[])
    assert searched.coordinator.duplicates > 0
    assert len(Hearing.heard) == 8 + searched.coordinator.duplicates
    first: dict[tuple[str, float], float | None] = {}
    for params, state, value in Hearing.heard:
        assert state == TrialState.COMPLETE
        point = (params["optimizer"], params[f"optimizer.{params['optimizer']}.lr"])
        assert first.setdefault(point, value) == value


UNFIT: dict[str, tuple[list[str], str]] = {
    "no numbers": (
        ["sampler=cmaes", "optimizer=adam", "schedule=constant", "data.batch_size=64"],
        "sampler: CMA-ES searches numbers, and this space has only choices; give sampler=tpe",
    ),
    "a grid of Optuna's": (
        ["sampler._target_=optuna.samplers.GridSampler", "+sampler.search_space={model.batch_norm: [true]}"],
        "sampler: optuna.samplers.GridSampler works inside study.optimize alone; give sampler=grid",
    ),
    "brute force": (
        ["sampler._target_=optuna.samplers.BruteForceSampler"],
        "sampler: optuna.samplers.BruteForceSampler works inside study.optimize alone; give sampler=grid",
    ),
    "a pruner": (
        ["sampler._target_=optuna.pruners.NopPruner"],
        "sampler._target_: optuna.pruners.NopPruner makes no sampler; name one of optuna.samplers",
    ),
    "a sequence that is none": (
        ["sampler=qmc", "sampler.qmc_type=sobl"],
        "sampler: optuna.samplers.QMCSampler refuses its arguments "
        "(The `qmc_type='sobl'` is invalid. Choose either `halton` or `sobol`.); see its documentation",
    ),
    "too large a grid": (
        ["sampler=grid", "schedule=sweep_all"],
        "sampler: the grid has more than 10,000 points; "
        "cut the ranges into less than sampler.per_range=5, or search less",
    ),
}


@pytest.mark.parametrize(("overrides", "message"), UNFIT.values(), ids=UNFIT)
def test_a_sampler_that_cannot_search_the_space_says_so_before_the_first_trial(
    overrides: list[str], message: str
) -> None:
    swapped = any("_target_" in override for override in overrides)
    config = compose("search", ["sampler=random" if swapped else "study.name=s", *overrides])
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        check_config(config)


def test_every_part_of_a_sampler_is_seeded() -> None:
    config = compose(
        "search", ["sampler=cmaes", "optimizer=adam", "optimizer.lr=interval(0.1,0.2)", "schedule=constant"]
    )
    space = Space(config)
    drawn: list[dict[str, Any]] = []
    for _ in range(2):
        study = optuna.create_study(sampler=build_sampler(section(config, "sampler"), space, 5))
        drawn.append(space.suggest(study.ask()))
    assert drawn[0] == drawn[1]


def test_a_users_own_sampler_is_taken_to_know_trees() -> None:
    assert len(search("sampler=random", f"sampler._target_={__name__}.Mine", trials=12).records) == 12
    assert knows_trees(Mine())


class Mine(optuna.samplers.RandomSampler):
    """A user's sampler."""


def test_one_that_learns_from_whole_trials_alone_says_so_where_trials_are_pruned() -> None:
    gp, tpe = optuna.samplers.GPSampler(), optuna.samplers.TPESampler()
    asha, none = Pruning(optuna.pruners.SuccessiveHalvingPruner), Pruning(optuna.pruners.NopPruner)
    said = "GPSampler learns from trials trained to their end alone; pruner=none gives it all of them"
    assert remark(gp, asha) == said
    assert remark(gp, none) is None
    assert remark(tpe, asha) is None
