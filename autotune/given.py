"""Objects that a program gave instead of naming them: a config names them by this module (`autotune.given.<name>`).

They live as long as the process; a config that names one can be trained only where it was given.
"""

from __future__ import annotations

import hashlib
import importlib
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy
from lightning.pytorch import LightningDataModule
from torch import nn

from autotune.errors import UserError
from autotune.trust.targets import give, targets

_GIVEN: dict[str, Any] = {}


def __getattr__(name: str) -> Any:
    try:
        return _GIVEN[name]
    except KeyError:
        raise AttributeError(f"nothing called {name} was given to this process") from None


def model_section(model: Callable[..., nn.Module]) -> dict[str, Any]:
    """The section ``model`` that makes what a class, a function or a partial of one makes.

    Args:
        model: Makes an nn.Module or LightningModule. The keywords of a `functools.partial` become the section's
            values, search values among them: ``partial(Net, width="int(interval(16,256))")``.

    Raises:
        UserError: It is a module that was made already, or a partial with arguments that have no name.
    """
    if isinstance(model, nn.Module):
        problem = f"{type(model).__name__} is made already, and each trial needs weights of its own"
        raise UserError("model", problem, "give its class, or functools.partial(class, argument=...)")
    return _section("model", model)


def data_section(data: Any) -> dict[str, Any]:
    """The section ``data`` that makes what is given.

    Args:
        data: A LightningDataModule, which every trial is given as it is; a class, a function or a partial of one that
            makes a LightningDataModule or `autotune.data.source.Source`; or a pair of arrays, features [n, ...] and
            target [n], which are split and standardised.

    Raises:
        UserError: It is nothing of these.
    """
    if isinstance(data, LightningDataModule):
        return {"name": type(data).__name__.lower(), "_target_": _keep(type(data).__name__, lambda: data)}
    if isinstance(data, tuple) and len(data) == 2:
        features, target = (numpy.asarray(each) for each in data)
        if len(features) != len(target) or not len(target):
            problem = f"has {len(features)} samples and {len(target)} targets"
            raise UserError("data", problem, "give as many of both: (features, target)")
        # Named by what they hold, so that a study goes on with the same data and with no other.
        digest = hashlib.sha256(features.tobytes() + target.tobytes()).hexdigest()[:12]
        _keep(f"arrays_{digest}", (features, target))
        whole = "autotune.data.in_memory.InMemory"
        return {"name": "arrays", "_target_": whole, "arrays": f"arrays_{digest}", "batch_size": 64}
    return _section("data", data)


def is_known(name: str) -> bool:
    """Whether something was given under a name."""
    return name in _GIVEN


def look_up(name: str) -> Any:
    """What was given under a name. Raises AttributeError."""
    return __getattr__(name)


def _section(key: str, made: Any) -> dict[str, Any]:
    values: Mapping[str, Any] = {}
    if isinstance(made, partial):
        if made.args:
            problem = f"is a partial with {len(made.args)} arguments that have no name"
            raise UserError(key, problem, "give them by name: functools.partial(class, argument=...)")
        values, made = made.keywords, made.func
    if not callable(made):
        raise UserError(key, f"{made!r} makes nothing", "give a class, or functools.partial(class, argument=...)")
    name = getattr(made, "__name__", type(made).__name__)
    path = _path(made) or _keep(name, made)
    give(path)
    for inner in targets(values):
        give(inner)
    return {"name": name.lower(), "_target_": path, **values}


def _path(made: Any) -> str | None:
    """The full name that anybody can import it by; None where it has none."""
    module, name = getattr(made, "__module__", None), getattr(made, "__qualname__", "<none>")
    if module in (None, "__main__") or "<" in name:
        return None
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return None
    return f"{module}.{name}" if found is made else None


def _keep(name: str, given: Any) -> str:
    name = re.sub(r"\W", "_", name)
    _GIVEN[name] = given
    return f"autotune.given.{name}"
