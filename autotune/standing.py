"""Who wins when the best configurations have been trained again with other seeds, and how sure that is.

The best of many validation scores is the luckiest draw too. Trained again on seeds that all of them share, each
configuration has a mean with its interval, and two of them are compared seed by seed, which takes out what a seed does
to both.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, stdev

from autotune import naming
from autotune.settings import Objective, bounds
from autotune.trial import Reason, Record

CONFIDENCE = 0.95
# What a strategy costs, in the order in which ties are broken. Measured seconds count where they differ by more than
# two measurements of one thing do.
COSTS = (("cost/parameters", 1.0, "parameters"), ("cost/latency_sample_seconds", 1.25, "a prediction"))
# Optimizers that keep less than two numbers a parameter.
KEEPS = {"sgd": 0, "bgd": 0, "muon": 1, "rmsprop": 1, "adagrad": 1, "adafactor": 1}


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its 95 % interval (Student's t); the interval is infinite where there is one value.

    Attributes:
        mean: The mean.
        low: Its lower bound.
        high: Its upper bound.
        count: Of how many values.
    """

    mean: float
    low: float
    high: float
    count: int

    @classmethod
    def of(
        cls, values: Sequence[float], grain: float = 0.0, bounds: tuple[float, float] = (-math.inf, math.inf)
    ) -> Estimate:
        """The mean of at least one value.

        Args:
            values: Equally likely each.
            grain: The step of the grid that both numbers lie on whose differences the values are. Three equal
                differences of one sample more that was right are no proof: the spread is taken to be no less than what
                rounding to the grid makes, grain * sqrt(2 / 12).
            bounds: Between which the mean lies, whatever is measured: 0 and 1 for a share. The interval is cut off
                there, which leaves out nothing that may be the mean. Not where a value lies beyond them.
        """
        mean = fmean(values)
        if len(values) < 2:
            return cls(mean, -math.inf, math.inf, len(values))
        from scipy.stats import t  # takes a quarter of a second to import

        spread = max(stdev(values), grain * math.sqrt(2 / 12))
        half = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * spread / math.sqrt(len(values))
        low, high = bounds if all(bounds[0] <= value <= bounds[1] for value in values) else (-math.inf, math.inf)
        return cls(mean, max(mean - half, low), min(mean + half, high), len(values))

    def __str__(self) -> str:
        if self.count < 2:
            return f"{self.mean:.4g} (one seed)"
        return f"{self.mean:.4g}, 95 % interval {self.low:.4g} to {self.high:.4g} over {self.count} seeds"

    @property
    def is_sure(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True)
class Contender:
    """A configuration that was trained again.

    Attributes:
        record: The trial of the search that it comes from.
        values: Its objective by seed, of those that it did not diverge with.
        score: The mean of them.
        grain: See `Estimate.of`.
        diverged: The seeds that it diverged with.
    """

    record: Record
    values: Mapping[int, float]
    score: Estimate
    grain: float = 0.0
    diverged: tuple[int, ...] = ()

    def ahead_of(self, other: Contender) -> Estimate:
        """By how much its objective is larger, on the seeds that both have."""
        shared = [seed for seed in self.values if seed in other.values]
        return Estimate.of([self.values[seed] - other.values[seed] for seed in shared], self.grain)


@dataclass(frozen=True, slots=True)
class Standing:
    """The confirmed configurations.

    Attributes:
        contenders: Those that diverged with the fewest of their seeds first, of those with as many the best mean.
        tied: Those that cannot be told from the best, itself included.
        winner: The best, or of those tied the cheapest and simplest.
        why: In words, why it is the winner.
        failed: Trials of the search whose config could not be trained again, and how it ended.
    """

    contenders: tuple[Contender, ...]
    tied: tuple[Contender, ...]
    winner: Contender
    why: str
    failed: Mapping[int, str]

    @property
    def is_tie(self) -> bool:
        """Whether more than one could be the best."""
        return len(self.tied) > 1


def standing(records: Sequence[Record], confirmations: Sequence[Record], objective: Objective) -> Standing | None:
    """Compare what was confirmed; None where nothing was.

    Args:
        records: The trials of the search, by number.
        confirmations: Their configs trained again.
        objective: What they are compared by.
    """
    values: dict[int, dict[int, float]] = defaultdict(dict)
    diverged: dict[int, list[int]] = defaultdict(list)
    failed: dict[int, str] = {}
    for each in confirmations:
        seed = each.config["seed"]
        if each.reason == Reason.DIVERGED:
            diverged[each.number].append(seed)
        elif each.reason == Reason.COMPLETED and each.objective is not None:
            values[each.number][seed] = each.objective
        elif each.reason is not None:
            failed[each.number] = f"{each.reason} with seed {seed}"
    for number in diverged.keys() - values.keys():
        failed.setdefault(number, "diverged with every seed")
    grain = _grain([value for by_seed in values.values() for value in by_seed.values()])
    # One that could not be trained with every seed is no strategy to build on.
    contenders = [
        Contender(
            records[number],
            by_seed,
            Estimate.of(
                list(by_seed.values()), grain / math.sqrt(2), bounds(objective.metric)
            ),  # of one number, not of two
            grain,
            tuple(diverged.get(number, ())),
        )
        for number, by_seed in values.items()
        if number not in failed
    ]
    if not contenders:
        return None
    sign = -1 if objective.direction == "maximize" else 1
    contenders.sort(key=lambda each: (_lost(each), sign * each.score.mean, each.record.number))
    leader = contenders[0]
    tied = [leader, *(each for each in contenders[1:] if _ties(each, leader))]
    winner, why = _cheapest(tied) if len(tied) > 1 else (leader, _sure(leader, contenders))
    return Standing(tuple(contenders), tuple(tied), winner, why, failed)


def _lost(contender: Contender) -> float:
    """The part of its seeds that a contender diverged with."""
    return len(contender.diverged) / _seeds(contender)


def _seeds(contender: Contender) -> int:
    return len(contender.diverged) + len(contender.values)


def _ties(contender: Contender, leader: Contender) -> bool:
    """Whether a contender may be as good as the leader.

    Not one that ever diverged: the seeds that are left say nothing of the others. Nor one that is as uncertain as it is
    bad: it takes a mean within the leader's interval, and differences seed by seed that may be none.
    """
    is_near = leader.score.low <= contender.score.mean <= leader.score.high
    return not contender.diverged and is_near and not leader.ahead_of(contender).is_sure


def _grain(values: Sequence[float]) -> float:
    """The least step between two values that differ; 0 where none do."""
    ordered = sorted(set(values))
    return min((high - low for low, high in pairwise(ordered)), default=0.0)


def _sure(leader: Contender, contenders: Sequence[Contender]) -> str:
    if len(contenders) == 1:
        return "no other configuration was confirmed"
    if leader.diverged:
        return f"it diverged with {len(leader.diverged)} of {_seeds(leader)} seeds, and every other with no fewer"
    if all(each.diverged for each in contenders if each is not leader):
        return "every other configuration diverged with one of the seeds at least"
    return f"its mean over {leader.score.count} seeds is the best, beyond what seeds do by chance"


def _cheapest(tied: Sequence[Contender]) -> tuple[Contender, str]:
    """Of configurations that cannot be told apart, the one that costs least, and why it is that one."""
    left = list(tied)
    for key, ratio, unit in COSTS:
        costs = [each.record.cost.get(key) for each in left]
        if any(cost is None for cost in costs):
            continue
        known = [cost for cost in costs if cost is not None]
        least = min(known)
        cheap = [each for each, cost in zip(left, known, strict=True) if cost <= least * ratio]
        if len(cheap) == 1:
            return cheap[
                0
            ], f"of {len(tied)} that cannot be told apart it costs least: {naming.cost(key, least)} {unit}"
        left = cheap
    simplest = min(left, key=lambda each: _complexity(each.record))
    if sum(_complexity(each.record) == _complexity(simplest.record) for each in left) == 1:
        words = naming.strategy(simplest.record.config, simplest.record.params)
        return simplest, f"of {len(tied)} that cannot be told apart none costs less, and {words} is the simplest"
    return left[0], f"of {len(tied)} that cannot be told apart none is cheaper or simpler, and its mean is the best"


def _complexity(record: Record) -> tuple[int, int]:
    """How many numbers the optimizer keeps a parameter, and how many settings the schedule has."""
    optimizer, schedule = record.config["optimizer"], record.config["schedule"]
    kept = KEEPS.get(record.family, 2)
    if record.family in ("sgd", "bgd") and optimizer.get("momentum"):
        kept += 1
    return kept, sum(isinstance(value, int | float) for value in schedule.values())
