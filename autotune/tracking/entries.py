"""What is written of a search and its trials: MLflow's names, values and limits. Nothing here imports MLflow."""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from autotune import naming
from autotune.divergence import is_loss
from autotune.tracking import Study
from autotune.trial import LoggedValue, Reason, Record, State
from autotune.trust.masking import mask as mask

KEY_CHARACTERS = 250
PARAM_CHARACTERS = 6000
TAG_CHARACTERS = 5000

PARENT = "mlflow.parentRunId"
NOTE = "mlflow.note.content"
OBJECTIVE = "objective"
SEARCH = "search"
HYPERPARAMETERS = "hparams/"
LOGGED = "logged"  # what a module logs under a name that is the run's own
STUDY_ID = "study_id"
RUN_NAME = "mlflow.runName"

STATUS = {
    State.RUNNING: "RUNNING",
    State.WAITING: "KILLED",
    State.COMPLETE: "FINISHED",
    State.PRUNED: "KILLED",
    State.FAIL: "FAILED",
}
# What a search or a final training that ended with one of MLflow's statuses has come to, in the words for a trial.
OUTCOME = {
    "FINISHED": (State.COMPLETE, Reason.COMPLETED),
    "KILLED": (State.WAITING, Reason.INTERRUPTED),
    "FAILED": (State.FAIL, Reason.ERROR),
}

# What is measured in seconds and takes far less than one: MLflow's table and charts show it in ms.
_SECONDS = re.compile(r"(cost/latency_\w+)_seconds")

_INTERPOLATION = re.compile(r"\$\{[^{}]*\}")


class Point(NamedTuple):
    """One value of a metric, its fields in the order MLflow's Metric takes them."""

    key: str
    value: float
    timestamp: int  # ms since 1970
    step: int


class Identity(NamedTuple):
    """What tells a child run from all others of its study.

    Attributes:
        stage: The record's.
        number: The trial's, in the study.
        seed: As a tag has it. Empty in the stage ``search``, where the number says it all; what trains a trial again
            does so once with each seed.
    """

    stage: str
    number: int
    seed: str

    @classmethod
    def of(cls, record: Record) -> Identity:
        """The identity of a record."""
        return cls._made(record.stage, record.number, record.config.get("seed"))

    @classmethod
    def tagged(cls, tags: Mapping[str, str]) -> Identity | None:
        """The identity of a run with these tags; None where they tell none."""
        number = tags.get("trial_number", "")
        return cls._made(tags.get("stage", SEARCH), int(number), tags.get("seed")) if number.isdecimal() else None

    @classmethod
    def _made(cls, stage: str, number: int, seed: object) -> Identity:
        return cls(stage, number, "" if stage == SEARCH or seed is None else str(seed))

    def __str__(self) -> str:
        return f"trial {self.number}" + ("" if self.stage == SEARCH else f" of {self.stage} with seed {self.seed}")


def milliseconds(moment: datetime) -> int:
    """A timezone-aware moment in MLflow's count, ms since 1970."""
    return int(moment.timestamp() * 1000)


def key(name: str) -> str:
    """A name as MLflow takes it: what it refuses in a name becomes an underscore."""
    plain = posixpath.normpath(re.sub(r"[^/\w.\- :]", "_", name)).lstrip("/.")
    return plain[:KEY_CHARACTERS] or "_"


def text(value: object, limit: int) -> str:
    """A value as MLflow keeps it, passwords masked, cut to its limit."""
    whole = mask(str(value))
    return whole if len(whole) <= limit else f"{whole[: limit - 3]}..."


def params(values: Mapping[str, Any]) -> dict[str, str]:
    """Sampled values as MLflow's params."""
    return {key(name): text(value, PARAM_CHARACTERS) for name, value in values.items()}


def hyperparameters(values: Mapping[str, str]) -> dict[str, str]:
    """What a module logged as its hyperparameters as MLflow's params, told apart from the sampled values."""
    return params({f"{HYPERPARAMETERS}{name}": value for name, value in values.items()})


def sampled(found: Mapping[str, str]) -> dict[str, str]:
    """The params of a trial's run that are its sampled values."""
    return {name: value for name, value in found.items() if not name.startswith(HYPERPARAMETERS)}


def settings(composed: Mapping[str, Any]) -> dict[str, str]:
    """The scalar leaves of a composed config as MLflow's params, by their dotted keys.

    A list of scalars counts as one leaf. What says nothing is left out: null, an interpolation alone, Hydra's section.
    """
    return params(dict(_leaves({name: node for name, node in composed.items() if name != "hydra"}, "")))


def _leaves(node: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        for last, inner in node.items():
            yield from _leaves(inner, f"{name}.{last}" if name else str(last))
    elif isinstance(node, list | tuple):
        if node and not any(isinstance(item, Mapping | list | tuple) for item in node):
            yield name, list(node)
    elif node is not None and not (isinstance(node, str) and _INTERPOLATION.fullmatch(node)):
        yield name, node


def tags(values: Mapping[str, object]) -> dict[str, str]:
    """Tags as MLflow takes them; None is left out."""
    return {name: text(value, TAG_CHARACTERS) for name, value in values.items() if value is not None}


def dated(note: str, begun: datetime) -> str:
    """The note of a search, behind the date: MLflow's table sorts searches by it. An empty one stays empty."""
    return f"{begun:%Y-%m-%d %H:%M}\n\n{note}" if note else ""


def measured(name: str, value: float) -> tuple[str, float]:
    """A measurement's name and value in the unit that MLflow shows: a latency is one of thousandths of a second."""
    brief = _SECONDS.fullmatch(name)
    return (name, value) if brief is None else (f"{brief[1]}_ms", 1000 * value)


def study_tags(study: Study) -> dict[str, str]:
    """The tags that say of which study a run is."""
    return tags({"study": study.name, STUDY_ID: study.id})


def trial_tags(record: Record, study: Study, parent: str) -> dict[str, str]:
    """The tags of a trial's run."""
    return study_tags(study) | tags(
        {
            PARENT: parent,
            "trial_number": record.number,
            "state": record.state.value,
            "reason": record.reason and record.reason.value,
            "seed": record.config.get("seed"),
            "stage": record.stage,
            "family": record.family,
            "schedule": naming.schedule(record.config),
            "error": record.error,
        }
    )


def points(record: Record, start: int, times: Sequence[int], ended: int, behind: int = 0) -> list[Point]:
    """What a trial measured from an epoch on.

    Steps count epochs from 1; there is no point where an epoch has no value. `objective` is the best value so far by
    epoch, and at the end the value the study was told: NaN where a trial failed or diverged after it had one, so that
    it is listed behind all others whichever way the table is sorted. An infinite value is written as NaN: SQL has no
    infinity, and MLflow's stand-in of 1.8e308 ruins every chart it is drawn in.

    Args:
        record: The trial.
        start: How many of its epochs are written already.
        times: When each epoch ended, ms since 1970.
        ended: When the trial ended, where it did; ms since 1970.
        behind: A step that the final objective must not lie before, or an older value would be shown as the latest.
    """
    found = [
        Point(key(name), finite(value), times[epoch], epoch + 1)
        for name, values in record.curves.items()
        for epoch, value in enumerate(values)
        if epoch >= start and not math.isnan(value)
    ]
    best = _best_so_far(record)
    over = record.state not in (State.RUNNING, State.WAITING)
    told = math.nan if record.objective is None else finite(record.objective)
    final = record.epochs - 1
    found += [
        Point(OBJECTIVE, value, times[epoch], epoch + 1)
        for epoch, value in best.items()
        if epoch >= start and not (over and epoch == final and value != told)
    ]
    if over:
        cost = (measured(name, value) for name, value in record.cost.items())
        found += [Point(key(name), finite(value), ended, 0) for name, value in cost]
        found += [Point(key(name), math.nan, times[final], record.epochs) for name in _lost(record)]
        is_written = best.get(final) == told and behind <= record.epochs
        if not is_written and (record.objective is not None or best or behind):
            last = times[final] + 1 if record.epochs else 0
            found.append(Point(OBJECTIVE, told, max(ended, last), max(record.epochs, behind)))
    return found


def _lost(record: Record) -> list[str]:
    """The losses that are no number where a trial diverged: the latest value must not be one from before."""
    if record.reason != Reason.DIVERGED:
        return []
    return [name for name, values in record.curves.items() if values and is_loss(name) and math.isnan(values[-1])]


def logged(values: Sequence[LoggedValue]) -> list[Point]:
    """What a module logged through its logger, at the steps that it was logged with."""
    return [Point(_free(key(each.name)), finite(each.value), each.time, each.step) for each in values]


def _free(name: str) -> str:
    return f"{LOGGED}/{name}" if name == OBJECTIVE or name.startswith("cost/") else name


def _best_so_far(record: Record) -> dict[int, float]:
    """The best value of the objective's metric up to each epoch, from the first on that has one."""
    objective = record.config.get("objective") or {}
    choose = min if objective.get("direction") == "minimize" else max
    best: dict[int, float] = {}
    for epoch, value in enumerate(map(finite, record.curves.get(str(objective.get("metric")), ()))):
        if epoch - 1 in best:
            best[epoch] = best[epoch - 1] if math.isnan(value) else choose(best[epoch - 1], value)
        elif not math.isnan(value):
            best[epoch] = value
    return best


def finite(value: float) -> float:
    """A value as MLflow can draw it; see `points`."""
    plain = float(value)
    return plain if math.isfinite(plain) else math.nan
