"""What the winner costs, and what a cheaper configuration would lose."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from autotune.kept.outcome import Outcome
from autotune.report.ends import measured
from autotune.standing import Estimate
from autotune.trial import Record

CHEAPER = 0.8  # of the winner's cost: less than that is more than measuring twice differs by

# What a cost is called, and how it is written.
COSTS = {
    "cost/epoch_seconds": "training an epoch",
    "cost/latency_sample_seconds": "predicting one sample",
    "cost/peak_memory_bytes": "peak memory",
    "cost/model_bytes": "size",
    "cost/parameters": "parameters",
}


@dataclass(frozen=True, slots=True)
class Cheaper:
    """A configuration that costs less than the winner.

    Attributes:
        record: Its trial.
        cost: The key of what it costs less of.
        part: Its cost as a part of the winner's.
        lost: By how much it is worse than the winner; with an interval where both were confirmed.
    """

    record: Record
    cost: str
    part: float
    lost: Estimate


def cheaper(outcome: Outcome) -> list[Cheaper]:
    """For each cost the best of the trials that cost clearly less than the winner, where there is one."""
    winner = outcome.winner
    if winner is None or winner.objective is None or outcome.is_noise:
        return []
    found = []
    for key in COSTS:
        price = winner.cost.get(key, 0.0)
        others = [
            record
            for record in outcome.records
            if measured(record) and 0 < record.cost.get(key, math.inf) <= CHEAPER * price
        ]
        if others:
            best = outcome.objective.best([record.objective or 0.0 for record in others])
            record = next(each for each in others if each.objective == best)
            found.append(Cheaper(record, key, record.cost[key] / price, _lost(outcome, winner, record)))
    return found


def _lost(outcome: Outcome, winner: Record, record: Record) -> Estimate:
    sign = 1 if outcome.objective.direction == "maximize" else -1
    contenders = {} if outcome.standing is None else {each.record.number: each for each in outcome.standing.contenders}
    one, two = contenders.get(winner.number), contenders.get(record.number)
    if one is not None and two is not None and set(one.values) & set(two.values):
        ahead = one.ahead_of(two)
        return ahead if sign > 0 else Estimate(-ahead.mean, -ahead.high, -ahead.low, ahead.count)
    return Estimate.of([sign * ((winner.objective or 0.0) - (record.objective or 0.0))])


def front(outcome: Outcome, key: str, records: Sequence[Record]) -> list[Record]:
    """The trials than which none is both better and cheaper, from the cheapest on."""
    priced = [record for record in records if key in record.cost and measured(record)]
    kept: list[Record] = []
    for record in sorted(priced, key=lambda each: (each.cost[key], each.number)):
        if not kept or outcome.objective.better(record.objective or 0.0, kept[-1].objective or 0.0):
            kept.append(record)
    return kept
