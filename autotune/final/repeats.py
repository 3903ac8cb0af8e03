"""What trainings that differ in their seed alone measured on the test part: mean, spread, interval and comparison."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import stdev
from typing import Any

from autotune.settings import bounds
from autotune.standing import Estimate

SEARCHED = "searched"


@dataclass(frozen=True, slots=True)
class Repeats:
    """One metric by seed.

    Attributes:
        values: Seeds to values, at least one; a value may be NaN or infinite where a training diverged.
        bounds: Between which the mean lies, see `Estimate.of`.
    """

    values: Mapping[int, float]
    bounds: tuple[float, float] = (-math.inf, math.inf)

    @property
    def estimate(self) -> Estimate | None:
        """Their mean with its 95 % interval (Student's t); None where a value is not finite."""
        values = list(self.values.values())
        return Estimate.of(values, bounds=self.bounds) if all(map(math.isfinite, values)) else None

    def minus(self, other: Repeats) -> Repeats | None:
        """The differences seed by seed, which takes out what a seed does to both; None where they share no seed."""
        shared = {seed: value - other.values[seed] for seed, value in self.values.items() if seed in other.values}
        return Repeats(shared) if shared else None

    def described(self) -> dict[str, Any]:
        """As it is written to summary.json; null is what is not known or not finite."""
        values = {str(seed): value if math.isfinite(value) else None for seed, value in self.values.items()}
        estimate = self.estimate
        several = estimate is not None and estimate.count > 1
        return {
            "mean": None if estimate is None else estimate.mean,
            "std": stdev(self.values.values()) if several else None,
            "low": estimate.low if estimate is not None and several else None,
            "high": estimate.high if estimate is not None and several else None,
            "values": values,
        }


@dataclass(frozen=True, slots=True)
class Contender:
    """A strategy and what its trainings measured on the test part.

    Attributes:
        name: `SEARCHED`, or a recipe's.
        strategy: See `autotune.naming.strategy`.
        tested: Metrics by seed.
    """

    name: str
    strategy: str
    tested: Mapping[int, Mapping[str, float]]

    @property
    def metrics(self) -> dict[str, Repeats]:
        """By name."""
        found: dict[str, dict[int, float]] = {}
        for seed, metrics in self.tested.items():
            for name, value in metrics.items():
                found.setdefault(name, {})[seed] = value
        return {name: Repeats(values, bounds(name)) for name, values in found.items()}

    def differences(self, other: Contender) -> dict[str, Repeats]:
        """How much more than another it measured, seed by seed, by metric."""
        theirs = other.metrics
        found = {name: ours.minus(theirs[name]) for name, ours in self.metrics.items() if name in theirs}
        return {name: repeats for name, repeats in found.items() if repeats is not None}


def described(contenders: Sequence[Contender], seeds: int) -> dict[str, Any]:
    """What summary.json has of the seeds and the recipes: nothing where one seed was asked for and no recipe.

    Args:
        contenders: The searched strategy, then the recipes; as far as they were trained.
        seeds: How many were asked for.
    """
    searched, *recipes = contenders
    content: dict[str, Any] = {}
    if seeds > 1:
        content["seeds"] = {name: repeats.described() for name, repeats in searched.metrics.items()}
    if recipes:
        content["recipes"] = {
            recipe.name: {
                "strategy": recipe.strategy,
                "test": {name: repeats.described() for name, repeats in recipe.metrics.items()},
                "difference": {name: repeats.described() for name, repeats in recipe.differences(searched).items()},
            }
            for recipe in recipes
        }
    return content


def table(contenders: Sequence[Contender], metric: str, direction: str | None = None) -> list[str]:
    """The contenders side by side, as lines for a terminal.

    Args:
        contenders: The searched strategy, then the recipes.
        metric: What is compared.
        direction: maximize or minimize, to say which is better; None says nothing of it.
    """
    searched, *recipes = contenders
    rows = [["", "", metric, "95 % interval", *(["against searched", "95 % interval", ""] if recipes else [])]]
    for contender in contenders:
        mean, interval = _cells(contender.metrics[metric], "")
        row = [contender.name, contender.strategy, mean, interval]
        difference = contender.differences(searched).get(metric) if contender is not searched else None
        if difference is not None:
            row += [*_cells(difference, "+"), _verdict(difference, direction)]
        rows.append(row)
    widths = [max(len(row[column]) for row in rows if column < len(row)) for column in range(len(rows[0]))]
    return ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=False)).rstrip() for row in rows]


def _cells(repeats: Repeats, sign: str) -> tuple[str, str]:
    estimate = repeats.estimate
    if estimate is None:
        return "not finite", ""
    interval = f"{estimate.low:{sign}#.4g} to {estimate.high:{sign}#.4g}" if estimate.count > 1 else "one seed"
    return f"{estimate.mean:{sign}#.4g}", interval


def _verdict(difference: Repeats, direction: str | None) -> str:
    """How a recipe stands against the searched strategy; nothing where one seed cannot say."""
    if not any(difference.values.values()):
        return "the same"
    estimate = difference.estimate
    if direction is None or estimate is None or estimate.count < 2:
        return ""
    if not estimate.is_sure:
        return "not told apart"
    return "better" if (estimate.mean > 0) == (direction == "maximize") else "worse"
