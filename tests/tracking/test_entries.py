from __future__ import annotations

import math

import pytest

from autotune.tracking import entries
from autotune.trial import Reason
from tests.tracking.stories import completed, ended, record


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("postgresql://me:secret@host/db", "postgresql://***@host/db"),
        (
            "cannot open mysql+pymysql://me:se/cr@et@host:3306/db now",
            "cannot open mysql+pymysql://***@host:3306/db now",
        ),
        ("https://token@host/x", "https://***@host/x"),
        ("postgresql://host/db?user=me&password=secret&x=1", "postgresql://host/db?user=me&password=***&x=1"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("sqlite:///mlruns/mlflow.db", "sqlite:///mlruns/mlflow.db"),
        ("mail me@host", "mail me@host"),
    ],
)
def test_passwords_in_urls_are_masked(text: str, masked: str) -> None:
    assert entries.mask(text) == masked


def test_settings_are_the_leaves_that_say_something() -> None:
    composed = {
        "seed": "${study.seed}",
        "study": {"name": "s", "seed": 0, "enqueue": [{"optimizer": "adam"}]},
        "budget": {"trials": 100, "seconds": None},
        "model": {"hidden": [128, 64], "batch_norm": "choice(true,false)"},
        "storage": {"url": "postgresql://me:secret@host/db"},
        "hydra": {"run": {"dir": "x"}},
    }
    assert entries.settings(composed) == {
        "study.name": "s",
        "study.seed": "0",
        "budget.trials": "100",
        "model.hidden": "[128, 64]",
        "model.batch_norm": "choice(true,false)",
        "storage.url": "postgresql://***@host/db",
    }


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("val/f1 (macro)", "val/f1 _macro_"),
        ("a//b", "a/b"),
        ("/a/", "a"),
        ("../a", "a"),
        ("optimizer.adam.lr", "optimizer.adam.lr"),
        ("", "_"),
        ("x" * 300, "x" * 250),
    ],
)
def test_names_become_what_mlflow_takes(name: str, key: str) -> None:
    from mlflow.utils.validation import _validate_metric_name

    assert entries.key(name) == key
    _validate_metric_name(entries.key(name))


def _curve(points: list[entries.Point], name: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in points if point.key == name]


def test_steps_count_epochs_from_one_and_the_objective_is_the_best_so_far() -> None:
    points = entries.points(record(values=(0.5, 0.4, 0.9)), 0, [10, 20, 30], 99)
    assert _curve(points, "val/accuracy") == [(1, 0.5), (2, 0.4), (3, 0.9)]
    assert _curve(points, "objective") == [(1, 0.5), (2, 0.5), (3, 0.9)]
    assert [point.timestamp for point in points if point.key == "lr"] == [10, 20, 30]


def test_the_objective_ends_with_what_the_study_was_told() -> None:
    pruned = ended(record(values=(0.5, 0.9, 0.4)), Reason.PRUNED, 0.4)
    assert _curve(entries.points(pruned, 0, [10, 20, 30], 99), "objective") == [(1, 0.5), (2, 0.9), (3, 0.4)]


def test_what_is_written_while_it_trains_adds_up_to_what_is_written_at_its_end() -> None:
    whole = entries.points(completed(), 0, [10, 20, 30], 99)
    parts = entries.points(record(values=(0.5, 0.75)), 0, [10, 20], 20)
    parts += entries.points(record(), 2, [10, 20, 30], 30)
    parts += entries.points(completed(), 3, [10, 20, 30], 99)
    assert sorted(parts) == sorted(whole)


def test_a_final_value_that_differs_from_the_one_written_comes_after_it() -> None:
    points = entries.points(ended(record(), Reason.PRUNED, 0.7), 3, [10, 20, 99], 99)
    (final,) = [point for point in points if point.key == "objective"]
    assert (final.step, final.value) == (3, 0.7)
    assert final.timestamp > 99


def test_a_loss_is_best_where_it_is_lowest() -> None:
    told = record(values=(0.5, 0.4, 0.9))
    config = {**told.config, "objective": {"metric": "val/accuracy", "direction": "minimize"}}
    points = entries.points(record(values=(0.5, 0.4, 0.9), config=config), 0, [1, 2, 3], 9)
    assert [value for _, value in _curve(points, "objective")] == [0.5, 0.4, 0.4]


def test_what_diverged_has_lost_its_losses_and_its_objective() -> None:
    lost = {"train/loss": [1.0, math.inf], "val/loss": [1.0, math.nan], "val/accuracy": [0.1, math.nan]}
    points = entries.points(ended(record(curves=lost), Reason.DIVERGED, None), 0, [1, 2], 9)
    for name in ("train/loss", "val/loss", "objective"):
        first, last = _curve(points, name)
        assert first[0] == 1
        assert last[0] == 2
        assert math.isnan(last[1])
    assert _curve(points, "val/accuracy") == [(1, 0.1)]


def test_what_diverged_in_its_first_epoch_has_no_objective() -> None:
    told = record(curves={"train/loss": [math.nan], "val/accuracy": [0.1]})
    lost = record(curves={"train/loss": [math.nan], "val/accuracy": [math.nan]})
    assert len(_curve(entries.points(ended(told, Reason.DIVERGED, None), 0, [1], 9), "objective")) == 1
    assert _curve(entries.points(ended(lost, Reason.DIVERGED, None), 0, [1], 9), "objective") == []


def test_epochs_without_a_value_have_no_point() -> None:
    told = record(curves={"val/accuracy": [0.1, math.nan, 0.3], "val/f1": [math.nan, math.nan, 0.5]})
    points = entries.points(told, 0, [1, 2, 3], 3)
    assert _curve(points, "val/accuracy") == [(1, 0.1), (3, 0.3)]
    assert _curve(points, "val/f1") == [(3, 0.5)]
    assert _curve(points, "objective") == [(1, 0.1), (2, 0.1), (3, 0.3)]


def test_a_trial_that_failed_at_once_has_no_objective() -> None:
    points = entries.points(ended(record(values=()), Reason.OOM, None), 0, [], 9)
    assert _curve(points, "objective") == []
