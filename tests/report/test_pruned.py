from __future__ import annotations

from dataclasses import replace

import pytest

from autotune.kept.outcome import Outcome
from autotune.report.pruned import Errs, savings
from autotune.trial import Reason, State

from . import made

ENDS = (0.9, 0.5, 0.6, 0.7, 0.8, 0.55, 0.65, 0.75, 0.85, 0.95)


def study(audited: dict[int, int], stopped: dict[int, int], direction: str = "maximize") -> Outcome:
    """Ten trials of nine epochs; some would have been stopped after so many, some were."""
    found = made.study(lambda _: 0.5, 10, prune=False)
    metric = found.objective.metric
    records = []
    for record, end in zip(found.records, ENDS, strict=True):
        value = end if direction == "maximize" else 1 - end
        told = replace(record, objective=value, curves={metric: [value] * 9}, would_stop=audited.get(record.number))
        if record.number in stopped:
            short = {metric: [value] * stopped[record.number]}
            told = replace(told, state=State.PRUNED, reason=Reason.PRUNED, curves=short)
        records.append(told)
    return replace(
        found, records=records, objective=made.UP if direction == "maximize" else replace(made.DOWN, metric=metric)
    )


def test_without_a_pruner_nothing_is_saved() -> None:
    told = savings(study({}, {}))
    assert (told.trained, told.full, told.stopped, told.saved, told.share) == (90, 90, 0, 0, 0.0)
    assert (told.errs, told.regret, told.by_family) == (None, None, {})


def test_epochs_of_stopped_trials_are_saved_and_those_of_the_audit_cost() -> None:
    told = savings(study({4: 3}, {1: 1, 2: 3}))
    assert (told.trained, told.full, told.stopped) == (76, 90, 2)
    assert told.audit_epochs == 6
    assert told.saved == 8 + 6 - 6
    assert told.share == pytest.approx(14 / 90)


def test_an_unknown_horizon_is_that_of_the_longest() -> None:
    found = study({}, {1: 1})
    records = [replace(each, config={**each.config, "trainer": {"max_epochs": None}}) for each in found.records]
    assert savings(replace(found, records=records)).full == 90


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_the_audit_counts_who_ended_among_the_best(direction: str) -> None:
    # Of ten trials the best tenth is one: trial 9.
    told = savings(study({9: 1, 1: 1, 2: 3}, {5: 1}, direction))
    assert told.errs == Errs(audited=3, among_best=1, beat_winner=0)
    assert told.best_from == pytest.approx(0.95 if direction == "maximize" else 0.05)
    assert sum(each.audited for each in told.by_family.values()) == 3
    assert sum(each.among_best for each in told.by_family.values()) == 1
    assert told.regret == pytest.approx(0.05)


def test_no_regret_where_the_best_was_not_to_be_stopped() -> None:
    told = savings(study({1: 1, 2: 3}, {5: 1}))
    assert told.errs == Errs(2, 0, 0)
    assert told.regret == 0.0


def test_one_that_beats_a_confirmed_winner_is_counted() -> None:
    found = study({9: 1}, {})
    again = made.confirmed(found, [0], [1, 2], lambda _: 0.9)
    told = savings(again)
    assert again.winner is not None
    assert again.winner.number == 0
    assert told.errs == Errs(1, 1, 1)


def test_the_share_has_an_exact_interval() -> None:
    assert Errs(10, 0, 0).interval == pytest.approx((0.0, 0.3085), abs=1e-4)
    assert Errs(10, 10, 0).interval == pytest.approx((0.6915, 1.0), abs=1e-4)
    assert Errs(20, 5, 0).interval == pytest.approx((0.0866, 0.4910), abs=1e-4)


def test_only_audited_trials_leave_no_regret_to_tell() -> None:
    told = savings(study(dict.fromkeys(range(10), 1), {}))
    assert told.regret is None
    assert told.errs is not None
    assert told.errs.audited == 10
