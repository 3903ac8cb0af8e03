from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from autotune.report.ends import best_so_far, curve, ends
from autotune.trial import Reason, State

from . import made


def score(_: object) -> float:
    return 0.8


def test_the_best_so_far_goes_by_the_direction_and_past_what_is_no_number() -> None:
    assert best_so_far([0.5, 0.7, math.nan, 0.6, math.inf], made.UP)[1:] == [0.7] * 4
    assert best_so_far([0.5, 0.7, 0.4], made.DOWN) == [0.5, 0.5, 0.4]
    begun = best_so_far([math.nan, 0.4], made.DOWN)
    assert math.isnan(begun[0])
    assert begun[1] == 0.4
    assert best_so_far([], made.UP) == []


def test_a_trial_trained_to_its_end_counts_as_measured() -> None:
    found = ends(made.study(score, 8, prune=False))
    assert [end.number for end in found] == list(range(8))
    assert all(end.is_measured and end.error == 0 for end in found)


def test_a_trial_in_training_has_the_curve_that_was_reported() -> None:
    study = made.study(score, 2, prune=False)
    told = replace(study.records[0], state=State.RUNNING, reason=None, objective=None, curves={}, ended=None)
    trials = [made.frozen(told, study.trials[0].distributions, [0.1, 0.2]), study.trials[1]]
    running = replace(study, records=[told, study.records[1]], trials=trials)
    assert curve(running, 0) == [0.1, 0.2]
    assert [end.number for end in ends(running)] == [1]


def test_a_stopped_trial_is_expected_where_others_went_that_were_as_good() -> None:
    study = made.study(score, 12, prune=False, noise=0.0)
    metric = study.objective.metric
    records = []
    for record in study.records:
        early = 0.4 + 0.02 * record.number
        records.append(replace(record, curves={metric: [early, early + 0.3]}, objective=early + 0.3))
    records[5] = replace(records[5], state=State.PRUNED, reason=Reason.PRUNED, curves={metric: [0.5]}, objective=0.5)
    end = ends(replace(study, records=records))[5]
    assert not end.is_measured
    assert end.value == pytest.approx(0.8)
    assert end.error == pytest.approx(0, abs=1e-9)


def test_one_that_was_worse_than_all_who_went_on_may_end_anywhere_below_them() -> None:
    study = made.study(score, 12, prune=False, noise=0.0)
    metric = study.objective.metric
    records = []
    for record in study.records:
        early = 0.2 + 0.05 * record.number
        records.append(replace(record, curves={metric: [early, early + 0.1]}, objective=early + 0.1))
    records[5] = replace(records[5], state=State.PRUNED, reason=Reason.PRUNED, curves={metric: [0.1]}, objective=0.1)
    end = ends(replace(study, records=records))[5]
    # The worst of them had 0.2 and came to 0.3.
    assert end.value == pytest.approx(0.2)
    assert end.error == pytest.approx(0.2 / 12**0.5)


def test_of_equal_ends_none_is_cut_off() -> None:
    study = made.study(score, 12, prune=False, noise=0.0)
    metric = study.objective.metric
    records = [replace(each, curves={metric: [0.9]}, objective=0.9) for each in study.records]
    records[3] = replace(records[3], curves={metric: [0.4]}, objective=0.4)
    assert ends(replace(study, records=records))[3].value == 0.4


def test_how_bad_a_failure_is_counts_no_farther_than_the_rest() -> None:
    study = made.study(lambda _: 0.8, 20, prune=False, noise=0.01)
    metric = study.objective.metric
    records = list(study.records)
    records[3] = replace(records[3], state=State.PRUNED, reason=Reason.DIVERGED, objective=0.0)
    records[4] = replace(records[4], curves={metric: [-1e9]}, objective=-1e9)
    found = {end.number: end.value for end in ends(replace(study, records=records))}
    assert found[3] == found[4] > 0.5


def test_confirmations_are_further_ends_of_their_trials() -> None:
    study = made.confirmed(made.study(score, 6, prune=False), [2], [1, 2], score)
    numbers = [end.number for end in ends(study)]
    assert numbers == [0, 1, 2, 3, 4, 5, 2, 2]
    assert np.isfinite([end.value for end in ends(study)]).all()
