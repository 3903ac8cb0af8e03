"""What the engine of a search costs a trial as the study grows, ours against Optuna as a user writes it.

    python benchmarks/scaling.py [--sizes 100 1000 3000 10000] [--peer-sizes 100 1000 3000] [--at-once 1]

Ours is one search of the default tree (conf/search.yaml) with its sampler, pruner, journal and MLflow mirror; only
the training is left out: of each trial 27 epochs are made up. The peer is told the same trials and goes on from there:
ask, report and should_prune each epoch, tell, with TPESampler(multivariate=True, group=True) and
SuccessiveHalvingPruner on JournalStorage, without any mirror. Figures are milliseconds of processor time a trial, over
the last trials before each size: `feeding` is the thread that hands trials to the process that writes MLflow, and
`mirror` that process, which runs beside the training. `waited` is how long training waits by the clock, for the disk
and for the processor too.
"""

from __future__ import annotations

import argparse
import copy
import logging
import math
import os
import platform
import random
import resource
import sqlite3
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import optuna
import psutil
from omegaconf import DictConfig, OmegaConf
from optuna.pruners import SuccessiveHalvingPruner
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from autotune.compose import compose, plain, section
from autotune.kept.ledger import Ledger
from autotune.kept.outcome import Outcome
from autotune.kept.storage import open_storage
from autotune.search import check_config
from autotune.space import Space
from autotune.steering import build_pruner, build_sampler
from autotune.study import Coordinator
from autotune.tracking import Ending
from autotune.tracking.mlflow import MlflowTracker
from autotune.trial import Desk, End, Epoch, Reason

EPOCHS = 27
WINDOW = 50  # trials that a figure is the mean of
PEER_WINDOW = 10
ENGINE = ("ask", "report+prune", "tell+journal", "feeding")
MIRROR = "mirror"


def curve(config: Mapping[str, Any]) -> list[dict[str, float]]:
    """Made up: the nearer the rate to the optimizer's best, the better, with noise in the trial and in each epoch."""
    chance = random.Random(repr(config))
    best = 1.0 if config["optimizer"]["name"] == "bgd" else 0.1
    reach = 1 / (1 + abs(math.log10(config["optimizer"]["lr"] / best))) + chance.gauss(0, 0.05)
    parts = (reach * epoch / EPOCHS + chance.gauss(0, 0.01) for epoch in range(1, EPOCHS + 1))
    return [{"train/loss": 1 - part, "val/loss": 2 - part, "val/accuracy": part, "lr": 0.1} for part in parts]


def children_time() -> float:
    """Seconds of processor time of this process's children, those that have ended included."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    times = [child.cpu_times() for child in psutil.Process().children()]
    return ended.ru_utime + ended.ru_stime + sum(each.user + each.system for each in times)


class Meter:
    """Processor time by part: of calls of the main thread, of all other threads, and of child processes."""

    def __init__(self) -> None:
        self.spent: Counter[str] = Counter()
        self._children, self._process, self._thread = children_time(), time.process_time(), time.thread_time()

    def timed(self, part: str, call: Callable[[], Any]) -> Any:
        begun, wall = time.thread_time(), time.perf_counter()
        value = call()
        self.spent[part] += time.thread_time() - begun
        self.spent["waited"] += time.perf_counter() - wall
        return value

    def stop(self, trials: int) -> dict[str, float]:
        """Milliseconds a trial by part, and how long the calls took by the clock."""
        self.spent["feeding"] = time.process_time() - self._process - (time.thread_time() - self._thread)
        self.spent[MIRROR] = children_time() - self._children
        return {part: 1000 * seconds / trials for part, seconds in self.spent.items()}


class MadeUp:
    """An executor that trains nothing and measures its desk; it waits for the mirror before and after a window.

    Args:
        sizes: At which to measure.
        at_once: How many trials it asks for before it goes on with any.
        database: Where the mirror keeps its runs.
    """

    name = "made up"

    def __init__(self, sizes: Sequence[int], at_once: int, database: Path) -> None:
        self._ends = {size: max(0, size - WINDOW) for size in sizes}
        self._at_once = at_once
        self._database = database
        self.figures: dict[int, dict[str, float]] = {}

    def refuses(self, config: Mapping[str, Any]) -> str | None:
        return None

    def chance(self, config: Mapping[str, Any]) -> None:
        return None

    def rehearse(self, config: Mapping[str, Any]) -> None: ...

    def run(self, desk: Desk) -> None:
        begun = ended = 0
        meter, since = Meter(), 0
        lane: list[tuple[int, list[dict[str, float]], int]] = []
        starts = set(self._ends.values())
        while True:
            while len(lane) < self._at_once and (trial := meter.timed("ask", desk.next_trial)) is not None:
                lane.append((trial.number, curve(trial.config), 0))
                begun += 1
            if not lane:
                return
            number, epochs, epoch = lane.pop(0)
            heard = Epoch(number, epoch, epochs[epoch])
            reason = meter.timed("report+prune", lambda heard=heard: desk.judge(heard))
            if reason is None and epoch + 1 < EPOCHS:
                lane.append((number, epochs, epoch + 1))
                continue
            end = End(number, reason or Reason.COMPLETED, {"cost/epoch_seconds": 0.1})
            meter.timed("tell+journal", lambda end=end: desk.ended(end))
            ended += 1
            if ended in self._ends:
                self._await_mirror(ended)
                self.figures[ended] = meter.stop(ended - since)
            if ended in starts:
                self._await_mirror(ended)
                meter, since = Meter(), ended

    def _await_mirror(self, trials: int) -> None:
        """Wait until the mirror has written the end of so many trials."""
        while True:
            if self._database.exists():
                with closing(sqlite3.connect(self._database)) as connection:
                    try:
                        written = connection.execute("SELECT count(*) FROM runs WHERE status != 'RUNNING'").fetchone()[
                            0
                        ]
                    except sqlite3.OperationalError:
                        written = 0  # the schema is being made
                if written >= trials:
                    return
            time.sleep(0.1)


def ours(config: DictConfig, sizes: Sequence[int], at_once: int, home: Path) -> tuple[MadeUp, list[FrozenTrial], str]:
    """Search; returns what was measured, the trials, and a line on the whole."""
    settings, space = check_config(config)
    settings.folder.mkdir(parents=True)
    ledger = Ledger(*open_storage({}, settings.folder), settings.name, settings.objective.direction)
    executor = MadeUp(sizes, at_once, home / "mlflow.db")
    tracker = MlflowTracker(home, flush_seconds=0.5, uri=f"sqlite:///{home}/mlflow.db")
    coordinator = Coordinator(
        settings,
        space,
        ledger,
        executor,
        tracker,
        build_sampler(section(config, "sampler"), space, settings.seed),
        build_pruner(section(config, "pruner"), settings.objective),
    )
    own, children, wall = time.process_time(), children_time(), time.perf_counter()
    tracker.search_started(ledger.study, plain(config), "", resumed=False)
    coordinator.run()
    took, ended = time.perf_counter() - wall, time.process_time()
    outcome = Outcome.of(ledger, settings.name, settings.objective, {})
    states = Counter(record.state.value for record in outcome.records)
    tracker.search_ended(Ending("FINISHED", outcome.best, states, outcome.history))
    tracker.close()
    trials = ledger.trials()
    ledger.close()
    count = len(trials)
    line = (
        f"the whole search of {count:,} trials, {coordinator.epochs / count:.1f} epochs a trial, ms a trial: "
        f"{1000 * (ended - own) / count:.1f} of processor, made-up epochs included, and "
        f"{1000 * (children_time() - children) / count:.1f} of the mirror's process, "
        f"{1000 * took / count:.1f} by the clock; its end, once: "
        f"{time.process_time() - ended:.1f} s of processor, {time.perf_counter() - wall - took:.1f} s by the clock"
    )
    return executor, trials, line


def peer(space: Space, earlier: Sequence[FrozenTrial], is_pruned: bool, folder: Path) -> dict[str, float]:
    """Optuna as a user writes it, told of earlier trials; the same parts without MLflow's."""
    storage = JournalStorage(JournalFileBackend(str(folder / f"{len(earlier)}.journal")))
    study = optuna.create_study(
        storage=storage,
        direction="maximize",
        sampler=TPESampler(multivariate=True, group=True, seed=0),
        pruner=SuccessiveHalvingPruner(reduction_factor=3) if is_pruned else optuna.pruners.NopPruner(),
    )
    for trial in earlier:
        study.add_trial(
            create_trial(
                state=trial.state,
                values=trial.values,
                params=trial.params,
                distributions=trial.distributions,
                system_attrs=trial.system_attrs,
                intermediate_values=trial.intermediate_values,
            )
        )
    meter = Meter()
    for _ in range(PEER_WINDOW):
        trial = meter.timed("ask", study.ask)
        params = meter.timed("ask", lambda trial=trial: space.suggest(trial))
        values = [epoch["val/accuracy"] for epoch in curve(space.resolve(params))]
        if meter.timed("report+prune", lambda trial=trial, values=values: _report(trial, values)):
            meter.timed("tell+journal", lambda trial=trial: study.tell(trial, state=TrialState.PRUNED))
        else:
            meter.timed("tell+journal", lambda trial=trial, values=values: study.tell(trial, max(values)))
    return meter.stop(PEER_WINDOW)


def _report(trial: optuna.Trial, values: Sequence[float]) -> bool:
    for step, value in enumerate(values, 1):
        trial.report(value, step)
        if step < EPOCHS and trial.should_prune():
            return True
    return False


def _row(size: int, who: str, figures: Mapping[str, float]) -> float:
    total = sum(figures[part] for part in (*ENGINE, MIRROR))
    parts = "".join(f"{figures[part]:>14.1f}" for part in (*ENGINE, MIRROR))
    print(f"{size:>7,} {who:<8}{parts}{total:>9.1f}{figures['waited']:>9.1f}", flush=True)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1_000, 3_000, 10_000])
    parser.add_argument("--peer-sizes", type=int, nargs="*", default=[100, 1_000, 3_000])
    parser.add_argument("--pruner", choices=("asha", "none"), default="asha")
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--override", nargs="*", default=[], help="of conf/search.yaml, as sampler.n_startup_trials=20")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("autotune").setLevel(logging.WARNING)
    warnings.simplefilter("ignore")
    sizes = sorted(arguments.sizes)
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"optuna {optuna.__version__}, mlflow {version('mlflow')}; pruner {arguments.pruner}, "
        f"{arguments.at_once} at once"
    )
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        composed = compose(
            "search",
            [
                "study.name=scaling",
                f"home={home}",
                f"trainer.max_epochs={EPOCHS}",
                f"budget.trials={sizes[-1]}",
                f"pruner={arguments.pruner}",
                *arguments.override,
            ],
        )
        config = OmegaConf.create(plain(composed))
        OmegaConf.resolve(config)
        executor, trials, line = ours(copy.deepcopy(config), sizes, arguments.at_once, home)
        heads = "".join(f"{part:>14}" for part in (*ENGINE, MIRROR))
        print(f"{'trials':>7} {'':<8}{heads}{'all':>9}{'waited':>9}   ms a trial")
        totals = {size: _row(size, "ours", executor.figures[size]) for size in sizes}
        space = check_config(config)[1]
        for size in sorted(set(arguments.peer_sizes) & set(sizes)):
            earlier = [trial for trial in trials[: size - PEER_WINDOW] if trial.state.is_finished()]
            theirs = _row(size, "Optuna", peer(space, earlier, arguments.pruner == "asha", home))
            print(f"{'':>7} Optuna, without a mirror, takes {theirs / totals[size]:.1f} times ours with one")
    print(f"ours at {sizes[-1]:,} trials takes {totals[sizes[-1]] / totals[sizes[0]]:.2f} times ours at {sizes[0]:,}")
    print(line)


if __name__ == "__main__":
    main()
