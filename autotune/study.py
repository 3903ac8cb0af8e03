"""The coordinator of a search: it alone asks the sampler, judges by the pruner and writes to the study.

Optuna's sampler and pruner work on a copy of the study in memory, where asking costs next to nothing and where a drawn
point can still be dropped: one that cannot work or that was trained before is told to the sampler as failed, asked
anew, and never becomes a trial of the study that is kept (`Ledger`).
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import random
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from autotune.chance import Verdict, judge
from autotune.errors import UserError
from autotune.ledger import Ledger
from autotune.report import best_history
from autotune.samplers import UsedUp
from autotune.settings import Settings
from autotune.space import Space, suggest
from autotune.steering import knows_trees
from autotune.tracking import Tracker
from autotune.trial import End, Epoch, Executor, Reason, Record, Trial

_log = logging.getLogger(__name__)

# A finite space of more points than this is not listed; its end is guessed from draws that bring nothing new.
LISTED = 10_000
FRUITLESS_DRAWS = 200


class TrialCodeError(Exception):
    """The user's code raised while a trial was trained; it stops the search.

    Args:
        record: The trial, its resolved config included.
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        super().__init__(f"trial {record.number} raised {record.error}")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a study has come to.

    Attributes:
        records: Its trials, by number.
        history: The best value so far, at each trial that improved it: pairs of trial number and value.
        best: The best trial that was trained to its end, the earliest of equals; None where there is none.
        verdict: Whether the best is more than guessing reaches; None where that is not known.
    """

    records: list[Record]
    history: list[tuple[int, float]]
    best: Record | None
    verdict: Verdict | None


@dataclass(slots=True)
class _Running:
    """A trial in training: what is kept of it and what Optuna's copy knows of it."""

    asked: optuna.Trial
    max_epochs: float
    reported: frozenset[int] = frozenset()
    curves: dict[str, list[float]] = field(default_factory=dict)


class Coordinator:
    """The desk that an executor works for (`autotune.trial.Desk`).

    Args:
        settings: What the search is run by.
        space: What it may try.
        ledger: Where the study is kept.
        executor: What trains.
        tracker: What mirrors the study.
        sampler: Optuna's, its random state its own.
        pruner: Optuna's.
    """

    def __init__(
        self,
        settings: Settings,
        space: Space,
        ledger: Ledger,
        executor: Executor,
        tracker: Tracker,
        sampler: BaseSampler,
        pruner: BasePruner,
    ) -> None:
        self._settings = settings
        self._objective = settings.objective
        self._budget = settings.budget
        self._space = space
        self._ledger = ledger
        self._executor = executor
        self._tracker = tracker
        self._running: dict[int, _Running] = {}
        self._trained: set[str] = set()
        self._unlisted: list[dict[str, Any]] | None = None
        self._listable = False
        self._spent_before = ledger.seconds
        self._begun_at = time.monotonic()
        self.refused: dict[str, str] = {}
        self.duplicates = 0
        self.epochs = 0
        self.finished: str | None = None
        self._drawn_out: str | None = None  # why no trial is begun any more, while some may still train
        self.interrupted = False
        self._flat = (
            {} if knows_trees(sampler) else {name: each.distribution for name, each in space.parameters().items()}
        )
        self._copy = optuna.create_study(
            study_name=settings.name,  # Hyperband deals its brackets by name and number
            direction=StudyDirection[self._objective.direction.upper()],
            sampler=sampler,
            pruner=pruner,
        )
        chance = RandomSampler(seed=(settings.seed + ledger.count) % 2**32)
        self._chance = optuna.create_study(sampler=chance)
        self._values: dict[str, float] = {}
        self._left_over = self._take_in(ledger.trials())
        if not ledger.count:
            self._enqueue()

    # What the entry point calls.

    def run(self) -> None:
        """Search until a budget, the space or the user ends it; `finished` says which.

        Raises:
            TrialCodeError: The user's code raised.
            UserError: The metric is not logged, or no configuration can work.
        """
        try:
            self._executor.run(self)
            self.finished = self.finished or self._drawn_out
        finally:
            self._ledger.seconds = self.seconds
        if not self._ledger.count and self.refused:
            why, count = Counter(self.refused.values()).most_common(1)[0]
            raise UserError(
                "search",
                f"no configuration of the space can work; {count} of {len(self.refused)} refused as {why}",
                "change the space",
            )

    def interrupt(self, why: str) -> None:
        """Begin nothing more, end what trains as interrupted; it is taken up again when the study goes on."""
        self.finished = self.finished or why
        self.interrupted = True

    @property
    def seconds(self) -> float:
        """How long the study has been searched, over all runs."""
        return self._spent_before + time.monotonic() - self._begun_at

    def outcome(self) -> Outcome:
        """What the study has come to so far."""
        records = self._ledger.records()
        history = best_history(records, self._objective)
        if not history:
            return Outcome(records, history, None, None)
        best = records[history[-1][0]]
        return Outcome(records, history, best, judge(records, self._executor.chance(best.config)))

    # What the executor calls.

    def next_trial(self) -> Trial | None:
        """The next trial: one left over from an earlier run, else a new one while the budget lasts."""
        if self._spent():
            return None
        if self._left_over:
            return self._take_up(self._left_over.pop(0))
        if self._budget.trials is not None and self._ledger.count >= self._budget.trials:
            self._drawn_out = f"budget.trials={self._budget.trials} is used up"
            return None
        drawn = self._draw()
        if drawn is None:
            return None
        asked, params, config = drawn
        distributions = asked.distributions  # a copy, each time
        number = self._ledger.begin(config, params, {name: distributions[name] for name in params})
        self._running[number] = _Running(asked, _max_epochs(config))
        self._tracker.trial_started(self._ledger.record(number))
        return Trial(number, config)

    def judge(self, epoch: Epoch) -> Reason | None:
        """Write an epoch down and say whether the trial goes on."""
        running = self._running[epoch.number]
        if self._objective.metric not in epoch.metrics:
            raise self._objective.not_among(epoch.metrics)
        for name in running.curves.keys() | epoch.metrics.keys():
            # A metric that is not logged in an epoch, the first ones maybe, has no value there.
            curve = running.curves.setdefault(name, [math.nan] * epoch.epoch)
            curve.append(epoch.metrics.get(name, math.nan))
        diverged = self._diverged(epoch)
        value = self._objective.worst if diverged else epoch.metrics[self._objective.metric]
        step = epoch.epoch + 1
        running.asked.report(value, step)
        if step not in running.reported:
            self._ledger.advance(epoch.number, step, value)
            self.epochs += 1
        self._tracker.trial_advanced(self._story(epoch.number))
        if diverged:
            return Reason.DIVERGED
        if step >= running.max_epochs:
            return None
        if running.asked.should_prune():
            return Reason.PRUNED
        return Reason.INTERRUPTED if self._spent() else None

    def ended(self, end: End) -> None:
        """Write the end of a trial down and tell the sampler."""
        running = self._running.pop(end.number)
        value = self._tell(running, end.reason)
        system_attrs = self._copy.get_trials(deepcopy=False)[running.asked.number].system_attrs
        error = None if end.error is None else f"{type(end.error).__name__}: {end.error}".splitlines()[0]
        record = self._ledger.finish(
            end.number,
            end.reason,
            value,
            running.curves,
            end.cost,
            {key: attr for key, attr in system_attrs.items() if key != "fixed_params"},
            error,
        )
        if record.objective is not None:
            self._values[_digest(record.config)] = record.objective
        self._ledger.seconds = self.seconds
        self._tracker.trial_ended(record)
        _log.info("%s", _line(record))
        if end.reason == Reason.ERROR:
            raise TrialCodeError(record) from end.error

    # How it does it.

    def _take_in(self, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        """Tell the copy of all that ended in earlier runs; returns what did not."""
        left_over = []
        for trial in trials:
            digest = _digest(trial.user_attrs["config"])
            self._trained.add(digest)
            if trial.values is not None:
                self._values[digest] = trial.values[0]
            self.epochs += len(trial.intermediate_values)
            if trial.state.is_finished():
                self._copy.add_trial(self._flattened(trial))
            else:
                left_over.append(trial)
        return left_over

    def _flattened(self, trial: FrozenTrial) -> FrozenTrial:
        """A finished trial as the sampler wants it (`_flatten`), without its config and curves: nothing reads them."""
        missing = {name: each for name, each in self._flat.items() if name not in trial.params}
        any_values = self._chance.ask(missing).params if missing else {}
        return create_trial(
            state=trial.state,
            values=trial.values,
            params={**trial.params, **any_values},
            distributions={**trial.distributions, **missing},
            system_attrs=trial.system_attrs,
            intermediate_values=trial.intermediate_values,
        )

    def _flatten(self, asked: optuna.Trial) -> None:
        """Let a sampler that knows no tree draw the parameters of the branches not chosen too.

        To it a trial has every parameter, and it finds out that some do not matter; the trial that is kept has its own.
        """
        for name, distribution in self._flat.items():
            suggest(asked, name, distribution)

    def _enqueue(self) -> None:
        for point in self._settings.enqueue:
            fitted = self._space.fit(point)
            if fitted is None:
                _log.debug("the starting point %s lies outside the space", dict(point))
            else:
                self._copy.enqueue_trial(fitted)

    def _take_up(self, trial: FrozenTrial) -> Trial:
        self._copy.enqueue_trial(trial.params)
        asked = self._copy.ask()
        for name, distribution in trial.distributions.items():
            suggest(asked, name, distribution)
        self._flatten(asked)
        config = trial.user_attrs["config"]
        self._running[trial.number] = _Running(asked, _max_epochs(config), frozenset(trial.intermediate_values))
        self._ledger.take_up(trial.number)
        self._tracker.trial_started(self._ledger.record(trial.number))
        return Trial(trial.number, config)

    def _draw(self) -> tuple[optuna.Trial, dict[str, Any], dict[str, Any]] | None:
        """Ask until something new comes that can work; None when the space is used up."""
        for fruitless in range(FRUITLESS_DRAWS):
            if fruitless >= 10 and not self._steer_to_new_point():
                break
            try:
                asked = self._copy.ask()
            except UsedUp as end:
                self._drawn_out = str(end)
                return None
            params = self._space.suggest(asked)
            self._flatten(asked)
            config = self._space.resolve(params)
            if self._is_new(config):
                why = self._executor.refuses(config)
                if why is None:
                    self._trained.add(_digest(config))
                    return asked, params, config
                self.refused[_digest(config)] = why
                _log.info("refused: %s", why)
            else:
                self.duplicates += 1
            self._drop(asked, config)
        self._drawn_out = "the space is used up: every configuration of it that can work is trained"
        return None

    def _drop(self, asked: optuna.Trial, config: Mapping[str, Any]) -> None:
        """Tell the sampler of a drawn point that becomes no trial.

        One that knows no tree comes back to the best point it knows by way of parameters that do not matter there, and
        would do so for ever if it did not hear that the value is the same.
        """
        known = self._values.get(_digest(config)) if self._flat else None
        if known is None:
            self._copy.tell(asked, state=TrialState.FAIL)
        else:
            self._copy.tell(asked, known)

    def _steer_to_new_point(self) -> bool:
        """Where the points can be listed, have a new one asked next; False when there is none.

        A sampler of a larger space that insists on a point in vain has to try one by chance.
        """
        if self._unlisted is None:
            self._listable = self._space.size(LISTED) is not None
            self._unlisted = list(self._space.points()) if self._listable else []
            random.Random(self._settings.seed).shuffle(self._unlisted)
        while self._unlisted:
            point = self._unlisted.pop()
            if self._is_new(self._space.resolve(point)):
                self._copy.enqueue_trial(point)
                return True
        if self._flat and not self._listable:
            self._copy.enqueue_trial(self._space.suggest(self._chance.ask()))
        return not self._listable

    def _is_new(self, config: Mapping[str, Any]) -> bool:
        digest = _digest(config)
        return digest not in self._trained and digest not in self.refused

    def _spent(self) -> bool:
        """Whether nothing more may be trained."""
        if self.interrupted:
            return True
        if self._budget.seconds is not None and self.seconds >= self._budget.seconds:
            self.interrupt(f"budget.seconds={self._budget.seconds:g} is used up")
        elif self._budget.epochs is not None and self.epochs >= self._budget.epochs:
            self.interrupt(f"budget.epochs={self._budget.epochs} is used up")
        return self.interrupted

    def _diverged(self, epoch: Epoch) -> bool:
        above = math.inf if self._objective.explodes_above is None else self._objective.explodes_above
        losses = (
            epoch.metrics[name]
            for name in ("train/loss", "val/loss", "train_loss", "val_loss")
            if name in epoch.metrics
        )
        return not math.isfinite(epoch.metrics[self._objective.metric]) or any(
            not abs(loss) <= above or math.isinf(loss) for loss in losses
        )

    def _tell(self, running: _Running, reason: Reason) -> float | None:
        """Tell the copy how a trial ended; returns the value the study keeps."""
        match reason:
            case Reason.COMPLETED:
                value = self._objective.best(running.curves[self._objective.metric])
                self._copy.tell(running.asked, value)
                return value
            case Reason.PRUNED | Reason.DIVERGED:
                return self._copy.tell(running.asked, state=TrialState.PRUNED).value
            case Reason.OOM | Reason.ERROR:
                self._copy.tell(running.asked, state=TrialState.FAIL)
        return None

    def _story(self, number: int) -> Record:
        """A running trial with the curves it has so far."""
        curves = {name: tuple(values) for name, values in self._running[number].curves.items()}
        return replace(self._ledger.record(number), curves=curves)


def _line(record: Record) -> str:
    value = "" if record.objective is None else f"{record.objective:.4g}"
    seconds = "" if record.ended is None else f"{(record.ended - record.started).total_seconds():.1f} s"
    return f"{record.name:<44} {value:>8}  {record.reason} after {record.epochs} epochs, {seconds}"


def _digest(config: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()


def _max_epochs(config: Mapping[str, Any]) -> float:
    epochs = config["trainer"].get("max_epochs")
    return epochs if isinstance(epochs, int) and epochs > 0 else math.inf
