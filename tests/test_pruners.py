"""Every option of conf/pruner prunes a search of the default tree, by the commands' own way but for the training."""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Mapping
from statistics import median
from typing import Any

import optuna
import pytest
from optuna.pruners import BasePruner, SuccessiveHalvingPruner
from optuna.trial import TrialState

from autotune.compose import compose, conf_dir
from autotune.errors import UserError
from autotune.pruners import SuccessiveHalving
from autotune.search import check_config
from autotune.trial import Reason, Record, State

from .steered import EPOCHS, Searched, curve, search

PRUNERS = sorted(file.stem for file in (conf_dir() / "pruner").glob("*.yaml"))
every_pruner = pytest.mark.parametrize("name", PRUNERS)
TRIALS = 40


def best(records: list[Record]) -> Record:
    return max(records, key=lambda record: curve(record.config)[-1]["val/accuracy"])


def pruned_at(records: list[Record]) -> Counter[int]:
    """At which epochs trials were pruned, and how many."""
    return Counter(record.epochs for record in records if record.state == State.PRUNED)


def test_the_pruners_are_those_promised() -> None:
    assert set(PRUNERS) == {"asha", "hyperband", "median", "percentile", "patient", "threshold", "wilcoxon", "none"}


@every_pruner
def test_weak_trials_are_stopped_and_the_best_is_not(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    records = search("sampler=random", pruner=name, trials=TRIALS, learn=fading).records
    states = Counter(record.state for record in records)
    assert states[State.PRUNED] + states[State.COMPLETE] == TRIALS
    assert (states[State.PRUNED] == 0) == (name == "none")
    assert states[State.COMPLETE] > 0
    assert best(records).state == State.COMPLETE
    assert all(record.epochs == EPOCHS for record in records if record.state == State.COMPLETE)
    assert capfd.readouterr().err == "", "nothing that a library warns of reaches the user"


def fading(config: Mapping[str, Any]) -> list[dict[str, float]]:
    """Where little can be reached, what the first epoch reached is lost again."""
    epochs = curve(config)
    if epochs[-1]["val/accuracy"] > 0.5:
        return epochs
    parts = [epochs[0]["val/accuracy"] * (1 - epoch / 20) for epoch in range(EPOCHS)]
    return [{"train/loss": 1 - part, "val/loss": 2 - part, "val/accuracy": part} for part in parts]


@every_pruner
def test_where_the_metric_is_minimized_it_is_the_large_values_that_are_stopped(name: str) -> None:
    bounds = {"lower": None, "upper": 1.8} if name == "threshold" else {}
    records = search("sampler=random", "objective=loss", pruner=name, steer=bounds, trials=TRIALS, learn=fading).records
    assert bool(pruned_at(records)) == (name != "none")
    assert best(records).state == State.COMPLETE


@every_pruner
def test_it_gets_on_with_several_trials_at_once_and_goes_on(name: str) -> None:
    stopped = (search("sampler=random", pruner=name, epochs=epochs, slots=4) for epochs in range(60, 66))
    begun = next(each for each in stopped if State.WAITING in {record.state for record in each.records})
    records = search("sampler=random", pruner=name, trials=TRIALS, slots=4, storage=begun.storage).records
    assert {record.state for record in records} <= {State.COMPLETE, State.PRUNED}
    assert len(records) == TRIALS


@every_pruner
def test_fairly_to_families_and_audited_it_gets_on_and_goes_on_too(name: str) -> None:
    steer = {"compare": "family_then_all", "audit": 0.3}
    begun = search("sampler=random", pruner=name, steer=steer, epochs=100, slots=4, learn=fading)
    records = search(
        "sampler=random", pruner=name, steer=steer, trials=TRIALS, slots=4, storage=begun.storage, learn=fading
    ).records
    assert len(records) == TRIALS
    assert {record.state for record in records} <= {State.COMPLETE, State.PRUNED}
    audited = [record for record in records if record.would_stop is not None]
    assert bool(audited) == bool(pruned_at(records)) == (name != "none")
    for record in audited:
        assert (record.state, record.reason, record.epochs) == (State.COMPLETE, Reason.COMPLETED, EPOCHS)
        assert record.objective == max(record.curves["val/accuracy"])


def stops(records: list[Record]) -> dict[int, int | None]:
    """After how many epochs the pruner stopped each trial, or would have."""
    return {record.number: record.epochs if record.state == State.PRUNED else record.would_stop for record in records}


@pytest.mark.parametrize("compare", ["all", "family_then_all"])
@pytest.mark.parametrize("name", ["asha", "hyperband", "median"])
def test_an_audit_changes_nothing_but_that_the_audited_train_on(name: str, compare: str) -> None:
    none, some, every = (
        search("sampler=random", pruner=name, steer={"compare": compare, "audit": audit}, trials=TRIALS).records
        for audit in (0.0, 0.5, 1.0)
    )
    assert stops(none) == stops(some) == stops(every)
    assert all(record.would_stop is None for record in none)
    assert 0 < sum(record.would_stop is not None for record in some) < sum(pruned_at(none).values())
    assert {record.state for record in every} == {State.COMPLETE}
    assert {record.number for record in some if record.would_stop is not None} <= {
        record.number for record in every if record.would_stop is not None
    }


def test_an_audited_search_that_goes_on_is_the_same_search() -> None:
    steer = {"compare": "family_then_all", "audit": 0.5}
    points = [record.params for record in search("sampler=random", trials=TRIALS).records]

    def run(**budget: Any) -> Searched:
        return search("sampler=random", pruner="asha", steer=steer, enqueue=points, **budget)

    whole = run(trials=TRIALS)
    first = next(record for record in whole.records if record.would_stop is not None)
    before = sum(record.epochs for record in whole.records[: first.number])
    # The first audited trial is interrupted after it should have been stopped, before its end.
    begun = run(epochs=before + first.would_stop + 2)
    (left_over,) = (record for record in begun.records if record.state == State.WAITING)
    assert (left_over.number, left_over.would_stop) == (first.number, first.would_stop)
    goes_on = search("sampler=random", pruner="asha", steer=steer, trials=first.number + 1, storage=begun.storage)
    record = goes_on.records[first.number]
    assert (record.state, record.would_stop, record.epochs) == (State.COMPLETE, first.would_stop, EPOCHS)
    assert record.objective == first.objective


def slow(config: Mapping[str, Any]) -> list[dict[str, float]]:
    """BGD has little to show until the last third."""
    epochs = curve(config)
    if config["optimizer"]["name"] != "bgd":
        return epochs
    parts = [each["val/accuracy"] * ((number + 1) / EPOCHS) ** 5 for number, each in enumerate(epochs)]
    return [{"train/loss": 1 - part, "val/loss": 2 - part, "val/accuracy": part} for part in parts]


@pytest.mark.parametrize("slots", [1, 8])
def test_a_slow_family_is_tuned_where_it_is_compared_with_itself_first(slots: int) -> None:
    def best_bgd(compare: str, seed: int) -> float:
        steer = {"compare": compare}
        few = {"trials": 3 * TRIALS, "slots": slots, "learn": slow, "enqueue": (), "seed": seed}
        records = search("sampler=random", pruner="asha", steer=steer, **few).records
        trained = [each for each in records if each.family == "bgd" and each.state == State.COMPLETE]
        return max((each.objective or 0.0 for each in trained), default=0.0)

    fair, plain = [], []
    for seed in range(6):
        reach = max(
            curve(record.config)[-1]["val/accuracy"]
            for record in search("sampler=random", trials=3 * TRIALS, enqueue=(), seed=seed).records
            if record.family == "bgd"
        )
        fair.append(best_bgd("family_then_all", seed) / reach)
        plain.append(best_bgd("all", seed) / reach)
        assert plain[-1] < fair[-1]
    # Plain halving trains none of them to its end in most searches.
    assert median(fair) > 0.7
    assert median(plain) < 0.1


def test_asha_stops_at_its_rungs_alone() -> None:
    assert set(pruned_at(search("sampler=random", pruner="asha", trials=TRIALS).records)) == {1, 3}


@pytest.mark.parametrize("slots", [1, 4])
def test_asha_decides_as_optunas_does_where_a_study_goes_on_too(slots: int) -> None:
    outcomes = []
    for pruner in ("autotune.pruners.SuccessiveHalving", "optuna.pruners.SuccessiveHalvingPruner"):
        steer = {"_target_": pruner}
        begun = search("sampler=random", pruner="asha", steer=steer, epochs=60, slots=slots)
        goes_on = search(
            "sampler=random", pruner="asha", steer=steer, trials=3 * TRIALS, slots=slots, storage=begun.storage
        )
        outcomes.append([(record.params, record.state, record.epochs) for record in goes_on.records])
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize(
    "settings",
    [
        {"min_resource": 1, "reduction_factor": 2},
        {"min_resource": 1, "reduction_factor": 3, "bootstrap_count": 3},
        {"min_resource": 2, "min_early_stopping_rate": 1},
        {},
    ],
    ids=str,
)
def test_asha_decides_and_notes_what_optunas_does(settings: dict[str, Any], direction: str) -> None:
    ours, theirs = (
        _decisions(pruner(**settings), direction) for pruner in (SuccessiveHalving, SuccessiveHalvingPruner)
    )
    assert ours == theirs
    assert {True, False} <= set(ours[0])


def _decisions(pruner: BasePruner, direction: str) -> tuple[list[bool], list[Any]]:
    """What a pruner says of trials that take turns, with values that are equal or missing at times; and its notes."""
    chance = random.Random(0)
    study = optuna.create_study(direction=direction, pruner=pruner)
    said: list[bool] = []
    lane: list[tuple[optuna.Trial, int]] = []
    for _ in range(200):
        lane.append((study.ask(), 1))
        while len(lane) > 4:
            trial, step = lane.pop(chance.randrange(len(lane)))
            trial.report(chance.choice([chance.random(), 0.5, math.nan]), step)
            said.append(trial.should_prune())
            if said[-1]:
                study.tell(trial, state=TrialState.PRUNED)
            elif step == 20:
                study.tell(trial, 0.5)
            else:
                lane.append((trial, step + 1))
    return said, [trial.system_attrs for trial in study.trials]


def test_hyperband_stops_at_the_rungs_of_its_brackets() -> None:
    # Up to 9 epochs there are three: rungs at 1 and 3, at 3, and none before the end.
    records = search("sampler=random", pruner="hyperband", trials=3 * TRIALS).records
    assert set(pruned_at(records)) == {1, 3}
    complete = sum(record.state == State.COMPLETE for record in records)
    asha = sum(
        record.state == State.COMPLETE for record in search("sampler=random", pruner="asha", trials=3 * TRIALS).records
    )
    assert complete > asha


def test_hyperband_deals_its_brackets_alike_for_the_same_study() -> None:
    first, again = (
        [(record.params, record.epochs) for record in search("sampler=tpe", pruner="hyperband", trials=TRIALS).records]
        for _ in range(2)
    )
    assert first == again


def test_median_and_percentile_keep_their_part_of_the_trials() -> None:
    """With curves that never cross, a trial is stopped as soon as it may be."""
    for name in ("median", "percentile"):
        epochs = pruned_at(search("sampler=random", pruner=name, trials=3 * TRIALS).records)
        assert set(epochs) == {3}
        part = epochs[3] / (3 * TRIALS)
        assert part > (0.3 if name == "median" else 0.6)


def test_patient_stops_only_a_trial_that_got_worse() -> None:
    assert not pruned_at(search("sampler=random", pruner="patient", trials=TRIALS).records)
    stopped = pruned_at(search("sampler=random", pruner="patient", trials=TRIALS, learn=fading).records)
    assert min(stopped) == 5  # the best was the first; 3 epochs of patience, and the one after them


def test_threshold_stops_what_is_below_it_after_its_first_epochs() -> None:
    records = search("sampler=random", pruner="threshold", trials=TRIALS).records
    for record in records:
        below = [epoch for epoch in range(3, EPOCHS) if curve(record.config)[epoch - 1]["val/accuracy"] < 0.2]
        assert record.epochs == (below[0] if below else EPOCHS)


def test_wilcoxon_stops_a_trial_once_it_was_worse_at_seven_epochs() -> None:
    records = search("sampler=random", pruner="wilcoxon", trials=TRIALS).records
    assert set(pruned_at(records)) == {7}
    reached = [curve(record.config)[-1]["val/accuracy"] for record in records]
    for number, record in enumerate(records):
        assert (record.state == State.COMPLETE) == (reached[number] == max(reached[: number + 1]))


WRONG: dict[str, tuple[list[str], str]] = {
    "a threshold on the good side": (
        ["pruner=threshold", "pruner.upper=0.9"],
        "pruner.upper: 0.9 would stop the best trials, since val/accuracy is maximized; "
        "give pruner.upper=null and pruner.lower=...",
    ),
    "a threshold for another metric": (
        ["pruner=threshold", "objective=loss"],
        "pruner.lower: 0.2 would stop the best trials, since val/loss is minimized; "
        "give pruner.lower=null and pruner.upper=...",
    ),
    "no threshold": (
        ["pruner=threshold", "pruner.lower=null"],
        "pruner.lower: is not given; give the worst val/accuracy that may go on",
    ),
    "a threshold inside another pruner": (
        [
            "pruner=patient",
            "pruner.wrapped_pruner._target_=optuna.pruners.ThresholdPruner",
            "~pruner.wrapped_pruner.n_startup_trials",
            "+pruner.wrapped_pruner.upper=1.0",
        ],
        "pruner.wrapped_pruner.upper: 1.0 would stop the best trials, since val/accuracy is maximized; "
        "give pruner.wrapped_pruner.upper=null and pruner.wrapped_pruner.lower=...",
    ),
    "a sampler": (
        ["pruner=none", "pruner._target_=optuna.samplers.RandomSampler"],
        "pruner._target_: optuna.samplers.RandomSampler makes no pruner; name one of optuna.pruners",
    ),
    "a percentage of more than all": (
        ["pruner=percentile", "pruner.percentile=120"],
        "pruner: optuna.pruners.PercentilePruner refuses its arguments "
        "(Percentile must be between 0 and 100 inclusive, but got percentile=120.); see its documentation",
    ),
    "as many epochs as are searched": (
        ["pruner=hyperband", "trainer.max_epochs=range(5,50,5)"],
        "pruner: optuna.pruners.HyperbandPruner refuses its arguments (The 'max_resource' should be integer or 'auto'. "
        "But max_resource = range(5,50,5)); see its documentation",
    ),
    "no way to compare": (
        ["pruner.compare=familiy"],
        "pruner.compare: familiy is no way to compare; did you mean family?",
    ),
    "no way to compare that is like one": (
        ["pruner.compare=null"],
        "pruner.compare: None is no way to compare; known are all, family, family_then_all",
    ),
    "more than all audited": (
        ["pruner.audit=5"],
        "pruner.audit: 5 is no part of a whole; give a number from 0 to 1",
    ),
    "an audit of nothing that is a number": (
        ["pruner.audit=true"],
        "pruner.audit: True is no part of a whole; give a number from 0 to 1",
    ),
    "compared with all before it begins": (
        ["pruner.until=-0.1"],
        "pruner.until: -0.1 is no part of a whole; give a number from 0 to 1",
    ),
    "no such argument": (
        ["pruner=median", "+pruner.warmup=3"],
        "pruner.warmup: optuna.pruners.MedianPruner takes no argument warmup; did you mean n_warmup_steps?",
    ),
}


@pytest.mark.parametrize(("overrides", "message"), WRONG.values(), ids=WRONG)
def test_a_pruner_that_cannot_be_right_is_refused_before_the_first_trial(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        check_config(compose("search", ["study.name=s", *overrides]))
