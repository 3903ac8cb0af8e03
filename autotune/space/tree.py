"""The space of a search: a composed config whose search values and choices of groups are still open.

In a trial the chosen branch of a choice stands in the choice's place, and a parameter inside a branch exists only in
trials that chose the branch. What a branch fixes elsewhere is taken out of the search.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import optuna
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from autotune.errors import UserError, nearest
from autotune.space.template import (
    Leaf,
    Open,
    Tree,
    close_constants,
    join,
    leaves,
    read,
    refuse_search_values,
    texts,
    walk,
)
from autotune.space.values import SearchValue

# What a search is run by, as against what a trial is: these sections hold no search values and no resolved config.
SETTINGS = (
    *("study", "budget", "confirm", "sampler", "pruner", "storage", "executor", "tracking", "home", "hydra"),
    *("from", "train", "origin", "live", "dry_run", "allow_targets"),
)

# Of these no interpolation of a trial's takes anything: their addresses may hold passwords.
WITH_SECRETS = ("storage", "tracking")

# In a config's section ``origin``: what of it is no search value, whatever it looks like (`literals`).
LITERAL = "literal"

Pick = Callable[[str, SearchValue], Any]
Options = Callable[[SearchValue], Sequence[Any] | None]


class Space:
    """What a search may try.

    Args:
        config: The composed config, search values and interpolations in it. A `DictConfig` or plain containers.

    Raises:
        UserError: A search value or a choice is wrong, stands in a section that is no part of a trial, or a mandatory
            value is missing.
    """

    def __init__(self, config: DictConfig | Mapping[str, Any]) -> None:
        raw = OmegaConf.to_container(config, resolve=False) if isinstance(config, DictConfig) else config
        assert isinstance(raw, Mapping)
        self._settings = {key: value for key, value in raw.items() if key in SETTINGS and key != "hydra"}
        for key, value in self._settings.items():
            if key != "origin":
                refuse_search_values(key, value)
        for key in WITH_SECRETS:
            self._settings.pop(key, None)
        literal = (raw.get("origin") or {}).get(LITERAL) or {}
        self._template = read({key: value for key, value in raw.items() if key not in SETTINGS}, "", literal)
        self._template = close_constants(self._template, self._settings)
        self._interpolated = any("${" in text for text in texts(self._template))

    def suggest(self, trial: optuna.trial.BaseTrial) -> dict[str, Any]:
        """Let a trial's sampler choose: parameter names to values, in the order they were asked."""
        params: dict[str, Any] = {}

        def pick(name: str, search: SearchValue) -> Any:
            params[name] = suggest(trial, name, search.distribution)
            return params[name]

        _settle(self._template, pick)
        return params

    def resolve(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The resolved config of a trial: plain, complete, nothing left open.

        Raises:
            KeyError: A parameter of the chosen branches is missing.
            UserError: An interpolation leads nowhere.
        """
        resolved = _settle(self._template, lambda name, _: params[name])
        if not self._interpolated:
            return resolved
        try:
            plain = OmegaConf.to_container(OmegaConf.create({**self._settings, **resolved}), resolve=True)
        except OmegaConfBaseException as error:
            key = getattr(error, "full_key", None) or "config"
            raise UserError(
                str(key), str(error).splitlines()[0], "point the interpolation at a key that exists"
            ) from error
        assert isinstance(plain, dict)
        return {str(key): value for key, value in plain.items() if key not in SETTINGS}

    def parameters(self) -> dict[str, SearchValue]:
        """Every parameter of the space by name, those of all branches included."""
        found: dict[str, SearchValue] = {}
        for node in walk(self._template):
            if node.search is not None:
                found[node.name] = node.search
        return found

    def fit(self, point: Mapping[str, Any]) -> dict[str, Any] | None:
        """The part of a point that this space leaves open; None where the point lies outside.

        Args:
            point: Names of parameters, as in a space with every choice open, to config values. Where a choice is
                fixed, the point must agree with it, and its branch's name may stand in a parameter's name or not.
        """
        known = self.parameters()
        fitted: dict[str, Any] = {}
        for name, value in point.items():
            taken = self._taken_branch(name)
            if taken is not None and taken != value:
                return None
            written = self._as_written(name, known)
            if written not in known:
                continue
            label = known[written].label(value)
            if label is None:
                return None
            fitted[written] = label[0]
        return fitted

    def misfit(self, point: Mapping[str, Any]) -> str | None:
        """Why a point lies outside the space or says what no trial of it can be: key, value and range; None where not.

        Args:
            point: As for `fit`, which takes no notice of names that are no parameters.
        """
        known = self.parameters()
        fixed = {leaf.name: leaf.values[0] for leaf in self.leaves() if leaf.name not in known}
        for name, value in point.items():
            written, taken = self._as_written(name, known), self._taken_branch(name)
            if taken is not None:
                why = None if taken == value else f"is not {taken}, which is fixed"
            elif written in known:
                why = known[written].misfit(value)
            elif written in fixed:
                why = None if fixed[written] == value else f"is not {fixed[written]}, which is fixed"
            else:
                return f"{name} is no parameter; {nearest(name, known)}"
            if why is not None:
                return f"{name}={value} {why}"
        return None

    def _as_written(self, name: str, known: Mapping[str, SearchValue]) -> str:
        """The name of a parameter in this space, where its branch is fixed and stands in the name."""
        parent, _, last = name.rpartition(".")
        above, _, branch = parent.rpartition(".")
        return f"{above}.{last}" if name not in known and above and self._taken_branch(above) == branch else name

    def _taken_branch(self, name: str) -> str | None:
        """The option that a group is fixed to; None where it is open or no group."""
        node = self._template
        for part in name.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        if isinstance(node, Tree):
            return next(iter(node.branches)) if node.search is None else None
        return node.get("name") if isinstance(node, dict) else None

    def leaves(self) -> Iterator[Leaf]:
        """Every value that a resolved config can hold, with where it stands there."""
        yield from leaves(self._template, "", "", "")

    def tour(self) -> Iterator[dict[str, Any]]:
        """A few points, as parameters, that together take every branch of every choice at least once."""
        seen: set[tuple[str, Any]] = set()
        fresh = True
        while fresh:
            fresh = False
            point: dict[str, Any] = {}

            def pick(name: str, search: SearchValue, point: dict[str, Any] = point) -> Any:
                nonlocal fresh
                match search.distribution:
                    case CategoricalDistribution(choices=choices):
                        point[name] = next((each for each in choices if (name, each) not in seen), choices[0])
                        fresh = fresh or (name, point[name]) not in seen
                        seen.add((name, point[name]))
                    case FloatDistribution(low=low) | IntDistribution(low=low):
                        point[name] = low
                return point[name]

            _settle(self._template, pick)
            if fresh or not seen:
                yield point

    def points(self, options: Options = SearchValue.options) -> Iterator[dict[str, Any]]:
        """Every point of a finite space, as parameters, in a fixed order.

        Args:
            options: The values of a parameter, or None where they cannot be counted; fewer than all make a grid.

        Raises:
            ValueError: The space is not finite.
        """
        values = {name: options(search) for name, search in self.parameters().items()}
        if None in values.values():
            raise ValueError("a space with a continuous range has no list of points")
        choices: list[int] = []
        while True:
            point: dict[str, Any] = {}
            limits: list[int] = []

            def pick(name: str, _: SearchValue, point: dict[str, Any] = point, limits: list[int] = limits) -> Any:
                several = values[name]
                assert several is not None
                if len(limits) == len(choices):
                    choices.append(0)
                point[name] = several[choices[len(limits)]]
                limits.append(len(several))
                return point[name]

            _settle(self._template, pick)
            yield point
            # Count on like an odometer whose wheels depend on those before them.
            while choices and choices[-1] + 1 >= limits[len(choices) - 1]:
                choices.pop()
            if not choices:
                return
            choices[-1] += 1

    @property
    def finite(self) -> bool:
        """Whether the points can be counted."""
        return all(search.options() is not None for search in self.parameters().values())

    def size(self, at_most: int = 100_000) -> int | None:
        """How many points the space has; None where it is infinite or has more than at_most."""
        if not self.finite:
            return None
        counted = sum(1 for _ in itertools.islice(self.points(), at_most + 1))
        return counted if counted <= at_most else None


def _settle(template: Any, pick: Pick) -> dict[str, Any]:
    """Close a template: choose the branches, hear what they fix, then fill in the rest."""
    fixed: dict[str, Any] = {}
    chosen = _choose(template, pick, fixed)
    settled: dict[str, Any] = _fill(chosen, "", pick, fixed)
    for key, value in fixed.items():
        *parents, last = key.split(".")
        section = settled
        for parent in parents:
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                raise UserError("_fix_", f"{key} lies below {parent}, which is {section}", "fix a key of a section")
        section[last] = value
    return settled


def _choose(node: Any, pick: Pick, fixed: dict[str, Any]) -> Any:
    match node:
        case Tree(name, search, branches):
            branch = pick(name, search) if search is not None else next(iter(branches))
            return _choose(branches[branch], pick, fixed)
        case dict():
            fixed.update(node.get("_fix_") or {})
            return {key: _choose(item, pick, fixed) for key, item in node.items() if key != "_fix_"}
        case list():
            return [_choose(item, pick, fixed) for item in node]
    return node


def _fill(node: Any, path: str, pick: Pick, fixed: Mapping[str, Any]) -> Any:
    if path in fixed:
        return fixed[path]
    match node:
        case Open(name, search):
            return search.value(pick(name, search))
        case dict():
            return {key: _fill(item, join(path, key), pick, fixed) for key, item in node.items()}
        case list():
            return [_fill(item, join(path, index), pick, fixed) for index, item in enumerate(node)]
    return node


def suggest(trial: optuna.trial.BaseTrial, name: str, distribution: BaseDistribution) -> Any:
    """Let a trial's sampler draw one parameter."""
    match distribution:
        case FloatDistribution(low=low, high=high, step=step, log=log):
            return trial.suggest_float(name, low, high, step=step, log=log)
        case IntDistribution(low=low, high=high, step=step, log=log):
            return trial.suggest_int(name, low, high, step=step, log=log)
        case CategoricalDistribution(choices=choices):
            return trial.suggest_categorical(name, choices)
    raise TypeError(f"no sampler draws from {distribution}")
