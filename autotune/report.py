"""The answer of a search as files in the study's folder: best.yaml, trials.csv, summary.json."""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from autotune.settings import Objective
from autotune.trial import Record


def write_best(folder: Path, study: str, record: Record, objective: Objective) -> Path:
    """Write the best trial's resolved config, and under `origin` where it comes from."""
    curve = record.curves[objective.metric]
    origin = {
        "study": study,
        "trial": record.number,
        "metric": objective.metric,
        "value": record.objective,
        "best_epoch": list(curve).index(objective.best(curve)) + 1,
    }
    head = f"# {record.name}: {objective.metric} {record.objective:.6g}\n# python -m autotune.train from={study}\n"
    return _write(folder / "best.yaml", head + OmegaConf.to_yaml(OmegaConf.create({**record.config, "origin": origin})))


def write_trials(folder: Path, records: Sequence[Record]) -> Path:
    """Write one row a trial: how it ended, what was sampled, what it cost."""
    params = sorted({name for record in records for name in record.params})
    costs = sorted({name for record in records for name in record.cost})
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    fixed = ["number", "name", "family", "state", "reason", "objective", "epochs", "seconds", "error"]
    writer.writerow([*fixed, *params, *costs])
    for record in records:
        seconds = None if record.ended is None else round((record.ended - record.started).total_seconds(), 3)
        row = [record.number, record.name, record.family, record.state.value, record.reason and record.reason.value]
        row += [record.objective, record.epochs, seconds, record.error]
        row += [record.params.get(name) for name in params] + [record.cost.get(name) for name in costs]
        writer.writerow(["" if cell is None else cell for cell in row])
    return _write(folder / "trials.csv", out.getvalue())


def summary(
    study: str, objective: Objective, records: Sequence[Record], best: Record | None, rest: Mapping[str, Any]
) -> dict[str, Any]:
    """The search in numbers.

    Args:
        study: Its name.
        objective: What it searched for.
        records: Its trials.
        best: The best of them.
        rest: What only the run of the search knows (seconds, executor, refused, ...).
    """
    return {
        "study": study,
        "direction": objective.direction,
        "metric": objective.metric,
        "best_value": None if best is None else best.objective,
        "best_trial": None if best is None else best.number,
        "states": dict(sorted(Counter(record.state.value for record in records).items())),
        "reasons": dict(sorted(Counter(record.reason.value for record in records if record.reason).items())),
        "trials": len(records),
        "trained_epochs": sum(record.epochs for record in records),
        **rest,
    }


def write_summary(folder: Path, content: Mapping[str, Any]) -> Path:
    """Write `summary` as JSON."""
    return _write(folder / "summary.json", json.dumps(content, indent=2) + "\n")


def best_history(records: Sequence[Record], objective: Objective) -> list[tuple[int, float]]:
    """The best value so far, at each trial that improved it: pairs of trial number and value."""
    history: list[tuple[int, float]] = []
    for record in records:
        if record.objective is None or record.state != "COMPLETE":
            continue
        if not history or objective.better(record.objective, history[-1][1]):
            history.append((record.number, record.objective))
    return history


def _write(path: Path, text: str) -> Path:
    """Replace a file at once: whoever reads it sees the old or the new one, never a part."""
    fresh = path.with_name(f".{path.name}.new")
    with fresh.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    return path
