"""What keeping a trial costs: ours against Optuna's own journal file and SQLite, in one run.

    python benchmarks/storage.py [--trials 100] [--epochs 27]

Ours is `autotune.kept.ledger.Ledger` on its journal, with all that a search keeps of a trial: parameters, resolved
config, a value each epoch, four curves, costs, state. Optuna's are its storages under ask, report each epoch and tell.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import optuna
from optuna.distributions import FloatDistribution
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from autotune.kept.ledger import Ledger
from autotune.kept.storage import open_storage
from autotune.trial import Reason

CONFIG = {
    "data": {"_target_": "autotune.data.digits.Digits", "batch_size": 64, "validation": 0.2, "test": 0.2},
    "model": {"_target_": "autotune.models.mlp.MLP", "hidden": [64, 32], "batch_norm": True},
    "optimizer": {"name": "adam", "_target_": "torch.optim.Adam", "lr": 1e-3},
    "schedule": {"name": "cosine", "_target_": "autotune.optim.schedules.Cosine"},
    "trainer": {"max_epochs": 27},
    "objective": {"metric": "val/accuracy", "direction": "maximize"},
    "seed": 0,
}
SPACE = {f"p{number}": FloatDistribution(0.0, 1.0) for number in range(6)}
CURVES = ("train/loss", "val/loss", "val/accuracy", "lr")


def ours(folder: Path, trials: int, epochs: int) -> None:
    storage, journal = open_storage({}, folder)
    ledger = Ledger(storage, journal, "study", "maximize")
    for trial in range(trials):
        number = ledger.begin(CONFIG, dict.fromkeys(SPACE, trial / trials), SPACE)
        for epoch in range(epochs):
            ledger.advance(number, epoch + 1, epoch / epochs)
        curves = {name: [epoch / epochs for epoch in range(epochs)] for name in CURVES}
        ledger.finish(number, Reason.COMPLETED, 1.0, curves, {"cost/epoch_seconds": 0.1}, {}, None)
    ledger.close()


def optunas(storage: BaseStorage, trials: int, epochs: int) -> None:
    study = optuna.create_study(storage=storage, sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(trials):
        trial = study.ask(SPACE)
        for epoch in range(epochs):
            trial.report(epoch / epochs, epoch + 1)
        study.tell(trial, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=27)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    print(f"{platform.machine()}, {os.cpu_count()} cores, optuna {optuna.__version__}")
    counts = (arguments.trials, arguments.epochs)
    few = (max(1, arguments.trials // 5), arguments.epochs)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs: dict[str, tuple[Callable[[], None], int]] = {
            "autotune's ledger": (lambda: ours(folder, *counts), counts[0]),
            "Optuna, journal file": (
                lambda: optunas(JournalStorage(JournalFileBackend(str(folder / "theirs.journal"))), *counts),
                counts[0],
            ),
            "Optuna, SQLite": (lambda: optunas(RDBStorage(f"sqlite:///{folder}/theirs.db"), *few), few[0]),
        }
        milliseconds = {}
        for name, (run, trials) in runs.items():
            started = time.perf_counter()
            run()
            milliseconds[name] = 1000 * (time.perf_counter() - started) / trials
    ours_took = milliseconds["autotune's ledger"]
    for name, took in milliseconds.items():
        print(f"{name:<22} {took:>7.1f} ms a trial of {arguments.epochs} epochs, {took / ours_took:>5.1f}x ours")


if __name__ == "__main__":
    main()
