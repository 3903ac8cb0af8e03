"""The trials of a study in columns, kept up to date as they train and end, so that each is read once."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

Numbers = NDArray[np.int64]

LEARNT_FROM = (TrialState.COMPLETE, TrialState.PRUNED)


class History:
    """What a sampler learns from: the trials of one study that ended well or were pruned, and those in training.

    Args:
        best: How many of the best there may be.
    """

    def __init__(self, best: int) -> None:
        self._most_best = best
        self._best: list[tuple[tuple[float, ...], int]] = []  # rank, number; the best first
        self._columns: dict[str, NDArray[np.float64]] = {}  # by number of the trial; nan where it has none
        self._is_over = np.zeros(0, dtype=bool)
        self._is_running = np.zeros(0, dtype=bool)
        self._known = 0  # of so many trials it has heard
        self._awaited: dict[int, int] = {}  # not over yet, with how many parameters were read
        self._drawn: dict[int, dict[str, float]] = {}  # of those in training, what was drawn though not yet asked for
        self._ended: list[FrozenTrial] = []
        self.over = 0  # how many ended that are learnt from

    def read(self, study: Study) -> None:
        """Hear of what has begun and ended.

        Raises:
            ValueError: The study shows a part of its trials, as Optuna's HyperbandPruner makes it do.
        """
        trials = study.get_trials(deepcopy=False)
        self._make_room(len(trials))
        for number in (*self._awaited, *range(self._known, len(trials))):
            if trials[number].number != number:
                raise ValueError("the sampler learns from all trials of a study, and this one shows a part of them")
            self._hear(trials[number], study.direction)
        self._known = len(trials)

    def keep_drawn(self, number: int, values: Mapping[str, float]) -> None:
        """Let a trial in training have the values drawn for it before it asks for them, or though it never does."""
        self._drawn[number] = dict(values)
        self._write(number, values)

    def ended(self) -> list[FrozenTrial]:
        """Those learnt from that ended since this was last asked, by number."""
        ended, self._ended = sorted(self._ended, key=lambda trial: trial.number), []
        return ended

    def split(self, best: int, with_running: bool, but: int) -> tuple[Numbers, Numbers]:
        """The best trials and the others, those in training among them if asked, one left out; by number."""
        chosen = np.array(sorted(number for _, number in self._best[:best]), dtype=int)
        others = self._is_over[: self._known].copy()
        if with_running:
            others |= self._is_running[: self._known]
        others[chosen] = False
        others[but] = False
        return chosen, np.flatnonzero(others)

    def columns(self, names: Iterable[str], numbers: Numbers) -> dict[str, NDArray[np.float64]]:
        """The values of those trials that have all of the parameters."""
        columns = {name: self._column(name)[numbers] for name in names}
        has_all = ~np.isnan(sum(columns.values()))
        return columns if has_all.all() else {name: column[has_all] for name, column in columns.items()}

    def _hear(self, trial: FrozenTrial, direction: StudyDirection) -> None:
        number, state = trial.number, trial.state
        if not state.is_finished():
            if state == TrialState.RUNNING:
                self._is_running[number] = True
                if len(trial.params) != self._awaited.get(number):
                    self._write(number, _values(trial))
            self._awaited[number] = len(trial.params)
            return
        self._awaited.pop(number, None)
        self._is_running[number] = False
        for name in self._drawn.pop(number, ()):
            self._columns[name][number] = np.nan
        if state in LEARNT_FROM:
            self._write(number, _values(trial))
            self._is_over[number] = True
            self.over += 1
            self._ended.append(trial)
            insort(self._best, (_rank(trial, direction), number))
            del self._best[self._most_best :]

    def _write(self, number: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._column(name)[number] = value

    def _column(self, name: str) -> NDArray[np.float64]:
        if name not in self._columns:
            self._columns[name] = np.full(len(self._is_over), np.nan)
        return self._columns[name]

    def _make_room(self, trials: int) -> None:
        if trials > len(self._is_over):
            more = 2 * trials - len(self._is_over)
            self._columns = {name: np.append(column, np.full(more, np.nan)) for name, column in self._columns.items()}
            self._is_over, self._is_running = (
                np.append(flags, np.zeros(more, dtype=bool)) for flags in (self._is_over, self._is_running)
            )


def internal(distributions: Mapping[str, BaseDistribution], params: Mapping[str, Any]) -> dict[str, float]:
    """Values as Optuna keeps them: numbers, a choice as its place."""
    return {name: distributions[name].to_internal_repr(value) for name, value in params.items()}


def _values(trial: FrozenTrial) -> dict[str, float]:
    return internal(trial.distributions, trial.params)


def _rank(trial: FrozenTrial, direction: StudyDirection) -> tuple[float, ...]:
    """What TPE orders trials by: those trained to their end by value, the pruned, the longest first, the infeasible."""
    sign = -1 if direction == StudyDirection.MAXIMIZE else 1
    violated = sum(each for each in trial.constraints.values() if each > 0)
    if violated > 0:
        return 2, violated
    if trial.state == TrialState.COMPLETE:
        assert trial.value is not None
        return 0, sign * trial.value
    if not trial.intermediate_values:
        return 1, 1, 0
    step, value = max(trial.intermediate_values.items())
    return 1, -step, float("inf") if value != value else sign * value
