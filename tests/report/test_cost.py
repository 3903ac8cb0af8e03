from __future__ import annotations

import math
from dataclasses import replace

import pytest

from autotune.kept.outcome import Outcome
from autotune.report.cost import cheaper, front

from . import made


def study(*pairs: tuple[float, float]) -> Outcome:
    """Trials of a score and the seconds of an epoch each."""
    found = made.study(lambda _: 0.5, len(pairs), prune=False)
    records = [
        replace(record, objective=value, cost={"cost/epoch_seconds": seconds, "cost/parameters": 10.0})
        for record, (value, seconds) in zip(found.records, pairs, strict=True)
    ]
    return replace(found, records=records)


def test_the_best_of_those_that_cost_clearly_less_is_named() -> None:
    (found,) = cheaper(study((0.9, 1.0), (0.8, 0.5), (0.85, 0.7), (0.89, 0.9)))
    assert (found.record.number, found.cost, found.part) == (2, "cost/epoch_seconds", pytest.approx(0.7))
    assert found.lost.mean == pytest.approx(0.05)
    assert math.isinf(found.lost.high)


def test_a_loss_is_positive_where_less_is_better() -> None:
    found = replace(study((0.2, 1.0), (0.3, 0.5)), objective=made.DOWN)
    (less,) = cheaper(found)
    assert less.lost.mean == pytest.approx(0.1)


def test_between_confirmed_ones_the_loss_has_an_interval() -> None:
    found = study((0.9, 1.0), (0.8, 0.5))
    ends = {0: 0.9, 1: 0.8}
    again = [
        confirmation
        for number, end in ends.items()
        for confirmation in made.confirmed(found, [number], [1, 2, 3], lambda _, end=end: end).confirmations
    ]
    (less,) = cheaper(replace(found, confirmations=again))
    assert less.lost.count == 3
    assert less.lost.mean == pytest.approx(0.1)
    assert math.isfinite(less.lost.high)


def test_without_a_cheaper_one_or_a_cost_nothing_is_named() -> None:
    assert cheaper(study((0.9, 1.0), (0.8, 1.5))) == []
    bare = study((0.9, 1.0), (0.8, 0.5))
    assert cheaper(replace(bare, records=[replace(record, cost={}) for record in bare.records])) == []
    assert cheaper(replace(bare, records=[], trials=[])) == []


def test_on_the_front_none_is_both_better_and_cheaper() -> None:
    found = study((0.9, 3.0), (0.8, 1.0), (0.7, 2.0), (0.85, 1.5), (0.9, 4.0))
    assert [record.number for record in front(found, "cost/epoch_seconds", found.records)] == [1, 3, 0]
