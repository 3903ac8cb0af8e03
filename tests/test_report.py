"""best.yaml, trials.csv and summary.json of made-up trials."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from autotune import report
from autotune.settings import Objective
from autotune.trial import Reason, Record, State

UP = Objective("val/accuracy", "maximize", 0.0, None)
DOWN = Objective("val/loss", "minimize", 1e4, None)
BEGUN = datetime(2024, 5, 1, 12, tzinfo=UTC)


def ended(number: int, reason: Reason, accuracy: Sequence[float], **changes: Any) -> Record:
    """A trial that ended after a second and a half."""
    state = {Reason.COMPLETED: State.COMPLETE, Reason.PRUNED: State.PRUNED, Reason.ERROR: State.FAIL}[reason]
    config: Mapping[str, Any] = {"optimizer": {"name": "adam", "lr": 0.01}, "seed": number}
    told = Record(
        number=number,
        name=f"t{number:04d} adam lr 0.01",
        family="adam",
        state=state,
        reason=reason,
        stage="search",
        params={"optimizer.lr": 0.01},
        config=config,
        objective=max(accuracy, default=None) if state != State.FAIL else None,
        curves={"val/accuracy": list(accuracy), "val/loss": [1 - value for value in accuracy]},
        cost={"cost/parameters": 10.0},
        started=BEGUN,
        ended=BEGUN + timedelta(seconds=1.5),
    )
    return replace(told, **changes)


def test_the_best_config_says_where_it_comes_from_and_what_to_type(tmp_path: Path) -> None:
    path = report.write_best(tmp_path, "mine", ended(3, Reason.COMPLETED, [0.5, 0.8, 0.8, 0.7]), UP)
    text = path.read_text()
    assert path == tmp_path / "best.yaml"
    assert text.startswith("# t0003 adam lr 0.01: val/accuracy 0.8\n# python -m autotune.train from=mine\n")
    assert yaml.safe_load(text) == {
        "optimizer": {"name": "adam", "lr": 0.01},
        "seed": 3,
        "origin": {"study": "mine", "trial": 3, "metric": "val/accuracy", "value": 0.8, "best_epoch": 2},
    }


def test_the_best_epoch_is_the_first_of_the_best_whichever_way_is_better(tmp_path: Path) -> None:
    record = ended(0, Reason.COMPLETED, [0.5, 0.8, 0.7])
    for objective in (UP, DOWN):
        report.write_best(tmp_path, "mine", record, objective)
        assert yaml.safe_load((tmp_path / "best.yaml").read_text())["origin"]["best_epoch"] == 2


def test_the_table_has_every_parameter_and_cost_that_any_trial_has(tmp_path: Path) -> None:
    records = [
        ended(0, Reason.COMPLETED, [0.5, 0.75]),
        ended(1, Reason.PRUNED, [0.25], params={"schedule": "cosine", "model.hidden": "[64,32]"}),
        ended(2, Reason.ERROR, [], cost={}, error='LookupError: "a, b"\nand more'),
        replace(ended(3, Reason.ERROR, []), state=State.RUNNING, reason=None, ended=None, cost={"a": 0.0}),
    ]
    path = report.write_trials(tmp_path, records)
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == [
        *("number", "name", "family", "state", "reason", "objective", "epochs", "seconds", "error"),
        *("model.hidden", "optimizer.lr", "schedule", "a", "cost/parameters"),
    ]
    assert rows[1:] == [
        [
            "0",
            "t0000 adam lr 0.01",
            "adam",
            "COMPLETE",
            "completed",
            "0.75",
            "2",
            "1.5",
            "",
            "",
            "0.01",
            "",
            "",
            "10.0",
        ],
        [
            *("1", "t0001 adam lr 0.01", "adam", "PRUNED", "pruned", "0.25", "1", "1.5", ""),
            *("[64,32]", "", "cosine", "", "10.0"),
        ],
        [
            *("2", "t0002 adam lr 0.01", "adam", "FAIL", "error", "", "0", "1.5", 'LookupError: "a, b"\nand more'),
            *("", "0.01", "", "", ""),
        ],
        ["3", "t0003 adam lr 0.01", "adam", "RUNNING", "", "", "0", "", "", "", "0.01", "", "0.0", ""],
    ]


def test_the_summary_counts_states_reasons_and_epochs(tmp_path: Path) -> None:
    records = [
        ended(0, Reason.COMPLETED, [0.5, 0.75]),
        ended(1, Reason.PRUNED, [0.25]),
        ended(2, Reason.PRUNED, [0.25]),
        replace(ended(3, Reason.ERROR, []), state=State.WAITING, reason=Reason.INTERRUPTED),
        replace(ended(4, Reason.ERROR, [0.1]), state=State.RUNNING, reason=None),
    ]
    content = report.summary("mine", UP, records, records[0], {"seconds": 2.0, "executor": "lightning"})
    path = report.write_summary(tmp_path, content)
    assert json.loads(path.read_text()) == {
        "study": "mine",
        "direction": "maximize",
        "metric": "val/accuracy",
        "best_value": 0.75,
        "best_trial": 0,
        "states": {"COMPLETE": 1, "PRUNED": 2, "RUNNING": 1, "WAITING": 1},
        "reasons": {"completed": 1, "interrupted": 1, "pruned": 2},
        "trials": 5,
        "trained_epochs": 5,
        "seconds": 2.0,
        "executor": "lightning",
    }


def test_a_summary_without_a_best() -> None:
    content = report.summary("mine", DOWN, [], None, {})
    assert (content["best_value"], content["best_trial"], content["states"]) == (None, None, {})


@pytest.mark.parametrize(
    ("objective", "history"), [(UP, [(0, 0.5), (2, 0.75), (5, 0.875)]), (DOWN, [(0, 0.5), (3, 0.25)])]
)
def test_the_history_has_the_trials_that_were_better_than_all_before(
    objective: Objective, history: list[tuple[int, float]]
) -> None:
    values = [0.5, 0.5, 0.75, 0.25, 0.6, 0.875]
    records = [ended(number, Reason.COMPLETED, [value]) for number, value in enumerate(values)]
    pruned = [ended(6, Reason.PRUNED, [0.99]), ended(7, Reason.PRUNED, [0.01]), ended(8, Reason.ERROR, [])]
    assert report.best_history([*records, *pruned], objective) == history


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = report.write_summary(tmp_path, {"a": 1})
    with path.open() as old:
        report.write_summary(tmp_path, {"a": 2})
        assert json.load(old) == {"a": 1}
    assert json.loads(path.read_text()) == {"a": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]
