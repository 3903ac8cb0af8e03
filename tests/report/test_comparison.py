from __future__ import annotations

import math
from dataclasses import replace

import pytest

from autotune.kept.outcome import Outcome
from autotune.report.comparison import comparison, welch

from . import made

OTHER = ("optimizer=adam", "trainer.max_epochs=9", "study.name=other")


def study(end: float, name: str, *overrides: str) -> Outcome:
    return made.study(lambda _: end, 4, *overrides, prune=False, name=name, noise=1e-4)


def confirmed(found: Outcome, end: float, seeds: list[int]) -> Outcome:
    assert found.best is not None
    return made.confirmed(found, [found.best.number], seeds, lambda _: end, noise=1e-4)


def test_confirmed_winners_are_compared_seed_by_seed() -> None:
    one, two = confirmed(study(0.8, "one"), 0.8, [1, 2, 3]), confirmed(study(0.7, "two"), 0.7, [1, 2, 3])
    html = comparison([one, two])
    assert "The winner of one is +0.1" in html
    assert "better in confirmed val/accuracy than that of two, on the same 3 seeds." in html
    assert "<title>Studies compared: one, two</title>" in html


def test_on_other_seeds_they_are_compared_by_their_means() -> None:
    one, two = confirmed(study(0.8, "one"), 0.8, [1, 2, 3]), confirmed(study(0.7, "two"), 0.7, [4, 5])
    assert "by Welch&#39;s interval, the seeds being different" in comparison([one, two])


def test_unconfirmed_ones_are_compared_with_a_warning() -> None:
    html = comparison([study(0.8, "one"), study(0.7, "two")])
    assert "on one seed each: they were not both confirmed" in html


def test_better_is_positive_where_less_is_better() -> None:
    down = ("optimizer=adam", "objective=loss", "trainer.max_epochs=9", "study.name=made")
    one = confirmed(study(0.2, "one", *down), 0.2, [1, 2])
    two = confirmed(study(0.3, "two", *down), 0.3, [1, 2])
    assert "The winner of one is +0.1" in comparison([one, two])


def test_different_objectives_are_not_compared() -> None:
    other = replace(study(0.2, "two"), objective=made.DOWN)
    html = comparison([study(0.8, "one"), other])
    assert "their scores cannot be compared" in html


def test_a_study_without_a_best_says_so() -> None:
    empty = replace(study(0.8, "two"), records=[], trials=[])
    assert "two has no trial that was trained to its end." in comparison([study(0.8, "one"), empty])


def test_what_differs_in_their_configs_is_told() -> None:
    html = comparison([study(0.8, "one"), study(0.7, "two", *OTHER)])
    rows = html[html.index('id="configs"') :]
    assert "<td>optimizer.sgd</td><td>there</td><td></td>" in rows
    assert "<td>study.name</td>" not in rows
    same = comparison([study(0.8, "one"), study(0.7, "two")])
    assert "Nothing: they differ by when they ran." in same


def test_welchs_interval() -> None:
    found = welch([1.0, 2.0, 3.0, 4.0], [2.0, 2.5, 3.0])
    # Means 2.5 and 2.5; variances 1.6667 / 4 and 0.25 / 3; 4.12 degrees of freedom.
    assert found.mean == 0.0
    assert found.high == pytest.approx(1.944, abs=0.01)
    assert found.low == -found.high
    assert welch([1.0], [2.0]).high == math.inf
    assert welch([1.0, 1.0], [2.0, 2.0]).high == -1.0
