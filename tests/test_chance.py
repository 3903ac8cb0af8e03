from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import autotune
from autotune.chance import judge, luck
from autotune.trial import Chance, Record, State

RECORD = Record(0, "t0000", "adam", State.COMPLETE, None, "search", {}, {}, 0.9, {}, {}, datetime.now(UTC))


def records(*curves: list[float]) -> list[Record]:
    return [replace(RECORD, number=number, curves={"val/accuracy": curve}) for number, curve in enumerate(curves)]


@given(st.integers(1, 200), st.floats(0.01, 0.99), st.data())
def test_the_luck_of_one_look_at_an_accuracy_is_the_binomials(samples: int, level: float, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, samples))
    expected = stats.binom.sf(right - 1, samples, level)
    assert luck(Chance("val/accuracy", level, samples), right / samples, 1) == pytest.approx(
        expected, rel=1e-6, abs=1e-12
    )


def test_the_luck_of_one_look_at_an_error_is_the_normals() -> None:
    assert luck(Chance("val/rmse", 2.0, 50, error=0.1), 1.8, 1) == pytest.approx(stats.norm.cdf(-2))


def test_more_looks_need_a_better_best() -> None:
    chance = Chance("val/accuracy", 0.5, 20)
    assert luck(chance, 0.8, 1) < 0.01
    assert luck(chance, 0.8, 100) > 0.5
    assert luck(chance, 0.5, 100) == 1.0


def test_the_best_of_random_guesses_is_seldom_taken_for_learning() -> None:
    # Bonferroni promises at most 5 in 100; 400 searches of 50 guesses on 40 samples, seeded.
    random = numpy.random.default_rng(0)
    right = random.binomial(40, 0.5, size=(400, 50)).max(axis=1) / 40
    taken = [luck(Chance("val/accuracy", 0.5, 40), float(best), 50) < 0.05 for best in right]
    assert sum(taken) / len(taken) <= 0.05


def test_a_search_that_learnt_says_so() -> None:
    verdict = judge(records([0.1, 0.5], [0.2, 0.97]), Chance("val/accuracy", 0.1, 360), None)
    assert verdict is not None
    assert (verdict.learnt, verdict.best, verdict.looks) == (True, 0.97, 4)


def test_a_search_that_did_not_says_what_guessing_reaches() -> None:
    verdict = judge(records([0.5, 0.6], [float("nan"), 0.55]), Chance("val/accuracy", 0.5, 20), 0.4)
    assert verdict is not None
    assert not verdict.learnt
    assert str(verdict).startswith(
        "the best val/accuracy of 3 judged epochs, 0.6, is within what guessing reaches: 0.5 on 20 samples, and"
    )


def test_only_the_rows_say_that_nothing_was_learnt() -> None:
    chance, found = Chance("val/accuracy", 0.5, 20), records([0.5, 0.6])
    assert judge(found, chance, None) is None
    for paired, learnt in ((0.02, False), (0.01, True)):  # of two looks, in two tests
        verdict = judge(found, chance, paired)
        assert verdict is not None
        assert verdict.learnt == learnt
        assert verdict.luck == pytest.approx(paired * 4)


def test_what_is_not_measured_is_not_judged() -> None:
    assert judge(records([0.5]), None, 0.9) is None
    assert judge(records([0.5]), Chance("val/rmse", 1.0, 20, 0.1), 0.9) is None


RANDOM = numpy.random.default_rng(0)
FEATURES = RANDOM.normal(size=(1500, 3)).astype("float32")
SIGNAL = FEATURES[:, 0] + 0.5 * FEATURES[:, 1]
TARGETS = {
    "skewed": numpy.minimum(numpy.exp(0.6 * RANDOM.standard_t(4, size=1500) + 0.25 * SIGNAL), 40),
    "rare": (RANDOM.random(1500) < 1 / (1 + numpy.exp(3 - 1.5 * SIGNAL))).astype(int),
    "noise": numpy.exp(2 * RANDOM.normal(size=1500)),
}


@pytest.mark.parametrize("executor", ["lightning", "population"])
@pytest.mark.parametrize(
    ("target", "objective"),
    [("skewed", "rmse"), ("skewed", "r2"), ("rare", "accuracy"), ("rare", "roc_auc"), ("noise", "rmse")],
)
def test_a_search_names_a_winner_where_there_is_something_to_learn(
    target: str, objective: str, executor: str, tmp_path: Path
) -> None:
    config = {
        "optimizer": "adam",
        "optimizer.lr": "choice(0.01,0.02)",
        "schedule": "constant",
        "data.batch_size": 64,
        "objective": objective,
        "budget.trials": 2,
        "trainer": {"max_epochs": 4, "accelerator": "cpu"},
        "confirm.top": 0,
        "tracking": "none",
        "live": False,
        "home": tmp_path,
        "executor": executor,
    }
    found = autotune.run_search(config, data=(FEATURES, TARGETS[target].astype("float32" if target != "rare" else int)))
    verdict = found.outcome.verdict
    assert verdict is not None
    assert verdict.learnt == (target != "noise")
    assert autotune.load_study(found.name, tmp_path).outcome.is_noise == (target == "noise")
