"""The mirror of a study in MLflow, written by a thread of its own so that training never waits for it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

from autotune.errors import UserError
from autotune.tracking.entries import mask, milliseconds
from autotune.tracking.mirror import Beginning, Ending, Mirror, is_final
from autotune.tracking.store import Store
from autotune.trial import Record, State

_log = logging.getLogger(__name__)

# `close` waits on while the writer gets on with it, and gives up after so many seconds in which nothing was written,
# or so many in all.
PATIENCE = 10.0
LONGEST = 60.0
# A trial that trains is written at least so often.
SELDOM_MS = 30_000
# How long the first trial has the interpreter to itself before the writer imports MLflow, which takes seconds of it.
HEAD_START = 1.0
# How long the writer waits before it tries again: doubled each time up to this, and always shortly once `close` waits.
LONGEST_PAUSE = 30.0
LAST_PAUSE = 1.0


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
    def is_over(self) -> bool:
        return self.record.state != State.RUNNING


class MlflowTracker:
    """Writes one parent run a search and one child run a trial (`autotune.tracking.Tracker`).

    What is heard is kept by trial, the newest record only: a trial that began and ended between two flushes is written
    in three calls, however many epochs it had. One that trains on is written when it is `flush_seconds` old and
    whenever it is twice as old as then, at least every 30 s. Where MLflow fails, that is said once; what is not written
    stays kept and is tried again, less and less often.

    Args:
        home: The folder of mlflow.db and artifacts, where `uri` says nothing else.
        uri: See `autotune.tracking.store.Store`.
        experiment: The experiment's name; made where it is missing.
        flush_seconds: How often what is due is written.

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
        self._store = Store(uri, Path(home))
        self._mirror = Mirror(self._store, experiment)
        self._flush_seconds = float(flush_seconds)
        self._flush_ms = int(1000 * flush_seconds)
        self._thread = threading.Thread(target=self._write_on, name="mlflow-mirror", daemon=True)
        self._changed = threading.Condition()  # guards all below
        self._beginning: Beginning | None = None
        self._trials: dict[int, _Trial] = {}  # that train, or are not written to their end
        self._ending: Ending | None = None
        self._is_closing = False
        self._is_given_up = False
        self._has_complained = False
        self._has_begun = False
        self._rejected: set[int] = set()
        self._progress = 0.0

    @property
    def ui_command(self) -> str:
        """The command that shows the runs; a server's address where they are kept by one."""
        return self._store.ui_command

    # What a search calls: each only notes what it hears.

    def search_started(self, study: str, settings: Mapping[str, Any], description: str, resumed: bool) -> None:
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

    def search_ended(
        self,
        best: Record | None,
        states: Mapping[str, int],
        best_history: Sequence[tuple[int, float]],
        files: Sequence[Path],
        status: str,
    ) -> None:
        """Have the outcome written to the parent run, and the run ended with a status."""
        with self._changed:
            self._ending = Ending(best, dict(states), tuple(best_history), tuple(files), status, _now())

    def close(self) -> None:
        """Write what is not yet written; where MLflow does not take it, give up and say so.

        A search whose end was never heard ends as FAILED.
        """
        if self._beginning is None or self._is_closing:
            return
        with self._changed:
            self._is_closing = True
            self._ending = self._ending or Ending(None, {}, (), (), "FAILED", _now())
            self._changed.notify()
        begun = time.monotonic()
        while self._thread.is_alive():
            self._thread.join(0.2)
            now = time.monotonic()
            # Importing MLflow and making the schema, behind others that do the same, take long on a busy machine.
            patience = PATIENCE if self._has_begun or self._has_complained else LONGEST
            if now - max(self._progress, begun) > patience or now - begun > LONGEST:
                self._is_given_up = True
                break
        with self._changed:
            lacking = len(self._trials.keys() | self._rejected)
        if self._is_given_up or self._rejected:
            _log.warning(
                "the mirror in MLflow (%s) is incomplete: %s; the study itself is whole",
                self._store.shown,
                f"{lacking} trials are not written in full" if lacking else "the search's own run is not ended",
            )

    def _hear(self, record: Record) -> None:
        now = _now()
        with self._changed:
            trial = self._trials.get(record.number)
            if trial is None or trial.is_over:
                trial = self._trials[record.number] = _Trial(record, now, now, [], now + self._flush_ms)
            missing = record.epochs - len(trial.epochs)
            if missing > 0:
                trial.epochs += _spread(record, missing, trial.epochs[-1] if trial.epochs else None, now)
            trial.record, trial.heard, trial.is_pending = record, now, True

    # What the writer does.

    def _write_on(self) -> None:
        pause = min(HEAD_START, self._flush_seconds)
        failures = 0
        while not self._is_given_up:
            with self._changed:
                if not self._is_closing:
                    self._changed.wait(pause)
                is_last = self._is_closing
            try:
                with _quiet():
                    self._flush(is_last)
            except Exception as error:  # whatever it is: training goes on without its mirror
                failures = min(failures + 1, 10)
                pause = min(LONGEST_PAUSE, 2.0 ** (failures - 1))
                self._mirror.doubt()
                self._complain("is not written and will be tried again", error)
                if is_last:
                    time.sleep(LAST_PAUSE)
            else:
                failures = 0
                pause = self._flush_seconds
                if is_last:
                    return

    def _flush(self, is_last: bool) -> None:
        """Write all that is pending; raises at the first call that MLflow does not answer."""
        assert self._beginning is not None
        if not self._has_begun:
            self._mirror.open()
            self._advance()
            self._mirror.begin(self._beginning)
            self._has_begun = True
            self._advance()
        while (trial := self._take(is_last)) is not None:
            try:
                self._mirror.write(trial.record, trial.epochs, trial.heard)
                self._rejected.discard(trial.record.number)
            except Exception as error:
                if not is_final(error):
                    self._put_back(trial)
                    raise
                self._rejected.add(trial.record.number)
                self._complain(f"does not take trial {trial.record.number}", error)
            self._drop(trial)
            self._advance()
        if is_last:
            assert self._ending is not None
            self._mirror.end(self._ending)
            self._mirror.close()

    def _advance(self) -> None:
        self._progress = time.monotonic()

    def _take(self, is_last: bool) -> _Trial | None:
        """The next trial to write, as it is now."""
        now = _now()
        with self._changed:
            for trial in self._trials.values():
                if trial.is_pending and (is_last or trial.is_over or trial.due <= now):
                    trial.is_pending = False
                    trial.due = now + min(max(now - trial.begun, self._flush_ms), SELDOM_MS)
                    return replace(trial, epochs=list(trial.epochs))
        return None

    def _put_back(self, trial: _Trial) -> None:
        """Have a trial written again."""
        with self._changed:
            newest = self._trials[trial.record.number]
            newest.is_pending, newest.due = True, 0

    def _drop(self, trial: _Trial) -> None:
        """Forget a trial that is over, unless more was heard of it meanwhile."""
        with self._changed:
            if trial.is_over and self._trials[trial.record.number].record is trial.record:
                del self._trials[trial.record.number]

    def _complain(self, what: str, error: Exception) -> None:
        """Say what is wrong, the first time only."""
        said = mask(" ".join(str(error).split()) or type(error).__name__)
        level = logging.DEBUG if self._has_complained else logging.WARNING
        _log.log(level, "the mirror in MLflow (%s) %s: %s", self._store.shown, what, said[:300])
        self._has_complained = True


@contextmanager
def _quiet() -> Iterator[None]:
    """Within it, what reports each failed call keeps quiet in this thread: the tracker says it once."""
    here = threading.get_ident()

    def elsewhere(record: logging.LogRecord) -> bool:
        return record.thread != here

    loggers = [logging.getLogger(name) for name in ("urllib3.connectionpool", "mlflow.store.db.utils")]
    for logger in loggers:
        logger.addFilter(elsewhere)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(elsewhere)


def _spread(record: Record, missing: int, last: int | None, now: int) -> list[int]:
    """When epochs ended that were not heard one by one: evenly between the last one heard and now."""
    begun = milliseconds(record.started) if last is None else last
    ended = now if record.ended is None else milliseconds(record.ended)
    return [begun + (ended - begun) * epoch // missing for epoch in range(1, missing + 1)]


def _now() -> int:
    return time.time_ns() // 1_000_000
