"""What mirroring a trial to MLflow costs, against the stock client called while a trial trains.

    python benchmarks/tracking.py [--trials 100] [--epochs 27]

All write the same trials (4 metrics an epoch, 8 params, 7 tags, the config as an artifact) to an SQLite file whose
schema is there; the stock client's is as MLflow makes it, ours logs ahead (WAL) as our tracker makes it. The stock
client is called in two ways: a call for each tag, param and epoch; and as Lightning's MLFlowLogger calls it, which
batches tags and params too. Ours is measured twice: told of all trials as fast as it listens, so that each is written
once; and with trials that take their time, so that each is written while it trains too.
"""

from __future__ import annotations

import argparse
import os
import platform
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from autotune.tracking.mlflow import MlflowTracker
from autotune.trial import Reason, Record, State

METRICS = ("train/loss", "val/loss", "val/accuracy", "lr")
# Trials of 0.3 s written every 0.12 s, as trials of 12 s are with the default of 5 s.
LIVE_EPOCH = 0.01
LIVE_FLUSH = 0.12


def stories(number: int, epochs: int) -> Iterator[Record]:
    """A trial as a tracker hears of it: begun, each epoch, ended."""
    params = {f"optimizer.adam.p{index}": 1e-3 * (number + 1) for index in range(8)}
    config: dict[str, Any] = {
        "data": {"_target_": "autotune.data.digits.Digits", "batch_size": 64},
        "model": {"_target_": "autotune.models.mlp.MLP", "hidden": [128, 64], "batch_norm": True},
        "optimizer": {"_target_": "torch.optim.Adam", "name": "adam", "lr": 1e-3, **params},
        "schedule": {"_target_": "autotune.optim.schedules.Cosine"},
        "objective": {"metric": "val/accuracy", "direction": "maximize", "worst": 0.0, "explodes_above": 1e4},
        "trainer": {"max_epochs": epochs, "accelerator": "cpu"},
        "seed": number,
    }
    begun = datetime.now(UTC)
    record = Record(
        number=number,
        name=f"t{number:04d} adam lr 1e-3 b64 bn cosine",
        family="adam",
        state=State.RUNNING,
        reason=None,
        stage="search",
        params=params,
        config=config,
        objective=None,
        curves={},
        cost={},
        started=begun,
    )
    yield record
    for epoch in range(epochs):
        record = replace(
            record, curves={name: [1 - 0.9 ** (step + number % 7) for step in range(epoch + 1)] for name in METRICS}
        )
        yield record
    yield replace(
        record,
        state=State.COMPLETE,
        reason=Reason.COMPLETED,
        objective=max(record.curves["val/accuracy"]),
        cost={"cost/epoch_seconds": 0.1, "cost/parameters": 1e4},
        ended=datetime.now(UTC),
    )


def stock(folder: Path, trials: int, epochs: int, batches: bool) -> float:
    """Seconds of the stock client, told of things as they happen."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    folder.mkdir()
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.create_experiment("bench", (folder / "artifacts").as_uri())
    tags = {name: name for name in ("study", "trial_number", "state", "reason", "seed", "stage", "family")}
    begun = time.perf_counter()
    for number in range(trials):
        for record in stories(number, epochs):
            now = time.time_ns() // 1_000_000
            if not record.curves:
                run = client.create_run(experiment, tags=tags if batches else {}, run_name=record.name).info.run_id
                if batches:
                    client.log_batch(run, params=[Param(name, str(value)) for name, value in record.params.items()])
                else:
                    for name, value in tags.items():
                        client.set_tag(run, name, value)
                    for name, value in record.params.items():
                        client.log_param(run, name, value)
                client.log_text(run, yaml.safe_dump(record.config), "config.yaml")
            elif record.state == State.RUNNING:
                step = record.epochs
                client.log_batch(run, [Metric(name, curve[-1], now, step) for name, curve in record.curves.items()])
            else:
                outcome = {**record.cost, "objective": record.objective}
                client.log_batch(run, [Metric(name, value, now, 0) for name, value in outcome.items()])
                client.set_terminated(run)
    return time.perf_counter() - begun


def ours(folder: Path, trials: int, epochs: int, pace: float, flush_seconds: float) -> tuple[float, float, float]:
    """A search mirrored by our tracker: seconds in all, of the writer's processor time, and that the caller waited."""
    tracker = MlflowTracker(folder, uri=f"sqlite:///{folder}/mlflow.db", flush_seconds=flush_seconds)
    begun, process, caller = time.perf_counter(), time.process_time(), time.thread_time()
    waited = 0.0
    tracker.search_started("bench", {"study": {"name": "bench"}, "budget": {"trials": trials}}, "", resumed=False)
    for number in range(trials):
        for record in stories(number, epochs):
            before = time.perf_counter()
            tracker.trial_advanced(record)
            waited += time.perf_counter() - before
            if pace:
                time.sleep(pace)
    tracker.search_ended(None, {}, [], [], "FINISHED")
    tracker.close()
    writer = time.process_time() - process - (time.thread_time() - caller)
    return time.perf_counter() - begun, writer, waited


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=27)
    arguments = parser.parse_args()
    trials, epochs = arguments.trials, arguments.epochs
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"mlflow {version('mlflow')}, SQLAlchemy {version('sqlalchemy')}, SQLite {sqlite3.sqlite_version}; "
        f"{trials} trials of {epochs} epochs"
    )
    with tempfile.TemporaryDirectory() as name:
        for folder in ("at_once", "live"):
            ours(Path(name, folder), 1, epochs, 0.0, 2.0)  # makes the schema, loads what is loaded once
        total, _, waited = ours(Path(name, "at_once"), trials, epochs, 0.0, 2.0)
        few = max(1, trials // 5)
        _, live, _ = ours(Path(name, "live"), few, epochs, LIVE_EPOCH, LIVE_FLUSH)
        singly = stock(Path(name, "singly"), trials, epochs, batches=False)
        batched = stock(Path(name, "batched"), trials, epochs, batches=True)
    print(f"autotune, as fast as it is told            {total / trials * 1e3:7.1f} ms a trial")
    print(f"autotune, trials of 2 to 3 flushes         {live / few * 1e3:7.1f} ms of processor a trial")
    print(f"what the training thread waits for of it   {waited / trials * 1e3:7.2f} ms a trial")
    for peer, seconds in (("a call for each", singly), ("as MLFlowLogger", batched)):
        ratio = seconds / total
        print(f"stock client, {peer:<15}              {seconds / trials * 1e3:7.1f} ms a trial, {ratio:.1f} times ours")


if __name__ == "__main__":
    main()
