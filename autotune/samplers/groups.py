"""Which parameters of a tree are modelled together: those that each trial has all of or none of."""

from __future__ import annotations

from collections.abc import Mapping

from optuna.distributions import BaseDistribution


class Groups:
    """Parts the parameters as `optuna.samplers.TPESampler(group=True)` does, each range as it was first seen."""

    def __init__(self) -> None:
        self._groups: list[dict[str, BaseDistribution]] = []  # no parameter is in two of them
        self._seen: set[frozenset[str]] = set()

    def part(self, distributions: Mapping[str, BaseDistribution]) -> None:
        """Part each group into what a trial has of it and what it has not."""
        names = frozenset(distributions)
        if names in self._seen:
            return
        self._seen.add(names)
        parts = []
        for group in self._groups:
            parts.append({name: each for name, each in group.items() if name in names})
            parts.append({name: each for name, each in group.items() if name not in names})
        known = {name for group in self._groups for name in group}
        parts.append({name: distributions[name] for name in names - known})
        # Sorted, since the order of a set differs between runs.
        self._groups = [dict(sorted(part.items())) for part in parts if part]

    def searched(self) -> list[dict[str, BaseDistribution]]:
        """The groups, without what has one value only."""
        return [
            {name: each for name, each in group.items() if not each.single()}
            for group in self._groups
            if not all(each.single() for each in group.values())
        ]
