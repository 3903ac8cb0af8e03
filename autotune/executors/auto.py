"""The population where it holds, Lightning alone where it does not."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from autotune.executors.lightning import LightningExecutor
from autotune.executors.population import PopulationExecutor
from autotune.trial import Desk

_log = logging.getLogger(__name__)


class AutoExecutor(PopulationExecutor):
    """Takes the population for a search that it can train anything of, and says why where it does not."""

    _reasons: tuple[str, ...] = ()
    _holds = False
    _has_said = False

    def rehearse(self, config: Mapping[str, Any]) -> None:
        """Build what a resolved config says, and find out who can train it."""
        LightningExecutor.rehearse(self, config)
        why = self.unstackable(config)
        if why is None:
            self._holds = True
        elif why not in self._reasons:
            self._reasons += (why,)

    @property
    def chosen(self) -> str:
        """Which executor trains what was rehearsed, and why."""
        whys = "; ".join(self._reasons)
        if self._holds or not whys:
            population = self._in_processes("population")
            return f"{population}{f'; one by one through Lightning where {whys}' if whys else ''}"
        return f"{self._in_processes('lightning')}, since {whys}"

    def run(self, desk: Desk) -> None:
        """Train by what was found out."""
        if not self._has_said:  # it is run for the search, and again for each round of the confirmation
            self._has_said = True
            _log.info("executor: %s", self.chosen)
        if not self._stacks:
            self.name = "lightning"
        super().run(desk)

    @property
    def most_slots(self) -> int:
        """See `PopulationExecutor`."""
        return super().most_slots if self._stacks else self._workers

    def train(self, desk: Desk) -> None:
        """Train what the desk hands out by what was found out."""
        (PopulationExecutor if self._stacks else LightningExecutor).train(self, desk)

    @property
    def _stacks(self) -> bool:
        return self._holds or not self._reasons
