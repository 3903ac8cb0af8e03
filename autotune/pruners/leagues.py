"""Whom a trial is compared with: leagues of trials, each judged by an Optuna pruner of its own.

A league is a study in memory that holds the reports of its trials alone, so that any pruner of Optuna compares these
and no others. Each optimizer family is a league, and all trials together are one. Steps are told as parts of each
trial's own horizon, so that trials of different lengths are compared when they are equally far.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import RandomSampler
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from autotune import naming
from autotune.errors import UserError, nearest
from autotune.space import Space
from autotune.trial import Reason

# Keys of the section `pruner` that are no arguments of the pruner.
SETTINGS = ("compare", "until", "audit")

# Under which a study keeps on a trial what its leagues knew of it, and after which epoch they would have stopped it.
NOTES = "leagues"
WOULD_STOP = "would_stop"

# Steps that a trial is told in at least, or its own epochs where no trial has more.
FEWEST_STEPS = 9

# With so many of a family trained to their end its first bracket is over; the first alone may have had no rivals.
FIRST_BRACKET = 2

_OVERALL, _FAMILY = "all", "family"
_KINDS = {"all": (_OVERALL,), "family": (_FAMILY,), "family_then_all": (_FAMILY, _OVERALL)}


@dataclass(frozen=True, slots=True)
class Pruning:
    """How weak trials are found.

    Attributes:
        make: Makes the pruner, one for each league.
        compare: ``all``: every trial with every other. ``family``: with those of its optimizer. ``family_then_all``:
            with those of its optimizer, and after `until` with all others too.
        until: A part of a trial's epochs, 0 to 1.
        audit: The share of the trials to be stopped that are trained to their end instead, 0 to 1.
    """

    make: Callable[[], BasePruner]
    compare: str = "all"
    until: float = 0.0
    audit: float = 0.0

    @classmethod
    def of(cls, section: Mapping[str, Any], make: Callable[[], BasePruner]) -> Pruning:
        """Read what the section ``pruner`` says besides the pruner itself. Raises UserError."""
        compare = section.get("compare")
        if compare not in _KINDS:
            raise UserError("pruner.compare", f"{compare} is no way to compare", nearest(str(compare), _KINDS))
        return cls(make, str(compare), _part("until", section), _part("audit", section))

    @property
    def is_off(self) -> bool:
        """Whether no trial is ever stopped."""
        return isinstance(self.make(), NopPruner)

    def audits(self, seed: int, number: int) -> bool:
        """Whether a trial of a study with this seed is trained to its end where the pruner would stop it."""
        return random.Random(f"audit of trial {number}, seed {seed}").random() < self.audit


def _part(key: str, section: Mapping[str, Any]) -> float:
    value = section.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise UserError(f"pruner.{key}", f"{value} is no part of a whole", "give a number from 0 to 1")
    return float(value)


def horizon(space: Space) -> int | None:
    """How many steps the training of every trial of a space is told in; None where one may have no known end.

    As many as the shortest trial has epochs, so that all have been judged at the same parts of their training; more,
    but no more than the longest has, where that would leave a pruner too few to stop anything early.
    """
    found = [own_horizon(space.resolve(point)) for point in space.tour()]
    for leaf in space.leaves():
        if leaf.key == "trainer.max_epochs" and len(leaf.values) > 1:
            found += [own_horizon({"trainer": {"max_epochs": epochs}}) for epochs in leaf.values]
    known = [epochs for epochs in found if epochs is not None]
    return min(max(min(known), FEWEST_STEPS), max(known)) if known and len(known) == len(found) else None


def own_horizon(config: Mapping[str, Any]) -> int | None:
    """A resolved config's ``trainer.max_epochs`` where it says when the trial ends, else None."""
    epochs = config.get("trainer", {}).get("max_epochs")
    return epochs if isinstance(epochs, int) and epochs > 0 else None


def scaled(epochs: int, own: int | None, horizon: int | None) -> int:
    """The steps that a trial is through after so many of its own epochs; the epochs where a horizon is not known.

    Step s is through after the first epoch by which s/horizon of the trial is trained: 0 before the first step, the
    same for epochs within one.
    """
    return epochs if own is None or horizon is None else epochs * horizon // own


class _Rivals(InMemoryStorage):
    """The trials of a league, without those that diverged: nobody is better or worse for what a failure reached."""

    def __init__(self) -> None:
        super().__init__()
        self.diverged: set[int] = set()  # numbers

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """See `optuna.storages.BaseStorage`."""
        trials = super().get_all_trials(study_id, deepcopy, states)
        return [trial for trial in trials if trial.number not in self.diverged] if self.diverged else trials


class League:
    """Trials that are compared with each other.

    Args:
        name: Hyperband deals its brackets by name and number.
        direction: Of the values.
        make: Makes Optuna's pruner; it judges this league alone.
    """

    def __init__(self, name: str, direction: StudyDirection, make: Callable[[], BasePruner]) -> None:
        self._make = make
        self._rivals = _Rivals()
        # Nothing is drawn here; by chance is the cheapest way to draw nothing.
        self._study = optuna.create_study(
            storage=self._rivals, study_name=name, direction=direction, sampler=RandomSampler(seed=0), pruner=make()
        )

    def begin(self) -> optuna.Trial:
        """A trial that is compared from now on."""
        return self._study.ask()

    def end(self, trial: optuna.Trial, state: TrialState, value: float | None) -> dict[str, Any]:
        """Say how a trial ended; returns what the pruner noted on it."""
        self._study.tell(trial, value if state == TrialState.COMPLETE else None, state)
        return self._rivals.get_trial(trial._trial_id).system_attrs

    def leave_out(self, number: int) -> None:
        """Compare with a trial no more, since it diverged."""
        self._rivals.diverged.add(number)
        self._study.pruner = self._make()  # which remembers nothing of it

    def restore(
        self, state: TrialState, value: float | None, reports: Mapping[int, float], notes: Mapping[str, Any]
    ) -> int:
        """Take in a trial that ended in an earlier run; returns its number here."""
        trial = create_trial(
            state=state,
            value=value if state != TrialState.FAIL else None,
            intermediate_values=dict(reports),
            system_attrs=dict(notes),
        )
        return self._rivals.get_trial_number_from_id(self._rivals.create_new_trial(self._study._study_id, trial))


@dataclass(slots=True)
class _Family:
    """How far the trials of a family have come, a larger value being better."""

    best: dict[int, float] = field(default_factory=dict)
    finished: int = 0
    _heard: dict[int, dict[int, float]] = field(default_factory=dict)  # by trial

    def hear(self, number: int, step: int, value: float) -> None:
        self._heard.setdefault(number, {})[step] = value
        self.best[step] = max(value, self.best.get(step, value))

    def forget(self, number: int) -> None:
        """Have heard nothing of a trial."""
        for step in self._heard.pop(number, {}):
            self.best[step] = max((heard[step] for heard in self._heard.values() if step in heard), default=-math.inf)


@dataclass(slots=True)
class _Entrant:
    """A trial that is compared with others.

    Attributes:
        trials: What it is in the leagues that it is in.
        numbers: By which it is known in each league that it was in.
        notes: Of the leagues it has left.
    """

    family: str
    horizon: int | None
    trials: dict[str, optuna.Trial]
    numbers: dict[str, int]
    notes: dict[str, dict[str, Any]] = field(default_factory=dict)
    epochs: int = 0
    step: int = 0
    is_at_step: bool = False
    best: float = -math.inf


class Leagues:
    """Judges the trials of a study.

    Args:
        pruning: How.
        name: The study's.
        direction: maximize or minimize.
        horizon: The steps of a trial, see the function.
    """

    def __init__(self, pruning: Pruning, name: str, direction: str, horizon: int | None) -> None:
        self._name = name
        self._direction = StudyDirection[direction.upper()]
        self._horizon = horizon
        self._until = pruning.until
        self._make = pruning.make
        self._kinds = () if pruning.is_off else _KINDS[pruning.compare]
        self._leagues: dict[tuple[str, str], League] = {}
        self._families: defaultdict[str, _Family] = defaultdict(_Family)
        self._entrants: dict[int, _Entrant] = {}

    def begin(self, number: int, config: Mapping[str, Any]) -> None:
        """Compare a trial from now on. Trials begin, or are taken in, in the order of their numbers."""
        if self._kinds:
            family = naming.family(config)
            trials = {kind: self._league(kind, family).begin() for kind in self._kinds}
            numbers = {kind: trial.number for kind, trial in trials.items()}
            self._entrants[number] = _Entrant(family, own_horizon(config), trials, numbers)

    def report(self, number: int, epochs: int, value: float) -> None:
        """Hear a trial's value after so many epochs."""
        entrant = self._entrants.get(number)
        if entrant is None:
            return
        step = scaled(epochs, entrant.horizon, self._horizon)
        entrant.is_at_step = step > entrant.step
        entrant.epochs, entrant.step = epochs, step
        if entrant.is_at_step:
            for trial in entrant.trials.values():
                trial.report(value, step)
            entrant.best = max(entrant.best, self._signed(value))
            self._families[entrant.family].hear(number, step, self._signed(value))

    def would_stop(self, number: int) -> bool:
        """Whether a trial is among the weak ones after its last report. To be asked once a report."""
        entrant = self._entrants.get(number)
        if entrant is None or not entrant.is_at_step:
            return False
        # Each pruner is asked every time, whatever the others say: it notes on a trial how it stood.
        answers = {kind: trial.should_prune() for kind, trial in entrant.trials.items()}
        if len(self._kinds) == 1:
            return any(answers.values())
        if answers[_FAMILY]:
            return True
        if _OVERALL not in entrant.trials:
            return not self._is_best_of_family(entrant)
        if not answers[_OVERALL] or not self._is_open_to_all(entrant):
            return False
        if self._families[entrant.family].finished >= FIRST_BRACKET or not self._is_best_of_family(entrant):
            return True
        # It goes on for its family's sake; among its rivals elsewhere it would only make room for other weak ones.
        self._leave(entrant, _OVERALL, TrialState.PRUNED, None)
        return False

    def end(self, number: int, state: TrialState, value: float | None = None, diverged: bool = False) -> dict[str, Any]:
        """Say how a trial ended; it is heard no more, and one that diverged is as if it had never been.

        Returns:
            What a study must keep as the trial's system attributes for `restore`.
        """
        entrant = self._entrants.pop(number, None)
        if entrant is None:
            return {}
        for kind in list(entrant.trials):
            self._leave(entrant, kind, state, value)
        self._families[entrant.family].finished += state == TrialState.COMPLETE
        if diverged:
            for kind, own in entrant.numbers.items():
                self._league(kind, entrant.family).leave_out(own)
            self._families[entrant.family].forget(number)
        return {NOTES: entrant.notes}

    def restore(self, trial: FrozenTrial, config: Mapping[str, Any]) -> None:
        """Take in a trial of an earlier run that ended, or was audited and did not yet.

        Args:
            trial: As the study keeps it, what `end` returned among its system attributes.
            config: Its resolved config.
        """
        if not self._kinds:
            return
        family, own = naming.family(config), own_horizon(config)
        audited = trial.user_attrs.get(WOULD_STOP)
        diverged = audited is None and trial.user_attrs.get("reason") == Reason.DIVERGED
        last = trial.last_step or 0
        known = audited or last
        notes = trial.system_attrs.get(NOTES, {})
        for kind in self._kinds:
            note = notes.get(kind, {"epochs": known, "noted": {}})
            heard = self._steps(trial, own, note["epochs"])
            state, value = trial.state, trial.value
            if audited is not None or note["epochs"] < last:
                state, value = TrialState.PRUNED, heard[max(heard)]
            own_number = self._league(kind, family).restore(state, value, heard, note["noted"])
            if diverged:
                self._league(kind, family).leave_out(own_number)
        if diverged:
            return
        standing = self._families[family]
        standing.finished += audited is None and trial.state == TrialState.COMPLETE
        for step, value in self._steps(trial, own, known).items():
            standing.hear(trial.number, step, self._signed(value))

    def _steps(self, trial: FrozenTrial, own: int | None, epochs: int) -> dict[int, float]:
        """What a trial of an earlier run was reported as, up to an epoch."""
        told: dict[int, float] = {}
        for epoch, value in sorted(trial.intermediate_values.items()):
            if epoch <= epochs and (step := scaled(epoch, own, self._horizon)):
                told.setdefault(step, value)
        return told

    def _is_open_to_all(self, entrant: _Entrant) -> bool:
        """Whether a trial is beyond the part of its epochs in which it is compared with its family alone."""
        return entrant.horizon is not None and entrant.epochs > self._until * entrant.horizon

    def _is_best_of_family(self, entrant: _Entrant) -> bool:
        """Whether no trial of the family was better than this one in as many epochs or fewer."""
        best = self._families[entrant.family].best
        return all(value <= entrant.best for step, value in best.items() if step <= entrant.step)

    def _leave(self, entrant: _Entrant, kind: str, state: TrialState, value: float | None) -> None:
        noted = self._league(kind, entrant.family).end(entrant.trials.pop(kind), state, value)
        entrant.notes[kind] = {"epochs": entrant.epochs, "noted": noted}

    def _league(self, kind: str, family: str) -> League:
        key = (kind, family if kind == _FAMILY else "")
        if key not in self._leagues:
            name = self._name if kind == _OVERALL else f"{self._name} {family}"
            self._leagues[key] = League(name, self._direction, self._make)
        return self._leagues[key]

    def _signed(self, value: float) -> float:
        return value if self._direction == StudyDirection.MAXIMIZE else -value
