"""What each choice is worth, on studies whose effects are known."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import TPESampler

from autotune.kept.outcome import Outcome
from autotune.report.ends import ends
from autotune.report.surrogate import Surrogate
from autotune.report.worth import Worth, choices, worths

from . import made

BEST = {"sgd": -1.5, "bgd": 0.0, "adam": -2.5}
DOWNWARD = ("optimizer=sweep", "objective=loss", f"trainer.max_epochs={made.EPOCHS}", "study.name=made")


def rule(batch_norm: float = 0.0, cosine: float = 0.0, sign: float = 1.0) -> made.Score:
    def score(params: Mapping[str, Any]) -> float:
        family = params["optimizer"]
        rate = math.log10(params[f"optimizer.{family}.lr"])
        gained = batch_norm * params["model.batch_norm"] + cosine * (params["schedule"] == "cosine")
        return sign * (0.9 - 0.03 * (rate - BEST[family]) ** 2 + gained)

    return score


def adaptive(seed: int) -> TPESampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return TPESampler(seed=seed, multivariate=True, group=True)


def found(study: Outcome) -> dict[tuple[str, Any, Any], Worth]:
    known = ends(study)
    return {
        (each.parameter, each.option, each.other): each for each in worths(study, known, Surrogate.of(study, known))
    }


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_known_effect_is_found_although_the_sampler_prefers_it(seed: int) -> None:
    study = made.study(rule(batch_norm=0.04), 70, sampler=adaptive(seed), seed=seed, prune=False)
    worth = found(study)["model.batch_norm", True, False]
    for estimate in (worth.everywhere, worth.at_best):
        assert estimate is not None
        assert estimate.low > 0.02
        assert estimate.high < 0.06
    tried = sum(bool(record.params["model.batch_norm"]) for record in study.records)
    assert worth.trials == (tried, 70 - tried)


@pytest.mark.slow
def test_where_there_is_no_effect_the_intervals_hold_zero() -> None:
    missed = counted = 0
    for seed in range(4):
        study = made.study(rule(), 60, sampler=adaptive(seed), seed=seed)
        for worth in found(study).values():
            if worth.parameter in ("model.batch_norm", "schedule", "data.batch_size") and worth.everywhere is not None:
                counted += 1
                missed += worth.everywhere.is_sure
    assert counted >= 8
    assert missed <= counted / 8


@pytest.mark.slow
def test_better_is_positive_where_less_is_better() -> None:
    study = made.study(rule(batch_norm=0.04, sign=-1.0), 70, *DOWNWARD, prune=False)
    assert study.objective.direction == "minimize"
    worth = found(study)["model.batch_norm", True, False]
    assert worth.everywhere is not None
    assert worth.everywhere.low > 0


def test_nothing_is_said_of_few_trials() -> None:
    study = made.study(rule(batch_norm=0.3), 9, prune=False)
    assert Surrogate.of(study, ends(study)) is None
    assert all(each.everywhere is None and each.at_best is None for each in found(study).values())
    pruned = made.study(rule(batch_norm=0.3), 16)
    assert sum(end.is_measured for end in ends(pruned)) < 8
    assert Surrogate.of(pruned, ends(pruned)) is None


def test_nothing_is_said_where_all_end_alike_or_the_space_is_gone() -> None:
    study = made.study(lambda _: 0.5, 20, prune=False, noise=0.0)
    flat = [replace(record, objective=0.5) for record in study.records]
    assert Surrogate.of(replace(study, records=flat), ends(replace(study, records=flat))) is None
    broken = replace(study, config={"optimizer": {"lr": "tag(log,interval(1,0))"}})
    assert Surrogate.of(broken, ends(study)) is None


def test_confirmed_configurations_are_compared_seed_by_seed() -> None:
    study = made.study(rule(), 10, prune=False)
    having = [next(r.number for r in study.records if r.params["model.batch_norm"] is has) for has in (True, False)]
    again = made.confirmed(study, having, [1, 2, 3], rule(batch_norm=0.2), noise=0.0)
    worth = found(again)["model.batch_norm", True, False]
    one, two = (study.records[number] for number in having)
    expected = rule(batch_norm=0.2)(one.params) - rule(batch_norm=0.2)(two.params)
    assert worth.confirmed is not None
    assert worth.confirmed.mean == pytest.approx(expected)
    assert worth.confirmed.count == 3


def test_the_winners_option_is_held_against_each_other() -> None:
    study = made.study(rule(cosine=0.1), 30, prune=False)
    winner = study.winner
    assert winner is not None
    told = [each for each in found(study).values() if each.parameter == "schedule"]
    assert {each.option for each in told} == {winner.params["schedule"]}
    assert {each.other for each in told} == set(choices(study)["schedule"]) - {winner.params["schedule"]}
