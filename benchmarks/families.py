"""What comparing each trial with its own optimizer family first costs and finds, against plain successive halving.

    python benchmarks/families.py [--trials 120] [--seeds 3] [--schedule constant] [--sampler random] [--replay]

On digits with BGD, SGD and Adam, their rates searched, the same trials are trained three times by the population: all
to their end, with `pruner.compare=all`, which is plain ASHA, and with the default `family_then_all`; nothing is
audited. For each family it prints how many of its trials were stopped, the rate of the best that was trained to its
end, and that trial's best accuracy beside the best of the family where none is stopped; and how many epochs were
trained in all. A family's best is found where the accuracies differ by no more than one standard error of the accuracy.
With --sampler tpe the trials are not the same: each search draws its own.

With --replay only those that nobody stops are trained. What each way would have stopped of them, 30 in training at
once, is worked out from their curves, for several values of `pruner.until`.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import optuna
from omegaconf import DictConfig, OmegaConf
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from autotune.compose import compose, plain, section
from autotune.construct import construct
from autotune.kept.ledger import Ledger
from autotune.logs import hush_libraries
from autotune.pruners import Leagues, horizon
from autotune.search import check_config
from autotune.steering import build_pruner, build_sampler
from autotune.study import Coordinator
from autotune.tracking.none import NoTracker
from autotune.trial import Reason, Record, State

FAMILIES = ("bgd", "sgd", "adam")
WAYS = {
    "none stopped": ("pruner=none",),
    "all": ("pruner=asha", "pruner.compare=all"),
    "family_then_all": ("pruner=asha", "pruner.compare=family_then_all"),
}
REPLAYED = {
    "all": ("pruner.compare=all",),
    **{f"until {until}": ("pruner.compare=family_then_all", f"pruner.until={until}") for until in (0.1, 0.2, 0.4)},
}
SLOTS = 30
VALIDATION_SAMPLES = 360


class Found(NamedTuple):
    """What a search made of a family."""

    trials: int
    stopped: int
    rate: float | None
    score: float


def composed(overrides: Sequence[str], trials: int, seed: int, home: Path) -> DictConfig:
    config = compose(
        "search",
        [
            *("study.name=families", f"study.seed={seed}", "study.enqueue=[]", f"budget.trials={trials}"),
            *("data=digits", "optimizer=sweep", "executor=population", "pruner.audit=0", f"home={home}", *overrides),
        ],
    )
    found = OmegaConf.create(plain(config))
    OmegaConf.resolve(found)
    return found


def search(overrides: Sequence[str], trials: int, seed: int, home: Path) -> list[Record]:
    config = composed(overrides, trials, seed, home)
    settings, space = check_config(config)
    ledger = Ledger(InMemoryStorage(), None, settings.name, settings.objective.direction)
    executor = construct("executor", section(config, "executor"), trials=trials)
    hush_libraries()
    Coordinator(
        settings,
        space,
        ledger,
        executor,
        NoTracker(home),
        build_sampler(section(config, "sampler"), space, seed),
        build_pruner(section(config, "pruner"), settings.objective),
    ).run()
    return ledger.records()


def replayed(records: Sequence[Record], overrides: Sequence[str], home: Path) -> list[Record]:
    """What would have come of trials that were trained to their end."""
    settings, space = check_config(config := composed(overrides, len(records), 0, home))
    pruning = build_pruner(section(config, "pruner"), settings.objective)
    leagues = Leagues(pruning, "replayed", settings.objective.direction, horizon(space))
    waiting, training, ended = deque(records), {}, []
    while waiting or training:
        while waiting and len(training) < SLOTS:
            record = waiting.popleft()
            leagues.begin(record.number, record.config)
            training[record.number] = (record, 0)
        for number, (record, epochs) in list(training.items()):
            epochs += 1
            training[number] = (record, epochs)
            value = record.curves[settings.objective.metric][epochs - 1]
            is_reported = math.isfinite(value)
            if is_reported:
                leagues.report(number, epochs, value)
            if epochs == record.epochs:
                ended.append(record)
                diverged = record.reason == Reason.DIVERGED
                leagues.end(number, TrialState[record.state.value], record.objective, diverged)
                del training[number]
            elif is_reported and leagues.would_stop(number):
                curves = {name: values[:epochs] for name, values in record.curves.items()}
                ended.append(replace(record, state=State.PRUNED, reason=Reason.PRUNED, curves=curves))
                leagues.end(number, TrialState.PRUNED)
                del training[number]
    return ended


def found(records: Sequence[Record], family: str) -> Found:
    its = [record for record in records if record.family == family]
    through = [record for record in its if record.state == State.COMPLETE and record.objective is not None]
    stopped = sum(record.reason == "pruned" for record in its)
    if not through:
        return Found(len(its), stopped, None, 0.0)
    best = max(through, key=lambda record: record.objective or 0.0)
    return Found(len(its), stopped, best.config["optimizer"]["lr"], best.objective or 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=120)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--schedule", default="constant")
    parser.add_argument("--sampler", default="random")
    parser.add_argument("--replay", action="store_true")
    parser.add_argument("--override", nargs="*", default=[], help="of conf/search.yaml, as executor.slots=8")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("autotune").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, torch {version('torch')}, optuna {optuna.__version__}; "
        f"{arguments.trials} trials, sampler {arguments.sampler}, schedule {arguments.schedule}"
    )
    common = [f"sampler={arguments.sampler}", f"schedule={arguments.schedule}", *arguments.override]
    ways = {"none stopped": WAYS["none stopped"], **REPLAYED} if arguments.replay else WAYS
    epochs: dict[str, list[int]] = {way: [] for way in ways}
    reached: dict[tuple[str, str], list[Found]] = {(way, family): [] for way in ways for family in FAMILIES}
    with tempfile.TemporaryDirectory() as home:
        for seed in range(arguments.seeds):
            whole: list[Record] = []
            for way, overrides in ways.items():
                begun = time.perf_counter()
                if way in REPLAYED and arguments.replay:
                    records = replayed(whole, [*common, *overrides], Path(home))
                else:
                    records = search([*common, *overrides], arguments.trials, seed, Path(home))
                whole = whole or records
                epochs[way].append(sum(record.epochs for record in records))
                print(f"seed {seed}, {way}: {epochs[way][-1]:,} epochs, {time.perf_counter() - begun:.0f} s")
                for family in FAMILIES:
                    its = found(records, family)
                    reached[way, family].append(its)
                    rate = "none" if its.rate is None else f"{its.rate:.2g}"
                    print(f"  {family:<5} {its.stopped:>3} of {its.trials:<3} stopped  lr {rate:<8} {its.score:.4f}")
    _compare(epochs, reached, arguments.seeds)


def _compare(epochs: dict[str, list[int]], reached: dict[tuple[str, str], list[Found]], seeds: int) -> None:
    for way in list(epochs)[1:]:
        print(f"{way}: {sum(epochs[way]):,} epochs, {sum(epochs[way]) / sum(epochs['all']):.2f} of plain ASHA's")
        for family in FAMILIES:
            pairs = list(zip(reached["none stopped", family], reached[way, family], strict=True))
            stopped, trials = (sum(getattr(its, name) for _, its in pairs) for name in ("stopped", "trials"))
            behind = [best.score - its.score for best, its in pairs]
            hits = sum(
                gap <= math.sqrt(best.score * (1 - best.score) / VALIDATION_SAMPLES)
                for gap, (best, _) in zip(behind, pairs, strict=True)
            )
            print(
                f"  {family:<5} {stopped} of {trials} stopped, best found in {hits} of {seeds}, "
                f"behind its best by {statistics.mean(behind):.4f}"
            )


if __name__ == "__main__":
    main()
