"""The desk of the confirmation: the best configurations of a search are trained again with other seeds."""

from __future__ import annotations

import itertools
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from autotune import naming
from autotune.kept.checkpoints import Checkpoints
from autotune.kept.ledger import Ledger
from autotune.settings import Settings, unmeasured
from autotune.standing import Standing, standing
from autotune.tracking import Tracker
from autotune.trial import (
    NOTHING_LOGGED,
    End,
    Epoch,
    Executor,
    Logged,
    Reason,
    Record,
    State,
    Trial,
    TrialCodeError,
    add_epoch,
)

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Running:
    """A configuration that is trained again."""

    record: Record
    curves: dict[str, list[float]] = field(default_factory=dict)
    divergence: str | None = None
    logged: Logged = NOTHING_LOGGED


class Confirmation:
    """The desk that an executor works for (`autotune.trial.Desk`) once the budget of a search has ended.

    What was confirmed before, by an earlier run of the command, is not trained again.

    Args:
        settings: What the search is run by.
        records: The trials of the search, by number.
        ledger: Where the study is kept.
        tracker: What mirrors it.
        clock: Tells seconds.
    """

    def __init__(
        self,
        settings: Settings,
        records: Sequence[Record],
        ledger: Ledger,
        tracker: Tracker,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._begun_at = clock()
        self._round: list[tuple[Record, Logged]] | None = None  # ended, where a whole round is waited for
        self._objective = settings.objective
        self._confirm = settings.confirm
        self._ledger = ledger
        self._checkpoints = Checkpoints(settings.folder)
        self._trial_folder = settings.trial_folder
        self._tracker = tracker
        self._records = records
        self._kept = {_identity(each): each for each in ledger.confirmations()}
        self._pile: list[Record] = []
        self._running: dict[int, _Running] = {}
        self._numbers = itertools.count()
        used = {record.config["seed"] for record in self._records}
        free = (seed % 2**32 for seed in itertools.count(settings.seed + 1) if seed % 2**32 not in used)
        self._seeds = list(itertools.islice(free, max(self._confirm.seeds, self._confirm.most_seeds)))
        self._is_stopped = False
        self._is_over = False  # since its time is
        self._was_cut = False  # whether something was interrupted in training

    def run(self, executor: Executor) -> None:
        """Train the best configurations again, and with further seeds those that cannot be told apart.

        Raises:
            TrialCodeError: The user's code raised.
        """
        best = best_configurations(self._records, self._confirm.top, self._objective.direction)
        count = self._confirm.seeds
        if not best or not count:
            return
        seconds = count * sum(_seconds(each) for each in best)
        limit = "" if self._confirm.seconds is None else f", at most {self._confirm.seconds:.15g} s"
        _log.info("confirming the best %d with %d other seeds: about %.0f s%s", len(best), count, seconds, limit)
        self._train(executor, best, self._seeds[:count])
        while not self.interrupted and count < self._confirm.most_seeds:
            found = self._standing()
            if found is None or not found.is_tie:
                break
            tied = [each.record for each in found.tied]
            further = self._seeds[count : count + self._confirm.seeds]
            _log.info("%d cannot be told apart: %d further seeds", len(tied), len(further))
            self._train(executor, tied, further)
            count += len(further)
        if not self.interrupted:
            self._checkpoints.sweep_confirmations()

    def interrupt(self, why: str) -> None:
        """Begin nothing more; what trains is interrupted, and taken up again when the study goes on."""
        _log.debug("confirmation %s", why)
        self._is_stopped = True

    @property
    def interrupted(self) -> bool:
        """Whether what trains must stop at the next batch: when told so, and when the time is up."""
        limit = self._confirm.seconds
        if not self._is_stopped and limit is not None and self._clock() - self._begun_at >= limit:
            self._end_in_time()
        return self._is_stopped

    # What the executor calls.

    def next_trial(self) -> Trial | None:
        """The next of the pile."""
        if self.interrupted or not self._pile:
            return None
        record = replace(self._pile.pop(0), started=datetime.now(UTC))
        number = next(self._numbers)
        self._running[number] = _Running(record)
        self._tracker.trial_started(record)
        return Trial(number, record.config, self._checkpoint(record), self._trial_folder(*_identity(record)))

    def resumed(self, number: int, epochs: Sequence[Epoch]) -> None:
        """Take in what an earlier run measured of it."""
        for epoch in epochs:
            add_epoch(self._running[number].curves, epoch)
        self._tracker.trial_advanced(self._story(number))

    def judge(self, epoch: Epoch) -> Reason | None:
        """Write an epoch down; only one that diverged is stopped."""
        running = self._running[epoch.number]
        running.divergence = self._objective.divergence(epoch.metrics, running.curves)
        add_epoch(running.curves, epoch)
        running.logged = running.logged.followed_by(epoch.logged)
        self._tracker.trial_advanced(self._story(epoch.number))
        if running.divergence is not None:
            return Reason.DIVERGED
        return Reason.INTERRUPTED if self.interrupted else None

    def ended(self, end: End) -> None:
        """Write the end down.

        Raises:
            TrialCodeError: The user's code raised.
            UserError: The metric was never logged.
        """
        running = self._running.pop(end.number)
        curve = running.curves.get(self._objective.metric)
        value = None if curve is None else self._objective.best_of(curve)
        if end.reason == Reason.COMPLETED and value is None:
            if curve is None:
                raise unmeasured(self._objective.metric, running.curves)
            running.divergence = f"{self._objective.metric} is no number in any epoch"
            end = replace(end, reason=Reason.DIVERGED)
        record = replace(
            running.record,
            state=end.reason.state,
            reason=end.reason,
            objective=value if end.reason == Reason.COMPLETED else None,
            curves=running.curves,
            cost=end.cost,
            ended=datetime.now(UTC),
            error=running.divergence if end.reason == Reason.DIVERGED else end.said,
        )
        logged = running.logged.followed_by(end.logged)
        self._was_cut = self._was_cut or end.reason == Reason.INTERRUPTED
        if self._round is not None and end.reason not in (Reason.ERROR, Reason.INTERRUPTED):
            self._round.append((record, logged))
        else:
            self._write(record, logged)
        if end.reason == Reason.ERROR:
            raise TrialCodeError(record) from end.error

    # How it does it.

    def _train(self, executor: Executor, records: Sequence[Record], seeds: Sequence[int]) -> None:
        # Seed by seed, so that an interrupted confirmation has compared all on the seeds it came to.
        if self._confirm.seconds is None:
            self._pile = self._missing(records, seeds)
            if self._pile:
                executor.run(self)
            return
        longest = 0.0
        for seed in seeds:
            begun = self._clock()
            if begun + longest > self._begun_at + self._confirm.seconds:
                self._end_in_time()
            if self.interrupted:
                return
            self._pile, self._round = self._missing(records, [seed]), []
            try:
                if self._pile:
                    executor.run(self)
            finally:
                self._close_round()
            longest = max(longest, self._clock() - begun)

    def _missing(self, records: Sequence[Record], seeds: Sequence[int]) -> list[Record]:
        again = [_again(record, seed) for seed in seeds for record in records]
        return [each for each in again if _identity(each) not in self._kept]

    def _end_in_time(self) -> None:
        _log.info("ended: confirm.seconds=%.15g is used up", self._confirm.seconds)
        self._is_over = self._is_stopped = True

    def _close_round(self) -> None:
        """Write down what ended in a round; one that the time cut off counts for none, and is trained anew later."""
        ended, self._round = self._round or [], None
        for record, logged in ended:
            if self._is_over and (self._pile or self._was_cut):
                record = replace(record, state=State.WAITING, reason=Reason.INTERRUPTED, objective=None)
            self._write(record, logged)

    def _write(self, record: Record, logged: Logged) -> None:
        if record.reason not in (Reason.ERROR, Reason.INTERRUPTED):
            self._ledger.confirm(record)
            self._kept[_identity(record)] = record
            _log.info("%s", record.line)
        if record.reason != Reason.INTERRUPTED:
            self._checkpoints.drop(self._checkpoint(record))
        self._tracker.trial_ended(replace(record, logged=logged))

    def _checkpoint(self, record: Record) -> Path:
        return self._checkpoints.of_confirmation(*_identity(record))

    def _story(self, number: int) -> Record:
        """What is trained, with the curves it has so far."""
        running = self._running[number]
        curves = {name: tuple(values) for name, values in running.curves.items()}
        return replace(running.record, curves=curves, logged=running.logged)

    def _standing(self) -> Standing | None:
        return standing(self._records, list(self._kept.values()), self._objective)


def best_configurations(records: Iterable[Record], top: int, direction: str) -> list[Record]:
    """The best trials that were trained to their end, from the best on, no two of them the same but for the seed."""
    complete = [each for each in records if each.state == State.COMPLETE and each.objective is not None]
    sign = -1 if direction == "maximize" else 1
    complete.sort(key=lambda each: (sign * (each.objective or 0.0), each.number))
    distinct: dict[str, Record] = {}
    for each in complete:
        distinct.setdefault(_without_seed(each.config), each)
    return list(distinct.values())[:top]


def _seconds(record: Record) -> float:
    """How long a trial was trained, as far as it had the machine to itself."""
    if "cost/epoch_seconds" in record.cost:
        return record.cost["cost/epoch_seconds"] * record.epochs
    return 0.0 if record.ended is None else (record.ended - record.started).total_seconds()


def _again(record: Record, seed: int) -> Record:
    """A trial's config with another seed, not trained yet."""
    config = {**record.config, "seed": seed}
    return replace(
        record,
        name=naming.confirmation(record.number, seed, config, record.params),
        state=State.RUNNING,
        reason=None,
        stage="confirm",
        config=config,
        objective=None,
        curves={},
        cost={},
        ended=None,
        error=None,
    )


def _identity(record: Record) -> tuple[int, int]:
    return record.number, record.config["seed"]


def _without_seed(config: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in config.items() if key != "seed"}
    return json.dumps(rest, sort_keys=True, default=str)
