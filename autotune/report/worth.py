"""What each choice is worth: the optimizer, the schedule, the batch size, BatchNorm, whatever else was a choice.

A sampler tries good options more often and with better settings, and the pruner stops weak ones: means of the trials
of each option mislead. So the model of `autotune.report.surrogate` says what two options score with all other settings
the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import CategoricalDistribution

from autotune.kept.outcome import Outcome
from autotune.report.ends import End
from autotune.report.surrogate import Point, Surrogate
from autotune.standing import Contender, Estimate

POINTS = 64  # of the space, for one difference
BEST = 10  # trials whose settings are looked at
FEWEST = 3  # trials of an option; of fewer nothing is said

COMPUTED = (
    "Computed by a Gaussian process that is fitted to all trials: both options at the same other settings, averaged "
    "evenly over the whole space, and over the settings of the ten best trials; intervals of 95 %. A trial that was "
    "stopped counts with the end expected of it. Means of the trials themselves would mislead, since the sampler tries "
    "more often what is good."
)


@dataclass(frozen=True, slots=True)
class Worth:
    """One option against another, all other settings the same; positive means better, whatever the direction.

    Attributes:
        parameter: The choice's name: ``schedule``.
        option: What is judged.
        other: What it is compared with.
        everywhere: The difference averaged over the whole space, evenly; None where too few trials tell.
        at_best: The difference averaged over the settings of the best trials of both; None likewise.
        confirmed: The difference of the best confirmed configurations of both, seed by seed; None where there are none.
        trials: How many trials had the option, and the other.
    """

    parameter: str
    option: Any
    other: Any
    everywhere: Estimate | None
    at_best: Estimate | None
    confirmed: Estimate | None
    trials: tuple[int, int]


def worths(outcome: Outcome, ends: Sequence[End], surrogate: Surrogate | None) -> list[Worth]:
    """What the winner's option of each choice is worth against each other option of it, in the order of the space.

    Of a choice between true and false it is true against false. Where there is no winner the most frequent option
    takes its place.
    """
    found: list[Worth] = []
    best = _best(outcome, ends)
    for parameter, options in choices(outcome).items():
        counts = {option: _count(outcome, parameter, option) for option in options}
        judged = _judged(outcome, parameter, options, counts)
        pair = None
        if surrogate is not None and counts[judged] >= FEWEST:
            evenly = [_with(surrogate, parameter, judged, {}) for _ in range(POINTS)]
            good = [_with(surrogate, parameter, judged, each.params) for each in best if parameter in each.params]
            pair = surrogate, evenly, good
        for other in options:
            if other == judged:
                continue
            confirmed = _confirmed(outcome, parameter, judged, other)
            everywhere = at_best = None
            if pair is not None and counts[other] >= FEWEST:
                model, evenly, good = pair
                everywhere = _difference(outcome, model, parameter, other, evenly)
                at_best = _difference(outcome, model, parameter, other, good)
            trials = (counts[judged], counts[other])
            found.append(Worth(parameter, judged, other, everywhere, at_best, confirmed, trials))
    return found


def choices(outcome: Outcome) -> dict[str, tuple[Any, ...]]:
    """The choices that trials were given, by name, each with its options."""
    found: dict[str, tuple[Any, ...]] = {}
    for trial in outcome.trials:
        for name, distribution in trial.distributions.items():
            if isinstance(distribution, CategoricalDistribution) and len(distribution.choices) > 1:
                found.setdefault(name, distribution.choices)
    return found


def _count(outcome: Outcome, parameter: str, option: Any) -> int:
    return sum(record.params.get(parameter) == option and parameter in record.params for record in outcome.records)


def _judged(outcome: Outcome, parameter: str, options: Sequence[Any], counts: dict[Any, int]) -> Any:
    if set(options) == {True, False}:
        return True
    winner = outcome.winner
    if winner is not None and parameter in winner.params:
        return winner.params[parameter]
    return max(options, key=lambda option: counts[option])


def _with(surrogate: Surrogate, parameter: str, option: Any, point: Point) -> dict[str, Any]:
    """A point with another option of a choice; what comes with the option is drawn by chance."""
    return surrogate.draws.point({**point, parameter: option})


def _difference(
    outcome: Outcome, surrogate: Surrogate, parameter: str, other: Any, points: Sequence[Point]
) -> Estimate | None:
    """By how much better some points are than the same with another option."""
    pairs = [(point, _with(surrogate, parameter, other, point)) for point in points]
    # What a branch fixes elsewhere can take the choice away.
    pairs = [(one, two) for one, two in pairs if parameter in one and parameter in two]
    if not pairs:
        return None
    return _better(outcome, surrogate.difference([one for one, _ in pairs], [two for _, two in pairs]))


def _best(outcome: Outcome, ends: Sequence[End]) -> list[End]:
    sign = -1 if outcome.objective.direction == "maximize" else 1
    trials = {end.number: end for end in reversed(ends) if end.is_measured}
    return sorted(trials.values(), key=lambda end: (sign * end.value, end.number))[:BEST]


def _confirmed(outcome: Outcome, parameter: str, option: Any, other: Any) -> Estimate | None:
    one, two = (_best_confirmed(outcome, parameter, each) for each in (option, other))
    if one is None or two is None or not set(one.values) & set(two.values):
        return None
    return _better(outcome, one.ahead_of(two))


def _best_confirmed(outcome: Outcome, parameter: str, option: Any) -> Contender | None:
    contenders = () if outcome.standing is None else outcome.standing.contenders
    return next((each for each in contenders if each.record.params.get(parameter, _ABSENT) == option), None)


_ABSENT = object()


def _better(outcome: Outcome, estimate: Estimate) -> Estimate:
    """A difference of objectives as one of how much better it is."""
    if outcome.objective.direction == "maximize":
        return estimate
    return Estimate(-estimate.mean, -estimate.high, -estimate.low, estimate.count)
