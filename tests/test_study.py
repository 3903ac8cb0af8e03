"""The coordinator against a fake executor: budgets, states, duplicates, resuming."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import optuna
import pytest
from optuna.trial import TrialState

from autotune.errors import UserError
from autotune.kept.ledger import Ledger
from autotune.kept.outcome import Outcome
from autotune.kept.storage import open_storage
from autotune.pruners import Pruning
from autotune.settings import Settings, shipped_points
from autotune.space import Space
from autotune.study import Coordinator
from autotune.trial import Reason, State, TrialCodeError

from .fakes import FakeExecutor, FakeTracker, learning_curve

CONFIG: dict[str, Any] = {
    "home": "unused",
    "study": {"name": "s", "seed": 0, "enqueue": []},
    "budget": {"trials": 12, "seconds": None, "epochs": None},
    "confirm": {"top": 0, "seeds": 0, "most_seeds": 0},
    "objective": {"metric": "val/accuracy", "direction": "maximize", "worst": 0.0, "explodes_above": 1e4},
    "data": {"name": "d", "batch_size": 32},
    "model": {"name": "m"},
    "optimizer": {"name": "sgd", "lr": "tag(log,interval(1e-4,1))"},
    "schedule": {"name": "constant"},
    "trainer": {"max_epochs": 9},
    "seed": 0,
}


class Search:
    """One run of a search, and what it left."""

    opened: ClassVar[list[Search]] = []

    def __init__(self, folder: Path, executor: FakeExecutor, pruner: str = "none", **changes: Any) -> None:
        clock = changes.pop("clock", time.monotonic)
        config = {**CONFIG, **changes}
        storage, journal = open_storage({"name": "journal"}, folder)
        self.settings = Settings.of({**config, "home": str(folder)})
        self.ledger = Ledger(storage, journal, "s", self.settings.objective.direction)
        self.tracker = FakeTracker()
        asha = partial(optuna.pruners.SuccessiveHalvingPruner, min_resource=1, reduction_factor=3)
        prunings = {
            "none": Pruning(optuna.pruners.NopPruner),
            "asha": Pruning(asha),
            "audited": Pruning(asha, audit=1.0),
        }
        sampler = optuna.samplers.RandomSampler(seed=len(self.ledger.trials()))
        self.executor = executor
        self.coordinator = Coordinator(
            self.settings, Space(config), self.ledger, executor, self.tracker, sampler, prunings[pruner], clock=clock
        )
        self.opened.append(self)

    def run(self) -> Search:
        self.coordinator.run()
        return self

    @property
    def outcome(self) -> Outcome:
        return Outcome.of(self.ledger, "s", self.settings.objective, CONFIG)

    @property
    def states(self) -> Counter[str]:
        return Counter(record.state.value for record in self.ledger.records())

    @property
    def reasons(self) -> Counter[str]:
        return Counter(str(record.reason) for record in self.ledger.records())


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    while Search.opened:
        Search.opened.pop().ledger.close()


def budget(trials: int | None = None, seconds: float | None = None, epochs: int | None = None) -> dict[str, Any]:
    return {"trials": trials, "seconds": seconds, "epochs": epochs}


def test_trains_as_many_trials_as_the_budget_has(tmp_path: Path) -> None:
    search = Search(tmp_path, FakeExecutor()).run()
    assert search.states == {"COMPLETE": 12}
    assert search.coordinator.epochs == 12 * 9
    assert search.coordinator.finished == "budget.trials=12 is used up"
    assert len(search.tracker.started) == len(search.tracker.ended) == 12
    assert len(search.tracker.advanced) == 12 * 9


def test_the_best_is_the_best_epoch_of_the_best_trial(tmp_path: Path) -> None:
    search = Search(tmp_path, FakeExecutor()).run()
    best = search.outcome.best
    assert best is not None
    values = [max(record.curves["val/accuracy"]) for record in search.ledger.records()]
    assert best.objective == max(values)
    assert values[best.number] == max(values)


@pytest.mark.parametrize("slots", [1, 4])
def test_the_epoch_budget_is_kept_to_the_epoch(tmp_path: Path, slots: int) -> None:
    search = Search(tmp_path, FakeExecutor(slots=slots), budget=budget(epochs=40)).run()
    assert 40 <= search.coordinator.epochs < 40 + slots
    assert search.coordinator.finished == "budget.epochs=40 is used up"
    assert search.states["RUNNING"] == 0
    assert search.reasons["interrupted"] == search.states["WAITING"] > 0


class Timed(FakeExecutor):
    """An epoch of any trial takes a second, however many are in training."""

    def __init__(self, slots: int) -> None:
        super().__init__(slots=slots)
        self.now = 0.0
        self.at_once: list[int] = []

    def clock(self) -> float:
        return self.now

    def _advance(self, desk: Any, *member: Any) -> Any:
        self.now += 1
        self.at_once.append(desk.in_training)
        return super()._advance(desk, *member)


@pytest.mark.parametrize(("seconds", "most"), [(54, 2), (108, 4), (20, 1), (2000, 16)])
def test_so_many_train_at_once_that_three_rounds_fit_into_the_time(tmp_path: Path, seconds: int, most: int) -> None:
    executor = Timed(slots=16)
    search = Search(tmp_path, executor, budget=budget(seconds=seconds), clock=executor.clock).run()
    assert executor.now <= seconds + most
    assert max(executor.at_once) == most
    assert search.reasons["interrupted"] <= 1  # the last one, which had the processor to itself
    assert search.reasons["completed"] >= seconds // 9 - 2 * most


def test_without_a_limit_of_time_all_slots_are_taken(tmp_path: Path) -> None:
    executor = Timed(slots=5)
    Search(tmp_path, executor, clock=executor.clock).run()
    assert max(executor.at_once) == 5


def test_the_time_is_up_in_the_middle_of_an_epoch_too(tmp_path: Path) -> None:
    """An executor asks at each batch."""
    executor = Timed(slots=1)
    search = Search(tmp_path, executor, budget=budget(seconds=3), clock=executor.clock)
    assert not search.coordinator.interrupted
    executor.now = 3.0
    assert search.coordinator.interrupted
    assert search.coordinator.finished == "budget.seconds=3 is used up"


def test_the_time_budget_ends_the_search(tmp_path: Path) -> None:
    search = Search(tmp_path, FakeExecutor(), budget=budget(seconds=1e-9)).run()
    assert search.states == {}
    assert search.coordinator.finished == "budget.seconds=1e-09 is used up"


def test_weak_trials_are_pruned(tmp_path: Path) -> None:
    search = Search(tmp_path, FakeExecutor(), "asha", budget=budget(trials=40)).run()
    assert search.states["PRUNED"] > 20
    assert search.states["COMPLETE"] > 0
    for record in search.ledger.records():
        assert record.reason == (Reason.PRUNED if record.state == State.PRUNED else Reason.COMPLETED)
        assert record.objective == record.curves["val/accuracy"][-1]
        assert (record.epochs == 9) == (record.state == State.COMPLETE)
    assert {record.epochs for record in search.ledger.records()} <= {1, 3, 9}


def test_what_would_be_pruned_is_trained_on_where_it_is_audited(tmp_path: Path) -> None:
    search = Search(tmp_path, FakeExecutor(), "audited", budget=budget(trials=40)).run()
    records = search.ledger.records()
    assert search.states == {"COMPLETE": 40}
    assert all(record.epochs == 9 and record.objective == max(record.curves["val/accuracy"]) for record in records)
    assert sum(record.would_stop is not None for record in records) > 20
    assert {record.would_stop for record in records} == {None, 1, 3}


@pytest.mark.parametrize(
    ("bad", "reason"), [(MemoryError("no room"), Reason.OOM), ({"train/loss": math.nan}, Reason.DIVERGED)]
)
def test_an_audited_trial_ends_as_any_other(tmp_path: Path, bad: Any, reason: Reason) -> None:
    def curve(config: Any) -> list[Any]:
        epochs = learning_curve(config)
        if config["optimizer"]["lr"] > 0.01:
            return epochs
        return [*epochs[:5], bad if isinstance(bad, Exception) else {**epochs[5], **bad}]

    records = Search(tmp_path, FakeExecutor(curve), "audited").run().ledger.records()
    records = [record for record in records if record.epochs < 9]
    assert {record.reason for record in records} == {reason}
    assert {record.state for record in records} == {reason.state}
    assert 1 in {record.would_stop for record in records}


@pytest.mark.parametrize("bad", [{"train/loss": math.nan}, {"val/loss": math.inf}, {"train/loss": 2e4}])
def test_divergence_is_pruned_and_has_no_value(tmp_path: Path, bad: dict[str, float]) -> None:
    def curve(config: Any) -> list[Any]:
        good = learning_curve(config)
        return [good[0], {**good[1], **bad}, good[2]]

    search = Search(tmp_path, FakeExecutor(curve), budget=budget(trials=1)).run()
    (record,) = search.ledger.records()
    assert (record.state, record.reason, record.objective, record.epochs) == (State.PRUNED, Reason.DIVERGED, None, 2)
    assert record.error is not None
    assert record.error.startswith(f"{next(iter(bad))} is ")
    (kept,) = search.ledger.trials()
    assert (kept.state, kept.values, set(kept.intermediate_values)) == (TrialState.PRUNED, None, {1})
    assert search.outcome.best is None
    kept = record.curves[next(iter(bad))][1]
    assert kept == next(iter(bad.values())) or not math.isfinite(kept)


def gapped(config: Any, measured: Any = lambda epoch: epoch % 2 == 0) -> list[Any]:
    """A learning curve whose accuracy is measured in some epochs alone, counted from 1; else not logged, or NaN."""
    epochs = learning_curve(config)
    for number, metrics in enumerate(epochs, 1):
        if not measured(number):
            metrics["val/accuracy"] = math.nan
            if number % 3:
                del metrics["val/accuracy"]
    return epochs


def test_an_epoch_without_a_value_is_a_gap(tmp_path: Path) -> None:
    search = Search(tmp_path, FakeExecutor(gapped)).run()
    assert search.states == {"COMPLETE": 12}
    assert search.coordinator.epochs == 12 * 9
    for record, trial in zip(search.ledger.records(), search.ledger.trials(), strict=True):
        curve = record.curves["val/accuracy"]
        assert [math.isnan(value) for value in curve] == [True, False] * 4 + [True]
        assert trial.intermediate_values == {2: curve[1], 4: curve[3], 6: curve[5], 8: curve[7]}
        assert record.objective == curve[7]  # the best of those measured


def test_a_study_with_gaps_goes_on_to_its_budget_of_epochs(tmp_path: Path) -> None:
    Search(tmp_path, FakeExecutor(gapped), budget=budget(epochs=30)).run().ledger.close()
    search = Search(tmp_path, FakeExecutor(gapped), budget=budget(epochs=60)).run()
    assert search.coordinator.epochs == 60
    assert sum(record.epochs for record in search.ledger.records()) == 60


@pytest.mark.parametrize("pruner", ["asha", "audited"])
def test_a_rung_is_judged_at_the_first_value_at_or_behind_it(tmp_path: Path, pruner: str) -> None:
    search = Search(tmp_path, FakeExecutor(gapped), pruner, budget=budget(trials=40)).run()
    records = search.ledger.records()
    if pruner == "audited":
        assert {record.would_stop for record in records} == {None, 2, 4}
    else:
        assert {record.epochs for record in records} == {2, 4, 9}


def test_a_trial_that_is_no_number_anywhere_has_diverged_where_others_are(tmp_path: Path) -> None:
    def curve(config: Any) -> list[Any]:
        return gapped(config, lambda _: config["optimizer"]["lr"] > 0.01)

    search = Search(tmp_path, FakeExecutor(curve), study={**CONFIG["study"], "enqueue": [{"optimizer.lr": 0.5}]}).run()
    assert search.reasons["diverged"] > 0
    assert sum(search.reasons.values()) == 12
    assert {record.error for record in search.ledger.records()} == {None, "val/accuracy is no number in any epoch"}


def test_a_metric_that_is_no_number_in_any_epoch_is_refused(tmp_path: Path) -> None:
    search = Search(tmp_path, FakeExecutor(lambda config: gapped(config, lambda _: False)))
    with pytest.raises(UserError, match=r"^objective.metric: val/accuracy is no number in any epoch;"):
        search.run()
    assert len(search.executor.trained) == 1


def test_out_of_memory_fails_the_trial_and_the_search_goes_on(tmp_path: Path) -> None:
    executor = FakeExecutor(
        lambda config: [MemoryError("no room")] if config["optimizer"]["lr"] > 0.01 else learning_curve(config)
    )
    search = Search(tmp_path, executor).run()
    assert search.states["FAIL"] == search.reasons["oom"] > 0
    assert search.states["COMPLETE"] == search.reasons["completed"] > 0
    assert sum(search.states.values()) == 12
    failed = next(record for record in search.ledger.records() if record.reason == Reason.OOM)
    assert (failed.objective, failed.error) == (None, "MemoryError: no room")


def test_a_bug_in_the_users_code_stops_the_search(tmp_path: Path) -> None:
    search = Search(tmp_path, FakeExecutor(lambda _: [KeyError("theirs")]))
    with pytest.raises(TrialCodeError) as caught:
        search.run()
    assert isinstance(caught.value.__cause__, KeyError)
    assert caught.value.record.config["optimizer"]["lr"] > 0
    assert search.states == {"FAIL": 1}
    assert search.reasons == {"error": 1}


def test_a_metric_that_nothing_logs_is_named_when_the_first_trial_ends(tmp_path: Path) -> None:
    search = Search(tmp_path, FakeExecutor(), objective={**CONFIG["objective"], "metric": "val/acc"})
    with pytest.raises(
        UserError,
        match=r"^objective.metric: val/acc is not logged; "
        r"logged are lr, train/loss, val/accuracy, val/loss; name one of those$",
    ):
        search.run()
    assert len(search.executor.trained) == 1


def test_refused_configurations_never_become_trials(tmp_path: Path) -> None:
    executor = FakeExecutor(refuse=lambda config: "too large" if config["optimizer"]["lr"] > 0.01 else None)
    search = Search(tmp_path, executor).run()
    assert search.states == {"COMPLETE": 12}
    assert all(record.config["optimizer"]["lr"] <= 0.01 for record in search.ledger.records())
    assert set(search.coordinator.refused.values()) == {"too large"}


def test_a_space_that_cannot_work_at_all_says_why(tmp_path: Path) -> None:
    search = Search(
        tmp_path,
        FakeExecutor(refuse=lambda _: "data.batch_size=32 is too large"),
        optimizer={"name": "sgd", "lr": "choice(0.1,0.2)"},
    )
    with pytest.raises(
        UserError, match=r"no configuration of the space can work; 2 of 2 refused as data.batch_size=32 is too large"
    ):
        search.run()
    assert search.states == {}


FINITE = {
    "optimizer": {"name": "sgd", "lr": "choice(0.1,0.2,0.3)"},
    "data": {"name": "d", "batch_size": "choice(16,32)"},
}


def test_a_used_up_space_ends_the_search_and_trains_nothing_twice(tmp_path: Path) -> None:
    search = Search(tmp_path, FakeExecutor(), budget=budget(trials=100), **FINITE).run()
    assert search.states == {"COMPLETE": 6}
    assert search.coordinator.finished == "the space is used up: every configuration of it that can work is trained"
    assert len({str(record.config) for record in search.ledger.records()}) == 6


def test_a_used_up_space_is_still_used_up_when_the_study_goes_on(tmp_path: Path) -> None:
    Search(tmp_path, FakeExecutor(), budget=budget(trials=4), **FINITE).run().ledger.close()
    search = Search(tmp_path, FakeExecutor(), budget=budget(trials=100), **FINITE).run()
    assert search.states == {"COMPLETE": 6}
    assert len(search.executor.trained) == 2


def test_an_infinite_space_that_brings_nothing_new_ends(tmp_path: Path) -> None:
    executor = FakeExecutor(refuse=lambda config: "no" if config["optimizer"]["lr"] < 0.9999 else None)
    search = Search(tmp_path, executor, optimizer={"name": "sgd", "lr": "tag(log,interval(1e-4,0.5))"})
    with pytest.raises(UserError, match="no configuration of the space can work"):
        search.run()


def test_starting_points_are_asked_first_where_they_lie_in_the_space(tmp_path: Path) -> None:
    points = [
        {"optimizer": "sgd", "optimizer.sgd.lr": 0.05},
        {"optimizer": "adam", "optimizer.adam.lr": 0.1},
        {"optimizer.lr": 5.0},
        {"optimizer.lr": 0.5},
    ]
    search = Search(tmp_path, FakeExecutor(), study={**CONFIG["study"], "enqueue": points}).run()
    assert [trial.config["optimizer"]["lr"] for trial in search.executor.trained[:2]] == [0.05, 0.5]
    assert search.states == {"COMPLETE": 12}


def test_a_starting_point_outside_the_space_is_said_unless_it_is_shipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    points = [{"optimizer.lr": 1e9}, *shipped_points(), {"optimizer.rate": 0.5}, {"optimizer.lr": 0.5}]
    with caplog.at_level("INFO", logger="autotune"):
        search = Search(tmp_path, FakeExecutor(), study={**CONFIG["study"], "enqueue": points}).run()
    said = [record.message for record in caplog.records if "left out" in record.message]
    assert len(said) == 2
    assert said[0].startswith(
        "the starting point {'optimizer.lr': 1000000000.0} is left out: optimizer.lr=1000000000.0 "
    )
    assert said[1].endswith("optimizer.rate is no parameter; did you mean optimizer.lr?")
    assert search.executor.trained[0].config["optimizer"]["lr"] == 0.5


def test_the_study_goes_on_with_what_is_left_of_the_budget(tmp_path: Path) -> None:
    Search(tmp_path, FakeExecutor(), budget=budget(trials=5)).run().ledger.close()
    search = Search(tmp_path, FakeExecutor(), budget=budget(trials=12)).run()
    assert search.states == {"COMPLETE": 12}
    assert [trial.number for trial in search.executor.trained] == list(range(5, 12))
    assert search.coordinator.epochs == 12 * 9


def test_an_interrupted_trial_is_run_again_as_itself(tmp_path: Path) -> None:
    first = Search(tmp_path, FakeExecutor(slots=3), budget=budget(epochs=10)).run()
    configs = {record.number: record.config for record in first.ledger.records()}
    first.ledger.close()
    search = Search(tmp_path, FakeExecutor(slots=3), budget=budget(trials=6)).run()
    assert search.states == {"COMPLETE": 6}
    assert {
        number: record.config for number, record in enumerate(search.ledger.records()) if number in configs
    } == configs
    assert search.coordinator.epochs == 6 * 9
    assert all(record.epochs == 9 for record in search.ledger.records())


def test_starting_points_that_are_left_are_asked_when_the_study_goes_on(tmp_path: Path) -> None:
    study = {**CONFIG["study"], "enqueue": [{"optimizer.lr": 0.05}, {"optimizer.lr": 0.5}, {"optimizer.lr": 0.7}]}
    for limit in (budget(trials=1), budget(epochs=14)):
        Search(tmp_path, FakeExecutor(), budget=limit, study=study).run().ledger.close()
    search = Search(tmp_path, FakeExecutor(), study=study).run()
    rates = [record.config["optimizer"]["lr"] for record in search.ledger.records()]
    assert rates[:3] == [0.05, 0.5, 0.7]
    assert len({*rates}) == 12


def test_an_interrupted_trial_that_lies_outside_the_space_by_now_stays_interrupted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = Search(tmp_path, FakeExecutor(), budget=budget(epochs=14)).run()
    left = first.ledger.records()[1].config["optimizer"]["lr"]
    first.ledger.close()
    beyond = {"name": "sgd", "lr": f"tag(log,interval({2 * left},10))"}
    with caplog.at_level("INFO", logger="autotune"):
        search = Search(tmp_path, FakeExecutor(), budget=budget(trials=5), optimizer=beyond).run()
    assert "trial 1 lies outside the space by now and stays interrupted" in caplog.text
    assert search.states == {"COMPLETE": 4, "WAITING": 1}
    assert all(trial.config["optimizer"]["lr"] >= 2 * left for trial in search.executor.trained)
    search.ledger.close()
    # In the space it was drawn from it is taken up.
    again = Search(tmp_path, FakeExecutor(), budget=budget(trials=5)).run()
    assert again.states == {"COMPLETE": 5}


def test_a_trial_left_running_by_a_dead_process_is_run_again(tmp_path: Path) -> None:
    dead = Search(tmp_path, FakeExecutor())
    trial = dead.coordinator.next_trial()
    assert trial is not None
    assert dead.states == {"RUNNING": 1}
    search = Search(tmp_path, FakeExecutor(), budget=budget(trials=3)).run()
    assert search.states == {"COMPLETE": 3}
    assert search.executor.trained[0].config == trial.config


def test_interrupting_ends_what_trains_and_begins_nothing(tmp_path: Path) -> None:
    search = Search(tmp_path, FakeExecutor(slots=2))
    advanced = search.tracker.trial_advanced

    def interrupt(record: Any) -> None:
        advanced(record)
        search.coordinator.interrupt("by the test")

    search.tracker.trial_advanced = interrupt  # type: ignore[method-assign]
    search.run()
    assert search.states == {"WAITING": 2}
    assert search.coordinator.finished == "by the test"


def test_another_direction_is_refused(tmp_path: Path) -> None:
    Search(tmp_path, FakeExecutor(), budget=budget(trials=1)).run().ledger.close()
    with pytest.raises(UserError, match=r"^objective.direction: minimize, but study s was begun with maximize"):
        Search(tmp_path, FakeExecutor(), objective={**CONFIG["objective"], "direction": "minimize"})


def test_the_journal_opens_in_optuna_itself(tmp_path: Path) -> None:
    Search(tmp_path, FakeExecutor(), "asha").run().ledger.close()
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "study.journal"))
    study = optuna.load_study(study_name="s", storage=optuna.storages.JournalStorage(backend))
    assert len(study.trials) == 12
    assert study.best_trial.state == TrialState.COMPLETE
    assert study.trials[0].intermediate_values[1] == pytest.approx(
        study.trials[0].user_attrs["curves"]["val/accuracy"][0]
    )
