"""From a config section with a ``_target_`` to the object it names, mistakes named by their key."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from autotune.errors import UserError, nearest
from autotune.trust.targets import GIVEN, named

# Keys of a section that say something about it to autotune and are no arguments.
OWN_KEYS = ("_target_", "_fix_", "name")

# Hydra's own keys: of a section inside another these are understood,
OF_PARTS = ("_args_", "_partial_")
# and these nowhere, since parts are always made first and are always given plain values.
NOT_TAKEN = ("_recursive_", "_convert_")

# What these refuse is a mistake in the config; what the user's own code raises may be one in the code.
LIBRARIES = ("autotune", "lightning", "optuna", "torch", "torchmetrics")


def target(key: str, section: Mapping[str, Any]) -> Callable[..., Any]:
    """What a section's ``_target_`` names.

    Raises:
        UserError: There is none, it may not be made (`autotune.trust.targets`), or it cannot be imported.
    """
    path = str(section.get("_target_") or "")
    if not path:
        raise UserError(f"{key}._target_", "names nothing", "give the full name of a class: package.module.Class")
    try:
        made = named(key, path)
    except ImportError as error:
        if path.startswith(f"{GIVEN}."):
            problem = f"{path} was given to another process, where it lived and ended"
            raise UserError(f"{key}._target_", problem, "give it again (autotune.run_search, run_train)") from error
        why = str(error).splitlines()[-1].strip()
        raise UserError(
            f"{key}._target_", f"{path} cannot be imported ({why})", "give the full name of a class"
        ) from error
    if not callable(made):
        raise UserError(f"{key}._target_", f"{path} is not callable", "give the full name of a class")
    return made  # type: ignore[no-any-return]


def accepts(made: Callable[..., Any]) -> tuple[set[str], bool]:
    """The names of the arguments something takes, and whether it takes any other name too."""
    try:
        parameters = inspect.signature(made).parameters.values()
    except ValueError:  # some classes written in C have no signature
        return set(), True
    named = {each.name for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)}
    return named, any(each.kind == each.VAR_KEYWORD for each in parameters)


def construct(key: str, section: Mapping[str, Any], /, *arguments: Any, **given: Any) -> Any:
    """Make what a section names of its values; nested sections with a ``_target_`` are made first.

    Args:
        key: The section's key, for mistakes.
        section: Plain, nothing left open.
        arguments: Positional arguments in front.
        given: Further arguments, used where the section does not say otherwise and the target takes such a name.

    Raises:
        UserError: The target cannot be imported, or does not take such arguments.
        Exception: Whatever the user's own code raises.
    """
    made = target(key, section)
    names, takes_any = accepts(made)
    is_part = "." in key
    for name in (*NOT_TAKEN, *(() if is_part else OF_PARTS)):
        if name in section:
            raise UserError(f"{key}.{name}", "is Hydra's, and is not taken here", "leave it out")
    values = {str(name): value for name, value in section.items() if name not in (*OWN_KEYS, *OF_PARTS)}
    if "name" in section and "name" in names:
        values["name"] = section["name"]
    for name in values:
        if name not in names and not takes_any:
            remedy = nearest(name, names - {"self", "params"})
            raise UserError(f"{key}.{name}", f"{section['_target_']} takes no argument {name}", remedy)
    for name, value in given.items():
        if name in names:
            values.setdefault(name, value)
    values = {name: build_nested(f"{key}.{name}", value) for name, value in values.items()}
    if is_part:
        positional = section.get("_args_") or []
        if not isinstance(positional, list | tuple):
            raise UserError(f"{key}._args_", f"{positional} is no list", "list the arguments: [...]")
        arguments += tuple(build_nested(f"{key}._args_", positional))
        if section.get("_partial_"):
            return partial(made, *arguments, **values)
    try:
        inspect.signature(made).bind(*arguments, **values)
    except TypeError as error:
        raise UserError(key, f"{section['_target_']} cannot be made ({error})", "give the missing value") from error
    except ValueError:
        pass
    try:
        return made(*arguments, **values)
    except (TypeError, ValueError, IndexError) as error:
        if str(section["_target_"]).partition(".")[0] not in LIBRARIES:
            raise
        said = " ".join(str(error).split())
        problem = f"{section['_target_']} refuses its arguments ({said})"
        raise UserError(key, problem, "see its documentation") from error


def build_nested(key: str, value: Any) -> Any:
    """A value with the sections inside it that have a ``_target_`` made.

    Raises:
        UserError: One of them cannot be made.
        Exception: Whatever the user's own code raises.
    """
    if not _nested(value):
        return value
    if isinstance(value, Mapping):
        if "_target_" in value:
            return construct(key, value)
        return {name: build_nested(f"{key}.{name}", item) for name, item in value.items()}
    return [build_nested(f"{key}.{index}", item) for index, item in enumerate(value)]


def _nested(value: Any) -> bool:
    if isinstance(value, Mapping):
        return "_target_" in value or any(map(_nested, value.values()))
    return isinstance(value, list | tuple) and any(map(_nested, value))
