"""The study as it is kept: every trial once, readable after any end of the process.

A trial is written when it begins (its parameters and resolved config), at each epoch (its value) and when it ends
(its curves, cost, reason and state). All of it is in Optuna's own fields and in user attributes, so that `Record`s, and
with them the MLflow mirror and the reports, can be made again from the storage alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from autotune import naming
from autotune.errors import UserError
from autotune.storage import OwnedJournal
from autotune.trial import Reason, Record, State

_STATES = {
    Reason.COMPLETED: TrialState.COMPLETE,
    Reason.PRUNED: TrialState.PRUNED,
    Reason.DIVERGED: TrialState.PRUNED,
    Reason.OOM: TrialState.FAIL,
    Reason.ERROR: TrialState.FAIL,
    Reason.INTERRUPTED: TrialState.WAITING,  # run again when the study goes on
}


class Ledger:
    """One study in its storage, written by one process.

    Args:
        storage: Where it is kept.
        journal: The storage's journal, where it is one: synced when a trial ends.
        name: The study's name; a study of that name is gone on with.
        direction: maximize or minimize.

    Raises:
        UserError: The study was begun with the other direction.
    """

    def __init__(self, storage: BaseStorage, journal: OwnedJournal | None, name: str, direction: str) -> None:
        self._storage = storage
        self._journal = journal
        asked = StudyDirection[direction.upper()]
        study = optuna.create_study(storage=storage, study_name=name, direction=asked, load_if_exists=True)
        if study.direction != asked:
            begun = study.direction.name.lower()
            self.close()
            raise UserError(
                "objective.direction",
                f"{direction}, but study {name} was begun with {begun}",
                f"write {begun}, or give study.name another name",
            )
        self._study = study
        self._study_id = storage.get_study_id_from_name(name)
        self._ids = {trial.number: trial._trial_id for trial in self.trials()}

    def trials(self) -> list[FrozenTrial]:
        """All trials, by number. Not to be changed."""
        return self._storage.get_all_trials(self._study_id, deepcopy=False)

    @property
    def count(self) -> int:
        """How many trials there are."""
        return len(self._ids)

    def records(self) -> list[Record]:
        """The story of every trial, by number."""
        return [record(trial) for trial in self.trials()]

    @property
    def seconds(self) -> float:
        """How long the study has been searched, over all runs of the command."""
        return float(self._study.user_attrs.get("seconds", 0.0))

    @seconds.setter
    def seconds(self, seconds: float) -> None:
        self._study.set_user_attr("seconds", seconds)

    def begin(
        self, config: Mapping[str, Any], params: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]
    ) -> int:
        """Write down a new trial as running; returns its number."""
        trial = create_trial(
            state=TrialState.RUNNING,
            params=dict(params),
            distributions=dict(distributions),
            user_attrs={"config": dict(config)},
        )
        trial_id = self._storage.create_new_trial(self._study_id, template_trial=trial)
        number = self._storage.get_trial_number_from_id(trial_id)
        self._ids[number] = trial_id
        return number

    def take_up(self, number: int) -> None:
        """Write down that a trial of an earlier run is running again."""
        if self._frozen(number).state == TrialState.WAITING:
            self._storage.set_trial_state_values(self._ids[number], TrialState.RUNNING)

    def advance(self, number: int, step: int, value: float) -> None:
        """Write down a trial's value after so many epochs."""
        self._storage.set_trial_intermediate_value(self._ids[number], step, value)

    def finish(
        self,
        number: int,
        reason: Reason,
        value: float | None,
        curves: Mapping[str, Sequence[float]],
        cost: Mapping[str, float],
        system_attrs: Mapping[str, Any],
        error: str | None,
    ) -> Record:
        """Write down how a trial ended, and wait until the disk has it.

        Args:
            number: The trial's number.
            reason: Why it ended; says its state.
            value: What the study is told; None where there is none.
            curves: See `Record.curves`.
            cost: See `End.cost`.
            system_attrs: What the sampler and the pruner noted on the trial.
            error: One line, where it failed.
        """
        trial_id = self._ids[number]
        attrs: dict[str, Any] = {
            "reason": reason.value,
            "curves": {name: [_finite(item) for item in values] for name, values in curves.items()},
            "cost": dict(cost),
        }
        if error is not None:
            attrs["error"] = error
        for key, attr in attrs.items():
            self._storage.set_trial_user_attr(trial_id, key, attr)
        for key, attr in system_attrs.items():
            self._storage.set_trial_system_attr(trial_id, key, attr)
        state = _STATES[reason]
        values = None if value is None or not state.is_finished() or state == TrialState.FAIL else [value]
        self._storage.set_trial_state_values(trial_id, state, values)
        if self._journal is not None:
            self._journal.sync()
        return record(self._frozen(number))

    def close(self) -> None:
        """Let go of the storage."""
        if self._journal is not None:
            self._journal.close()
        self._storage.remove_session()

    def record(self, number: int) -> Record:
        """The story of one trial."""
        return record(self._frozen(number))

    def _frozen(self, number: int) -> FrozenTrial:
        return self._storage.get_trial(self._ids[number])


def record(trial: FrozenTrial) -> Record:
    """The story of a trial as Optuna keeps it."""
    attrs = trial.user_attrs
    config = attrs["config"]
    reason = attrs.get("reason")
    curves = {
        name: [math.nan if item is None else item for item in values]
        for name, values in attrs.get("curves", {}).items()
    }
    return Record(
        number=trial.number,
        name=naming.trial(trial.number, config),
        family=naming.family(config),
        state=State(trial.state.name),
        reason=None if reason is None or trial.state == TrialState.RUNNING else Reason(reason),
        stage="search",
        params=trial.params,
        config=config,
        objective=None if trial.values is None else trial.values[0],
        curves=curves,
        cost=attrs.get("cost", {}),
        started=_aware(trial.datetime_start),
        ended=None if trial.datetime_complete is None else _aware(trial.datetime_complete),
        error=attrs.get("error"),
    )


def _finite(value: float) -> float | None:
    """JSON has no NaN: it is kept as null."""
    return value if math.isfinite(value) else None


def _aware(moment: datetime | None) -> datetime:
    return datetime.now(UTC) if moment is None else moment.astimezone(UTC)
