"""A composed config as a template: its search values and choices found, all else as it is.

A mapping with the key ``only`` is a choice among its other keys, its branches: ``only`` lists those that take part
(null: all). A parameter is named by where it is written, so one inside a branch bears the branch's name
(``optimizer.sgd.lr``). The key ``_fix_`` of a mapping fixes values elsewhere in the config while the mapping is part of
the trial.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from optuna.distributions import CategoricalDistribution

from autotune.errors import UserError, first_line, nearest
from autotune.space.values import SearchValue, parse


@dataclass(frozen=True, slots=True)
class Open:
    """A search value and the name of its parameter."""

    name: str
    search: SearchValue


@dataclass(frozen=True, slots=True)
class Tree:
    """A choice among branches; `search` is None where only one is left."""

    name: str
    search: SearchValue | None
    branches: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value of the space, open or not.

    Attributes:
        name: Where it is written (``optimizer.sgd.lr``).
        key: Where it stands in a resolved config (``optimizer.lr``).
        values: The value; of a search value the ends of its range, or its choices.
        target: The ``_target_`` of the mapping it stands in, empty where there is none.
    """

    name: str
    key: str
    values: tuple[Any, ...]
    target: str


def literals(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values in a resolved config that `read` could take for more than a value.

    Of a mapping the name alone says it: what stands in it has names of its own.
    """
    match value:
        case dict():
            if name and {"type", "only"} & value.keys():
                yield name, {}
            for key, item in value.items():
                yield from literals(item, join(name, key))
        case list():
            for index, item in enumerate(value):
                yield from literals(item, join(name, index))
        case str() if "," in value or "(" in value:
            yield name, value


def read(value: Any, name: str, literal: Mapping[str, Any] = MappingProxyType({})) -> Any:
    """Turn the raw config into a template: search values and trees found, the rest as it is.

    Args:
        value: The config, or a value in it.
        name: Where it stands.
        literal: What is no search value, as `literals` lists it.
    """
    if value == "???":
        raise UserError(name, "a value is missing", f"give it: {name}=...")
    is_literal = name in literal and (isinstance(value, Mapping) or value == literal[name])
    search = None if is_literal else parse(name, value)
    if search is not None:
        return Open(name, search)
    if isinstance(value, Mapping):
        if (
            not is_literal
            and "only" in value
            and all(key == "only" or isinstance(branch, Mapping) for key, branch in value.items())
        ):
            return _read_tree(value, name, literal)
        fixed = value.get("_fix_")
        if fixed is not None and not (isinstance(fixed, Mapping) and all(isinstance(key, str) for key in fixed)):
            raise UserError(join(name, "_fix_"), f"{fixed} fixes nothing", "write _fix_: {data.batch_size: full}")
        return {key: item if key == "_fix_" else read(item, join(name, key), literal) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [read(item, join(name, index), literal) for index, item in enumerate(value)]
    return value


def _is_tree(value: Mapping[str, Any]) -> bool:
    return "only" in value and all(key == "only" or isinstance(branch, Mapping) for key, branch in value.items())


def _read_tree(value: Mapping[str, Any], name: str, literal: Mapping[str, Any]) -> Tree:
    known = [key for key in value if key != "only"]
    if not known:
        raise UserError(name, "a choice has no branches", "give it mappings beside the key only")
    only = value["only"]
    if isinstance(only, str):
        several = parse(f"{name}.only", only)
        only = list(several.choices) if several is not None and several.choices is not None else [only]
    if only is None:
        only = known
    if not isinstance(only, list) or not only:
        raise UserError(f"{name}.only", f"{only} chooses nothing", f"list some of {', '.join(known)}")
    for branch in only:
        if branch not in known:
            raise UserError(f"{name}.only", f"no branch {branch}", nearest(str(branch), known))
    branches = {branch: read(value[branch], join(name, branch), literal) for branch in dict.fromkeys(only)}
    labels = {branch: branch for branch in branches}
    search = SearchValue(CategoricalDistribution(tuple(labels)), labels) if len(labels) > 1 else None
    return Tree(name, search, branches)


def close_constants(template: Any, settings: Mapping[str, Any]) -> Any:
    """Resolve the interpolations that are the same in every trial, once for all.

    Left open are those inside a branch, which stands elsewhere in a trial, and those that lead to something open, to a
    value that a branch fixes, or nowhere.
    """
    fixed = set(_fixed_anywhere(template))
    try:
        root = OmegaConf.create({**settings, **_missing_where_open(template, "", fixed)})
    except OmegaConfBaseException as error:
        key = str(getattr(error, "full_key", None) or "config")
        raise UserError(key, f"is no value of a config ({first_line(error)})", "write ${key} for another's") from error

    def closed(node: Any, path: str) -> Any:
        match node:
            case dict():
                return {key: item if key == "_fix_" else closed(item, join(path, key)) for key, item in node.items()}
            case list():
                return [closed(item, join(path, index)) for index, item in enumerate(node)]
            case str() if "${" in node:
                try:
                    value = OmegaConf.select(root, path)
                except OmegaConfBaseException:
                    return node
                # One that was escaped is resolved with the trial, once.
                return node if OmegaConf.is_config(value) or "${" in str(value) else value
        return node

    return closed(template, "")


def _missing_where_open(node: Any, path: str, fixed: set[str]) -> Any:
    match node:
        case Open() | Tree():
            return "???"
        case dict():
            return {
                key: "???" if join(path, key) in fixed else _missing_where_open(item, join(path, key), fixed)
                for key, item in node.items()
                if key != "_fix_"
            }
        case list():
            return [_missing_where_open(item, join(path, index), fixed) for index, item in enumerate(node)]
    return node


def _fixed_anywhere(node: Any) -> Iterator[str]:
    match node:
        case Tree(branches=branches):
            for branch in branches.values():
                yield from _fixed_anywhere(branch)
        case dict():
            yield from node.get("_fix_") or {}
            for key, item in node.items():
                if key != "_fix_":
                    yield from _fixed_anywhere(item)
        case list():
            for item in node:
                yield from _fixed_anywhere(item)


def texts(node: Any) -> Iterator[str]:
    """Every text of a template, those of branches and of what they fix included."""
    match node:
        case Tree(branches=branches):
            for branch in branches.values():
                yield from texts(branch)
        case dict():
            for item in node.values():
                yield from texts(item)
        case list():
            for item in node:
                yield from texts(item)
        case str():
            yield node
        case Open(search=search):
            yield from (choice for choice in (search.choices or {}).values() if isinstance(choice, str))


def refuse_search_values(name: str, value: Any) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            refuse_search_values(join(name, key), item)
    elif isinstance(value, str) and "(" in value and parse(name, value) is not None:
        raise UserError(
            name,
            f"{value} is a search value",
            "only what a trial is made of can be searched; --multirun sweeps the rest",
        )


def walk(node: Any) -> Iterator[Open | Tree]:
    match node:
        case Open():
            yield node
        case Tree():
            yield node
            for branch in node.branches.values():
                yield from walk(branch)
        case dict():
            for key, item in node.items():
                if key != "_fix_":
                    yield from walk(item)
        case list():
            for item in node:
                yield from walk(item)


def leaves(node: Any, name: str, key: str, target: str) -> Iterator[Leaf]:
    match node:
        case Open():
            yield Leaf(node.name, key, tuple(node.search.extremes()), target)
        case Tree():
            for branch, content in node.branches.items():
                yield from leaves(content, join(node.name, branch), key, "")
        case dict() if not node.keys() - {"_fix_"}:
            yield Leaf(name, key, (node,), target)
        case dict():
            own = str(node.get("_target_", target))
            for part, item in node.items():
                if part != "_fix_":
                    yield from leaves(item, join(name, part), join(key, part), own)
        case list() if any(isinstance(item, Open | Tree | dict | list) for item in node):
            for index, item in enumerate(node):
                yield from leaves(item, join(name, index), join(key, index), target)
        case str() if "${" in node:
            return
        case _:
            yield Leaf(name, key, (node,), target)


def join(name: str, key: object) -> str:
    return f"{name}.{key}" if name else str(key)
