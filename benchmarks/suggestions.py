"""Whether the TPE of ours suggests what Optuna's does, on known functions from the same seeds.

    python benchmarks/suggestions.py [--trials 200] [--seeds 20] [--processes 2] [--only branin]

For each function it prints the median of how far the best value found lies above the minimum, of both; on how many
seeds all trials are alike; the first that is not; and how long Optuna's takes for the whole search compared with ours.
Where candidates are equally promising to the last digits, rounding tells which is taken, and there the two may part.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from typing import Any, NamedTuple

import optuna
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import TrialState

from autotune.samplers import TPE

EPOCHS = 27


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


class Searched(NamedTuple):
    """What a search tried, how far its best lies above the minimum, and the processor time it took, seconds."""

    points: list[dict[str, Any]]
    regret: float
    seconds: float


def search(name: str, sampler: BaseSampler, trials: int) -> Searched:
    """Minimize one of the functions."""
    setting = SETTINGS[name]
    pruner = (
        optuna.pruners.SuccessiveHalvingPruner(reduction_factor=3) if setting.pruned else optuna.pruners.NopPruner()
    )
    study = optuna.create_study(sampler=sampler, pruner=pruner)
    best, begun = math.inf, time.process_time()
    for _ in range(trials // setting.at_once):
        asked = [study.ask() for _ in range(setting.at_once)]
        values = [setting.function(trial) for trial in asked]
        for trial, value in zip(asked, values, strict=True):
            best = min(best, value)
            if setting.pruned and _is_pruned(trial, value):
                study.tell(trial, state=TrialState.PRUNED)
            else:
                study.tell(trial, value)
    seconds = time.process_time() - begun
    return Searched([trial.params for trial in study.get_trials(deepcopy=False)], best, seconds)


def _is_pruned(trial: optuna.Trial, value: float) -> bool:
    """Whether it is stopped on its way down to its value."""
    for epoch in range(1, EPOCHS):
        trial.report(value + 1 / epoch, epoch)
        if trial.should_prune():
            return True
    return False


def _run(run: tuple[str, int], trials: int) -> tuple[Searched, Searched]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    name, seed = run
    theirs = TPESampler(multivariate=True, group=True, seed=seed)
    return search(name, TPE(seed=seed), trials), search(name, theirs, trials)


def _first_difference(ours: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]]) -> float:
    """The first trial that is not the same to nine digits; infinite where all are."""
    for number, (mine, its) in enumerate(zip(ours, theirs, strict=True)):
        if mine.keys() != its.keys() or not all(_is_same(mine[name], its[name]) for name in mine):
            return number
    return math.inf


def _is_same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
    return bool(one == other)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=list(SETTINGS), choices=list(SETTINGS))
    arguments = parser.parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, optuna {optuna.__version__}; {arguments.seeds} seeds of "
        f"{arguments.trials} trials"
    )
    print(f"{'':<22} {'Optuna':>10} {'ours':>10}   seeds alike   first unlike   Optuna takes")
    runs = [(name, seed) for name in arguments.only for seed in range(arguments.seeds)]
    with get_context("spawn").Pool(arguments.processes) as pool:
        searched = pool.imap(partial(_run, trials=arguments.trials), runs)
        for name in arguments.only:
            _compare(name, [next(searched) for _ in range(arguments.seeds)])


def _compare(name: str, searched: Sequence[tuple[Searched, Searched]]) -> None:
    ours, theirs = (statistics.median(each[side].regret for each in searched) for side in (0, 1))
    differences = [_first_difference(mine.points, its.points) for mine, its in searched]
    first, alike = min(differences), f"{differences.count(math.inf)} of {len(differences)}"
    times = sum(its.seconds for _, its in searched) / sum(mine.seconds for mine, _ in searched)
    said = "none" if first == math.inf else f"trial {first:.0f}"
    print(f"{name:<22} {theirs:>10.3g} {ours:>10.3g}   {alike:<11}   {said:<12} {times:>8.1f} times", flush=True)


if __name__ == "__main__":
    main()
