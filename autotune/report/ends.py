"""What every trial ended at, those that were stopped early included, so that all of them can be compared."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from autotune.kept.outcome import Outcome
from autotune.settings import Objective
from autotune.trial import Reason, Record, State

# So many trials trained to their end say how an early value goes on.
ENOUGH = 5


@dataclass(frozen=True, slots=True)
class End:
    """Where a training ended.

    Attributes:
        number: The trial's number.
        family: Its optimizer.
        params: Its sampled values.
        value: Its objective at the end, or what is expected of it there.
        error: How far off the expectation may be (a standard deviation); 0 where it was measured.
        is_measured: Whether it was trained to its end.
        epochs: After how many epochs it ended.
    """

    number: int
    family: str
    params: Mapping[str, Any]
    value: float
    error: float
    is_measured: bool
    epochs: int


def curve(outcome: Outcome, number: int) -> list[float]:
    """The objective of a trial at each epoch, NaN where it has none; of one in training as far as it is."""
    record = outcome.records[number]
    known = record.curves.get(outcome.objective.metric)
    if known:
        return [float(value) for value in known]
    reported = outcome.trials[number].intermediate_values if number < len(outcome.trials) else {}
    return [float(reported.get(step, math.nan)) for step in range(1, max(reported, default=0) + 1)]


def best_so_far(values: Sequence[float], objective: Objective) -> list[float]:
    """The best of a curve up to each epoch; NaN before the first finite value."""

    def better(one: float, other: float) -> float:
        if not math.isfinite(other):
            return one
        return other if not math.isfinite(one) or objective.better(other, one) else one

    return list(accumulate(values, better)) if values else []


def measured(record: Record) -> bool:
    """Whether a trial was trained to its end and has a finite value."""
    return record.state == State.COMPLETE and record.objective is not None and math.isfinite(record.objective)


def ends(outcome: Outcome) -> list[End]:
    """The ends of all trainings of a study, confirmations included, in the order of the trials.

    A trial that was stopped by the pruner is expected to end where others went that were as good at its last epoch: by
    a straight line from their best so far to their end, fitted from the latest stop to the earliest, so that those
    stopped later help with those stopped earlier. One that was worse there than all of them may end anywhere between
    what it had and what is expected of the worst of them: the middle, with that error. One that diverged, and whatever
    is far worse than the rest (beyond the worse quartile by more than 1.5 times the distance of the quartiles), counts
    as that far and no farther: how bad a failure is says nothing of a choice.
    """
    objective = outcome.objective
    finished = [record for record in outcome.records if measured(record)]
    curves = {record.number: best_so_far(curve(outcome, record.number), objective) for record in outcome.records}
    known = {record.number: float(record.objective or 0.0) for record in finished}
    found = {number: (value, 0.0) for number, value in known.items()}
    stopped: dict[int, list[int]] = defaultdict(list)
    for record in outcome.records:
        reached = curves[record.number]
        if record.reason == Reason.PRUNED and reached and math.isfinite(reached[-1]):
            stopped[len(reached)].append(record.number)
    for epochs in sorted(stopped, reverse=True):
        found |= {number: _expected(curves[number][-1], epochs, curves, found, objective) for number in stopped[epochs]}
    floor = _floor([value for value, _ in found.values()], objective)
    for record in outcome.records:
        if record.reason == Reason.DIVERGED and floor is not None:
            found[record.number] = (floor, 0.0)
    told = [
        _end(outcome.records[number], value, error, number in known, floor, objective)
        for number, (value, error) in sorted(found.items())
    ]
    again = [record for record in outcome.confirmations if measured(record)]
    return told + [_end(record, float(record.objective or 0.0), 0.0, True, floor, objective) for record in again]


def _end(
    record: Record, value: float, error: float, is_measured: bool, floor: float | None, objective: Objective
) -> End:
    if floor is not None and objective.better(floor, value):
        value, error = floor, 0.0
    return End(record.number, record.family, record.params, value, error, is_measured, record.epochs)


def _expected(
    value: float,
    epochs: int,
    curves: Mapping[int, Sequence[float]],
    found: Mapping[int, tuple[float, float]],
    objective: Objective,
) -> tuple[float, float]:
    """What a trial is expected to end at that was so good after so many epochs, and how far off that may be."""
    pairs = np.array(
        [
            (curves[number][epochs - 1], end)
            for number, (end, _) in found.items()
            if len(curves[number]) >= epochs and math.isfinite(curves[number][epochs - 1])
        ]
    ).reshape(-1, 2)
    if len(pairs) < ENOUGH:
        return value, float(np.std(pairs[:, 1])) if len(pairs) > 1 else 0.0
    early, late = pairs.T
    centred = early - early.mean()
    spread = float(centred @ centred)
    # Nobody that was worse early is expected to end better for it, or to lose ground.
    slope = min(1.0, max(0.0, float(centred @ late) / spread)) if spread > 0 else 0.0

    def line(start: float) -> float:
        return float(late.mean() + slope * (start - early.mean()))

    worst = float(early.min() if objective.direction == "maximize" else early.max())
    if objective.better(worst, value):
        reach = abs(line(worst) - value)
        return (line(worst) + value) / 2, reach / math.sqrt(12)  # of a value that may be anywhere in between
    return line(value), float(np.std(late - late.mean() - slope * centred))


def _floor(values: Sequence[float], objective: Objective) -> float | None:
    if len(values) < ENOUGH:
        return None
    low, high = np.quantile(values, [0.25, 0.75])
    reach = 1.5 * (high - low)
    if reach == 0:
        return float(min(values) if objective.direction == "maximize" else max(values))
    return float(low - reach if objective.direction == "maximize" else high + reach)
