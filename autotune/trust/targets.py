"""Which names of a config may be made into objects: what a config says is data, whoever wrote it.

A `_target_` is made where autotune and the libraries it trains with have a class for its place, or where the user says
so: on the command line (``allow_targets=[my_project]``, or the `_target_` itself), or by giving the class to
`autotune.run_search`. A file never says so for itself.

Who may say so is settled once, by whoever begins a run (`allowing`), and holds for the whole process: objects are made
deep inside executors and in their threads, from resolved configs, which are plain and hold what is trained and no more.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from weakref import ref

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, QuotedString

from autotune.errors import UserError
from autotune.trust import addresses, reviewed

OPTION = "allow_targets"

PREFIXES = ("autotune", "lightning", "torch.nn", "torch.optim", "torchmetrics")
# Where else a section's parts come from.
_STEERING = ("optuna.samplers", "optuna.pruners")
FURTHER = {"sampler": _STEERING, "pruner": _STEERING}
# Classes to try Lightning out, some of which download.
NEVER = ("lightning.pytorch.demos",)

# Objects that a program gave (`autotune.given`).
GIVEN = "autotune.given"

_ROOTS = ("autotune", "hydra", "lightning", "omegaconf", "optuna", "torch", "torchmetrics")


@dataclass(frozen=True, slots=True)
class Place:
    """What a section, or a section inside one, may name.

    Attributes:
        bases: A class has to be one of these, by full name, or derived from one.
        package: Where it has to be defined, with the methods of a protocol, where it has no base in common.
        methods: Those methods.
        problem: What another class is told.
        remedy: What would be right.
    """

    problem: str
    remedy: str
    bases: tuple[str, ...] = ()
    package: str = ""
    methods: tuple[str, ...] = ()

    def takes(self, found: type) -> bool:
        """Whether a class is of this kind."""
        if self.package:
            return covered(found.__module__, (self.package,)) and all(hasattr(found, name) for name in self.methods)
        return any(issubclass(found, _of_name(base)) for base in self.bases)


PLACES = {
    "model": Place("makes no model", "name an nn.Module or a LightningModule", ("torch.nn.Module",)),
    "data": Place(
        "makes no data",
        "name an autotune.data.source.Source or a LightningDataModule",
        ("autotune.data.source.Source", "lightning.pytorch.LightningDataModule"),
    ),
    "optimizer": Place("makes no optimizer", "name one of torch.optim", ("torch.optim.Optimizer",)),
    "schedule": Place(
        "makes no schedule", "name one of autotune.optim.schedules", ("autotune.optim.schedules.Schedule",)
    ),
    "sampler": Place("makes no sampler", "name one of optuna.samplers", ("optuna.samplers.BaseSampler",)),
    "pruner": Place("makes no pruner", "name one of optuna.pruners", ("optuna.pruners.BasePruner",)),
    "executor": Place(
        "makes no executor",
        "give executor=auto, population or lightning",
        package="autotune.executors",
        methods=("refuses", "chance", "rehearse", "run"),
    ),
    "tracking": Place(
        "makes no tracker",
        "give tracking=mlflow or none",
        package="autotune.tracking",
        methods=("search_started", "trial_ended", "search_ended", "close"),
    ),
}

# Parts of parts.
INNER = {
    "sampler": PLACES["sampler"],
    "pruner": PLACES["pruner"],
    "schedule": PLACES["schedule"],
    "trainer": Place(
        "makes nothing that a Trainer takes",
        "name a callback, strategy or plugin of lightning.pytorch",
        (
            *("lightning.pytorch.Callback", "lightning.pytorch.strategies.Strategy"),
            *("lightning.pytorch.accelerators.Accelerator", "lightning.fabric.plugins.Precision"),
            *("lightning.fabric.plugins.ClusterEnvironment", "lightning.pytorch.plugins.LayerSync"),
        ),
    ),
}
PART = Place(
    "makes no part of it",
    "name an nn.Module, or an optimizer or scheduler of torch.optim with _partial_: true",
    ("torch.nn.Module", "torch.optim.Optimizer", "torch.optim.lr_scheduler.LRScheduler"),
)


@dataclass(frozen=True, slots=True)
class Allowed:
    """What the user allows beyond what is allowed to every file.

    Attributes:
        prefixes: Of names, by whole parts: ``my_project`` is for ``my_project.nets.Net``.
        names: Whole names.
        addresses: The keys of the addresses that are typed (`autotune.trust.addresses`).
    """

    prefixes: tuple[str, ...] = ()
    names: frozenset[str] = frozenset()
    addresses: frozenset[str] = frozenset()

    @classmethod
    def typed(cls, overrides: Sequence[str]) -> Allowed:
        """What a command line allows: ``allow_targets=[...]``, each `_target_` and each address typed itself.

        Raises:
            UserError: ``allow_targets`` is no list of names.
            HydraException: An override is not understood.
        """
        prefixes: list[str] = []
        names: set[str] = set()
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        for override in parsed:
            if override.key_or_group == OPTION and not override.is_delete():
                prefixes += _prefixes(override.value())
            elif override.key_or_group and not override.is_delete():
                names |= set(_targets(str(override.key_or_group), override.value()))
        return cls(tuple(prefixes), frozenset(names), addresses.typed(parsed))


_allowed = Allowed()
_given: set[str] = set()
# Configs are told apart by which they are: equal ones may come from elsewhere.
_composed: dict[int, tuple[ref[Any], Allowed]] = {}


@contextmanager
def allowing(allowed: Allowed) -> Iterator[None]:
    """Within it, the whole process may make what is allowed here, in the place of what was allowed before."""
    global _allowed
    before, _allowed = _allowed, allowed
    try:
        yield
    finally:
        _allowed = before


def remember(config: Any, allowed: Allowed) -> None:
    """Keep what was typed with the config that was composed of it."""
    key = id(config)
    _composed[key] = (ref(config, lambda _: _composed.pop(key, None)), allowed)


def typed_with(config: Any) -> Allowed:
    """What was typed with a config that `autotune.compose.compose` made; of any other config nothing is known."""
    kept = _composed.get(id(config))
    return kept[1] if kept is not None and kept[0]() is config else Allowed()


def further(overrides: Sequence[str]) -> list[str]:
    """What a command line allows beyond what every file may name, as ``allow_targets`` lists it."""
    allowed = Allowed.typed(overrides)
    names = [name for name in sorted(allowed.names) if name.startswith("lightning.") or not covered(name, PREFIXES)]
    return list(dict.fromkeys([*allowed.prefixes, *names]))


def give(name: str) -> None:
    """Allow the name of a class that the user's program gave: its own word, for as long as the process lives."""
    _given.add(name)


def covered(name: str, prefixes: Sequence[str]) -> bool:
    """Whether a dotted name is one of the prefixes or lies under one, by whole parts."""
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def check_name(key: str, name: str) -> None:
    """Find out whether a `_target_` may be made, by its name alone: nothing is imported.

    Args:
        key: Of the section.
        name: The `_target_`.

    Raises:
        UserError: It may not.
    """
    if not (_is_the_users(name) or covered(name, _allowed.prefixes) or _is_for_all(key, name)):
        raise _refusal(key, name)


def check_names(config: Any, key: str = "") -> None:
    """Check every `_target_` in a resolved config, or in the section of that key. Raises UserError."""
    for where, name in _named_in(config, key):
        check_name(where, name)


def targets(config: Any) -> list[str]:
    """Every `_target_` in a resolved config."""
    return [name for _, name in _named_in(config, "")]


def _named_in(config: Any, key: str) -> Iterator[tuple[str, str]]:
    """The key of every section that has a `_target_`, and the `_target_`."""
    if isinstance(config, Mapping):
        if config.get("_target_"):
            yield key, str(config["_target_"])
        for name, value in config.items():
            yield from _named_in(value, f"{key}.{name}" if key else str(name))
    elif isinstance(config, list | tuple):
        for index, value in enumerate(config):
            yield from _named_in(value, f"{key}.{index}")


def named(key: str, name: str) -> Any:
    """What a `_target_` names, imported once its name is allowed.

    What every file may name has to be a class, defined in one of the allowed packages and not only imported there,
    reviewed (`autotune.trust.reviewed`) and of the kind that its place takes. What lies under a prefix of the user's
    has to be defined under an allowed one too. A whole name that the user typed, or a class that the user's program
    gave, is taken as it is.

    Raises:
        UserError: It may not be made.
        ImportError: There is nothing of that name.
    """
    check_name(key, name)
    if _is_the_users(name):
        return _follow(name, lambda *_: True)
    is_for_all = _is_for_all(key, name)
    whole = f"type {OPTION}=[{name}] behind the command if you trust it"
    packages = (*PREFIXES, *FURTHER.get(_section(key), ()), *_allowed.prefixes)
    try:
        found = _follow(name, _is_in_its_place)
        home = getattr(found, "__module__", None)
        if not isinstance(home, str) or not covered(home, packages) or covered(home, NEVER):
            raise _ElsewhereError(name)
    except _ElsewhereError as error:
        if is_for_all:
            raise _refusal(key, name) from None
        raise UserError(f"{key}._target_", f"{error} is only imported there, and defined elsewhere", whole) from None
    if not is_for_all:
        return found
    place = _place(key)
    is_typed = covered(name, _allowed.prefixes)
    if isinstance(found, type) and not is_typed and (why := reviewed.why_refused(found)) is not None:
        raise UserError(f"{key}._target_", f"{name} {why}", whole)
    if not isinstance(found, type) or not place.takes(found):
        raise UserError(f"{key}._target_", f"{name} {place.problem}", place.remedy)
    return found


class _ElsewhereError(Exception):
    """A step of a name leads out of the package that is allowed."""


def _is_the_users(name: str) -> bool:
    """Whether the user gave exactly this."""
    if name in _allowed.names or name in _allowed.prefixes or name in _given:
        return True
    module, _, last = name.rpartition(".")
    given = sys.modules.get(GIVEN)
    return module == GIVEN and given is not None and bool(given.is_known(last))


def _is_for_all(key: str, name: str) -> bool:
    parts = name.split(".")
    plain = all(part.isidentifier() and not part.startswith("__") for part in parts)
    return plain and covered(name, (*PREFIXES, *FURTHER.get(_section(key), ()))) and not covered(name, NEVER)


def _section(key: str) -> str:
    return key.partition(".")[0]


def _place(key: str) -> Place:
    section = _section(key)
    return INNER.get(section, PART) if "." in key else PLACES.get(section, PART)


def _follow(name: str, takes: Callable[[str, Any, bool], bool]) -> Any:
    """Import the first part of a name and go on from there, by attributes and by modules within modules."""
    parts = name.split(".")
    if not all(parts):
        raise ImportError("there is a part without a name")
    found: Any = importlib.import_module(parts[0])
    for number, part in enumerate(parts[1:], start=2):
        path = ".".join(parts[:number])
        try:
            found = getattr(found, part)
        except AttributeError:
            if not isinstance(found, ModuleType):
                raise ImportError(f"{path.rpartition('.')[0]} has no {part}") from None
            found = importlib.import_module(path)
        if not takes(path, found, number == len(parts)):
            raise _ElsewhereError(path)
    return found


def _is_in_its_place(path: str, found: Any, is_last: bool) -> bool:
    """Whether a step of a name leads on within it: to a module of that very name, to a class, or to the end."""
    if isinstance(found, ModuleType):
        return found.__name__ == path
    return is_last or isinstance(found, type)


def _of_name(name: str) -> type:
    module, _, last = name.rpartition(".")
    found = getattr(importlib.import_module(module), last)
    assert isinstance(found, type)
    return found


def _refusal(key: str, name: str) -> UserError:
    root = name.partition(".")[0]
    if root in _ROOTS or root in sys.stdlib_module_names or not root.isidentifier():
        remedy = "name a class of torch.nn, torch.optim, lightning, torchmetrics or autotune"
    else:
        remedy = f"type {OPTION}=[{root}] behind the command if you trust it"
    return UserError(f"{key}._target_", f"{name} is not allowed to be made", remedy)


def _prefixes(value: Any) -> list[str]:
    several = value if isinstance(value, list) else [value]
    texts = [each.text if isinstance(each, QuotedString) else each for each in several]
    for text in texts:
        if not isinstance(text, str) or not all(part.isidentifier() for part in text.split(".")):
            problem = f"{text} is no name of a package, module or class"
            raise UserError(OPTION, problem, f"give a list of names: {OPTION}=[my_project,other.module.Class]")
    return texts


def _targets(key: str, value: Any) -> Iterator[str]:
    """Every `_target_` in what is typed behind a key."""
    match value:
        case ChoiceSweep():
            for each in value.list:
                yield from _targets(key, each)
        case dict():
            for name, each in value.items():
                yield from _targets(f"{key}.{name}", each)
        case list():
            for each in value:
                yield from _targets(key, each)
        case QuotedString() | str() if key == "_target_" or key.endswith("._target_"):
            yield value.text if isinstance(value, QuotedString) else value
