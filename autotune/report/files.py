"""The answer of a search as files: best.yaml, trials.csv and trials.parquet, summary.json, report.html."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotune.kept.outcome import Outcome
from autotune.kept.whole import write_whole
from autotune.standing import Estimate, Standing
from autotune.trust import resolved_yaml
from autotune.typed import train_command

if TYPE_CHECKING:
    from pandas import DataFrame

    from autotune.report.findings import Findings


def write_best(folder: Path, outcome: Outcome) -> Path:
    """Write the winner's resolved config, and under `origin` where it comes from."""
    record, objective = outcome.winner, outcome.objective
    assert record is not None
    curve = record.curves[objective.metric]
    best = objective.best_of(curve)
    assert best is not None  # or it were no winner
    origin: dict[str, Any] = {
        "study": outcome.name,
        **({} if outcome.study is None or outcome.study.id is None else {"study_id": outcome.study.id}),
        "trial": record.number,
        "metric": objective.metric,
        "value": record.objective,
        "best_epoch": list(curve).index(best) + 1,
    }
    said = f"{objective.metric} {record.objective:.6g}"
    if outcome.standing is not None:
        score = outcome.standing.winner.score
        origin["confirmed"] = _estimate(score)
        said += f", confirmed {score.mean:.6g} on {score.count} other seeds"
    head = (
        f"# {' '.join(record.name.split())}: {said}\n# {train_command(outcome.name, outcome.config, outcome.notes)}\n"
    )
    content = resolved_yaml.dump({**record.config, "origin": origin})
    return write_whole(folder / "best.yaml", head + content)


def _estimate(score: Estimate) -> dict[str, Any]:
    """The bounds are None where one value alone has none."""
    bounds = {
        name: value if math.isfinite(value) else None for name, value in (("low", score.low), ("high", score.high))
    }
    return {"mean": score.mean, **bounds, "seeds": score.count}


def write_trials(folder: Path, outcome: Outcome) -> Path:
    """Write one row a trial of the search: how it ended, what was sampled, what it cost."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    found = columns(outcome)
    writer.writerow(map(inert, found))
    for row in zip(*found.values(), strict=True):
        writer.writerow([inert("" if cell is None else cell) for cell in row])
    return write_whole(folder / "trials.csv", out.getvalue())


def inert(cell: object) -> object:
    """A cell that no spreadsheet takes for a formula: a text that begins like one has an apostrophe in front.

    See OWASP, CSV Injection.
    """
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def write_trials_table(folder: Path, outcome: Outcome) -> Path:
    """Write the rows of trials.csv with types: numbers as numbers, true and false as such, what is missing as null.

    A parameter whose values are of several kinds is text.
    """
    import pyarrow.parquet

    sink = io.BytesIO()
    pyarrow.parquet.write_table(_table(outcome), sink)
    return write_whole(folder / "trials.parquet", sink.getvalue())


def table(outcome: Outcome) -> DataFrame:
    """The rows of trials.parquet."""
    frame: DataFrame = _table(outcome).to_pandas()
    return frame


def _table(outcome: Outcome) -> Any:
    import pyarrow

    return pyarrow.table({name: _typed(name, values) for name, values in columns(outcome).items()})


_TYPES = {"number": "int64", "epochs": "int64", "would_stop": "int64", "objective": "float64", "seconds": "float64"}


def _typed(name: str, values: Sequence[Any]) -> Any:
    import pyarrow

    kinds = {type(value) for value in values if value is not None}
    if name in _TYPES or name.startswith("cost/"):
        return pyarrow.array(values, _TYPES.get(name, "float64"))
    if kinds <= {bool}:
        return pyarrow.array(values, "bool" if kinds else "string")
    if kinds <= {int}:
        return pyarrow.array(values, "int64")
    if kinds <= {int, float}:
        return pyarrow.array([None if value is None else float(value) for value in values], "float64")
    return pyarrow.array([None if value is None else str(value) for value in values], "string")


def columns(outcome: Outcome) -> dict[str, list[Any]]:
    """One row a trial, by column: its story, what is set in every trial, what was sampled, what it cost."""
    records = outcome.records
    params = sorted({name for record in records for name in record.params})
    costs = sorted({name for record in records for name in record.cost})
    story: dict[str, list[Any]] = {
        "number": [record.number for record in records],
        "name": [record.name for record in records],
        "stage": [record.stage for record in records],
        "family": [record.family for record in records],
        "state": [record.state.value for record in records],
        "reason": [record.reason and record.reason.value for record in records],
        "objective": [record.objective for record in records],
        "epochs": [record.epochs for record in records],
        "would_stop": [record.would_stop for record in records],
        "seconds": [
            None if record.ended is None else round((record.ended - record.started).total_seconds(), 3)
            for record in records
        ],
        "error": [record.error for record in records],
    }
    return {
        **story,
        **{name: [record.params.get(name) for record in records] for name in params},
        **{name: [record.cost.get(name) for record in records] for name in costs},
    }


def write_report(folder: Path, outcome: Outcome, findings: Findings | None = None) -> Path:
    """Write the report as a page."""
    from autotune.report.findings import Findings
    from autotune.report.page import page  # Plotly and scikit-learn take seconds to import

    return write_whole(folder / "report.html", page(findings or Findings.of(outcome)))


def write_summary(folder: Path, outcome: Outcome) -> Path:
    """Write `summary` as JSON."""
    return write_whole(folder / "summary.json", json.dumps(summary(outcome), indent=2) + "\n")


def summary(outcome: Outcome) -> dict[str, Any]:
    """The search in numbers: the best as Optuna counts it, and the winner, which confirmation may see otherwise."""
    records, best, winner, notes = outcome.records, outcome.best, outcome.winner, outcome.notes
    verdict, standing = outcome.verdict, outcome.standing
    return {
        "study": outcome.name,
        "direction": outcome.objective.direction,
        "metric": outcome.objective.metric,
        "best_value": None if best is None else best.objective,
        "best_trial": None if best is None else best.number,
        "winner": None if winner is None or outcome.is_noise else {"trial": winner.number, "name": winner.name},
        "confirmed": None if standing is None else _confirmed(standing),
        "states": dict(sorted(Counter(record.state.value for record in records).items())),
        "reasons": dict(sorted(Counter(record.reason.value for record in records if record.reason).items())),
        "trials": len(records),
        "trained_epochs": sum(record.epochs for record in records),
        "confirmation_epochs": sum(record.epochs for record in outcome.confirmations),
        "refused": sum(notes.get("refused", {}).values()),
        "duplicates": notes.get("duplicates", 0),
        "seconds": round(outcome.seconds, 3),
        "executor": notes.get("executor"),
        "sampler": notes.get("sampler"),
        "pruner": notes.get("pruner"),
        "finished": notes.get("finished"),
        "learnt": None if verdict is None else verdict.learnt,
        "guessing": None if verdict is None else {"metric": verdict.chance.metric, "level": verdict.chance.level},
    }


def _confirmed(standing: Standing) -> dict[str, Any]:
    return {
        **_estimate(standing.winner.score),
        "tie": standing.is_tie,
        "why": standing.why,
        "contenders": [
            {
                "trial": each.record.number,
                "name": each.record.name,
                **_estimate(each.score),
                "tied": each in standing.tied,
                "values": {str(seed): value for seed, value in sorted(each.values.items())},
                "diverged": sorted(each.diverged),
            }
            for each in standing.contenders
        ],
        "failed": {str(number): how for number, how in standing.failed.items()},
    }


def write_comparison(folder: Path, outcomes: Sequence[Outcome]) -> Path:
    """Write the page that compares studies, named after them."""
    from autotune.report.comparison import comparison

    return write_whole(folder / f"{'-'.join(outcome.name for outcome in outcomes)}.html", comparison(outcomes))
