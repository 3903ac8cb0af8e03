"""Whether a search found anything: its best against what guessing reaches on the same validation part."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist

from autotune.trial import Chance, Record

SURE = 0.05
TESTS = 2  # ways to find out, either of which is enough


def luck(chance: Chance, best: float, looks: int) -> float:
    """How likely at most the best of so many guesses is as good: their single chances added up (Bonferroni).

    Args:
        chance: What one guess reaches.
        best: The best value that was found.
        looks: How many times something was judged: the epochs of all trials.
    """
    if chance.metric == "val/rmse":
        distance = (best - chance.level) / chance.error if chance.error > 0 else math.inf
        alone = NormalDist().cdf(distance)
    else:
        alone = _at_least(round(best * chance.samples), chance.samples, chance.level)
    return min(1.0, alone * max(1, looks))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to think of a search's best.

    Attributes:
        chance: What guessing reaches.
        best: The best value of its metric that any trial measured.
        looks: How many times something was judged.
        luck: How likely luck alone does as well in that many looks.
    """

    chance: Chance
    best: float
    looks: int
    luck: float

    @property
    def learnt(self) -> bool:
        """Whether the best is beyond what guessing reaches."""
        return self.luck < SURE

    def __str__(self) -> str:
        metric, level = self.chance.metric, self.chance.level
        return (
            f"the best {metric} of {self.looks} judged epochs, {self.best:.4g}, is within what guessing reaches: "
            f"{level:.4g} on {self.chance.samples} samples, and the best trial's answers, dealt out to these at "
            f"random, do as well in one of that many looks with probability {self.luck:.2g}"
        )


def judge(records: Iterable[Record], chance: Chance | None, paired: float | None) -> Verdict | None:
    """Find out whether a search learnt anything.

    The best value is held against what guessing reaches. That is quick, and blind where the level itself is uncertain,
    as of skewed targets, or where one class is frequent. So only the paired test says that nothing was learnt.

    Args:
        records: The trials.
        chance: What guessing reaches; None where that is not known.
        paired: How likely the best trial's answers do as well, dealt out at random; None where that is not known.

    Returns:
        The verdict; None where what is known allows none.
    """
    if chance is None:
        return None
    values: list[float] = []
    for record in records:
        values += [value for value in record.curves.get(chance.metric, ()) if math.isfinite(value)]
    if not values:
        return None
    best, looks = min(values) if chance.metric == "val/rmse" else max(values), len(values)
    both = [luck(chance, best, looks), 1.0 if paired is None else paired * looks]
    verdict = Verdict(chance, best, looks, min(1.0, TESTS * min(both)))
    return None if paired is None and not verdict.learnt else verdict


def _at_least(successes: int, trials: int, probability: float) -> float:
    """The probability of at least so many successes, binomial."""
    if probability >= 1:
        return 1.0
    if probability <= 0:
        return float(successes <= 0)

    def log_of(count: int) -> float:
        ways = math.lgamma(trials + 1) - math.lgamma(count + 1) - math.lgamma(trials - count + 1)
        return ways + count * math.log(probability) + (trials - count) * math.log1p(-probability)

    return min(1.0, math.fsum(math.exp(log_of(count)) for count in range(max(0, successes), trials + 1)))
