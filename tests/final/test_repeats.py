"""Means, intervals and comparisons over seeds."""

from __future__ import annotations

import json
import math
import re

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from autotune.final.repeats import SEARCHED, Contender, Repeats, described, table

NUMBERS = st.floats(-1e3, 1e3).map(lambda value: round(value, 6))


@given(st.lists(NUMBERS, min_size=2, max_size=8))
def test_the_interval_is_scipys(values: list[float]) -> None:
    found = Repeats(dict(enumerate(values))).described()
    error = stats.sem(values)
    half = stats.t.ppf(0.975, len(values) - 1) * error
    assert found["mean"] == pytest.approx(numpy.mean(values), abs=1e-9)
    assert found["std"] == pytest.approx(numpy.std(values, ddof=1), abs=1e-9)
    assert (found["low"], found["high"]) == pytest.approx(
        (numpy.mean(values) - half, numpy.mean(values) + half), abs=1e-6
    )
    assert found["values"] == {str(seed): value for seed, value in enumerate(values)}


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2, max_size=8))
def test_two_are_compared_seed_by_seed(pairs: list[tuple[float, float]]) -> None:
    ours, theirs = (Repeats({seed: pair[side] for seed, pair in enumerate(pairs)}) for side in (0, 1))
    difference, reverse = ours.minus(theirs), theirs.minus(ours)
    assert difference is not None
    assert reverse is not None
    assert difference.values == {seed: ours - theirs for seed, (ours, theirs) in enumerate(pairs)}
    assert difference.values == {seed: -value for seed, value in reverse.values.items()}


def test_only_seeds_that_both_have_are_compared() -> None:
    ours = Repeats({0: 1.0, 1: 2.0, 2: 3.0})
    assert ours.minus(Repeats({2: 1.0, 1: 1.0, 9: 1.0})) == Repeats({1: 1.0, 2: 2.0})
    assert ours.minus(Repeats({9: 1.0})) is None


def test_one_seed_has_no_interval() -> None:
    assert Repeats({7: 0.5}).described() == {
        "mean": 0.5,
        "std": None,
        "low": None,
        "high": None,
        "values": {"7": 0.5},
    }


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_training_that_diverged_leaves_no_mean(value: float) -> None:
    found = Repeats({0: 0.5, 1: value}).described()
    assert found == {"mean": None, "std": None, "low": None, "high": None, "values": {"0": 0.5, "1": None}}
    json.dumps(found, allow_nan=False)


# What is written and said of all of them.


def contender(name: str, *values: float, metric: str = "test/accuracy") -> Contender:
    return Contender(name, f"{name} lr 0.1", {seed: {metric: value} for seed, value in enumerate(values)})


OURS = contender(SEARCHED, 0.9, 0.92, 0.91)


def test_the_summary_has_the_seeds_and_each_recipe_with_its_difference() -> None:
    found = described([OURS, contender("adam", 0.8, 0.83, 0.81)], 3)
    assert found["seeds"] == {"test/accuracy": Repeats({0: 0.9, 1: 0.92, 2: 0.91}).described()}
    assert found["recipes"].keys() == {"adam"}
    adam = found["recipes"]["adam"]
    assert adam["strategy"] == "adam lr 0.1"
    assert adam["test"]["test/accuracy"]["mean"] == pytest.approx(0.8133333)
    assert adam["difference"]["test/accuracy"]["mean"] == pytest.approx(-0.0966667)
    assert list(adam["difference"]["test/accuracy"]["values"]) == ["0", "1", "2"]


def test_the_summary_has_nothing_more_of_one_seed_without_recipes() -> None:
    assert described([contender(SEARCHED, 0.9)], 1) == {}
    assert described([OURS], 3).keys() == {"seeds"}
    assert described([contender(SEARCHED, 0.9), contender("adam", 0.8)], 1).keys() == {"recipes"}


def test_the_table_says_how_each_recipe_stands() -> None:
    near = contender("near", 0.9, 0.9, 0.93)
    found = table(
        [OURS, contender("adam", 0.8, 0.83, 0.81), near, contender("sgd", 0.9, 0.92, 0.91)], "test/accuracy", "maximize"
    )
    assert [re.split(r"\s{2,}", line.strip()) for line in found] == [
        ["test/accuracy", "95 % interval", "against searched", "95 % interval"],
        ["searched", "searched lr 0.1", "0.9100", "0.8852 to 0.9348"],
        ["adam", "adam lr 0.1", "0.8133", "0.7754 to 0.8513", "-0.09667", "-0.1110 to -0.08232", "worse"],
        ["near", "near lr 0.1", "0.9100", "0.8670 to 0.9530", "+0.000", "-0.04968 to +0.04968", "not told apart"],
        ["sgd", "sgd lr 0.1", "0.9100", "0.8852 to 0.9348", "+0.000", "+0.000 to +0.000", "the same"],
    ]
    assert len({line.index(" to ") for line in found[1:]}) == 1, "columns stand under each other"


@pytest.mark.parametrize(("direction", "verdict"), [("minimize", "better"), ("maximize", "worse"), (None, "-0.08232")])
def test_which_is_better_depends_on_the_direction(direction: str | None, verdict: str) -> None:
    found = table([OURS, contender("adam", 0.8, 0.83, 0.81)], "test/accuracy", direction)
    assert found[-1].endswith(verdict)


def test_the_table_of_one_seed_and_of_a_training_that_diverged() -> None:
    found = table(
        [contender(SEARCHED, 0.5), contender("adam", math.nan), contender("sgd", 0.25)], "test/accuracy", "minimize"
    )
    assert [line.split() for line in found[1:]] == [
        ["searched", "searched", "lr", "0.1", "0.5000", "one", "seed"],
        ["adam", "adam", "lr", "0.1", "not", "finite", "not", "finite"],
        ["sgd", "sgd", "lr", "0.1", "0.2500", "one", "seed", "-0.2500", "one", "seed"],
    ]
