from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution, IntDistribution

from autotune.kept.outcome import Outcome
from autotune.report.ends import ends
from autotune.report.ranges import GoodRates, edges, good_rates, untried_end
from autotune.report.surrogate import part_of, placed

from . import made

ONE = ("optimizer=adam", "optimizer.lr=tag(log,interval(1e-4,1))", "trainer.max_epochs=9", "study.name=made")


def peak(at: float) -> made.Score:
    return lambda params: 0.9 - 0.1 * (math.log10(params["optimizer.lr"]) - math.log10(at)) ** 2


def winning(study: Outcome, **params: Any) -> Outcome:
    """The same with other sampled values of the winner."""
    winner = study.winner
    assert winner is not None
    changed = replace(
        winner, params={**winner.params, **{name.replace("__", "."): value for name, value in params.items()}}
    )
    records = [changed if record.number == winner.number else record for record in study.records]
    return replace(study, records=records)


@given(st.floats(0, 1), st.booleans())
def test_a_part_of_a_range_is_where_its_value_lies(part: float, log: bool) -> None:
    distribution = FloatDistribution(1e-3, 10.0, log=log)
    assert part_of(distribution, placed(distribution, part)) == pytest.approx(part, abs=1e-9)
    assert part_of(IntDistribution(5, 5), 5) == 0.5


def test_good_rates_lie_around_the_peak() -> None:
    study = made.study(peak(1e-2), 60, *ONE, prune=False)
    (rates,) = good_rates(study, ends(study))
    assert (rates.family, rates.parameter, rates.trials, rates.space) == ("adam", "optimizer.lr", 60, (1e-4, 1.0))
    assert 1e-3 < rates.low < 1e-2 < rates.high < 1e-1
    assert untried_end(rates) is None


@pytest.mark.parametrize(("at", "end"), [(1.0, "upper"), (1e-4, "lower")])
def test_good_rates_at_an_end_of_the_space_are_told(at: float, end: str) -> None:
    study = made.study(peak(at), 60, *ONE, prune=False)
    (rates,) = good_rates(study, ends(study))
    assert untried_end(rates) == end


def test_few_good_trials_make_no_range() -> None:
    study = made.study(peak(1e-2), 3, *ONE, prune=False)
    (rates,) = good_rates(study, ends(study))
    assert math.isnan(rates.low)
    assert untried_end(rates) is None


def test_the_spread_between_seeds_widens_the_range() -> None:
    study = made.study(peak(1e-2), 40, *ONE, prune=False)
    best = study.best
    assert best is not None

    def noisy(_: Mapping[str, Any]) -> float:
        return 0.9

    steady = made.confirmed(study, [best.number], [1, 2, 3], noisy, noise=1e-6)
    shaky = made.confirmed(study, [best.number], [1, 2, 3], noisy, noise=0.05)
    narrow, wide = (good_rates(each, ends(each))[0] for each in (steady, shaky))
    assert narrow.good < wide.good


def test_both_ends() -> None:
    assert untried_end(GoodRates("adam", "lr", 1e-4, 1.0, 3, 3, 0.9, (1e-4, 1.0))) == "both"


def test_an_optimizer_without_a_searched_rate_has_no_range() -> None:
    study = made.study(lambda _: 0.5, 6, "optimizer=adam", "optimizer.lr=0.01", "study.name=made", prune=False)
    assert good_rates(study, ends(study)) == []


@pytest.mark.parametrize(
    ("value", "end", "wider"),
    [
        (0.99, "upper", "'optimizer.lr=tag(log,interval(1e-4,10))'"),
        (1.1e-4, "lower", "'optimizer.lr=tag(log,interval(1e-5,1))'"),
    ],
)
def test_a_winner_at_the_edge_says_what_to_type(value: float, end: str, wider: str) -> None:
    study = winning(made.study(peak(1e-2), 8, *ONE, prune=False), optimizer__lr=value, data__batch_size=32)
    (edge,) = edges(study)
    assert (edge.parameter, edge.end, edge.wider, edge.low, edge.high) == ("optimizer.lr", end, wider, 1e-4, 1.0)


def test_a_choice_of_numbers_has_edges_too() -> None:
    study = winning(made.study(peak(1e-2), 8, *ONE, prune=False), optimizer__lr=1e-2, data__batch_size=128)
    (edge,) = edges(study)
    assert (edge.parameter, edge.end) == ("data.batch_size", "upper")
    assert edge.wider == "data.batch_size=16,32,64,128,256"


def test_a_linear_range_goes_on_by_half() -> None:
    space = ("optimizer=adam", "model.dropout=interval(0,0.5)", "schedule=constant", "study.name=made")
    study = winning(made.study(lambda _: 0.5, 4, *space, prune=False), model__dropout=0.5, data__batch_size=32)
    (edge,) = edges(study)
    assert edge.wider == "'model.dropout=interval(0,0.75)'"
    whole = ("optimizer=adam", "trainer.max_epochs=int(interval(5,9))", "schedule=constant", "study.name=made")
    study = winning(made.study(lambda _: 0.5, 4, *whole, prune=False), trainer__max_epochs=5, data__batch_size=32)
    (edge,) = edges(study)
    assert edge.wider == "'trainer.max_epochs=int(interval(3,9))'"


def test_where_nothing_was_learnt_no_edge_is_told() -> None:
    study = winning(made.study(peak(1e-2), 8, *ONE, prune=False), optimizer__lr=0.99)
    guessing = {"metric": "val/accuracy", "level": 0.95, "samples": 100, "error": 0.0}
    assert edges(replace(study, notes={"guessing": guessing, "paired": {"look": study.best_look, "luck": 0.5}})) == []
