"""What an earlier trial is in the space that is searched: the same where that did not change since."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.trial import TrialState, create_trial

from autotune.errors import UserError
from autotune.space import SearchValue, Space


def parameters_of(
    space: Space, searched: Mapping[str, SearchValue], params: Mapping[str, Any], config: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The parameters that a trial would have were it drawn from a space; None where it lies outside.

    What was fixed when it was trained and is searched by now is taken from its config; what was searched and is fixed
    by now has to be what it was. Values that were never searched do not matter.

    Args:
        space: What is searched.
        searched: Its parameters (`Space.parameters`).
        params: The trial's own parameters.
        config: Its resolved config.
    """
    found = _Found(searched, params, config)
    try:
        resolved = space.resolve(found)
    except (KeyError, UserError):
        return None
    return dict(found) if all(_agree(resolved, config, _key(config, name)) for name in params) else None


def draws(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a value can be drawn from a distribution."""
    try:
        create_trial(state=TrialState.FAIL, params={"it": value}, distributions={"it": distribution})
    except ValueError:
        return False
    return True


class _Found(dict[str, Any]):
    """Parameters that are looked up in a trial when they are asked for."""

    def __init__(self, searched: Mapping[str, SearchValue], params: Mapping[str, Any], config: Mapping[str, Any]):
        super().__init__()
        self._searched, self._params, self._config = searched, params, config

    def __missing__(self, name: str) -> Any:
        search = self._searched[name]
        value = self._params[name] if name in self._params else self._label(search, name)
        if not draws(search.distribution, value):
            raise KeyError(name)
        self[name] = value
        return value

    def _label(self, search: SearchValue, name: str) -> Any:
        key = _key(self._config, name)
        value = None if key is None else _at(self._config, key)
        label = search.label(value.get("name") if isinstance(value, Mapping) else value)
        if key is None or label is None:
            raise KeyError(name)
        return label[0]


def _key(config: Mapping[str, Any], name: str) -> tuple[str, ...] | None:
    """Where a parameter's value stands in a resolved config, from which the names of branches are gone."""
    node: Any = config
    key: list[str] = []
    for part in name.split("."):
        if (isinstance(node, Mapping) and part in node) or (isinstance(node, list) and part.isdecimal()):
            key.append(part)
            node = _at(node, (part,))
        elif not isinstance(node, Mapping) or node.get("name") != part:
            return None
    return tuple(key)


def _at(node: Any, key: tuple[str, ...]) -> Any:
    """What stands at a key; None where nothing does."""
    for part in key:
        if isinstance(node, Mapping):
            node = node.get(part)
        elif isinstance(node, list) and int(part) < len(node):
            node = node[int(part)]
        else:
            return None
    return node


def _agree(resolved: Mapping[str, Any], config: Mapping[str, Any], key: tuple[str, ...] | None) -> bool:
    """Whether two configs have the same there, or sections of the same kind; the same everywhere where it is gone."""
    if key is None:
        return resolved == config
    one, other = _at(resolved, key), _at(config, key)
    if isinstance(one, Mapping) and isinstance(other, Mapping) and {"name", "_target_"} & {*one, *other}:
        return all(one.get(kind) == other.get(kind) for kind in ("name", "_target_"))
    return bool(one == other)
