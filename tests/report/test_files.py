"""best.yaml, the tables of the trials and summary.json of made-up trials."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import yaml

from autotune import report
from autotune.kept.outcome import Outcome
from autotune.report import files
from autotune.settings import Objective
from autotune.trial import Reason, Record, State

from . import made

UP, DOWN = made.UP, made.DOWN


def ended(number: int, reason: Reason | None, accuracy: Sequence[float], **changes: Any) -> Record:
    """A trial of Adam, with a table of few columns."""
    config: dict[str, Any] = {"optimizer": {"name": "adam", "lr": 0.01}, "seed": number}
    config |= {"data": {}, "model": {}, "schedule": {"name": "constant"}}
    config |= {"objective": {"metric": UP.metric, "direction": "maximize", "worst": 0.0}}
    told = made.record(number, reason, accuracy, config, params={"optimizer.lr": 0.01}, cost={"cost/parameters": 10.0})
    return replace(told, **{"name": f"t{number:04d} adam lr 0.01", **changes})


def study(records: Sequence[Record], objective: Objective = UP, seconds: float = 0.0, **notes: Any) -> Outcome:
    return Outcome("mine", objective, {}, [], records, [], seconds, notes)


def test_the_best_config_says_where_it_comes_from_and_what_to_type(tmp_path: Path) -> None:
    found = study([ended(0, Reason.COMPLETED, [0.5, 0.8, 0.8, 0.7])])
    path = files.write_best(tmp_path, found)
    text = path.read_text()
    assert path == tmp_path / "best.yaml"
    assert text.startswith("# t0000 adam lr 0.01: val/accuracy 0.8\n# python -m autotune.train from=mine\n")
    content = yaml.safe_load(text)
    assert content["optimizer"] == {"name": "adam", "lr": 0.01}
    assert content["origin"] == {
        "study": "mine",
        "trial": 0,
        "metric": "val/accuracy",
        "value": 0.8,
        "best_epoch": 2,
    }


def test_the_best_config_has_the_confirmed_mean(tmp_path: Path) -> None:
    found = study([ended(0, Reason.COMPLETED, [0.9])])
    again = [
        replace(found.records[0], objective=value, config={**found.records[0].config, "seed": seed})
        for seed, value in ((1, 0.7), (2, 0.8))
    ]
    content = yaml.safe_load(files.write_best(tmp_path, replace(found, confirmations=again)).read_text())
    confirmed = content["origin"]["confirmed"]
    assert (confirmed["mean"], confirmed["seeds"]) == (pytest.approx(0.75), 2)
    assert confirmed["low"] < 0.7 < 0.8 < confirmed["high"]


@pytest.mark.parametrize(("objective", "best_epoch"), [(UP, 2), (DOWN, 1)])
def test_the_best_epoch_is_the_best_whichever_way_is_better(
    tmp_path: Path, objective: Objective, best_epoch: int
) -> None:
    record = replace(ended(0, Reason.COMPLETED, [0.5, 0.8, 0.7]), curves={objective.metric: [0.5, 0.8, 0.7]})
    files.write_best(tmp_path, study([record], objective))
    assert yaml.safe_load((tmp_path / "best.yaml").read_text())["origin"]["best_epoch"] == best_epoch


def several() -> list[Record]:
    return [
        ended(0, Reason.COMPLETED, [0.5, 0.75], would_stop=1),
        ended(1, Reason.PRUNED, [0.25], params={"schedule": "cosine", "model.hidden": "[64,32]"}),
        ended(2, Reason.ERROR, [], cost={}, error='LookupError: "a, b"\nand more'),
        ended(3, None, [], cost={"a": 0.0}),
    ]


def test_the_table_has_every_parameter_and_cost_that_any_trial_has(tmp_path: Path) -> None:
    path = files.write_trials(tmp_path, study(several()))
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == [
        *("number", "name", "stage", "family", "state", "reason", "objective", "epochs", "would_stop", "seconds"),
        *("error", "model.hidden", "optimizer.lr", "schedule", "a", "cost/parameters"),
    ]
    assert rows[1:] == [
        [
            *("0", "t0000 adam lr 0.01", "search", "adam", "COMPLETE", "completed", "0.75", "2", "1", "2.0", ""),
            *("", "0.01", "", "", "10.0"),
        ],
        [
            *("1", "t0001 adam lr 0.01", "search", "adam", "PRUNED", "pruned", "0.25", "1", "", "1.0", ""),
            *("[64,32]", "", "cosine", "", "10.0"),
        ],
        [
            *("2", "t0002 adam lr 0.01", "search", "adam", "FAIL", "error", "", "0", "", "0.0"),
            *('LookupError: "a, b"\nand more', "", "0.01", "", "", ""),
        ],
        [
            *("3", "t0003 adam lr 0.01", "search", "adam", "RUNNING", "", "", "0", "", "", ""),
            *("", "0.01", "", "0.0", ""),
        ],
    ]


def test_the_parquet_table_has_the_same_rows_with_types(tmp_path: Path) -> None:
    mixed = [
        ended(4, Reason.COMPLETED, [0.5], params={"model.batch_norm": True, "data.batch_size": 16, "x": 1, "y": 1}),
        ended(
            5, Reason.COMPLETED, [0.5], params={"model.batch_norm": False, "data.batch_size": 32, "x": 0.5, "y": "a"}
        ),
    ]
    found = study([*several(), *mixed])
    table = pyarrow.parquet.read_table(files.write_trials_table(tmp_path, found))
    assert table.column_names == list(files.columns(found))
    kinds = {field.name: str(field.type) for field in table.schema}
    assert {name: kinds[name] for name in ("number", "objective", "would_stop", "model.batch_norm")} == {
        "number": "int64",
        "objective": "double",
        "would_stop": "int64",
        "model.batch_norm": "bool",
    }
    assert (kinds["data.batch_size"], kinds["x"], kinds["y"], kinds["schedule"]) == (
        "int64",
        "double",
        "string",
        "string",
    )
    rows = table.to_pylist()
    assert rows[0]["would_stop"] == 1
    assert rows[1]["objective"] == 0.25
    assert rows[3]["seconds"] is None
    assert rows[5]["y"] == "a"


def test_a_study_without_a_trial_has_tables_without_rows(tmp_path: Path) -> None:
    assert files.write_trials(tmp_path, study([])).read_text().count("\n") == 1
    assert pyarrow.parquet.read_table(files.write_trials_table(tmp_path, study([]))).num_rows == 0


def test_the_summary_counts_states_reasons_and_epochs(tmp_path: Path) -> None:
    records = [
        ended(0, Reason.COMPLETED, [0.5, 0.75]),
        ended(1, Reason.PRUNED, [0.25]),
        ended(2, Reason.PRUNED, [0.25]),
        ended(3, Reason.INTERRUPTED, []),
        replace(ended(4, Reason.COMPLETED, [0.1]), state=State.RUNNING, reason=None),
    ]
    found = study(records, seconds=2.0, executor="lightning", refused={"no": 2})
    content = json.loads(files.write_summary(tmp_path, found).read_text())
    told = {
        "study": "mine",
        "direction": "maximize",
        "metric": "val/accuracy",
        "best_value": 0.75,
        "best_trial": 0,
        "winner": {"trial": 0, "name": "t0000 adam lr 0.01"},
        "states": {"COMPLETE": 1, "PRUNED": 2, "RUNNING": 1, "WAITING": 1},
        "reasons": {"completed": 1, "interrupted": 1, "pruned": 2},
        "trials": 5,
        "trained_epochs": 5,
        "refused": 2,
        "seconds": 2.0,
        "executor": "lightning",
    }
    assert {key: content[key] for key in told} == told


def test_a_summary_without_a_best() -> None:
    content = files.summary(study([], DOWN))
    assert (content["best_value"], content["best_trial"], content["winner"], content["states"]) == (
        None,
        None,
        None,
        {},
    )


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = files.write_summary(tmp_path, study([], seconds=1.0))
    with path.open() as old:
        files.write_summary(tmp_path, study([], seconds=2.0))
        assert json.load(old)["seconds"] == 1.0
    assert json.loads(path.read_text())["seconds"] == 2.0
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


def test_all_files_are_written_and_named(tmp_path: Path) -> None:
    found = made.study(lambda params: 0.5 + 0.1 * params["model.batch_norm"], 12)
    written = report.write(found, tmp_path).files
    names = ["best.yaml", "trials.csv", "trials.parquet", "summary.json", "report.html"]
    assert [path.name for path in written] == names
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_what_goes_wrong_in_the_page_costs_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> Path:
        raise LookupError("no such figure")

    monkeypatch.setattr(report, "write_report", broken)
    written = report.write(made.study(lambda _: 0.5, 5, prune=False), tmp_path).files
    assert [path.name for path in written] == ["best.yaml", "trials.csv", "trials.parquet", "summary.json"]
    assert "python -m autotune.report from=made shows why" in caplog.text


@pytest.mark.parametrize("text", ["=1+1", "@SUM(A1)", "-x", "+x", "\tx", "\rx"])
def test_no_cell_is_a_formula(text: str) -> None:
    assert files.inert(text) == f"'{text}"
    assert files.inert(f"a{text}") == f"a{text}"
    assert files.inert(-1.5) == -1.5
