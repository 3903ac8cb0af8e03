from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from autotune.errors import UserError
from autotune.settings import Budget, Objective, Settings, bounds, check_folder, complete_objective

GOOD: dict[str, Any] = {
    "home": "mlruns",
    "study": {"name": "s", "seed": 0, "enqueue": []},
    "budget": {"trials": 10, "seconds": None, "epochs": None},
    "objective": {"metric": "val/loss", "direction": "minimize", "worst": 1e4},
    "confirm": {"top": 5, "seeds": 3, "most_seeds": 9},
}


def test_the_folder_is_the_homes() -> None:
    assert str(Settings.of(GOOD).folder) == "mlruns/studies/s"


DURATION = "give a number above 0, one with its units (90s, 10m, 1h30m), or null for none"
WRONG = {
    "budget.trials": (
        "budget",
        {"trials": 0},
        "budget.trials: 0 is no limit; give a whole number above 0, or null for none",
    ),
    "budget.epochs": (
        "budget",
        {"trials": 1, "epochs": 1.5},
        "budget.epochs: 1.5 is no limit; give a whole number above 0, or null for none",
    ),
    "budget.seconds": (
        "budget",
        {"seconds": "long"},
        f"budget.seconds: long is no limit; {DURATION}",
    ),
    "budget": ("budget", {}, "budget: has no limit at all; give budget.trials, budget.seconds or budget.epochs"),
    "confirm.top": (
        "confirm",
        {"top": -1, "seeds": 3, "most_seeds": 9},
        "confirm.top: -1 is no number of them; give a whole number from 0 to 1000",
    ),
    "confirm.seeds": (
        "confirm",
        {"top": 5, "seeds": "three", "most_seeds": 9},
        "confirm.seeds: three is no number of them; give a whole number from 0 to 1000",
    ),
    "confirm.most_seeds": (
        "confirm",
        {"top": 5, "seeds": 3},
        "confirm.most_seeds: None is no number of them; give a whole number from 0 to 1000",
    ),
    "direction": (
        "objective",
        {"metric": "m", "direction": "up", "worst": 0},
        "objective.direction: up is no direction; known are maximize, minimize",
    ),
    "misspelt": (
        "objective",
        {"metric": "m", "direction": "maximise", "worst": 0},
        "objective.direction: maximise is no direction; did you mean maximize?",
    ),
    "metric": (
        "objective",
        {"metric": None, "direction": "minimize", "worst": 0},
        "objective.metric: None is no name of a metric; give the name it is logged by: val/accuracy",
    ),
    "worst": (
        "objective",
        {"metric": "m", "direction": "minimize", "worst": "bad"},
        "objective.worst: bad is no finite number; give a finite number",
    ),
    "explodes_above": (
        "objective",
        {"metric": "m", "direction": "minimize", "explodes_above": 1},
        "objective.explodes_above: 1 would end a training whose loss is as it was at first; "
        "give a number above 1, or null for no limit",
    ),
    "name": (
        "study",
        {"name": "../../x", "seed": 0},
        "study.name: ../../x cannot name a folder; "
        "use letters, digits, '.', '_' and '-', beginning with a letter or digit",
    ),
    "seed": ("study", {"name": "s", "seed": -1}, "study.seed: -1 is no seed; give a whole number from 0 to 4294967295"),
    "enqueue": (
        "study",
        {"name": "s", "seed": 0, "enqueue": 3},
        "study.enqueue: 3 is no list of points; write [{optimizer: adam, optimizer.adam.lr: 0.001}]",
    ),
    "home": ("home", None, "home: None is no folder; give a path: home=mlruns"),
}


@pytest.mark.parametrize(("section", "value", "message"), WRONG.values(), ids=WRONG)
def test_wrong_settings_say_what_is_right(section: str, value: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        Settings.of({**GOOD, section: value})
    assert str(caught.value) == message


def test_the_better_value_depends_on_the_direction() -> None:
    up = Objective("m", "maximize", 0.0, None)
    down = Objective("m", "minimize", 0.0, None)
    assert up.better(2, 1)
    assert down.better(1, 2)
    assert (up.best([1, 3, 2]), down.best([2, 1, 3])) == (3, 1)


def test_any_one_limit_is_enough() -> None:
    assert Budget.of({"seconds": 1.5}) == Budget(None, 1.5, None)


@pytest.mark.parametrize(
    ("section", "seconds"),
    [
        ({"minutes": 1.5}, 90),
        ({"hours": 2, "seconds": None}, 7200),
        ({"seconds": "90s"}, 90),
        ({"seconds": "10m"}, 600),
        ({"seconds": "1.5h"}, 5400),
        ({"seconds": "1h30m"}, 5400),
        ({"minutes": "1H 30 min"}, 5400),
        ({"hours": "1 day"}, 86400),
    ],
)
def test_seconds_may_be_given_in_other_units(section: dict[str, Any], seconds: float) -> None:
    assert Budget.of(section).seconds == seconds


@pytest.mark.parametrize("value", ["", "h", "30m1h", "1h1h", "5400", "-1h", "0s", "1 fortnight", "1e5s", True, []])
def test_no_duration(value: Any) -> None:
    with pytest.raises(UserError) as refused:
        Budget.of({"trials": 1, "hours": value})
    assert (refused.value.key, refused.value.remedy) == ("budget.hours", DURATION)


def test_one_limit_is_given_once() -> None:
    with pytest.raises(UserError) as refused:
        Budget.of({"seconds": "1h", "minutes": 3, "hours": None})
    assert str(refused.value) == (
        "budget.seconds: budget.seconds=1h and budget.minutes=3 are one limit given twice; give one of them"
    )


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"trials": 1_000_000}, "1000000 trials"),
        ({"seconds": 1.5}, "1.5 seconds"),
        ({"trials": 7, "seconds": 1e7, "epochs": 12_345_678}, "7 trials or 10000000 seconds or 12345678 epochs"),
    ],
)
def test_a_budget_is_said_to_the_last_digit(limits: dict[str, Any], words: str) -> None:
    assert Budget.of(limits).words == words


@pytest.mark.parametrize(
    ("metric", "direction"),
    [
        ("val/accuracy", "maximize"),
        ("val_acc", "maximize"),
        ("val/roc_auc", "maximize"),
        ("val/r2", "maximize"),
        ("val/log_loss", "minimize"),
        ("valid/loss_epoch", "minimize"),
        ("val/rmse", "minimize"),
    ],
)
def test_the_direction_follows_the_metric(metric: str, direction: str) -> None:
    given = {"metric": metric, "direction": None, "worst": None}
    assert complete_objective(given) == {"metric": metric, "direction": direction, "worst": None}


@pytest.mark.parametrize(
    ("metric", "between"),
    [
        ("val/accuracy", (0.0, 1.0)),
        ("test_f1", (0.0, 1.0)),
        ("val/roc_auc", (0.0, 1.0)),
        ("val/r2", (-math.inf, 1.0)),
        ("val/rmse", (0.0, math.inf)),
        ("val_loss", (-math.inf, math.inf)),
        ("val_acc/dataloader_idx_0", (0.0, 1.0)),
        ("neg_mse", (-math.inf, 0.0)),
    ],
)
def test_between_which_bounds_a_metric_lies_is_told_by_its_name(metric: str, between: tuple[float, float]) -> None:
    assert bounds(metric) == between


def test_the_best_of_a_curve_with_gaps_is_that_of_its_values() -> None:
    up, down = (Objective("m", direction, None, None) for direction in ("maximize", "minimize"))
    assert up.best_of([math.nan, 0.5, math.nan, 0.75, 0.5, math.inf]) == 0.75
    assert down.best_of([math.nan, 0.5, math.nan, 0.75, -math.inf]) == 0.5
    assert up.best_of([math.nan]) is up.best_of([]) is None


@pytest.mark.parametrize(
    ("direction", "metrics"),
    [
        (
            "maximize",
            "val_acc/dataloader_idx_0 valid_acc_epoch val/acc@1 val_top5_acc val_acc5 val/top1 valAcc valacc "
            "val/f1/macro val_AUROC/dataloader_idx_12 val/mAP val.map50 neg_mean_squared_error neg_log_loss "
            "val/acc_best test-IoU",
        ),
        (
            "minimize",
            "val.loss val_loss_step val_loss_epoch val_loss/dataloader_idx_1 valLoss valloss log_loss brier_score "
            "negative_log_likelihood val/nll/mean eval_perplexity loss1 score/val_error",
        ),
    ],
)
def test_the_direction_is_found_in_names_as_people_give_them(direction: str, metrics: str) -> None:
    for metric in metrics.split():
        assert complete_objective({"metric": metric, "direction": None})["direction"] == direction, metric


@pytest.mark.parametrize("metric", ["val/dataloader_idx_0", "val_recallibration", "evaluation", "mapping", "tests"])
def test_a_word_within_another_says_nothing(metric: str) -> None:
    with pytest.raises(UserError, match=r"which way .* is better is not known"):
        complete_objective({"metric": metric, "direction": None})


def test_a_direction_that_is_given_stays() -> None:
    given = {"metric": "val/margin", "direction": "minimize", "worst": None}
    assert complete_objective(given) == given


def test_a_metric_whose_name_does_not_say_which_way_it_is_better_is_asked_for() -> None:
    with pytest.raises(UserError) as caught:
        complete_objective({"metric": "val/margin", "direction": None})
    assert str(caught.value) == (
        "objective.direction: which way val/margin is better is not known; give maximize or minimize"
    )


def test_a_home_that_is_a_link_to_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").symlink_to(tmp_path / "gone")
    with pytest.raises(UserError) as found:
        check_folder("home", str(tmp_path / "home"), "studies/s")
    assert found.value.key == "home"
    assert "is a link to nothing" in found.value.problem
