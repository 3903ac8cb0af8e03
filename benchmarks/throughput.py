"""How fast a search trains, against Optuna, Lightning and MLflow put together as a user would, and against its limit.

    python benchmarks/throughput.py [--trials 200] [--peer-trials 20] [--data digits]
    python benchmarks/throughput.py --asha [--seeds 3] [--most 1000]

The default space is drawn from once, by chance; all parts train these trials, none pruned, and mirror them to an MLflow
of their own. The peer and the lightning executor, which train one trial after the other, are given some of them, picked
so that each batch size, optimizer and BatchNorm has its share. Ours are the real command in a process of its own, from
its first word on, when all but MLflow is imported, to its last, when all is in MLflow; of the peer only
`study.optimize` is counted, after MLflow's schema is made. Ours writes its report within that time, and confirms
nothing. The peer is benchmarks/peer.py.

The limit is the matrix products of these trials alone: `torch.bmm` over K trials of one batch size, forward and
backward for each batch, forward for the validation part.

With --asha trials are pruned and drawn by TPE: how long ours takes to a value as good as the best of the peer's whole
study, in as many trials as --most says.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import optuna
import torch
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from peer import HIDDEN, Objective, Task, Tracking, default_task, hush

from autotune.compose import compose
from autotune.data.digits import Digits
from autotune.data.idx import Idx
from autotune.data.source import Split, split
from autotune.space import Space

FASHION = "/usr/share/datasets/fashion-mnist"
FASHION_LIMIT = 10_000
SLOTS = (8, 32, 128)
MEMBERS = (32, 64)
THREADS = (1, 2)


@dataclass(frozen=True)
class Timing:
    """How long training took.

    Attributes:
        seconds: To the end of the last trial.
        whole: Until everything was written too.
        epochs: Trained in all.
    """

    seconds: float
    whole: float
    epochs: int

    @property
    def ms(self) -> float:
        return 1e3 * self.whole / self.epochs


# The peer.


def peer(
    folder: Path, task: Task, trials: int, points: Sequence[Mapping[str, Any]], pruner: Any, seed: int
) -> tuple[Timing, optuna.Study]:
    """A study of the peer's: what it took, and the study."""
    folder.mkdir()
    data = split(task.source)
    uri = f"sqlite:///{folder}/mlflow.db"
    tracking = Tracking(uri, (folder / "artifacts").as_uri())
    study = optuna.create_study(
        storage=f"sqlite:///{folder}/optuna.db",
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=pruner,
    )
    for point in points:
        study.enqueue_trial(dict(point))
    _ = tracking.logger().experiment  # makes the schema
    objective = Objective(task, data, seed, tracking)
    begun = time.perf_counter()
    study.optimize(objective, trials)
    seconds = time.perf_counter() - begun
    return Timing(seconds, seconds, objective.epochs), study


# Ours.


def ours(home: Path, task: Task, *overrides: str, points: Sequence[Mapping[str, Any]] = ()) -> Timing:
    """The command, in a home of its own; its study is called ``bench``."""
    front = home / "front"
    (front / "experiment").mkdir(parents=True)
    content = yaml.safe_dump({"study": {"enqueue": [dict(point) for point in points]}})
    (front / "experiment" / "drawn.yaml").write_text(f"# @package _global_\n{content}")
    command = [sys.executable, "-m", "autotune.search", "--config-dir", str(front), f"home={home}", "study.name=bench"]
    command += ["confirm.top=0"]
    command += [*task.overrides, f"trainer.max_epochs={task.epochs}", *(["experiment=drawn"] if points else [])]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    began = last = None
    with subprocess.Popen([*command, *overrides], stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for _ in process.stdout:
            last = time.perf_counter()
            began = last if began is None else began
    if process.returncode != 0 or began is None or last is None:
        raise SystemExit(f"the search ended with {process.returncode}: {' '.join(overrides)}")
    told = json.loads((home / "studies" / "bench" / "summary.json").read_text())
    return Timing(told["seconds"], last - began, told["trained_epochs"])


def drawn(task: Task, trials: int, seed: int) -> list[dict[str, Any]]:
    """Trials of the default space by chance."""
    space = Space(compose("search", [*task.overrides, "executor=lightning"]))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return [space.suggest(study.ask()) for _ in range(trials)]


def picked(points: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """So many of the trials that stand for all."""
    alike = sorted(points, key=lambda point: (_batch_size(point), point["optimizer"], point["model.batch_norm"]))
    return [alike[(2 * index + 1) * len(alike) // (2 * count)] for index in range(count)]


def _batch_size(point: Mapping[str, Any]) -> float:
    """Infinite for the whole training part."""
    return float("inf") if point["optimizer"] == "bgd" else point["data.batch_size"]


# The limit.


def limit(data: Split, points: Sequence[Mapping[str, Any]], members: int, threads: int) -> float:
    """Milliseconds of an epoch of one trial, the mean over the trials."""
    widths = [data.input_shape[0], *HIDDEN, data.outputs]
    samples, judged = len(data.train), len(data.val)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        validation = _products(members, judged, widths, backward=False)
        total = 0.0
        for batch_size, count in Counter(_batch_size(point) for point in points).items():
            batch = min(int(min(batch_size, samples)), samples)
            total += count * (samples / batch * _products(members, batch, widths, backward=True) + validation)
    finally:
        torch.set_num_threads(before)
    return 1e3 * total / len(points) / members


def _products(members: int, batch: int, widths: Sequence[int], backward: bool) -> float:
    """Seconds of the matrix products of one batch."""
    layers = [
        (torch.randn(members, batch, width), torch.randn(members, width, next_), torch.randn(members, batch, next_))
        for width, next_ in pairwise(widths)
    ]

    def run() -> None:
        for index, (inputs, weights, errors) in enumerate(layers):
            torch.bmm(inputs, weights)
            if backward:
                torch.bmm(inputs.transpose(1, 2), errors)
                if index:
                    torch.bmm(errors, weights.transpose(1, 2))

    def timed() -> Iterator[float]:
        for _ in range(5):
            begun = time.perf_counter()
            for _ in range(repeats):
                run()
            yield (time.perf_counter() - begun) / repeats

    repeats = 3
    repeats = max(3, int(0.03 / min(timed())))
    return statistics.median(timed())


# What is printed.


def throughput(folder: Path, task: Task, trials: int, peer_trials: int) -> None:
    points = drawn(task, trials, 0)
    few = picked(points, peer_trials)
    common = ("sampler=random", "pruner=none")
    print(f"{'':<44} {'trials':>6} {'epochs':>7} {'seconds':>8} {'mirrored':>8} {'ms an epoch':>11}")

    def show(name: str, count: int, timing: Timing) -> Timing:
        seconds = f"{timing.seconds:>8.2f} {timing.whole:>8.2f}"
        print(f"{name:<44} {count:>6} {timing.epochs:>7} {seconds} {timing.ms:>11.3f}", flush=True)
        return timing

    by_user, _ = peer(folder / "peer", task, peer_trials, few, optuna.pruners.NopPruner(), 0)
    show("(a) Optuna + Lightning + MLflow by hand", peer_trials, by_user)
    single = ours(folder / "single", task, *common, f"budget.trials={peer_trials}", "executor=lightning", points=few)
    show("(b) executor=lightning", peer_trials, single)
    populations: dict[int, Timing] = {}
    for slots in SLOTS:
        how = ("executor=population", f"executor.slots={slots}", f"budget.trials={trials}")
        populations[slots] = show(
            f"(c) executor=population, {slots} slots",
            trials,
            ours(folder / f"population{slots}", task, *common, *how, points=points),
        )
    limits = {}
    if isinstance(task.source, Digits):
        for threads in THREADS:
            for members in MEMBERS:
                limits[members, threads] = limit(split(task.source), points, members, threads)
                name = f"(d) matrix products, {members} trials, {threads} threads"
                print(f"{name:<44} {'':>32} {limits[members, threads]:>11.3f}", flush=True)
    print(f"\n(a)/(b): {by_user.ms / single.ms:.1f}")
    for slots, population in populations.items():
        unmirrored = 1e3 * population.seconds / population.epochs
        line = f"{slots:>4} slots   (a)/(c) {by_user.ms / population.ms:.1f}   (b)/(c) {single.ms / population.ms:.1f}"
        if limits:
            line += f"   (c)/(d) {population.ms / min(limits.values()):.1f}"
        print(f"{line}   without what MLflow is waited for at the end: (a)/(c) {by_user.ms / unmirrored:.1f}")
    whole = by_user.whole * trials / peer_trials
    print(f"all {trials} trials would take (a) {whole:.0f} s")


def time_to_quality(folder: Path, task: Task, trials: int, most: int, seeds: int, slots: int) -> None:
    ratios, of_whole = [], []
    for seed in range(seeds):
        pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3, min_early_stopping_rate=0)
        timing, study = peer(folder / f"peer{seed}", task, trials, (), pruner, seed)
        goal = study.best_value
        reached = _seconds_to(study.trials, goal)
        assert reached is not None
        print(
            f"seed {seed}: by hand {goal:.4f} after {reached:.1f} s, {trials} trials in {timing.whole:.1f} s",
            flush=True,
        )
        home = folder / f"ours{seed}"
        how = ("executor=population", f"executor.slots={slots}", f"budget.trials={most}", f"study.seed={seed}")
        whole = ours(home, task, *how)
        storage = JournalStorage(JournalFileBackend(str(home / "studies" / "bench" / "study.journal")))
        found = optuna.load_study(study_name="bench", storage=storage).trials
        seconds = _seconds_to(found, goal)
        best = max(trial.value or 0.0 for trial in found)
        trained = f"{most} trials in {whole.whole:.1f} s, best {best:.4f}"
        if seconds is None:
            print(f"  population, {slots} slots: not reached; {trained}", flush=True)
        else:
            sooner, of_all = reached / seconds, timing.whole / seconds
            said = f"{sooner:.1f} times as soon, {of_all:.1f} times as soon as all of its trials"
            print(f"  population, {slots} slots: after {seconds:.1f} s, {said}; {trained}", flush=True)
        ratios.append(0.0 if seconds is None else reached / seconds)
        of_whole.append(0.0 if seconds is None else timing.whole / seconds)
    sooner, of_all = statistics.median(ratios), statistics.median(of_whole)
    print(f"median {sooner:.1f} times as soon, {of_all:.1f} as soon as all of the peer's trials; 0: not reached")


def _seconds_to(trials: Sequence[optuna.trial.FrozenTrial], goal: float) -> float | None:
    """From the first trial's beginning to the end of the first one that is as good; None where none is."""
    begun = min(trial.datetime_start for trial in trials if trial.datetime_start)
    ends = [
        (trial.datetime_complete - begun).total_seconds()
        for trial in trials
        if trial.state == optuna.trial.TrialState.COMPLETE
        and trial.datetime_complete is not None
        and trial.value is not None
        and trial.value >= goal - 1e-6
    ]
    return min(ends, default=None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=["digits", "fashion"], default="digits")
    parser.add_argument("--trials", type=int, help="default: 200, of fashion 12")
    parser.add_argument("--peer-trials", type=int, help="default: 20, of fashion 3")
    parser.add_argument("--epochs", type=int, help="of a trial; default: 27, of fashion 3")
    parser.add_argument("--asha", action="store_true", help="time to the best value of the peer's")
    parser.add_argument("--seeds", type=int, default=1, help="how many studies --asha compares")
    parser.add_argument("--most", type=int, help="trials of ours with --asha; default: five times the peer's")
    parser.add_argument("--slots", type=int, default=32, help="of --asha")
    arguments = parser.parse_args()
    is_digits = arguments.data == "digits"
    trials = arguments.trials or (200 if is_digits else 12)
    peer_trials = min(trials, arguments.peer_trials or (20 if is_digits else 3))
    epochs = arguments.epochs or (27 if is_digits else 3)
    if is_digits:
        task = default_task(epochs)
    else:
        overrides = ("data=idx", f"data.path={FASHION}", f"data.limit={FASHION_LIMIT}", "model=cnn")
        task = Task(overrides, (32, 64, 128, 256), Idx(path=FASHION, limit=FASHION_LIMIT), epochs)
    hush()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    os.environ.setdefault("DO_NOT_TRACK", "true")
    os.environ.setdefault("MLFLOW_CONFIGURE_LOGGING", "false")
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "lightning", "optuna", "mlflow"))
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, {versions}; "
        f"{arguments.data}, {epochs} epochs a trial"
    )
    with tempfile.TemporaryDirectory() as name:
        if arguments.asha:
            most = arguments.most or 5 * trials
            time_to_quality(Path(name), task, trials, most, arguments.seeds, arguments.slots)
        else:
            throughput(Path(name), task, trials, peer_trials)


if __name__ == "__main__":
    main()
