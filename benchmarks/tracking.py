"""What mirroring a trial to MLflow costs, against the stock client called while a trial trains.

    python benchmarks/tracking.py [--trials 100] [--epochs 27]

All write the same trials (4 metrics an epoch, 8 params, 7 tags, the config as an artifact) to an SQLite file whose
schema is there; the stock client's is as MLflow makes it, ours logs ahead (WAL) as our tracker makes it. The stock
client is called in two ways: a call for each tag, param and epoch; and as Lightning's MLFlowLogger calls it, which
batches tags and params too. Ours is measured twice: told of all trials as fast as it listens, so that each is written
once; and with trials that take their time, so that each is written while it trains too. Ours is measured from when
its writer, a process of its own, has loaded MLflow and made the search's run; what that takes is said too. The writer's
processor time is what training may not notice, that of the thread which feeds it is taken from training's interpreter.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import yaml

from autotune.tracking import Ending, Study
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


@dataclass(frozen=True)
class Cost:
    """What mirroring a search took, in seconds.

    Attributes:
        whole: By the clock.
        writer: Of the writer's processor time.
        feeder: Of processor time of the thread that feeds it.
        waited: That the caller waited, by the clock.
        start: Of the writer's processor time before the first trial.
    """

    whole: float
    writer: float
    feeder: float
    waited: float
    start: float


def ours(folder: Path, trials: int, epochs: int, pace: float, flush_seconds: float) -> Cost:
    """What a search mirrored by our tracker takes from when its writer can write."""
    tracker = MlflowTracker(folder, uri=f"sqlite:///{folder}/mlflow.db", flush_seconds=flush_seconds)
    tracker.search_started(
        Study("bench", "bench"), {"study": {"name": "bench"}, "budget": {"trials": trials}}, "", resumed=False
    )
    _await_run(folder / "mlflow.db")
    (writer,) = psutil.Process().children()
    start = writer.cpu_times().user + writer.cpu_times().system
    earlier = _ended_children() + start  # the writer is one of them once it has ended
    begun, process, caller = time.perf_counter(), time.process_time(), time.thread_time()
    waited = 0.0
    for number in range(trials):
        for record in stories(number, epochs):
            before = time.perf_counter()
            tracker.trial_advanced(record)
            waited += time.perf_counter() - before
            if pace:
                time.sleep(pace)
    tracker.search_ended(Ending("FINISHED"))
    tracker.close()
    feeder = time.process_time() - process - (time.thread_time() - caller)
    return Cost(time.perf_counter() - begun, _ended_children() - earlier, feeder, waited, start)


def _ended_children() -> float:
    """Seconds of processor time of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _await_run(database: Path) -> None:
    """Wait until a database has a run."""
    while True:
        if database.exists():
            with closing(sqlite3.connect(database)) as connection, suppress(sqlite3.OperationalError):
                # until then the schema is being made
                if connection.execute("SELECT count(*) FROM runs").fetchone()[0]:
                    return
        time.sleep(0.05)


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
        at_once = ours(Path(name, "at_once"), trials, epochs, 0.0, 2.0)
        few = max(1, trials // 5)
        live = ours(Path(name, "live"), few, epochs, LIVE_EPOCH, LIVE_FLUSH)
        singly = stock(Path(name, "singly"), trials, epochs, batches=False)
        batched = stock(Path(name, "batched"), trials, epochs, batches=True)
    pace = f"{at_once.whole / trials * 1e3:7.1f} ms a trial, {trials / at_once.whole:.0f} a second"
    print(f"autotune, as fast as it is told            {pace}")
    print(f"  the writer's processor                   {at_once.writer / trials * 1e3:7.1f} ms a trial")
    print(f"  the feeding thread's                     {at_once.feeder / trials * 1e3:7.2f} ms a trial")
    print(f"autotune, trials of 2 to 3 flushes         {live.writer / few * 1e3:7.1f} ms of the writer's a trial")
    print(f"  the feeding thread's                     {live.feeder / few * 1e3:7.2f} ms a trial")
    print(f"what the training thread waits for of it   {at_once.waited / trials * 1e3:7.2f} ms a trial")
    print(f"the writer's start, once                   {at_once.start:7.1f} s of processor")
    for peer, seconds in (("a call for each", singly), ("as MLFlowLogger", batched)):
        ratio = seconds / at_once.whole
        pace = f"{seconds / trials * 1e3:7.1f} ms a trial, {trials / seconds:.0f} a second"
        print(f"stock client, {peer:<15}              {pace}, {ratio:.1f} times ours")


if __name__ == "__main__":
    main()
