"""The best trained again: which, with which seeds, for how long, and what is kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.storages import InMemoryStorage

from autotune.confirm import Confirmation, best_configurations
from autotune.errors import UserError
from autotune.kept.ledger import Ledger
from autotune.settings import Budget, Confirm, Objective, Settings
from autotune.trial import Reason, Record, State, TrialCodeError

from .fakes import Curve, FakeExecutor, FakeTracker, resolved

UP = Objective("val/accuracy", "maximize", 0.0, 1e4)


def settings(home: Path = Path("unused"), top: int = 5, seeds: int = 3, most_seeds: int = 3) -> Settings:
    return Settings("s", 0, (), home, Budget(1, None, None), UP, Confirm(top, seeds, most_seeds))


def ledger_of(*rates: float, seed: int = 0) -> Ledger:
    """A study whose trials have these rates, and reached accuracies that grow with their number."""
    ledger = Ledger(InMemoryStorage(), None, "s", "maximize")
    for number, rate in enumerate(rates):
        ledger.begin(resolved(optimizer={"lr": rate}, seed=seed), {}, {})
        value = 0.5 + number / 100
        ledger.finish(number, Reason.COMPLETED, value, {"val/accuracy": [value]}, {}, {}, None)
    return ledger


def by_rate(config: Mapping[str, Any]) -> list[dict[str, float]]:
    """Accuracy is the rate, and a bit for the seed."""
    value = config["optimizer"]["lr"] + config["seed"] / 1000
    return [{"train/loss": 1.0, "val/accuracy": value} for _ in range(config["trainer"]["max_epochs"])]


def confirm(
    ledger: Ledger, curve: Curve = by_rate, executor: FakeExecutor | None = None, **changes: int
) -> tuple[FakeExecutor, FakeTracker, Confirmation]:
    tracker, executor = FakeTracker(), executor or FakeExecutor(curve, slots=2)
    confirmation = Confirmation(settings(**changes), ledger.records(), ledger, tracker)
    confirmation.run(executor)
    return executor, tracker, confirmation


def trained(executor: FakeExecutor) -> list[tuple[float, int]]:
    return [(trial.config["optimizer"]["lr"], trial.config["seed"]) for trial in executor.trained]


def test_the_best_are_trained_again_with_seeds_they_share() -> None:
    ledger = ledger_of(0.1, 0.2, 0.3, 0.4)
    executor, tracker, _ = confirm(ledger, top=2)
    assert sorted(trained(executor)) == [(rate, seed) for rate in (0.3, 0.4) for seed in (1, 2, 3)]
    assert len({trial.number for trial in executor.trained}) == 6
    kept = ledger.confirmations()
    assert [(each.number, each.config["seed"], each.objective) for each in kept] == [
        (number, seed, pytest.approx(rate + seed / 1000)) for number, rate in ((2, 0.3), (3, 0.4)) for seed in (1, 2, 3)
    ]
    assert {(each.stage, each.state, each.reason, each.epochs) for each in kept} == {
        ("confirm", State.COMPLETE, Reason.COMPLETED, 3)
    }
    assert kept[0].name == "t0002 seed 1 sgd lr 0.3 b16 constant"
    assert [(each.number, each.stage) for each in tracker.ended] == [(each.number, "confirm") for each in tracker.ended]
    assert {(each.number, each.config["seed"]) for each in tracker.ended} == {
        (each.number, each.config["seed"]) for each in kept
    }


def test_it_is_no_trial_of_the_study() -> None:
    ledger = ledger_of(0.1, 0.2)
    confirm(ledger)
    assert len(ledger.trials()) == len(ledger.records()) == 2


def test_the_seeds_are_new_to_the_search() -> None:
    executor, _, _ = confirm(ledger_of(0.1, seed=2), top=1)
    assert [seed for _, seed in trained(executor)] == [1, 3, 4]


def test_configurations_that_differ_in_the_seed_alone_count_once() -> None:
    records = [*ledger_of(0.1, 0.2).records(), *ledger_of(0.1, 0.2, seed=7).records()]
    assert [record.config["optimizer"]["lr"] for record in best_configurations(records, 5, "maximize")] == [0.2, 0.1]
    assert [record.config["optimizer"]["lr"] for record in best_configurations(records, 5, "minimize")] == [0.1, 0.2]


def test_only_what_was_trained_to_its_end_is_confirmed() -> None:
    ledger = ledger_of(0.1)
    ledger.begin(resolved(optimizer={"lr": 0.9}), {}, {})
    ledger.finish(1, Reason.PRUNED, 0.99, {"val/accuracy": [0.99]}, {}, {}, None)
    assert [record.number for record in best_configurations(ledger.records(), 5, "maximize")] == [0]


def test_those_still_tied_get_further_seeds() -> None:
    def curve(config: Mapping[str, Any]) -> list[dict[str, float]]:
        # 0.3 and 0.2 take turns, 0.1 is behind.
        rate, seed = config["optimizer"]["lr"], config["seed"]
        value = 0.1 if rate == 0.1 else 0.5 + ((seed + (rate == 0.2)) % 2) / 10
        return [{"train/loss": 1.0, "val/accuracy": value}]

    executor, _, _ = confirm(ledger_of(0.1, 0.2, 0.3), curve, seeds=3, most_seeds=7)
    assert sorted(trained(executor)) == [
        *[(0.1, seed) for seed in (1, 2, 3)],
        *[(rate, seed) for rate in (0.2, 0.3) for seed in (1, 2, 3, 4, 5, 6, 7)],
    ]


def test_where_one_is_ahead_there_are_no_further_seeds() -> None:
    executor, _, _ = confirm(ledger_of(0.1, 0.2, 0.3), seeds=2, most_seeds=9)
    assert len(executor.trained) == 6


@pytest.mark.parametrize("none", [{"top": 0}, {"seeds": 0}])
def test_it_can_be_left_out(none: dict[str, int]) -> None:
    ledger = ledger_of(0.1)
    executor, _, _ = confirm(ledger, **none)
    assert not executor.trained
    assert not ledger.confirmations()


class Timed(FakeExecutor):
    """An epoch takes a second."""

    def __init__(self, slots: int = 1) -> None:
        super().__init__(by_rate, slots=slots)
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def _advance(self, desk: Any, *member: Any) -> Any:
        self.now += 1
        return super()._advance(desk, *member)


@pytest.mark.parametrize("slots", [1, 2, 5])
@pytest.mark.parametrize(("seconds", "rounds"), [(3, 0), (9, 1), (17, 2), (100, 3)])
def test_its_time_is_spent_on_whole_rounds_of_seeds(
    seconds: int, rounds: int, slots: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A round trains two configurations for three epochs, and asks once more at the end of each."""
    ledger, executor, tracker = ledger_of(0.1, 0.2), Timed(slots), FakeTracker()
    limited = replace(settings(top=2), confirm=Confirm(2, 3, 3, seconds))
    caplog.set_level("INFO", logger="autotune.confirm")
    Confirmation(limited, ledger.records(), ledger, tracker, executor.clock).run(executor)
    found = [(each.number, each.config["seed"]) for each in ledger.confirmations()]
    assert sorted(found) == [(number, seed) for number in (0, 1) for seed in (1, 2, 3)[:rounds]]
    assert executor.now <= seconds + slots
    assert len([each for each in tracker.ended if each.reason == Reason.COMPLETED]) == len(found)
    assert (f"ended: confirm.seconds={seconds} is used up" in caplog.text) == (rounds < 3)
    Confirmation(settings(top=2), ledger.records(), ledger, tracker).run(FakeExecutor(by_rate))
    assert len(ledger.confirmations()) == 6


def test_it_says_how_long_it_will_take(caplog: pytest.LogCaptureFixture) -> None:
    ledger = ledger_of(0.1, 0.2)
    records = [replace(each, cost={"cost/epoch_seconds": 20.0}) for each in ledger.records()]
    caplog.set_level("INFO", logger="autotune.confirm")
    Confirmation(settings(top=2), records, ledger, FakeTracker()).run(FakeExecutor(by_rate))
    assert "confirming the best 2 with 3 other seeds: about 120 s" in caplog.text


def test_an_interrupted_one_goes_on_with_what_is_missing() -> None:
    ledger = ledger_of(0.1, 0.2)

    class Stopping(FakeExecutor):
        def run(self, desk: Any) -> None:
            self.desk = desk
            super().run(desk)

        def _advance(self, desk: Any, trial: Any, curve: Any, epoch: int) -> Any:
            if len(self.trained) == 3:
                desk.interrupt("so")
            return super()._advance(desk, trial, curve, epoch)

    _, tracker, confirmation = confirm(ledger, executor=Stopping(by_rate))
    assert confirmation.interrupted
    assert len(ledger.confirmations()) == 2
    assert [each.reason for each in tracker.ended] == [Reason.COMPLETED, Reason.COMPLETED, Reason.INTERRUPTED]
    assert tracker.ended[-1].state == State.WAITING
    rest, _, _ = confirm(ledger)
    assert len(trained(rest)) == 4
    assert len(ledger.confirmations()) == 6


def test_one_that_diverges_has_no_value() -> None:
    def curve(config: Mapping[str, Any]) -> list[dict[str, float]]:
        good, bad = ({"train/loss": loss, "val/accuracy": 0.5} for loss in (1.0, 1e9))
        return [good, bad, good] if config["seed"] == 2 else [good, good, good]

    ledger = ledger_of(0.1)
    confirm(ledger, curve)
    kept = ledger.confirmations()
    assert (
        kept[1].error == "train/loss is 1e+09, more than objective.explodes_above=10000 times the 1 of the first epochs"
    )
    assert [(each.reason, each.objective, each.epochs) for each in kept] == [
        (Reason.COMPLETED, 0.5, 3),
        (Reason.DIVERGED, None, 2),
        (Reason.COMPLETED, 0.5, 3),
    ]


def test_out_of_memory_is_kept_and_the_users_own_error_stops_it() -> None:
    ledger = ledger_of(0.1)
    confirm(ledger, lambda _: [MemoryError("too much")])
    assert [(each.reason, each.objective, each.error) for each in ledger.confirmations()] == [
        (Reason.OOM, None, "MemoryError: too much")
    ] * 3
    with pytest.raises(TrialCodeError, match="trial 0 raised ValueError: no"):
        confirm(ledger_of(0.1), lambda _: [ValueError("no")])


def test_epochs_without_a_value_are_passed_over() -> None:
    values = [math.nan, 0.5, math.nan, 0.7, math.nan]
    ledger = ledger_of(0.1)
    confirm(ledger, lambda _: [{"train/loss": 1.0, **({} if math.isnan(v) else {"val/accuracy": v})} for v in values])
    assert [(each.reason, each.objective, each.epochs) for each in ledger.confirmations()] == [
        (Reason.COMPLETED, 0.7, 5)
    ] * 3


def test_one_that_is_no_number_in_any_epoch_counts_as_diverged() -> None:
    ledger = ledger_of(0.1)
    confirm(ledger, lambda _: [{"train/loss": 1.0, "val/accuracy": math.nan}], seeds=1)
    (kept,) = ledger.confirmations()
    assert (kept.reason, kept.objective) == (Reason.DIVERGED, None)
    assert kept.error == "val/accuracy is no number in any epoch"


def test_a_metric_that_is_not_logged_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match=r"objective\.metric: val/accuracy is not logged; logged are train/loss"):
        confirm(ledger_of(0.1), lambda _: [{"train/loss": 1.0}])


def test_epochs_are_told_as_they_come() -> None:
    _, tracker, _ = confirm(ledger_of(0.1), seeds=1)
    stories: list[Record] = tracker.advanced
    assert [each.epochs for each in stories] == [1, 2, 3]
    assert [each.started for each in tracker.started] == [each.started for each in tracker.ended]
