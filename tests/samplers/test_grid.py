from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.errors import UserError
from autotune.samplers import Grid
from autotune.samplers.grid import grid_values
from autotune.space import Space, parse

from ..steered import search

GRIDDED = {
    "a choice whole": ("choice(relu,tanh,gelu)", 2, ["relu", "tanh", "gelu"]),
    "steps whole": ("range(5,30,5)", 2, [5, 10, 15, 20, 25]),
    "an interval evenly": ("interval(0,1)", 5, [0.0, 0.25, 0.5, 0.75, 1.0]),
    "evenly in its logarithm": ("tag(log,interval(1e-4,1))", 5, [1e-4, 1e-3, 1e-2, 1e-1, 1.0]),
    "by its ends": ("interval(3,7)", 2, [3.0, 7.0]),
    "few whole numbers whole": ("int(interval(1,4))", 5, [1, 2, 3, 4]),
    "many whole numbers": ("int(interval(1,9))", 3, [1, 5, 9]),
    "whole numbers in their logarithm": ("tag(log,int(interval(1,100)))", 3, [1, 10, 100]),
    "a point": ("interval(2.0,2.0)", 5, [2.0]),
}


@pytest.mark.parametrize(("text", "per_range", "values"), GRIDDED.values(), ids=GRIDDED)
def test_a_grid_cuts(text: str, per_range: int, values: list[Any]) -> None:
    search_value = parse("x", text)
    assert search_value is not None
    cut = list(grid_values(search_value, per_range))
    assert cut == (pytest.approx(values) if isinstance(values[0], float) else values)


@given(low=st.floats(1e-9, 1e9), factor=st.floats(1.0, 1e9), per_range=st.integers(2, 20), log=st.booleans())
def test_no_rounding_puts_a_value_outside_its_range(low: float, factor: float, per_range: int, log: bool) -> None:
    high = low * factor
    search_value = parse("x", {"type": "float", "low": low, "high": high, "log": log})
    assert search_value is not None
    values = grid_values(search_value, per_range)
    assert (values[0], values[-1]) == (low, high)
    assert all(low <= value <= high for value in values)


FINITE = [
    "sampler=grid",
    "schedule=constant",
    "optimizer.only=[sgd,bgd]",
    "optimizer.sgd.lr=choice(0.01,0.1)",
    "optimizer.bgd.lr=choice(0.5,1.0)",
]
# sgd: 2 rates x 2 momenta x 4 batch sizes x BatchNorm or not; bgd: 2 rates x BatchNorm or not
POINTS = 2 * 2 * 4 * 2 + 2 * 2


def test_every_point_of_a_tree_is_tried_once() -> None:
    searched = search(*FINITE, trials=1000)
    assert len({tuple(sorted(record.params.items())) for record in searched.records}) == POINTS
    assert len(searched.records) == POINTS
    assert searched.coordinator.finished == f"the grid is used up: each of its {POINTS} points that can work is trained"


def test_a_grid_goes_on_where_the_study_was_left() -> None:
    begun = search(*FINITE, trials=20)
    searched = search(*FINITE, trials=1000, storage=begun.storage)
    assert len(searched.records) == POINTS
    assert searched.coordinator.duplicates == 0


def test_the_default_tree_is_cut_and_tried_in_an_order_of_the_seed() -> None:
    first, again, other = (
        [record.params for record in search("sampler=grid", trials=30, seed=seed, enqueue=[]).records]
        for seed in (0, 0, 1)
    )
    assert first == again != other
    assert {params["optimizer"] for params in first} == {"sgd", "bgd", "adam"}
    cut = {round(params["optimizer.adam.lr"], 9) for params in first if "optimizer.adam.lr" in params}
    assert cut <= {round(1e-4 * 10 ** (0.75 * step), 9) for step in range(5)}


def test_what_a_starting_point_leaves_open_is_taken_from_the_grid() -> None:
    start = {"optimizer": "sgd", "optimizer.sgd.lr": 0.05}
    record, *_ = search("sampler=grid", trials=1, enqueue=[start]).records
    assert record.params["optimizer.sgd.lr"] == 0.05
    assert record.params["data.batch_size"] in (16, 32, 64, 128)


def test_many_refused_points_do_not_end_the_grid() -> None:
    searched = search(*FINITE, trials=1000, refuse=lambda config: "no" if config["model"]["batch_norm"] else None)
    assert len(searched.records) == POINTS // 2


def test_a_grid_that_is_too_large_is_refused_before_the_first_trial() -> None:
    space = Space({"model": {f"a{number}": "choice(0,1)" for number in range(14)}})
    message = (
        "sampler: the grid has more than 10,000 points; "
        "cut the ranges into less than sampler.per_range=5, or search less"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        Grid(space)


@pytest.mark.parametrize("per_range", [1, 2.5, True])
def test_a_number_that_does_not_cut_is_refused(per_range: int) -> None:
    message = f"sampler.per_range: {per_range} does not cut a range; give a whole number from 2 on"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        Grid(Space({"model": {"a": "interval(0,1)"}}), per_range)
