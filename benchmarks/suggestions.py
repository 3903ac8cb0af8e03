"""Whether a TPE that learns from a bounded number of trials suggests as well as Optuna's, which learns from all.

    python benchmarks/suggestions.py [--trials 600] [--learns-from 300] [--seeds 20] [--processes 2] [--only branin]

Both minimize the same functions from the same seeds; until the bound is reached they draw alike. For each function it
prints the median of how far the best value found lies above the minimum, on how many seeds ours is nearer, and the p of
the two-sided Wilcoxon signed-rank test on the logarithms: small where one of them is better.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import statistics
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from typing import NamedTuple

import optuna
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import TrialState
from scipy.stats import wilcoxon

from autotune.samplers import TPE

EPOCHS = 27
# Regrets below this are equal: nobody could measure the difference of two trainings.
LEAST = 1e-9


def branin(trial: optuna.Trial) -> float:
    """Branin (Dixon and Szegö 1978), its minimum taken off."""
    x, y = trial.suggest_float("x", -5.0, 10.0), trial.suggest_float("y", 0.0, 15.0)
    bowl = (y - 5.1 * x**2 / (4 * math.pi**2) + 5 * x / math.pi - 6) ** 2
    return bowl + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10 - 0.39788735772973816


_ALPHA = (1.0, 1.2, 3.0, 3.2)
_A = (
    (10, 3, 17, 3.5, 1.7, 8),
    (0.05, 10, 17, 0.1, 8, 14),
    (3, 3.5, 1.7, 10, 17, 8),
    (17, 8, 0.05, 10, 0.1, 14),
)
_P = (
    (0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886),
    (0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991),
    (0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650),
    (0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381),
)


def hartmann6(trial: optuna.Trial) -> float:
    """Hartmann's function of 6 numbers (Dixon and Szegö 1978), its minimum taken off."""
    x = [trial.suggest_float(f"x{index}", 0.0, 1.0) for index in range(6)]
    wells = (
        alpha * math.exp(-sum(a * (each - p) ** 2 for a, p, each in zip(row, places, x, strict=True)))
        for alpha, row, places in zip(_ALPHA, _A, _P, strict=True)
    )
    return 3.32236801141551 - sum(wells)


def rosenbrock5(trial: optuna.Trial) -> float:
    """Rosenbrock's valley (1960) in 5 numbers."""
    x = [trial.suggest_float(f"x{index}", -2.0, 2.0) for index in range(5)]
    return sum(100 * (after - each**2) ** 2 + (1 - each) ** 2 for each, after in pairwise(x))


def tree(trial: optuna.Trial) -> float:
    """Shaped as optimizer=sweep and schedule=sweep are: a branch has numbers of its own, and the best is one of 12."""
    optimizer = trial.suggest_categorical("optimizer", ["sgd", "bgd", "adam"])
    schedule = trial.suggest_categorical("schedule", ["constant", "exponential", "cosine", "dynamic"])
    rate = math.log10(trial.suggest_float(f"optimizer.{optimizer}.lr", 1e-4, 10.0, log=True))
    value = 0.0 if trial.suggest_categorical("batch_norm", [False, True]) else 0.1
    if optimizer != "bgd":
        value += 0.05 * abs(math.log2(trial.suggest_categorical("batch_size", [16, 32, 64, 128, 256])) - 5)
    match optimizer:
        case "sgd":
            value += (rate + 1.3) ** 2 + 0.15 * (trial.suggest_float("optimizer.sgd.momentum", 0.0, 1.0) - 0.9) ** 2
        case "adam":
            beta = trial.suggest_float("optimizer.adam.beta", 0.5, 1.0)
            value += 0.02 + 0.5 * (rate + 2.7 + beta) ** 2 + (beta - 0.93) ** 2
        case "bgd":
            value += 0.3 + (rate - 0.2) ** 2
    match schedule:
        case "constant":
            value += 0.1
        case "exponential":
            value += 0.03 + 4 * (trial.suggest_float("schedule.exponential.decay", 0.8, 1.0) - 0.95) ** 2
        case "dynamic":
            decay = math.log10(trial.suggest_float("schedule.dynamic.decay", 0.5, 50.0, log=True))
            value += 0.3 * (decay - 1.1 - 0.1 * rate) ** 2
        case "cosine":
            value += 0.02
    return value


class Setting(NamedTuple):
    """A function and how it is searched."""

    function: Callable[[optuna.Trial], float]
    at_once: int = 1
    pruned: bool = False


SETTINGS = {
    "branin": Setting(branin),
    "hartmann6": Setting(hartmann6),
    "rosenbrock5": Setting(rosenbrock5),
    "tree": Setting(tree),
    "tree, pruned": Setting(tree, pruned=True),
    "tree, 32 at once": Setting(tree, at_once=32),
    "hartmann6, 32 at once": Setting(hartmann6, at_once=32),
}


def regret(name: str, trials: int, learns_from: int, seed: int, is_ours: bool) -> float:
    """How far the best value found lies above the minimum."""
    setting = SETTINGS[name]
    sampler: BaseSampler
    if is_ours:
        sampler = TPE(learns_from=learns_from, seed=seed)
    else:
        sampler = TPESampler(multivariate=True, group=True, seed=seed)
    pruner = (
        optuna.pruners.SuccessiveHalvingPruner(reduction_factor=3) if setting.pruned else optuna.pruners.NopPruner()
    )
    study = optuna.create_study(sampler=sampler, pruner=pruner)
    best = math.inf
    for _ in range(trials // setting.at_once):
        asked = [study.ask() for _ in range(setting.at_once)]
        values = [setting.function(trial) for trial in asked]
        for trial, value in zip(asked, values, strict=True):
            best = min(best, value)
            if setting.pruned and _is_pruned(trial, value):
                study.tell(trial, state=TrialState.PRUNED)
            else:
                study.tell(trial, value)
    return best


def _is_pruned(trial: optuna.Trial, value: float) -> bool:
    """Whether it is stopped on its way down to its value."""
    for epoch in range(1, EPOCHS):
        trial.report(value + 1 / epoch, epoch)
        if trial.should_prune():
            return True
    return False


def _run(run: tuple[str, int, bool], trials: int, learns_from: int) -> float:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    name, seed, is_ours = run
    return regret(name, trials, learns_from, seed, is_ours)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=600)
    parser.add_argument("--learns-from", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=list(SETTINGS), choices=list(SETTINGS))
    arguments = parser.parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, optuna {optuna.__version__}; {arguments.seeds} seeds of "
        f"{arguments.trials} trials, ours learns from {arguments.learns_from}"
    )
    runs = [(name, seed, ours) for name in arguments.only for seed in range(arguments.seeds) for ours in (True, False)]
    work = partial(_run, trials=arguments.trials, learns_from=arguments.learns_from)
    print(f"{'':<22} {'Optuna':>10} {'ours':>10}   ours nearer   Wilcoxon p")
    found = {}
    with get_context("spawn").Pool(arguments.processes) as pool:
        for run, reached in zip(runs, pool.imap(work, runs), strict=True):
            found[run] = max(reached, LEAST)
            if run == (run[0], arguments.seeds - 1, False):
                ours, theirs = (
                    [found[run[0], seed, is_ours] for seed in range(arguments.seeds)] for is_ours in (True, False)
                )
                _compare(run[0], ours, theirs)


def _compare(name: str, ours: Sequence[float], theirs: Sequence[float]) -> None:
    differences = [math.log(mine / its) for mine, its in zip(ours, theirs, strict=True)]
    p = wilcoxon(differences).pvalue if any(differences) else 1.0
    nearer, unequal = sum(each < 0 for each in differences), sum(each != 0 for each in differences)
    print(
        f"{name:<22} {statistics.median(theirs):>10.3g} {statistics.median(ours):>10.3g}   "
        f"{nearer:>2} of {unequal:<6} {p:>10.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
