"""The mirror of a study in MLflow, written by a process of its own so that training neither waits for it nor pays."""

from __future__ import annotations

import logging
import shlex
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

from autotune.errors import UserError
from autotune.tracking import Ending, Study
from autotune.tracking.entries import Identity, milliseconds
from autotune.tracking.messages import Failure
from autotune.tracking.mirror import Beginning
from autotune.tracking.remote import FAREWELL, RemoteMirror, WriteError, WriterEndedError
from autotune.tracking.store import Store
from autotune.trial import Record, State

_log = logging.getLogger(__name__)

# `close` waits on while the writer gets on with it, however long, and gives up after so many seconds in which nothing
# was written; one that has not answered yet has to import MLflow and may have to make the schema.
PATIENCE = 10.0
LONGEST = 60.0
# When it is said that the end is waited for.
SAID_AFTER = 10.0
# A trial that trains is written at least so often.
SELDOM_MS = 30_000
# One that has ended waits no longer: what is left for the end of the search is waited for.
ENDED_WITHIN = 1.0
# How long the first trial has the interpreter to itself before the writer imports MLflow, which takes seconds of it.
HEAD_START = 1.0
# How long the writer waits before it tries again: doubled each time up to this, and always shortly once `close` waits.
LONGEST_PAUSE = 30.0
LAST_PAUSE = 1.0
# How many trials are sent to the writer at once.
BATCH = 16
# How often in a row the writer is started again where it ends unasked, before it has written all that was pending.
RESTARTS = 3


@dataclass(slots=True)
class _Trial:
    """What was heard of a trial, times in ms since 1970: its newest record, and when each of its epochs was heard."""

    record: Record
    begun: int
    heard: int
    epochs: list[int]
    due: int  # while it trains: when to write it next
    is_pending: bool = True  # whether its record is not written yet

    @property
    def identity(self) -> Identity:
        return Identity.of(self.record)

    @property
    def is_over(self) -> bool:
        return self.record.state != State.RUNNING


class MlflowTracker:
    """Writes one parent run a search and one child run a trial (`autotune.tracking.Tracker`).

    What is heard is kept by trial, the newest record only: a trial that began and ended between two flushes is written
    in three calls, however many epochs it had, within a second of its end. One that trains on is written when it is
    `flush_seconds` old and whenever it is twice as old as then, at least every 30 s. Where MLflow fails, that is said
    once; what is not written stays kept and is tried again, less and less often. A thread feeds the process that
    writes with what is due, and starts another where that ends unasked.

    Args:
        home: The folder of mlflow.db and artifacts, where `uri` says nothing else.
        uri: See `autotune.tracking.store.Store`.
        experiment: The experiment's name; made where it is missing.
        flush_seconds: How old a trial that trains is when it is written first.

    Raises:
        UserError: An argument is of no use.
    """

    def __init__(
        self, home: Path | str, uri: str | None = None, experiment: str = "autotune", flush_seconds: float = 5.0
    ) -> None:
        if not isinstance(experiment, str) or not experiment.strip():
            raise UserError("tracking.experiment", f"{experiment!r} is no name", "give the experiment's name: autotune")
        if isinstance(flush_seconds, bool) or not isinstance(flush_seconds, int | float) or not 0 < flush_seconds < inf:
            raise UserError("tracking.flush_seconds", f"{flush_seconds!r} is no time", "give seconds above 0")
        self._home = Path(home)
        self._store = Store(uri, self._home)
        self._mirror = RemoteMirror(self._store.uri, Path(home), experiment)
        self._flush_seconds = float(flush_seconds)
        self._flush_ms = int(1000 * flush_seconds)
        self._thread = threading.Thread(target=self._feed, name="mlflow-mirror", daemon=True)
        self._changed = threading.Condition()  # guards all below
        self._beginning: Beginning | None = None
        self._trials: dict[Identity, _Trial] = {}  # that train, or are not written to their end
        self._ending: Ending | None = None
        self._is_closing = False
        self._is_given_up = False
        self._has_complained = False
        self._has_buried = False
        self._has_begun = False
        self._rejected: set[Identity] = set()
        self._progress = 0.0

    @property
    def ui_command(self) -> str:
        """The command that shows the runs; a server's address where they are kept by one."""
        return self._store.ui_command

    # What a search calls: each only notes what it hears.

    def search_started(self, study: Study, settings: Mapping[str, Any], description: str, resumed: bool) -> None:
        """Begin to write."""
        self._beginning = Beginning(study, settings, description, resumed, _now())
        self._thread.start()

    def trial_started(self, record: Record) -> None:
        """Have the trial's run made, or taken up again."""
        self._hear(record)

    def trial_advanced(self, record: Record) -> None:
        """Have the trial's new epochs written."""
        self._hear(record)

    def trial_ended(self, record: Record) -> None:
        """Have the trial's run completed and ended."""
        self._hear(record)

    def search_ended(self, ending: Ending) -> None:
        """Have the outcome written to the parent run, and the run ended with a status."""
        there = tuple(file.absolute() for file in ending.files)
        with self._changed:
            self._ending = replace(ending, files=there)

    def close(self) -> None:
        """Write what is not yet written; where MLflow does not take it, give up and say so.

        A search whose end was never heard ends as FAILED.
        """
        if self._beginning is None or self._is_closing:
            return
        with self._changed:
            self._is_closing = True
            self._ending = self._ending or Ending("FAILED")
            self._changed.notify()
        begun, is_said = time.monotonic(), False
        while self._thread.is_alive():
            self._thread.join(0.2)
            now = time.monotonic()
            # Importing MLflow and making the schema, behind others that do the same, take long on a busy machine.
            patience = PATIENCE if self._mirror.has_answered else LONGEST
            if now - begun > SAID_AFTER and not is_said and self._lacking:
                is_said = True
                _log.info("the last %d trials are being written to MLflow (%s)", self._lacking, self._store.shown)
            if now - max(self._progress, begun) > patience:
                self._is_given_up = True
                self._mirror.kill()
                self._thread.join(LAST_PAUSE + 2 * FAREWELL)
                break
        lacking = self._lacking
        if self._is_given_up or self._rejected:
            _log.warning(
                "the mirror in MLflow (%s) is incomplete: %s; the study itself is whole, and this writes the rest: %s",
                self._store.shown,
                f"{lacking} trials are not written in full" if lacking else "the search's own run is not ended",
                self._sync_command(),
            )

    @property
    def _lacking(self) -> int:
        """How many trials are not written to their end."""
        with self._changed:
            return len(self._trials.keys() | self._rejected)

    def _sync_command(self) -> str:
        """The command that writes what is missing."""
        assert self._beginning is not None
        home = [] if self._home == Path("mlruns") else [f"home={self._home}"]
        return shlex.join(["python", "-m", "autotune.sync", f"from={self._beginning.study.name}", *home])

    def abandon(self) -> None:
        """End the writer at once; what is not written yet is left to whoever has the study now."""
        if self._beginning is not None:
            self._is_closing = self._is_given_up = True
            self._mirror.kill()
            with self._changed:
                self._changed.notify()
            self._thread.join(LAST_PAUSE + 2 * FAREWELL)

    def _hear(self, record: Record) -> None:
        now, identity = _now(), Identity.of(record)
        with self._changed:
            trial = self._trials.get(identity)
            if trial is None or trial.is_over:
                trial = self._trials[identity] = _Trial(record, now, now, [], now + self._flush_ms)
            missing = record.epochs - len(trial.epochs)
            if missing > 0:
                trial.epochs += spread(record, missing, trial.epochs[-1] if trial.epochs else None, now)
            trial.record, trial.heard, trial.is_pending = record, now, True

    # What the thread does.

    def _feed(self) -> None:
        try:
            self._write_on()
        finally:
            self._mirror.drop()

    def _write_on(self) -> None:
        pause = min(HEAD_START, self._flush_seconds)
        failures = restarts = 0
        while not self._is_given_up:
            with self._changed:
                if not self._is_closing:
                    self._changed.wait(pause)
                is_last = self._is_closing
            try:
                self._flush(is_last)
            except Exception as error:  # whatever it is: training goes on without its mirror
                failures = min(failures + 1, 10)
                pause = min(LONGEST_PAUSE, 2.0 ** (failures - 1))
                if isinstance(error, WriterEndedError):
                    self._has_begun = False
                    restarts += 1
                    self._bury(error, restarts)
                else:
                    self._complain("is not written and will be tried again", Failure.of(error, is_final=False).said)
                if is_last:
                    time.sleep(LAST_PAUSE)
            else:
                failures = restarts = 0
                pause = min(ENDED_WITHIN, self._flush_seconds)
                if is_last:
                    return

    def _flush(self, is_last: bool) -> None:
        """Write all that is pending; raises at the first call that MLflow does not answer."""
        assert self._beginning is not None
        if not self._has_begun:
            self._mirror.open(self._beginning.study.name)
            self._advance()
            self._mirror.begin(self._beginning)
            self._has_begun = True
            self._advance()
        while batch := self._take(is_last):
            self._write(batch)
        if is_last:
            assert self._ending is not None
            self._mirror.end(self._ending)
            self._mirror.close()

    def _write(self, batch: list[_Trial]) -> None:
        """Write trials; raises where one may be written later, and has it and those behind it pending again."""
        answers = self._mirror.write([(trial.record, trial.epochs, trial.heard) for trial in batch])
        written = 0
        try:
            for trial, failure in zip(batch, answers, strict=False):  # they end with the first that may work later
                if failure is None:
                    self._rejected.discard(trial.identity)
                elif failure.is_final:
                    self._rejected.add(trial.identity)
                    self._complain(f"does not take {trial.identity}", failure.said)
                else:
                    raise WriteError(failure.said)
                written += 1
                self._drop(trial)
                self._advance()
        finally:
            self._put_back(batch[written:])

    def _advance(self) -> None:
        self._progress = time.monotonic()

    def _take(self, is_last: bool) -> list[_Trial]:
        """The next trials to write, as they are now."""
        now = _now()
        batch = []
        with self._changed:
            for trial in self._trials.values():
                if trial.is_pending and (is_last or trial.is_over or trial.due <= now):
                    trial.is_pending = False
                    trial.due = now + min(max(now - trial.begun, self._flush_ms), SELDOM_MS)
                    batch.append(replace(trial, epochs=list(trial.epochs)))
                    if len(batch) == BATCH:
                        break
        return batch

    def _put_back(self, trials: Sequence[_Trial]) -> None:
        """Have trials written again."""
        with self._changed:
            for trial in trials:
                newest = self._trials[trial.identity]
                newest.is_pending, newest.due = True, 0

    def _drop(self, trial: _Trial) -> None:
        """Forget a trial that is over, unless more was heard of it meanwhile."""
        with self._changed:
            if trial.is_over and self._trials[trial.identity].record is trial.record:
                del self._trials[trial.identity]

    def _complain(self, what: str, said: str) -> None:
        """Say what is wrong, the first time only."""
        level = logging.DEBUG if self._has_complained else logging.WARNING
        _log.log(level, "the mirror in MLflow (%s) %s: %s", self._store.shown, what, said)
        self._has_complained = True

    def _bury(self, end: WriterEndedError, restarts: int) -> None:
        """Say that the writer is gone, the first time only; begun again too often it is given up."""
        if self._is_given_up:
            return
        self._is_given_up = restarts > RESTARTS
        what = "is not started again" if self._is_given_up else "is started again"
        level = logging.DEBUG if self._has_buried and not self._is_given_up else logging.WARNING
        _log.log(level, "the writer of the mirror in MLflow (%s) ended and %s: %s", self._store.shown, what, end)
        self._has_buried = True


def spread(record: Record, missing: int, last: int | None, now: int) -> list[int]:
    """When epochs ended that were not heard one by one: evenly between the last one heard and now."""
    begun = milliseconds(record.started) if last is None else last
    ended = now if record.ended is None else milliseconds(record.ended)
    return [begun + (ended - begun) * epoch // missing for epoch in range(1, missing + 1)]


def _now() -> int:
    return time.time_ns() // 1_000_000
