"""The study as it is kept: what was written is there again, whoever opens it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from autotune.errors import UserError
from autotune.kept.ledger import Ledger
from autotune.kept.storage import open_storage
from autotune.tracking import Study
from autotune.trial import Reason, State

PARAMS = {"optimizer": "adam", "optimizer.adam.lr": 0.01}
DISTRIBUTIONS = {
    "optimizer": CategoricalDistribution(("sgd", "adam")),
    "optimizer.adam.lr": FloatDistribution(1e-4, 1.0, log=True),
}
CONFIG: dict[str, Any] = {
    "optimizer": {"name": "adam", "lr": 0.01},
    "data": {"batch_size": 64},
    "model": {"hidden": [64, 32], "batch_norm": True, "dropout": None},
    "schedule": {"name": "cosine"},
    "seed": 0,
}

Open = Callable[..., Ledger]


@pytest.fixture(params=["journal", "sqlite"])
def open_ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the study, again and again."""
    opened: list[Ledger] = []
    section = {} if request.param == "journal" else {"url": f"sqlite:///{tmp_path}/study.db"}

    def open_one(direction: str = "maximize") -> Ledger:
        while opened:
            opened.pop().close()
        opened.append(Ledger(*open_storage(section, tmp_path), "s", direction))
        return opened[-1]

    yield open_one
    while opened:
        opened.pop().close()


def begun(ledger: Ledger) -> int:
    return ledger.begin(CONFIG, PARAMS, DISTRIBUTIONS)


def finished(ledger: Ledger, number: int, reason: Reason, value: float | None, **changes: Any) -> Any:
    told = {
        "curves": {"val/loss": [0.5, 0.25], "val/accuracy": [0.5, 0.75]},
        "cost": {"cost/parameters": 10.0},
        "system_attrs": {},
        "error": None,
    }
    return ledger.finish(number, reason, value, **(told | changes))


def test_a_trial_is_told_as_it_was_when_the_study_is_opened_again(open_ledger: Open) -> None:
    ledger = open_ledger()
    number = begun(ledger)
    ledger.advance(number, 1, 0.5)
    ledger.advance(number, 2, 0.75)
    before = datetime.now(UTC)
    told = finished(ledger, number, Reason.COMPLETED, 0.75, system_attrs={"completed_rung_0": 0.5})
    (record,) = open_ledger().records()
    assert record == told
    assert open_ledger().count == 1
    assert (record.number, record.name, record.family) == (0, "t0000 adam lr 0.01 b64 bn cosine", "adam")
    assert (record.state, record.reason, record.stage) == (State.COMPLETE, Reason.COMPLETED, "search")
    assert (record.params, record.config, record.objective) == (PARAMS, CONFIG, 0.75)
    assert (record.epochs, record.curves["val/accuracy"]) == (2, [0.5, 0.75])
    assert record.cost == {"cost/parameters": 10.0}
    assert record.ended is not None
    assert record.started <= before <= record.ended + timedelta(milliseconds=1)
    (trial,) = open_ledger().trials()
    assert (trial.distributions, trial.intermediate_values) == (DISTRIBUTIONS, {1: 0.5, 2: 0.75})
    assert trial.system_attrs["completed_rung_0"] == 0.5


ENDS = {
    Reason.COMPLETED: (0.75, State.COMPLETE, 0.75),
    Reason.PRUNED: (0.5, State.PRUNED, 0.5),
    Reason.DIVERGED: (0.0, State.PRUNED, None),  # as version 0.1 stored it
    Reason.OOM: (None, State.FAIL, None),
    Reason.ERROR: (None, State.FAIL, None),
    Reason.INTERRUPTED: (None, State.WAITING, None),
}


@pytest.mark.parametrize(("reason", "end"), ENDS.items(), ids=ENDS)
def test_each_end_has_its_state(
    reason: Reason, end: tuple[float | None, State, float | None], open_ledger: Open
) -> None:
    value, state, objective = end
    ledger = open_ledger()
    finished(ledger, begun(ledger), reason, value, error="LookupError: why" if state == State.FAIL else None)
    (record,) = open_ledger().records()
    assert (record.state, record.reason, record.objective) == (state, reason, objective)
    assert record.error == ("LookupError: why" if state == State.FAIL else None)
    assert (record.ended is None) == (state == State.WAITING)


def test_a_trial_that_runs_has_no_reason_yet(open_ledger: Open) -> None:
    number = begun(open_ledger())
    record = open_ledger().record(number)
    assert (record.state, record.reason, record.ended, record.epochs) == (State.RUNNING, None, None, 0)
    assert (record.config, record.params) == (CONFIG, PARAMS)


def test_an_interrupted_trial_is_taken_up_again(open_ledger: Open) -> None:
    ledger = open_ledger()
    finished(ledger, begun(ledger), Reason.INTERRUPTED, None)
    ledger = open_ledger()
    ledger.take_up(0)
    assert (ledger.record(0).state, ledger.record(0).reason) == (State.RUNNING, None)
    ledger.take_up(0)  # as one that a dead process left running
    finished(ledger, 0, Reason.COMPLETED, 0.75)
    assert [record.state for record in open_ledger().records()] == [State.COMPLETE]


def test_what_is_no_number_comes_back_as_none(open_ledger: Open) -> None:
    ledger = open_ledger()
    curves = {"val/loss": [0.5, math.nan, math.inf]}
    finished(ledger, begun(ledger), Reason.DIVERGED, 0.0, curves=curves)
    (record,) = open_ledger().records()
    assert record.curves["val/loss"][0] == 0.5
    assert all(math.isnan(value) for value in record.curves["val/loss"][1:])


def test_numbers_go_on_where_they_ended(open_ledger: Open) -> None:
    assert begun(open_ledger()) == 0
    ledger = open_ledger()
    assert [begun(ledger), begun(ledger)] == [1, 2]
    assert [record.number for record in ledger.records()] == [0, 1, 2]


def test_the_time_spent_is_kept(open_ledger: Open) -> None:
    assert open_ledger().seconds == 0.0
    open_ledger().keep_seconds(12.5)
    assert open_ledger().seconds == 12.5


def test_a_study_keeps_its_direction(open_ledger: Open) -> None:
    open_ledger("minimize")
    with pytest.raises(UserError) as caught:
        open_ledger("maximize")
    assert str(caught.value) == (
        "objective.direction: maximize, but study s was begun with minimize; "
        "write minimize, or give study.name another name"
    )


def test_optuna_reads_what_is_not_closed_yet(tmp_path: Path) -> None:
    ledger = Ledger(*open_storage({}, tmp_path), "s", "maximize")
    finished(ledger, begun(ledger), Reason.COMPLETED, 0.75)
    ledger.advance(begun(ledger), 1, 0.5)
    backend = JournalFileBackend(str(tmp_path / "study.journal"))
    study = optuna.load_study(study_name="s", storage=JournalStorage(backend))
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE, TrialState.RUNNING]
    assert study.trials[1].intermediate_values == {1: 0.5}
    assert (study.best_value, study.best_params) == (0.75, PARAMS)
    ledger.close()


def test_a_study_has_an_id_of_its_own_from_the_first_moment_on(open_ledger: Open) -> None:
    ledger = open_ledger()
    study = ledger.study
    assert study.id
    assert (study.known_as, study.aside) == (None, None)
    ledger.keep_aside(Study("s.1", "another", "s"))
    assert open_ledger().study == replace(study, aside=Study("s.1", "another", "s"))
