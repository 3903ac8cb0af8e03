"""What steers a search: the sampler and the pruner that a config names, held against what they have to steer."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from optuna.distributions import FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, NopPruner, ThresholdPruner
from optuna.samplers import (
    BaseSampler,
    BruteForceSampler,
    CmaEsSampler,
    GPSampler,
    GridSampler,
    NSGAIIISampler,
    NSGAIISampler,
    QMCSampler,
)

from autotune.construct import accepts, construct, target
from autotune.errors import UserError
from autotune.settings import Objective
from autotune.space import Space

# These model only the parameters that every trial has.
FLAT = (CmaEsSampler, GPSampler, NSGAIISampler, NSGAIIISampler, QMCSampler)

# These learn nothing from a trial that was pruned.
ONLY_COMPLETE = (GPSampler, NSGAIIISampler, NSGAIISampler)

# These end a study by Study.stop, which works inside study.optimize alone.
SELF_ENDING = (BruteForceSampler, GridSampler)


def knows_trees(sampler: BaseSampler) -> bool:
    """Whether a sampler can draw from a tree, where a parameter exists in some trials and not in others."""
    return not isinstance(sampler, FLAT)


def build_sampler(section: Mapping[str, Any], space: Space, seed: int) -> BaseSampler:
    """The section ``sampler``, seeded where it takes a seed, given the space where it takes one.

    Raises:
        UserError: It cannot be made, or cannot search this space.
    """
    sampler = _make("sampler", _seeded("sampler", section, seed), space=space)
    if not isinstance(sampler, BaseSampler):
        raise UserError("sampler._target_", f"{section['_target_']} makes no sampler", "name one of optuna.samplers")
    if isinstance(sampler, SELF_ENDING):
        raise UserError("sampler", f"{section['_target_']} works inside study.optimize alone", "give sampler=grid")
    numbers = (FloatDistribution, IntDistribution)
    if isinstance(sampler, CmaEsSampler) and not any(
        isinstance(search.distribution, numbers) and not search.distribution.single()
        for search in space.parameters().values()
    ):
        raise UserError("sampler", "CMA-ES searches numbers, and this space has only choices", "give sampler=tpe")
    return sampler


def remark(sampler: BaseSampler, pruner: BasePruner) -> str | None:
    """What a user should know of the two together before the search begins; None where there is nothing."""
    if isinstance(sampler, ONLY_COMPLETE) and not isinstance(pruner, NopPruner):
        return f"{sampler} learns from trials trained to their end alone; pruner=none gives it all of them"
    return None


def build_pruner(section: Mapping[str, Any], objective: Objective) -> BasePruner:
    """The section ``pruner``.

    Raises:
        UserError: It cannot be made, or would stop the best trials.
    """
    for key, part in _parts("pruner", section):
        if target(key, part) is ThresholdPruner:
            _check_threshold(key, part, objective)
    pruner = _make("pruner", section)
    if not isinstance(pruner, BasePruner):
        raise UserError("pruner._target_", f"{section['_target_']} makes no pruner", "name one of optuna.pruners")
    return pruner


def _check_threshold(key: str, section: Mapping[str, Any], objective: Objective) -> None:
    """A threshold stops what is above `upper` or below `lower`: only one of them is on the bad side."""
    good, bad = ("upper", "lower") if objective.direction == "maximize" else ("lower", "upper")
    if section.get(good) is not None:
        raise UserError(
            f"{key}.{good}",
            f"{section[good]} would stop the best trials, since {objective.metric} is {objective.direction}d",
            f"give {key}.{good}=null and {key}.{bad}=...",
        )
    if section.get(bad) is None:
        raise UserError(f"{key}.{bad}", "is not given", f"give the worst {objective.metric} that may go on")


def _make(key: str, section: Mapping[str, Any], **given: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # that Optuna may change it is no news to the user
        return construct(key, section, **given)


def _seeded(key: str, section: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """A section whose parts all have a seed where they take one."""
    seeded = {
        name: _seeded(f"{key}.{name}", value, seed) if isinstance(value, Mapping) and "_target_" in value else value
        for name, value in section.items()
    }
    return {"seed": seed, **seeded} if "seed" in accepts(target(key, section))[0] else seeded


def _parts(key: str, section: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """A section and the sections in it that name something to be made."""
    yield key, section
    for name, value in section.items():
        if isinstance(value, Mapping) and "_target_" in value:
            yield from _parts(f"{key}.{name}", value)
