"""Means, intervals, ties and who wins them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.settings import Objective
from autotune.standing import Estimate, Standing, standing
from autotune.trial import Reason, Record

from .fakes import resolved
from .tracking.stories import ended, record

UP = Objective("val/accuracy", "maximize", 0.0, None)
DOWN = Objective("val/loss", "minimize", 1e4, None)


def trial(number: int, cost: Mapping[str, float] | None = None, **changes: Any) -> Record:
    """A trial of the search that was trained to its end."""
    return replace(ended(record(number, config=resolved(**changes)), Reason.COMPLETED, 0.9), cost=cost or {})


def again(trial: Record, values: Sequence[float], reason: Reason = Reason.COMPLETED) -> list[Record]:
    """The same trained with seeds 1, 2, ..."""
    return [
        replace(
            trial,
            stage="confirm",
            config={**trial.config, "seed": seed},
            objective=value,
            reason=reason,
            state=reason.state,
        )
        for seed, value in enumerate(values, start=1)
    ]


def compare(trials: Sequence[Record], *values: Sequence[float], objective: Objective = UP) -> Standing:
    """The standing of trials that got these values on seeds 1, 2, ..."""
    confirmations = [each for trial, row in zip(trials, values, strict=True) for each in again(trial, row)]
    found = standing(trials, confirmations, objective)
    assert found is not None
    return found


def test_an_estimate_is_the_mean_with_students_interval() -> None:
    estimate = Estimate.of([1.0, 2.0, 3.0])
    # t(0.975, 2) = 4.302653, times 1 / sqrt(3)
    assert (estimate.mean, estimate.count) == (2.0, 3)
    assert (estimate.low, estimate.high) == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-6)
    assert str(estimate) == "2, 95 % interval -0.4841 to 4.484 over 3 seeds"


def test_one_value_has_no_interval() -> None:
    estimate = Estimate.of([0.5])
    assert (estimate.mean, estimate.low, estimate.high) == (0.5, -math.inf, math.inf)
    assert not estimate.is_sure
    assert str(estimate) == "0.5 (one seed)"


def test_the_best_mean_wins_where_it_is_beyond_chance() -> None:
    found = compare([trial(0), trial(1)], [0.90, 0.91, 0.92], [0.80, 0.812, 0.818])
    assert (found.winner.record.number, found.is_tie) == (0, False)
    assert [each.record.number for each in found.contenders] == [0, 1]
    assert found.why == "its mean over 3 seeds is the best, beyond what seeds do by chance"


def test_a_smaller_loss_wins() -> None:
    found = compare([trial(0), trial(1)], [0.90, 0.91, 0.92], [0.80, 0.812, 0.818], objective=DOWN)
    assert (found.winner.record.number, found.is_tie) == (1, False)


def test_seeds_are_compared_in_pairs() -> None:
    """What a seed does to both is no doubt about which is better: 0.001 apart, with seeds 0.1 apart."""
    found = compare([trial(0), trial(1)], [0.7, 0.8, 0.9], [0.6991, 0.799, 0.8989])
    assert not found.is_tie


def test_one_sample_more_that_was_right_is_no_proof() -> None:
    """Of 360 samples, with each of three seeds: the differences are equal, and nobody knows by how much they vary."""
    found = compare([trial(0), trial(1)], [350 / 360, 349 / 360, 351 / 360], [349 / 360, 348 / 360, 350 / 360])
    assert found.is_tie
    found = compare([trial(0), trial(1)], [350 / 360, 349 / 360, 351 / 360], [345 / 360, 344 / 360, 346 / 360])
    assert not found.is_tie


def test_those_that_cannot_be_told_apart_are_tied_and_the_cheapest_wins() -> None:
    trials = [trial(0, {"cost/parameters": 900.0}), trial(1, {"cost/parameters": 500.0}), trial(2)]
    found = compare(trials, [0.90, 0.94, 0.92], [0.92, 0.91, 0.92], [0.1, 0.1, 0.1])
    assert [each.record.number for each in found.tied] == [0, 1]
    assert found.winner.record.number == 1
    assert found.why == "of 2 that cannot be told apart it costs least: 500 parameters"


def test_seconds_that_differ_by_what_measuring_does_are_no_reason() -> None:
    costs = [{"cost/parameters": 9.0, "cost/latency_sample_seconds": each} for each in (1.2e-4, 1e-4)]
    trials = [trial(number, cost) for number, cost in enumerate(costs)]
    assert compare(trials, [0.9, 0.94], [0.92, 0.9]).winner.record.number == 0
    slow = replace(trials[0], cost={**costs[0], "cost/latency_sample_seconds": 2e-4})
    assert compare([slow, trials[1]], [0.9, 0.94], [0.92, 0.9]).winner.record.number == 1


def test_of_equal_costs_the_simplest_wins() -> None:
    adam = {"name": "adam", "_target_": "torch.optim.Adam", "lr": 0.01}
    found = compare([replace(trial(0, optimizer=adam), family="adam"), replace(trial(1), family="sgd")], [0.9], [0.9])
    assert found.winner.record.number == 1
    assert found.why == "of 2 that cannot be told apart none costs less, and sgd lr 0.1 b16 constant is the simplest"


def test_of_equals_the_best_mean_wins() -> None:
    found = compare([trial(0), trial(1)], [0.8, 0.9], [0.9, 0.85])
    assert found.winner.record.number == 1
    assert found.why == "of 2 that cannot be told apart none is cheaper or simpler, and its mean is the best"


def test_what_fails_with_one_seed_is_no_winner() -> None:
    good, bad = trial(0), trial(1)
    confirmations = [*again(bad, [0.9, 0.9]), *again(good, [0.5, 0.5])]
    confirmations[0] = replace(confirmations[0], reason=Reason.OOM, objective=None)
    found = standing([good, bad], confirmations, UP)
    assert found is not None
    assert [each.record.number for each in found.contenders] == [0]
    assert found.failed == {1: "oom with seed 1"}
    assert found.why == "no other configuration was confirmed"


def unstable(objective: Objective = UP, worst: float | None = None) -> Standing:
    """The standing of three: two that are good with each of nine seeds, and one that is better and diverges with one.

    Args:
        worst: What a seed that diverged is kept with; version 0.1 kept one.
    """
    trials = [trial(0, schedule={"x": 1.0}), trial(1, schedule={"x": 1.0}), trial(2)]  # the last is the simplest
    steady = [again(each, [0.98, 0.97, 0.99] * 3) for each in trials[:2]]
    lost = again(trials[2], [0.99] * 9)
    lost[4] = replace(lost[4], reason=Reason.DIVERGED, state=Reason.DIVERGED.state, objective=worst)
    found = standing(trials, [*steady[0], *steady[1], *lost], objective)
    assert found is not None
    return found


@pytest.mark.parametrize("worst", [None, 0.0, 1e4])
def test_one_that_diverged_with_any_seed_neither_ties_nor_wins(worst: float | None) -> None:
    found = unstable(worst=worst)
    assert [each.record.number for each in found.contenders] == [0, 1, 2]
    assert [each.record.number for each in found.tied] == [0, 1]
    assert found.winner.record.number == 0
    assert (found.contenders[2].diverged, len(found.contenders[2].values)) == ((5,), 8)
    assert found.contenders[2].score.mean == pytest.approx(0.99)


def test_where_all_diverged_the_one_with_the_fewest_seeds_wins() -> None:
    trials = [trial(0), trial(1), trial(2)]
    confirmations = [each for one in trials for each in again(one, [0.9, 0.9, 0.5 + one.number / 10])]
    for place in (0, 1, 3, 6, 7, 8):
        confirmations[place] = replace(confirmations[place], reason=Reason.DIVERGED, objective=None)
    found = standing(trials, confirmations, UP)
    assert found is not None
    assert [each.record.number for each in found.contenders] == [1, 0]
    assert not found.is_tie
    assert found.why == "it diverged with 1 of 3 seeds, and every other with no fewer"
    assert found.failed == {2: "diverged with every seed"}


def test_one_whose_mean_lies_outside_the_interval_of_the_best_does_not_tie() -> None:
    """However uncertain it is: nine seeds of which one failed in all but name."""
    found = compare([trial(0, schedule={"x": 1.0}), trial(1)], [1.0] * 8 + [0.9855], [1.0] * 8 + [0.01])
    assert not found.contenders[0].ahead_of(found.contenders[1]).is_sure
    assert (found.winner.record.number, found.is_tie) == (0, False)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9))
def test_the_interval_of_a_share_stays_within_0_and_1(values: list[float]) -> None:
    score = compare([trial(0)], values).contenders[0].score
    assert 0 <= score.low <= score.mean <= score.high <= 1
    unbounded = Estimate.of(values)
    assert score.low == pytest.approx(max(0, unbounded.low), abs=1e-6) or score.low < unbounded.low


def test_what_is_called_a_share_and_is_none_has_an_interval_like_any_number() -> None:
    assert compare([trial(0)], [95.0, 99.0, 91.0]).contenders[0].score.high > 99


def test_nothing_confirmed_is_no_standing() -> None:
    assert standing([trial(0)], [], UP) is None


@given(
    st.lists(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3), min_size=1, max_size=6),
    st.sampled_from([UP, DOWN]),
)
def test_the_winner_is_tied_with_the_best_and_the_best_comes_first(
    values: list[list[float]], objective: Objective
) -> None:
    found = compare([trial(number) for number in range(len(values))], *values, objective=objective)
    means = [each.score.mean for each in found.contenders]
    assert means == sorted(means, reverse=objective is UP)
    assert found.tied[0] is found.contenders[0]
    assert found.winner in found.tied
