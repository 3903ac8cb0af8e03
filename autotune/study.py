"""The coordinator of a search: it alone asks the sampler, judges by the pruner and writes to the study.

Optuna's sampler works on a copy of the study in memory, where asking costs next to nothing and where a drawn point can
still be dropped: one that cannot work or that was trained before is told to the sampler as failed, asked anew, and
never becomes a trial of the study that is kept (`Ledger`). Optuna's pruners work on copies of their own (`Leagues`).
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import optuna
from optuna.pruners import NopPruner
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from autotune.errors import UserError
from autotune.kept.checkpoints import Checkpoints
from autotune.kept.earlier import draws, parameters_of
from autotune.kept.ledger import DRAWN, Ledger, has_diverged, trained_epochs
from autotune.pruners import WOULD_STOP, Leagues, Pruning, horizon
from autotune.samplers import PenaltyStorage, UsedUp
from autotune.settings import Settings, shipped_points, unmeasured
from autotune.space import Space, suggest
from autotune.steering import draws_in_turn, knows_trees, ranks_pruned, seed_of
from autotune.tracking import Tracker
from autotune.trial import (
    NOTHING_LOGGED,
    End,
    Epoch,
    Executor,
    Logged,
    Reason,
    Record,
    Trial,
    TrialCodeError,
    add_epoch,
)

_log = logging.getLogger(__name__)

# A finite space of more points than this is not listed; its end is guessed from draws that bring nothing new.
LISTED = 10_000
FRUITLESS_DRAWS = 200
# Full trainings, one after another, that the time of a study is to hold.
ROUNDS = 3


@dataclass(slots=True)
class _Running:
    """A trial in training: what is kept of it and what Optuna's copy knows of it."""

    asked: optuna.Trial
    max_epochs: float
    reported: frozenset[int] = frozenset()  # steps that an earlier run wrote down
    known_epochs: int = 0  # which an earlier run trained
    curves: dict[str, list[float]] = field(default_factory=dict)
    divergence: str | None = None
    logged: Logged = NOTHING_LOGGED


class Coordinator:
    """The desk that an executor works for (`autotune.trial.Desk`).

    Args:
        settings: What the search is run by.
        space: What it may try.
        ledger: Where the study is kept.
        executor: What trains.
        tracker: What mirrors the study.
        sampler: Optuna's, its random state its own.
        pruning: Which trials are stopped early.
        anew: The sampler for a trial, by its number; None where one sampler draws them all.
        clock: Tells seconds.
    """

    def __init__(
        self,
        settings: Settings,
        space: Space,
        ledger: Ledger,
        executor: Executor,
        tracker: Tracker,
        sampler: BaseSampler,
        pruning: Pruning,
        anew: Callable[[int], BaseSampler] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._objective = settings.objective
        self._budget = settings.budget
        self._space = space
        self._ledger = ledger
        self._executor = executor
        self._tracker = tracker
        self._running: dict[int, _Running] = {}
        self._again: list[dict[str, Any]] = []  # what was drawn again since the last trial was begun; see `DRAWN`
        self._trained: set[str] = set()
        self._unlisted: list[dict[str, Any]] | None = None
        self._listable = False
        self._spent_before = ledger.seconds
        self._begun_at = self._clock()
        self.refused: dict[str, str] = {}
        self.duplicates = 0
        self.epochs = 0
        self.finished: str | None = None
        self._drawn_out: str | None = None  # why no trial is begun any more, while some may still train
        self._is_stopped = False
        self._training_since: float | None = None
        self._trained_epochs = 0
        self._searched = space.parameters()
        self._flat = {} if knows_trees(sampler) else {name: each.distribution for name, each in self._searched.items()}
        self._anew = anew
        self._seen = PenaltyStorage(self._objective, ranks_pruned(sampler))
        self._copy = optuna.create_study(
            storage=self._seen,
            study_name=settings.name,
            direction=StudyDirection[self._objective.direction.upper()],
            sampler=sampler,
            pruner=NopPruner(),
        )
        self._pruning = pruning
        self._leagues = Leagues(pruning, settings.name, self._objective.direction, horizon(space))
        self._chance = optuna.create_study(sampler=RandomSampler(seed=seed_of(settings.seed, ledger.count)))
        self._values: dict[str, float | None] = {}  # of configs that ended; None where one diverged
        self._starting_points = self._fit_starting_points()
        self._drawn_before = 0  # the copy's draws that only bring a sampler to where it was
        self._given = [set(point) for point in self._starting_points]
        self._left_over = self._take_in(ledger.trials())
        self._checkpoints = Checkpoints(settings.folder)
        self._checkpoints.sweep_trials(trial.number for trial in ledger.trials() if not trial.state.is_finished())

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
            self._ledger.keep_seconds(self.seconds)
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
        self._is_stopped = True

    @property
    def in_training(self) -> int:
        """How many trials are in training."""
        return len(self._running)

    @property
    def seconds(self) -> float:
        """How long the study has been searched, over all runs."""
        return self._spent_before + self._clock() - self._begun_at

    # What the executor calls.

    @property
    def interrupted(self) -> bool:
        """Whether what trains must stop at the next batch: when told so, and when the time is up."""
        if not self._is_stopped and self._budget.seconds is not None and self.seconds >= self._budget.seconds:
            self.interrupt(f"budget.seconds={self._budget.seconds:.15g} is used up")
        return self._is_stopped

    def next_trial(self) -> Trial | None:
        """The next trial: one left over from an earlier run, else a new one while the budget lasts.

        None too where another one beside those in training would leave too little time for any of them.
        """
        if self._spent() or self._is_crowded():
            return None
        if self._training_since is None:
            self._training_since = self._clock()
        if self._left_over:
            return self._take_up(self._left_over.pop(0))
        if self._drawn_out is not None:
            return None
        if self._budget.trials is not None and self._ledger.count >= self._budget.trials:
            self._drawn_out = f"budget.trials={self._budget.trials} is used up"
            return None
        drawn = self._draw()
        if drawn is None:
            return None
        asked, params, config = drawn
        distributions = asked.distributions  # a copy, each time
        number = self._ledger.begin(
            config, params, {name: distributions[name] for name in params}, self._drawn(asked, params)
        )
        self._leagues.begin(number, config)
        self._running[number] = _Running(asked, _max_epochs(config))
        self._tracker.trial_started(self._ledger.record(number))
        return Trial(number, config, self._checkpoints.of_trial(number), self._settings.trial_folder(number))

    def resumed(self, number: int, epochs: Sequence[Epoch]) -> None:
        """Take in what a trial measured before it is gone on with; an epoch that was written down stays as it is."""
        for epoch in epochs:
            if self._hear(epoch):
                self._leagues.would_stop(number)  # it was not stopped; but a pruner notes on a trial how it stood
        self._tracker.trial_advanced(self._story(number))

    def judge(self, epoch: Epoch) -> Reason | None:
        """Write an epoch down and say whether the trial goes on."""
        self._trained_epochs += 1
        running = self._running[epoch.number]
        running.divergence = self._objective.divergence(epoch.metrics, running.curves)
        is_reported = self._hear(epoch)
        step = epoch.epoch + 1
        self._tracker.trial_advanced(self._story(epoch.number))
        if running.divergence is not None:
            return Reason.DIVERGED
        if epoch.is_last or step >= running.max_epochs:
            return None
        if is_reported and self._leagues.would_stop(epoch.number) and not self._audits(epoch.number, step):
            return Reason.PRUNED
        return Reason.INTERRUPTED if self._spent() else None

    def ended(self, end: End) -> None:
        """Write the end of a trial down and tell the sampler.

        Raises:
            TrialCodeError: The user's code raised.
            UserError: The trial was trained to its end and has no value of the metric.
        """
        running = self._running.pop(end.number)
        if end.reason == Reason.COMPLETED and self._best_of(running) is None:
            end = self._without_value(end, running)
        value = self._tell(running, end.reason)
        system_attrs = dict(self._copy.get_trials(deepcopy=False)[running.asked.number].system_attrs)
        if end.reason != Reason.INTERRUPTED:  # whose leagues judge it anew when it is run again
            state, diverged = TrialState[end.reason.state.value], end.reason == Reason.DIVERGED
            system_attrs |= self._leagues.end(end.number, state, value, diverged)
        record = self._ledger.finish(
            end.number,
            end.reason,
            value,
            running.curves,
            end.cost,
            {key: attr for key, attr in system_attrs.items() if key != "fixed_params"},
            running.divergence if end.reason == Reason.DIVERGED else end.said,
        )
        if end.reason != Reason.INTERRUPTED:
            self._checkpoints.drop(self._checkpoints.of_trial(end.number))
        if record.objective is not None or record.reason == Reason.DIVERGED:
            self._values[_digest(record.config)] = record.objective
        self._ledger.keep_seconds(self.seconds)
        self._tracker.trial_ended(replace(record, logged=running.logged.followed_by(end.logged)))
        _log.info("%s", record.line)
        if end.reason == Reason.ERROR:
            raise TrialCodeError(record) from end.error

    # How it does it.

    def _hear(self, epoch: Epoch) -> bool:
        """Take in what an epoch measured, and write its value down where an earlier run has not; whether it has one."""
        running, step = self._running[epoch.number], epoch.epoch + 1
        add_epoch(running.curves, epoch)
        running.logged = running.logged.followed_by(epoch.logged)
        self.epochs += step > running.known_epochs
        value = running.curves.get(self._objective.metric, [math.nan])[-1]
        if running.divergence is not None or not math.isfinite(value):
            return False
        running.asked.report(value, step)
        self._leagues.report(epoch.number, step, value)
        if step not in running.reported:
            self._ledger.advance(epoch.number, step, value)
        return True

    def _best_of(self, running: _Running) -> float | None:
        return self._objective.best_of(running.curves.get(self._objective.metric, ()))

    def _without_value(self, end: End, running: _Running) -> End:
        """The end of a trial that was trained to its end and has no value.

        Raises:
            UserError: It never logged the metric, or no trial has a value of it: that is no fault of the trial.
        """
        metric = self._objective.metric
        values = [*self._values.values(), *map(self._best_of, self._running.values())]
        if metric not in running.curves or all(value is None for value in values):
            raise unmeasured(metric, running.curves)
        running.divergence = f"{metric} is no number in any epoch"
        return replace(end, reason=Reason.DIVERGED)

    def _take_in(self, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        """Tell the copy and the leagues of all that ended in earlier runs; returns what did not.

        The copy's trials bear the numbers they had, which is what some samplers draw by.
        """
        left_over = []
        known = 0
        first_learnt: int | None = None
        for trial in trials:
            config = trial.user_attrs["config"]
            digest = _digest(config)
            self._trained.add(digest)
            diverged = has_diverged(trial)
            if trial.values is not None or diverged:
                self._values[digest] = None if diverged or trial.values is None else trial.values[0]
            self.epochs += trained_epochs(trial)
            params = parameters_of(self._space, self._searched, trial.params, config)
            if params is None and not trial.state.is_finished():
                _log.info("trial %d lies outside the space by now and stays interrupted", trial.number)
                continue
            if trial.state.is_finished() or WOULD_STOP in trial.user_attrs:
                self._leagues.restore(trial, config)
            else:
                self._leagues.begin(trial.number, config)
            if trial.state.is_finished():
                number = self._number_of(trial, known)
                for draw in trial.user_attrs.get(DRAWN, {}).get("again", []):
                    self._leave_out(draw["number"] - known)
                    # By a study of version 0.1 the config's worst value was told of one that diverged.
                    is_lost = draw["value"] in (None, config["objective"].get("worst"))
                    self._add(self._drawn_again(draw, is_lost), is_lost)
                    known = max(known, draw["number"]) + 1
                self._leave_out(number - known)
                self._add(_nothing() if params is None else self._flattened(trial, params), diverged)
                known = max(known, number) + 1
                if first_learnt is None and params is not None and trial.state != TrialState.FAIL:
                    first_learnt = known
            else:
                left_over.append(trial)
        if trials:
            asked = [trial.user_attrs[DRAWN]["number"] + 1 for trial in trials if DRAWN in trial.user_attrs]
            self._starting_points = self._starting_points[max(asked) :] if asked else []
        if first_learnt is not None and draws_in_turn(self._copy.sampler):
            before = min((self._number_of(trial, known) for trial in left_over), default=known)
            for _ in range(sum(not self._is_given(number) for number in range(first_learnt, before))):
                again = self._copy.ask()
                self._flatten(again)
                self._copy.tell(again, state=TrialState.FAIL)
                self._drawn_before += 1
        return left_over

    def _add(self, trial: FrozenTrial, diverged: bool) -> None:
        """Tell the copy of a trial of an earlier run."""
        self._copy.add_trial(trial)
        if diverged and trial.state == TrialState.PRUNED:
            self._seen.penalize(len(self._copy.get_trials(deepcopy=False)) - 1)

    def _leave_out(self, count: int) -> None:
        """Have the copy count draws that became no trial."""
        for _ in range(count):
            self._copy.add_trial(_nothing())

    def _is_given(self, number: int) -> bool:
        """Whether a draw is a starting point that leaves nothing to the sampler."""
        return number < len(self._given) and self._given[number] >= self._flat.keys()

    def _number_of(self, trial: FrozenTrial, otherwise: int) -> int:
        number = trial.user_attrs.get(DRAWN, {}).get("number", otherwise)
        assert isinstance(number, int)
        return number

    def _flattened(self, trial: FrozenTrial, params: Mapping[str, Any]) -> FrozenTrial:
        """A finished trial as the sampler wants it (`_flatten`), without its config and curves: nothing reads them.

        Args:
            trial: As it is kept.
            params: What it is in the space that is searched.
        """
        whole = {**params, **self._unchosen(trial, params)}
        diverged = has_diverged(trial)
        return create_trial(
            state=trial.state,
            values=None if diverged else trial.values,
            params=whole,
            distributions={name: self._searched[name].distribution for name in whole},
            system_attrs=trial.system_attrs,
            intermediate_values={} if diverged else trial.intermediate_values,
        )

    def _drawn(self, asked: optuna.Trial, params: Mapping[str, Any]) -> dict[str, Any]:
        """How a trial was drawn, as `DRAWN` keeps it."""
        unchosen = {name: value for name, value in asked.params.items() if name not in params} if self._flat else {}
        again, self._again = self._again, []
        further = {name: kept for name, kept in (("unchosen", unchosen), ("again", again)) if kept}
        return {"number": self._draw_number(asked), **further}

    def _draw_number(self, asked: optuna.Trial) -> int:
        """Which draw of the study it is, over all runs."""
        return asked.number - self._drawn_before

    def _drawn_again(self, draw: Mapping[str, Any], diverged: bool) -> FrozenTrial:
        """A draw of an earlier run that the sampler heard the known value of."""
        params = draw["params"]
        known = all(name in params and draws(each, params[name]) for name, each in self._flat.items())
        if not self._flat or not known:
            return _nothing()
        value = None if diverged else draw["value"]
        return create_trial(
            state=TrialState.PRUNED if value is None else TrialState.COMPLETE,
            value=value,
            params={name: params[name] for name in self._flat},
            distributions=self._flat,
            system_attrs=draw["system_attrs"],
        )

    def _unchosen(self, trial: FrozenTrial, params: Mapping[str, Any]) -> dict[str, Any]:
        """What the sampler drew for the branches that a trial has not; any values where that is not known."""
        kept = trial.user_attrs.get(DRAWN, {}).get("unchosen", {})
        missing = {name: each for name, each in self._flat.items() if name not in params}
        known = {name: kept[name] for name, each in missing.items() if name in kept and draws(each, kept[name])}
        unknown = {name: each for name, each in missing.items() if name not in known}
        return {**known, **(self._chance.ask(unknown).params if unknown else {})}

    def _flatten(self, asked: optuna.Trial) -> None:
        """Let a sampler that knows no tree draw the parameters of the branches not chosen too.

        To it a trial has every parameter, and it finds out that some do not matter; the trial that is kept has its own.
        """
        for name, distribution in self._flat.items():
            suggest(asked, name, distribution)

    def _fit_starting_points(self) -> list[dict[str, Any]]:
        points = []
        for point in self._settings.enqueue:
            why = None if point in shipped_points() else self._space.misfit(point)
            fitted = self._space.fit(point)
            if why is not None:
                _log.info("the starting point %s is left out: %s", dict(point), why)
            elif fitted is not None:
                points.append(fitted)
        return points

    def _take_up(self, trial: FrozenTrial) -> Trial:
        config = trial.user_attrs["config"]
        params = parameters_of(self._space, self._searched, trial.params, config)
        assert params is not None  # or it were not left over
        count = len(self._copy.get_trials(deepcopy=False)) - self._drawn_before
        self._leave_out(self._number_of(trial, count) - count)
        self._reseed(trial.number)
        self._copy.enqueue_trial({**params, **self._unchosen(trial, params)})
        asked = self._copy.ask()
        if not self._is_given(self._draw_number(asked)):
            asked.relative_params  # noqa: B018 - which the sampler drew in the earlier run, and some note on the trial
        for name in params:
            suggest(asked, name, self._searched[name].distribution)
        self._flatten(asked)
        reported, epochs = frozenset(trial.intermediate_values), trained_epochs(trial)
        self._running[trial.number] = _Running(asked, _max_epochs(config), reported, epochs)
        self._ledger.take_up(trial.number)
        self._tracker.trial_started(self._ledger.record(trial.number))
        checkpoint, folder = self._checkpoints.of_trial(trial.number), self._settings.trial_folder(trial.number)
        return Trial(trial.number, config, checkpoint, folder)

    def _draw(self) -> tuple[optuna.Trial, dict[str, Any], dict[str, Any]] | None:
        """Ask until something new comes that can work; None when the space is used up."""
        self._reseed(self._ledger.count)
        while self._starting_points:
            self._copy.enqueue_trial(self._starting_points.pop(0))
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

    def _reseed(self, number: int) -> None:
        """Let what is drawn for a trial follow from its number and the trials there are, not from earlier draws."""
        if self._anew is not None:
            self._copy.sampler = self._anew(number)
        if self._flat:
            self._chance.sampler = RandomSampler(seed=seed_of(self._settings.seed, number))

    def _drop(self, asked: optuna.Trial, config: Mapping[str, Any]) -> None:
        """Tell the sampler of a drawn point that becomes no trial.

        One that knows no tree comes back to the best point it knows by way of parameters that do not matter there, and
        would do so for ever if it did not hear that the value is the same.
        """
        digest = _digest(config)
        if not self._flat or digest not in self._values:
            self._copy.tell(asked, state=TrialState.FAIL)
            return
        known = self._values[digest]
        if known is None:
            self._seen.penalize(asked.number)
        self._copy.tell(asked, known, TrialState.PRUNED if known is None else TrialState.COMPLETE)
        attrs = self._copy.get_trials(deepcopy=False)[asked.number].system_attrs
        self._again.append(
            {"number": self._draw_number(asked), "params": asked.params, "value": known, "system_attrs": dict(attrs)}
        )

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

    def _audits(self, number: int, epochs: int) -> bool:
        """Whether a trial that is to be stopped is drawn to be trained to its end.

        To its leagues it was stopped, or other trials would be judged by what the pruner would never have known.
        """
        if not self._pruning.audits(self._settings.seed, number):
            return False
        self._ledger.keep_would_stop(number, epochs, self._leagues.end(number, TrialState.PRUNED))
        return True

    def _is_crowded(self) -> bool:
        """Whether a further trial at once would end with the time before it was trained.

        All in training share the pace that was measured so far. So many go at once that `ROUNDS` of full trainings fit
        into the whole time, and none is begun that could not come to its end in the time that is left.
        """
        longest = max((each.max_epochs for each in self._running.values()), default=0)
        if self._budget.seconds is None or not 0 < longest < math.inf:
            return False
        if self._training_since is None or not self._trained_epochs:
            return True  # until the first epoch says how long one takes
        pace = self._trained_epochs / max(self._clock() - self._training_since, 1e-9)
        left = self._budget.seconds - self.seconds
        at_once = min(self._budget.seconds / ROUNDS, left) * pace / longest
        return len(self._running) + 1 > at_once

    def _spent(self) -> bool:
        """Whether nothing more may be trained."""
        if not self.interrupted and self._budget.epochs is not None and self.epochs >= self._budget.epochs:
            self.interrupt(f"budget.epochs={self._budget.epochs} is used up")
        return self.interrupted

    def _tell(self, running: _Running, reason: Reason) -> float | None:
        """Tell the copy how a trial ended; returns the value the study keeps."""
        match reason:
            case Reason.COMPLETED:
                value = self._best_of(running)
                self._copy.tell(running.asked, value)
                return value
            case Reason.PRUNED:
                return self._copy.tell(running.asked, state=TrialState.PRUNED).value
            case Reason.DIVERGED:
                self._seen.penalize(running.asked.number)
                self._copy.tell(running.asked, state=TrialState.PRUNED)
            case Reason.OOM | Reason.ERROR:
                self._copy.tell(running.asked, state=TrialState.FAIL)
        return None

    def _story(self, number: int) -> Record:
        """A running trial with the curves it has so far."""
        running = self._running[number]
        curves = {name: tuple(values) for name, values in running.curves.items()}
        return replace(self._ledger.record(number), curves=curves, logged=running.logged)


def _nothing() -> FrozenTrial:
    """A trial that no sampler learns from."""
    return create_trial(state=TrialState.FAIL)


def _digest(config: Mapping[str, Any]) -> str:
    """What a config is known by; what a sampler is told of it where it diverges makes it no other."""
    objective = {key: value for key, value in config["objective"].items() if key != "worst"}
    whole = {**config, "objective": objective}
    return hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()


def _max_epochs(config: Mapping[str, Any]) -> float:
    epochs = config["trainer"].get("max_epochs")
    return epochs if isinstance(epochs, int) and epochs > 0 else math.inf
