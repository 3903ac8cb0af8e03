"""All that a report says of a study, worked out once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autotune.kept.outcome import Outcome
from autotune.logs import measuring
from autotune.report.cost import Cheaper, cheaper
from autotune.report.ends import End, ends
from autotune.report.importance import importances
from autotune.report.pruned import Savings, savings
from autotune.report.ranges import Edge, GoodRates, edges, good_rates
from autotune.report.surrogate import Surrogate
from autotune.report.worth import Worth, worths


@dataclass(frozen=True, slots=True)
class Findings:
    """What the trials of a study tell.

    Attributes:
        outcome: The study.
        ends: What every trial ended at, see `autotune.report.ends.ends`.
        worths: What each choice is worth.
        rates: The good learning rates of each family.
        edges: Where the winner lies at an end of the space.
        savings: What the pruner saved and cost.
        cheaper: What a cheaper configuration would lose.
        importances: What each parameter matters, by family.
    """

    outcome: Outcome
    ends: Sequence[End]
    worths: Sequence[Worth]
    rates: Sequence[GoodRates]
    edges: Sequence[Edge]
    savings: Savings
    cheaper: Sequence[Cheaper]
    importances: Mapping[str, Mapping[str, float]]

    @classmethod
    def of(cls, outcome: Outcome) -> Findings:
        """Find out; of a study in which nothing learnable was found, no more than what it cost."""
        known = ends(outcome)
        surrogate, important = None, {}
        with measuring("what a report says of single parameters"):
            surrogate = None if outcome.is_noise else Surrogate.of(outcome, known)
            important = importances(outcome, surrogate)
        return cls(
            outcome,
            known,
            [] if outcome.is_noise else worths(outcome, known, surrogate),
            [] if outcome.is_noise else good_rates(outcome, known),
            edges(outcome),
            savings(outcome),
            cheaper(outcome),
            important,
        )
