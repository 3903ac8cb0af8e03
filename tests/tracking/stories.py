"""Trials as a tracker hears of them, and their runs as MLflow has them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run

from autotune.tracking import Study
from autotune.trial import Reason, Record, State

THE_STUDY = Study("s", "5" * 32)
BEGUN = datetime(2024, 5, 1, 12, tzinfo=UTC)


def record(number: int = 0, values: Sequence[float] = (0.5, 0.75, 0.7), **changes: Any) -> Record:
    """A trial in training that measured so many accuracies."""
    config = {
        "data": {"batch_size": 64},
        "model": {"hidden": [128, 64], "batch_norm": True},
        "optimizer": {"name": "adam", "lr": 0.01},
        "schedule": {"name": "cosine"},
        "objective": {"metric": "val/accuracy", "direction": "maximize"},
        "trainer": {"max_epochs": 3},
        "seed": 7,
    }
    told = Record(
        number=number,
        name=f"t{number:04d} adam lr 0.01 b64 bn cosine",
        family="adam",
        state=State.RUNNING,
        reason=None,
        stage="search",
        params={"optimizer.adam.lr": 0.01, "model.batch_norm": True},
        config=config,
        objective=None,
        curves={
            "train/loss": [1 - value for value in values],
            "val/loss": [1.5 - value for value in values],
            "val/accuracy": list(values),
            "lr": [0.01] * len(values),
        },
        cost={},
        started=BEGUN + timedelta(minutes=number),
    )
    return replace(told, **changes)


def ended(told: Record, reason: Reason, objective: float | None, error: str | None = None) -> Record:
    """The same trial, ended a minute after it began."""
    state = {
        Reason.COMPLETED: State.COMPLETE,
        Reason.PRUNED: State.PRUNED,
        Reason.DIVERGED: State.PRUNED,
        Reason.OOM: State.FAIL,
        Reason.ERROR: State.FAIL,
        Reason.INTERRUPTED: State.WAITING,
    }[reason]
    return replace(
        told,
        state=state,
        reason=reason,
        objective=objective,
        error=error,
        cost={"cost/epoch_seconds": 0.25, "cost/latency_sample_seconds": 0.0005},
        ended=None if state == State.WAITING else told.started + timedelta(minutes=1),
    )


def completed(number: int = 0, values: Sequence[float] = (0.5, 0.75, 0.7)) -> Record:
    """A trial trained to its end."""
    return ended(record(number, values), Reason.COMPLETED, max(values))


def until(true: Callable[[], bool]) -> None:
    """Wait for what a tracker's writer does."""
    for _ in range(6000):
        if true():
            return
        time.sleep(0.05)
    raise AssertionError("it never came true")


@dataclass(frozen=True)
class Runs:
    """What MLflow has, read by its own client."""

    client: MlflowClient
    parents: list[Run]
    children: list[Run]

    @classmethod
    def at(cls, home: Path, experiment: str = "autotune") -> Runs:
        client = MlflowClient(f"sqlite:///{home}/mlflow.db")
        found = client.get_experiment_by_name(experiment)
        runs = [] if found is None else client.search_runs([found.experiment_id], order_by=["attributes.start_time"])
        children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
        return cls(client, [run for run in runs if run not in children], children)

    @property
    def parent(self) -> Run:
        (parent,) = self.parents
        return parent

    def child(self, number: int = 0) -> Run:
        (child,) = [run for run in self.children if run.data.tags["trial_number"] == str(number)]
        assert child.data.tags["mlflow.parentRunId"] in [parent.info.run_id for parent in self.parents]
        return child

    def history(self, run: Run, metric: str) -> list[tuple[int, float]]:
        points = self.client.get_metric_history(run.info.run_id, metric)
        return [(point.step, point.value) for point in sorted(points, key=lambda point: (point.step, point.timestamp))]

    def artifact(self, run: Run, name: str) -> str:
        return Path(self.client.download_artifacts(run.info.run_id, name)).read_text()
