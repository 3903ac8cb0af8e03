"""What steers a search: the sampler and the pruner that a config names, held against what they have to steer."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, ThresholdPruner
from optuna.samplers import (
    BaseSampler,
    BruteForceSampler,
    CmaEsSampler,
    GPSampler,
    GridSampler,
    NSGAIIISampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)

from autotune.construct import OWN_KEYS, accepts, construct, target
from autotune.errors import UserError
from autotune.pruners.leagues import SETTINGS, Pruning
from autotune.samplers import TPE, Grid
from autotune.settings import Objective
from autotune.space import Space

# These model only the parameters that every trial has.
FLAT = (CmaEsSampler, GPSampler, NSGAIISampler, NSGAIIISampler, QMCSampler)

# These learn nothing from a trial that was pruned.
ONLY_COMPLETE = (GPSampler, NSGAIIISampler, NSGAIISampler)

# These end a study by Study.stop, which works inside study.optimize alone.
SELF_ENDING = (BruteForceSampler, GridSampler)

# These draw one sequence of points, which a study that goes on continues.
IN_TURN = (Grid, QMCSampler)

# Of these all that matters is in the study, so that one made anew for each trial draws as well.
MADE_ANEW = (RandomSampler, TPESampler, CmaEsSampler, GPSampler, NSGAIISampler, NSGAIIISampler)

# By the kind of an argument's usual value: what else may be given, and how that is called.
KINDS: Mapping[Any, tuple[Callable[[Any], bool], str]] = {
    bool: (lambda value: isinstance(value, bool), "true or false"),
    int: (lambda value: isinstance(value, int) and not isinstance(value, bool), "a whole number"),
    float: (lambda value: isinstance(value, int | float) and not isinstance(value, bool), "a number"),
}


@runtime_checkable
class Reseeded(Protocol):
    """A sampler that can be given another seed: what it draws then follows from that and the study alone."""

    def reseed(self, seed: int) -> None:
        """Draw by another seed from here on."""


def seed_of(*of: int) -> int:
    """A seed for what some numbers name together: the study's seed and a trial's number."""
    return int(numpy.random.SeedSequence(of).generate_state(1)[0])


def first_seed(section: Mapping[str, Any], seed: int, begun: int) -> int:
    """The seed of the section ``sampler`` in a run of a search.

    Args:
        section: What names the sampler.
        seed: The study's.
        begun: How many trials the study has. A sampler that cannot be reseeded would draw the first points again.
    """
    made = target("sampler", section)
    return seed_of(seed, 0 if isinstance(made, type) and issubclass(made, IN_TURN) else begun)


def sampler_by_trial(
    sampler: BaseSampler, section: Mapping[str, Any], seed: int
) -> Callable[[int], BaseSampler] | None:
    """What gives the sampler for a trial by its number, so that what it draws does not follow from earlier draws.

    Args:
        sampler: What the section makes.
        section: The section ``sampler``.
        seed: The study's; a seed in the section goes before it.

    Returns:
        None where one sampler has to draw all trials: its points come in turn, or what it remembers is its own.
    """
    if isinstance(sampler, Reseeded):
        own = section.get("seed")
        return lambda number: _reseeded(sampler, seed_of(seed if own is None else own, number))
    is_made_anew = all(target(key, part) in MADE_ANEW for key, part in _parts("sampler", section))
    return _maker("sampler", section, seed) if is_made_anew else None


def _reseeded(sampler: Any, seed: int) -> BaseSampler:
    sampler.reseed(seed)
    assert isinstance(sampler, BaseSampler)
    return sampler


def _maker(key: str, section: Mapping[str, Any], seed: int) -> Callable[[int], BaseSampler]:
    """`construct` with a trial's seed, what is the same for all trials looked up once."""
    made = target(key, section)
    plain = {name: value for name, value in section.items() if name not in (*OWN_KEYS, "seed")}
    nested = {
        name: _maker(f"{key}.{name}", value, seed)
        for name, value in plain.items()
        if isinstance(value, Mapping) and "_target_" in value
    }
    own = seed if section.get("seed") is None else section["seed"]

    def make(number: int) -> BaseSampler:
        parts = {name: part(number) for name, part in nested.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            sampler = made(**{**plain, **parts}, seed=seed_of(own, number))
        assert isinstance(sampler, BaseSampler)
        return sampler

    return make


def knows_trees(sampler: BaseSampler) -> bool:
    """Whether a sampler can draw from a tree, where a parameter exists in some trials and not in others."""
    return not isinstance(sampler, FLAT)


def ranks_pruned(sampler: BaseSampler) -> bool:
    """Whether a sampler learns from pruned trials, and ranks them below those trained to their end."""
    if isinstance(sampler, CmaEsSampler):
        return bool(getattr(sampler, "_consider_pruned_trials", False))  # there is no public way to ask
    return isinstance(sampler, TPE | TPESampler)


def draws_in_turn(sampler: BaseSampler) -> bool:
    """Whether a sampler draws the points of a sequence by how many it drew before."""
    return isinstance(sampler, QMCSampler)


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


def remark(sampler: BaseSampler, pruning: Pruning) -> str | None:
    """What a user should know of the two together before the search begins; None where there is nothing."""
    if isinstance(sampler, ONLY_COMPLETE) and not pruning.is_off:
        return f"{sampler} learns from trials trained to their end alone; pruner=none gives it all of them"
    return None


def build_pruner(section: Mapping[str, Any], objective: Objective) -> Pruning:
    """The section ``pruner``: the pruner, which is made once to see that it can be, and whom it compares.

    Raises:
        UserError: It cannot be made, or would stop the best trials.
    """
    arguments = {key: value for key, value in section.items() if key not in SETTINGS}
    for key, part in _parts("pruner", arguments):
        if target(key, part) is ThresholdPruner:
            _check_threshold(key, part, objective)
    if not isinstance(_make("pruner", arguments), BasePruner):
        raise UserError("pruner._target_", f"{section['_target_']} makes no pruner", "name one of optuna.pruners")
    return Pruning.of(section, lambda: _make("pruner", arguments))


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


def _check_kinds(key: str, section: Mapping[str, Any]) -> None:
    """Refuse what is not of the kind that an argument usually is: Optuna breaks over it in the middle of a search."""
    for where, part in _parts(key, section):
        try:
            parameters = inspect.signature(target(where, part)).parameters
        except ValueError:  # some classes written in C have no signature
            continue
        for name, value in part.items():
            usual = type(parameters[name].default) if name in parameters else None
            if usual in KINDS and value is not None and not KINDS[usual][0](value):
                raise UserError(f"{where}.{name}", f"{value} is not right here", f"give {KINDS[usual][1]}")


def _make(key: str, section: Mapping[str, Any], **given: Any) -> Any:
    _check_kinds(key, section)
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
