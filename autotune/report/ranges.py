"""Where the good values of a parameter lie, and whether the space ends too early there."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, pvariance
from typing import Any

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from autotune.kept.outcome import Outcome
from autotune.naming import short
from autotune.report.ends import End
from autotune.report.surrogate import numbers, part_of

AT_THE_EDGE = 0.05  # of a range, from either end
FEWEST = 3  # good trials that make a range


@dataclass(frozen=True, slots=True)
class GoodRates:
    """The learning rates of a family that come near the best of it.

    Attributes:
        family: The optimizer.
        parameter: The learning rate's parameter.
        low: The lowest good rate; NaN where fewer than three trials are good.
        high: The highest.
        good: How many trials are good.
        trials: How many trials of the family have a score, stopped ones included.
        best: The family's best score; a stopped trial counts with the end expected of it, where that is known as
            closely as good ones are told from others.
        space: What was searched, from and to.
    """

    family: str
    parameter: str
    low: float
    high: float
    good: int
    trials: int
    best: float
    space: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Edge:
    """A parameter of the winner whose value lies at an end of what was searched.

    Attributes:
        parameter: Its name.
        value: The winner's.
        end: ``lower`` or ``upper``.
        low: Where the search of it began.
        high: Where it ended.
        wider: What to type to search on beyond it.
    """

    parameter: str
    value: float
    end: str
    low: float
    high: float
    wider: str


def tolerance(outcome: Outcome, family: Sequence[float]) -> float:
    """How far below the best of its family a score still counts as good.

    Twice what a seed changes (the standard deviation between the confirmations of one configuration) where that is
    known, but at least a hundredth of the distance between the best and the median of the family's scores; a tenth of
    that distance where it is not.
    """
    distance = abs(outcome.objective.best(family) - median(family))
    standing = outcome.standing
    spreads = [] if standing is None else [each.values.values() for each in standing.contenders if len(each.values) > 1]
    if not spreads:
        return 0.1 * distance
    return max(2 * math.sqrt(fmean(pvariance(list(each)) for each in spreads)), 0.01 * distance)


def good_rates(outcome: Outcome, ends: Sequence[End]) -> list[GoodRates]:
    """The good learning rates of each family whose learning rate was searched, the best family first."""
    by_family: dict[str, list[tuple[str, End]]] = defaultdict(list)
    for _, end in sorted({end.number: end for end in reversed(ends)}.items()):
        name = rate_parameter(end.params)
        if name is not None:
            by_family[end.family].append((name, end))
    found = []
    for family, several in by_family.items():
        parameter = several[0][0]
        searched = _distribution(outcome, parameter)
        if not isinstance(searched, FloatDistribution):
            continue  # a choice among rates: the trials of each say it all
        reach = tolerance(outcome, [end.value for _, end in several])
        telling = [(name, end) for name, end in several if end.is_measured or end.error <= reach]
        best = outcome.objective.best([end.value for _, end in telling or several])
        good = [float(end.params[name]) for name, end in telling if abs(end.value - best) <= reach]
        low, high = (min(good), max(good)) if len(good) >= FEWEST else (math.nan, math.nan)
        space = (float(searched.low), float(searched.high))
        found.append(GoodRates(family, parameter, low, high, len(good), len(several), best, space))
    sign = -1 if outcome.objective.direction == "maximize" else 1
    return sorted(found, key=lambda each: (sign * each.best, each.family))


def rate_parameter(params: Mapping[str, Any]) -> str | None:
    """The name of the learning rate among sampled parameters, where it was drawn from a range."""
    for name, value in params.items():
        parts = name.split(".")
        if parts[0] == "optimizer" and parts[-1] == "lr" and isinstance(value, float):
            return name
    return None


def edges(outcome: Outcome) -> list[Edge]:
    """The numbers among the winner's parameters that lie at an end of what was searched."""
    winner = outcome.winner
    if winner is None or outcome.is_noise:
        return []
    found = [_edge(outcome, name, value) for name, value in winner.params.items()]
    return [edge for edge in found if edge is not None]


def _edge(outcome: Outcome, name: str, value: object) -> Edge | None:
    distribution = _distribution(outcome, name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    ordered = numbers(distribution) if distribution is not None else None
    if ordered is not None and len(ordered) > 2:
        if value not in (ordered[0], ordered[-1]):
            return None
        is_low = value == ordered[0]
        # The next of numbers that double is the double; of others, one step more.
        first, second = (ordered[0], ordered[1]) if is_low else (ordered[-1], ordered[-2])
        following = first * first / second if first * second > 0 else 2 * first - second
        listed = [following, *ordered] if is_low else [*ordered, following]
        wider = f"{name}={','.join(f'{each:g}' for each in listed)}"
        return Edge(name, float(value), "lower" if is_low else "upper", ordered[0], ordered[-1], wider)
    if isinstance(distribution, FloatDistribution | IntDistribution) and distribution.low < distribution.high:
        part = part_of(distribution, float(value))
        if AT_THE_EDGE < part < 1 - AT_THE_EDGE:
            return None
        is_low = part <= AT_THE_EDGE
        return Edge(
            name,
            float(value),
            "lower" if is_low else "upper",
            float(distribution.low),
            float(distribution.high),
            _wider(name, distribution, is_low),
        )
    return None


def _wider(name: str, distribution: FloatDistribution | IntDistribution, is_low: bool) -> str:
    """What to type for a range that goes on beyond one end: ten times as far, or half as much again."""
    low, high = float(distribution.low), float(distribution.high)
    if distribution.log:
        low, high = (low / 10, high) if is_low else (low, high * 10)
    else:
        more = (high - low) / 2
        low, high = (low - more, high) if is_low else (low, high + more)
    if isinstance(distribution, IntDistribution):
        text = f"int(interval({round(low)},{round(high)}))"
    else:
        text = f"interval({_number(low)},{_number(high)})"
    return f"'{name}={f'tag(log,{text})' if distribution.log else text}'"


def _number(value: float) -> str:
    return f"{value:.3g}" if value == 0 or 0.01 <= abs(value) < 1000 else short(value)


def _distribution(outcome: Outcome, name: str) -> BaseDistribution | None:
    for trial in reversed(outcome.trials):
        if name in trial.distributions:
            return trial.distributions[name]
    return None


def untried_end(rates: GoodRates) -> str | None:
    """At which end of the space good rates lie, so that there may be more beyond it; None where at neither."""
    low, high = rates.space
    if math.isnan(rates.low) or low <= 0 or low == high:
        return None
    scale = math.log(high / low)
    at_low = math.log(rates.low / low) <= AT_THE_EDGE * scale
    at_high = math.log(high / rates.high) <= AT_THE_EDGE * scale
    if at_low and at_high:
        return "both"
    return "lower" if at_low else "upper" if at_high else None
