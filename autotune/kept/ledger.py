"""The study as it is kept: every trial once, readable after any end of the process.

A trial is written when it begins (its parameters and resolved config), at each epoch (its value) and when it ends
(its curves, cost, reason and state). All of it is in Optuna's own fields and in user attributes, so that `Record`s, and
with them the MLflow mirror and the reports, can be made again from the storage alone. A confirmation, a trial's config
trained again with another seed, is no trial of Optuna's: it is kept in a user attribute of the study when it ends.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, JournalStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from autotune import naming
from autotune.errors import UserError
from autotune.kept.database import Database
from autotune.kept.lease import Holder, holder_in
from autotune.kept.storage import OwnedJournal
from autotune.pruners import WOULD_STOP
from autotune.tracking import Study
from autotune.trial import Reason, Record, State

_CONFIRMATION = "confirmation:"
# Attributes of a study: its id, the name by which MLflow's runs without one are its own, and the study it was begun in
# the place of.
ID, KNOWN_AS, ASIDE = "study_id", "known_as", "aside"
# A trial's attribute, with which a sampler goes on in another run as in the same: the ``number`` of the draw it comes
# from, where draws that became no trial count too. For a sampler that knows no tree also ``unchosen``, what it drew for
# the branches not chosen, and ``again``, the draws just before of what was trained already, whose value it was told.
DRAWN = "drawn"


class LedgerView:
    """One study in its storage, for reading.

    Args:
        storage: Where it is kept.
        name: The study's name.

    Raises:
        KeyError: There is no study of that name.
    """

    def __init__(self, storage: BaseStorage, name: str) -> None:
        self._storage = storage
        self._name = name
        self._study_id = storage.get_study_id_from_name(name)

    def trials(self) -> list[FrozenTrial]:
        """All trials, by number. Not to be changed."""
        return self._storage.get_all_trials(self._study_id, deepcopy=False)

    def records(self) -> list[Record]:
        """The story of every trial, by number."""
        return [record(trial) for trial in self.trials()]

    def confirmations(self) -> list[Record]:
        """The story of every confirmation, by the number of the trial and the seed."""
        trials = self.trials()
        kept = [attr for name, attr in self._attributes().items() if name.startswith(_CONFIRMATION)]
        return [_confirmation(trials[attr["trial"]], attr) for attr in sorted(kept, key=_trial_and_seed)]

    @property
    def study(self) -> Study:
        """Which study it is."""
        attributes = self._attributes()
        study_id, aside = attributes.get(ID), attributes.get(ASIDE)
        known_as = attributes.get(KNOWN_AS) if study_id else self._name
        return Study(self._name, study_id, known_as, None if aside is None else Study(**aside))

    @property
    def seconds(self) -> float:
        """How long the study has been searched, over all runs of the command."""
        return float(self._attributes().get("seconds", 0.0))

    @property
    def notes(self) -> Mapping[str, Any]:
        """What only a run of the search knows, as the last one left it; see `autotune.kept.outcome.Outcome`."""
        return dict(self._attributes().get("notes", {}))

    @property
    def holder(self) -> Holder | None:
        """The search that holds the study by a lease, which only a database has; None where none does."""
        holder = holder_in(self._attributes())
        if holder is None or not isinstance(self._storage, Database):
            return None
        return holder if holder.holds(self._storage.now()) else None

    @property
    def fingerprint(self) -> Mapping[str, Any] | None:
        """What the study's values depend on (`kept.fingerprint.Fingerprint.kept`); None where it was not kept."""
        return self._attributes().get("fingerprint")

    def _attributes(self) -> Mapping[str, Any]:
        return self._storage.get_study_user_attrs(self._study_id)


class Ledger(LedgerView):
    """One study in its storage, written by one process.

    Args:
        storage: Where it is kept.
        journal: The storage's journal, where it is one: synced when a trial ends.
        name: The study's name; a study of that name is gone on with.
        direction: maximize or minimize.

    Attributes:
        is_resumed: Whether the study was there before.

    Raises:
        UserError: The study was begun with the other direction, or another search holds it.
    """

    def __init__(self, storage: BaseStorage, journal: OwnedJournal | None, name: str, direction: str) -> None:
        self._storage = storage
        self._journal = journal
        self.is_resumed = _is_there(storage, name)
        asked = StudyDirection[direction.upper()]
        study = optuna.create_study(storage=storage, study_name=name, direction=asked, load_if_exists=True)
        if isinstance(storage, Database):
            storage.hold(storage.get_study_id_from_name(name), name)
        if study.direction != asked:
            begun = study.direction.name.lower()
            self.close()
            raise UserError(
                "objective.direction",
                f"{direction}, but study {name} was begun with {begun}",
                f"write {begun}, or give study.name another name",
            )
        super().__init__(storage, name)
        identify(storage, self._study_id, name if self.is_resumed else None)
        self._ids = {trial.number: trial._trial_id for trial in self.trials()}

    @property
    def count(self) -> int:
        """How many trials there are."""
        return len(self._ids)

    def keep_seconds(self, seconds: float) -> None:
        """Write down how long the study has been searched, over all runs of the command."""
        self._storage.set_study_user_attr(self._study_id, "seconds", seconds)

    def keep_fingerprint(self, fingerprint: Mapping[str, Any]) -> None:
        """Write down what the study's values depend on."""
        if fingerprint != self.fingerprint:
            self._storage.set_study_user_attr(self._study_id, "fingerprint", dict(fingerprint))

    def keep_aside(self, aside: Study) -> None:
        """Write down in the place of which study this one was begun."""
        kept = {"name": aside.name, "id": aside.id, "known_as": aside.known_as}
        self._storage.set_study_user_attr(self._study_id, ASIDE, kept)

    def note(self, **notes: Any) -> None:
        """Write down what only this run knows."""
        self._storage.set_study_user_attr(self._study_id, "notes", {**self.notes, **notes})

    def begin(
        self,
        config: Mapping[str, Any],
        params: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
        drawn: Mapping[str, Any] | None = None,
    ) -> int:
        """Write down a new trial as running; returns its number.

        Args:
            config: Its resolved config.
            params: Its parameters.
            distributions: What they were drawn from.
            drawn: How it was drawn; see `DRAWN`. None where nothing is known of it.
        """
        trial = create_trial(
            state=TrialState.RUNNING,
            params=dict(params),
            distributions=dict(distributions),
            user_attrs={"config": dict(config)} | ({} if drawn is None else {DRAWN: dict(drawn)}),
        )
        trial_id = self._storage.create_new_trial(self._study_id, template_trial=trial)
        number = self._storage.get_trial_number_from_id(trial_id)
        self._ids[number] = trial_id
        return number

    def lay_down(self) -> None:
        """Write down that no trial is running: those that are were interrupted, and are run again."""
        for trial in self.trials():
            if trial.state == TrialState.RUNNING:
                self._storage.set_trial_user_attr(trial._trial_id, "reason", Reason.INTERRUPTED.value)
                self._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)

    def read_again(self) -> None:
        """Take the study from its storage, after a signal may have torn a call apart."""
        if self._journal is not None:
            self._journal.forget()
            self._storage = JournalStorage(self._journal)
        self._ids = {trial.number: trial._trial_id for trial in self.trials()}

    def take_up(self, number: int) -> None:
        """Write down that a trial of an earlier run is running again."""
        if self._frozen(number).state == TrialState.WAITING:
            self._storage.set_trial_state_values(self._ids[number], TrialState.RUNNING)

    def advance(self, number: int, step: int, value: float) -> None:
        """Write down a trial's value after so many epochs."""
        self._storage.set_trial_intermediate_value(self._ids[number], step, value)

    def keep_would_stop(self, number: int, epochs: int, system_attrs: Mapping[str, Any]) -> None:
        """Write down that the pruner would have stopped a trial after so many epochs, and what it noted on it."""
        for key, attr in system_attrs.items():
            self._storage.set_trial_system_attr(self._ids[number], key, attr)
        self._storage.set_trial_user_attr(self._ids[number], WOULD_STOP, epochs)

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
            value: What the study is told; None where there is none, as of one that diverged.
            curves: See `Record.curves`.
            cost: See `End.cost`.
            system_attrs: What the sampler and the pruner noted on the trial.
            error: One line, where it failed.
        """
        trial_id = self._ids[number]
        attrs: dict[str, Any] = {
            "reason": reason.value,
            "curves": _kept(curves),
            "cost": dict(cost),
        }
        if error is not None:
            attrs["error"] = error
        for key, attr in attrs.items():
            self._storage.set_trial_user_attr(trial_id, key, attr)
        for key, attr in system_attrs.items():
            self._storage.set_trial_system_attr(trial_id, key, attr)
        state = TrialState[reason.state.value]
        values = None if value is None or not state.is_finished() or state == TrialState.FAIL else [value]
        self._storage.set_trial_state_values(trial_id, state, values)
        if self._journal is not None:
            self._journal.sync()
        return record(self._frozen(number))

    def confirm(self, record: Record) -> None:
        """Write down a confirmation that ended, and wait until the disk has it."""
        assert record.reason is not None
        assert record.ended is not None
        attr = {
            "trial": record.number,
            "seed": record.config["seed"],
            "reason": record.reason.value,
            "value": record.objective,
            "curves": _kept(record.curves),
            "cost": dict(record.cost),
            "started": record.started.isoformat(),
            "ended": record.ended.isoformat(),
            "error": record.error,
        }
        name = f"{_CONFIRMATION}{record.number:04d}:{record.config['seed']}"
        self._storage.set_study_user_attr(self._study_id, name, attr)
        if self._journal is not None:
            self._journal.sync()

    def close(self) -> None:
        """Let go of the storage."""
        if self._journal is not None:
            self._journal.close()
        if isinstance(self._storage, Database):
            self._storage.release()
        self._storage.remove_session()

    def record(self, number: int) -> Record:
        """The story of one trial."""
        return record(self._frozen(number))

    def _frozen(self, number: int) -> FrozenTrial:
        return self._storage.get_trial(self._ids[number])


def identify(storage: BaseStorage, study_id: int, known_as: str | None) -> None:
    """Give a study of a storage an id where it has none.

    Args:
        storage: Where it is kept.
        study_id: The storage's number for it.
        known_as: The name it was mirrored by so far; None where it is being made.
    """
    if ID not in storage.get_study_user_attrs(study_id):
        if known_as is not None:
            storage.set_study_user_attr(study_id, KNOWN_AS, known_as)
        storage.set_study_user_attr(study_id, ID, str(uuid4()))


def _is_there(storage: BaseStorage, name: str) -> bool:
    try:
        storage.get_study_id_from_name(name)
    except KeyError:
        return False
    return True


def has_diverged(trial: FrozenTrial) -> bool:
    """Whether a trial ended since its training diverged; a value that it was stored with is none that was measured."""
    return trial.state == TrialState.PRUNED and trial.user_attrs.get("reason") == Reason.DIVERGED


def trained_epochs(trial: FrozenTrial) -> int:
    """How many epochs of a trial were trained: of one that was killed, those up to the last value."""
    curves = trial.user_attrs.get("curves", {})
    return max([trial.last_step or 0, *map(len, curves.values())])


def record(trial: FrozenTrial) -> Record:
    """The story of a trial as Optuna keeps it."""
    attrs = trial.user_attrs
    config = attrs["config"]
    reason = attrs.get("reason")
    return Record(
        number=trial.number,
        name=naming.trial(trial.number, config, trial.params),
        family=naming.family(config),
        state=State(trial.state.name),
        reason=None if reason is None or trial.state == TrialState.RUNNING else Reason(reason),
        stage="search",
        params=trial.params,
        config=config,
        objective=None if trial.values is None or has_diverged(trial) else trial.values[0],
        curves=_curves(attrs.get("curves", {})),
        cost=attrs.get("cost", {}),
        started=_aware(trial.datetime_start),
        ended=None if trial.datetime_complete is None else _aware(trial.datetime_complete),
        error=attrs.get("error"),
        would_stop=attrs.get(WOULD_STOP),
    )


def _confirmation(trial: FrozenTrial, attr: Mapping[str, Any]) -> Record:
    """The story of a confirmation: the trial's, but for the seed and all that was measured."""
    reason = Reason(attr["reason"])
    return replace(
        record(trial),
        name=naming.confirmation(trial.number, attr["seed"], trial.user_attrs["config"], trial.params),
        state=reason.state,
        reason=reason,
        stage="confirm",
        config={**trial.user_attrs["config"], "seed": attr["seed"]},
        objective=None if reason == Reason.DIVERGED else attr["value"],
        curves=_curves(attr["curves"]),
        cost=attr["cost"],
        started=datetime.fromisoformat(attr["started"]),
        ended=datetime.fromisoformat(attr["ended"]),
        error=attr["error"],
        would_stop=None,
    )


def _trial_and_seed(attr: Mapping[str, Any]) -> tuple[int, int]:
    return attr["trial"], attr["seed"]


def _kept(curves: Mapping[str, Sequence[float]]) -> dict[str, list[float | None]]:
    """JSON has no NaN: it is kept as null."""
    return {name: [item if math.isfinite(item) else None for item in values] for name, values in curves.items()}


def _curves(kept: Mapping[str, Sequence[float | None]]) -> dict[str, list[float]]:
    return {name: [math.nan if item is None else item for item in values] for name, values in kept.items()}


def _aware(moment: datetime | None) -> datetime:
    return datetime.now(UTC) if moment is None else moment.astimezone(UTC)
