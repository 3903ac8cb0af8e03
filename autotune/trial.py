"""The words the parts speak to each other: what is to be trained, what it measured, how it ended.

A coordinator hands out `Trial`s, an executor answers with `Epoch`s and one `End` each, and a `Record` is the whole
story of one trial as trackers and reports read it. Nothing here knows Optuna, Lightning or MLflow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from autotune.errors import in_one_line


class Reason(StrEnum):
    """Why a trial is over."""

    COMPLETED = "completed"
    PRUNED = "pruned"
    DIVERGED = "diverged"
    OOM = "oom"
    INTERRUPTED = "interrupted"
    ERROR = "error"

    @property
    def state(self) -> State:
        """The state that a trial ends in for this reason."""
        return _STATES[self]


class State(StrEnum):
    """Optuna's names for the state of a trial; WAITING is one that was interrupted and will be run again."""

    RUNNING = "RUNNING"
    WAITING = "WAITING"
    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAIL = "FAIL"


_STATES = {
    Reason.COMPLETED: State.COMPLETE,
    Reason.PRUNED: State.PRUNED,
    Reason.DIVERGED: State.PRUNED,
    Reason.OOM: State.FAIL,
    Reason.ERROR: State.FAIL,
    Reason.INTERRUPTED: State.WAITING,  # run again when the study goes on
}


@dataclass(frozen=True, slots=True)
class Trial:
    """A resolved config to be trained.

    Attributes:
        number: Its number in the study.
        config: Plain containers and scalars, no search value or interpolation left. Has at least the sections data,
            model, optimizer, schedule, objective and trainer, and an integer seed.
        checkpoint: The file in which an executor keeps its state while it trains, and finds that of an earlier run;
            None where it is not kept.
        folder: Where the user's callbacks and loggers write their files, made by the first that writes one; None where
            they have no place.
    """

    number: int
    config: Mapping[str, Any]
    checkpoint: Path | None = None
    folder: Path | None = None

    def __post_init__(self) -> None:
        if self.number < 0:
            raise ValueError(f"a trial's number is not negative: {self.number=}")
        missing = {"data", "model", "optimizer", "schedule", "objective", "trainer", "seed"} - set(self.config)
        if missing:
            raise ValueError(f"a resolved config has the sections {sorted(missing)} too")


@dataclass(frozen=True, slots=True)
class LoggedValue:
    """One value that a module logged through its logger.

    Attributes:
        name: Of the metric.
        value: May be NaN or infinite.
        step: As Lightning counts them: updates so far, unless the module says something else.
        time: ms since 1970.
    """

    name: str
    value: float
    step: int
    time: int


@dataclass(frozen=True, slots=True)
class Logged:
    """What a module logged through its logger, besides the metrics of its epochs.

    Attributes:
        values: In the order they were logged.
        hyperparameters: As text, by name.
        files: Paths in the trial's artifacts to files on this machine.
    """

    values: tuple[LoggedValue, ...] = ()
    hyperparameters: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.values or self.hyperparameters or self.files)

    def followed_by(self, later: Logged) -> Logged:
        """All that was logged, once more is; files are those of the later one, which knows them all."""
        if not later:
            return self
        hyperparameters = {**self.hyperparameters, **later.hyperparameters}
        return Logged(self.values + later.values, hyperparameters, later.files or self.files)


NOTHING_LOGGED = Logged()


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one trial measured in one epoch.

    Attributes:
        number: The trial's number.
        epoch: Counted from 0.
        metrics: ``train/loss``, ``val/loss``, ``val/<metric>``, ``lr`` (the epoch's last learning rate). A value may
            be NaN or infinite: the coordinator judges that.
        logged: What was logged through the module's logger since the last epoch.
        is_last: Whether the training ends with it by itself, as by ``trainer.max_steps`` or a callback.
    """

    number: int
    epoch: int
    metrics: Mapping[str, float]
    logged: Logged = NOTHING_LOGGED
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class End:
    """How a trial ended.

    Attributes:
        number: The trial's number.
        reason: Why.
        cost: What the model is judged by besides its score, see `autotune.cost.Cost`; empty where nothing was measured.
        error: What the user's code raised (reason ERROR) or the allocator said (reason OOM).
        logged: What was logged through the module's logger since its last epoch.
    """

    number: int
    reason: Reason
    cost: Mapping[str, float] = field(default_factory=dict)
    error: BaseException | None = None
    logged: Logged = NOTHING_LOGGED

    @property
    def said(self) -> str | None:
        """The error in one line; None where there is none."""
        return None if self.error is None else in_one_line(self.error)


@dataclass(frozen=True, slots=True)
class Chance:
    """What a guess that knows only the training targets reaches on the validation part.

    Attributes:
        metric: ``val/accuracy``, the guess being the most frequent class, or ``val/rmse``, the guess being the mean.
        level: What the guess reaches.
        samples: How many it is judged on.
        error: The standard error of the level, of ``val/rmse``; unused for a share, whose spread is binomial.
    """

    metric: str
    level: float
    samples: int
    error: float = 0.0


class TrialCodeError(Exception):
    """The user's code raised while a trial was trained; it stops the search.

    Args:
        record: The trial, its resolved config included.
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        super().__init__(f"trial {record.number} raised {record.error}")


class Desk(Protocol):
    """The coordinator, as an executor sees it. Called from the executor's own thread only."""

    @property
    def interrupted(self) -> bool:
        """Whether everything that trains must stop at the next batch and end as INTERRUPTED."""

    def next_trial(self) -> Trial | None:
        """The next trial to train, or None when there is nothing more to start, or not beside those in training."""

    def resumed(self, number: int, epochs: Sequence[Epoch]) -> None:
        """Hear that a trial goes on behind these epochs, its first, which an earlier run trained and judged."""

    def judge(self, epoch: Epoch) -> Reason | None:
        """Hear an epoch; None means go on, a reason means stop and end with it.

        Raises:
            UserError: The objective's metric is not among those measured. Executors let it pass.
        """

    def ended(self, end: End) -> None:
        """Hear how a trial ended. Raises what stops the search (an ERROR of the user's code)."""


def add_epoch(curves: dict[str, list[float]], epoch: Epoch) -> None:
    """Put what an epoch measured behind what those before it did."""
    for name in curves.keys() | epoch.metrics.keys():
        # A metric that is not logged in an epoch, the first ones maybe, has no value there.
        curve = curves.setdefault(name, [math.nan] * epoch.epoch)
        curve.append(epoch.metrics.get(name, math.nan))


class Executor(Protocol):
    """Trains resolved configs. Knows neither Optuna nor MLflow.

    Attributes:
        name: What it is called in summary.json.
    """

    name: str

    def refuses(self, config: Mapping[str, Any]) -> str | None:
        """Why this resolved config cannot work, found out without training; None where it can."""

    def chance(self, config: Mapping[str, Any]) -> Chance | None:
        """What guessing reaches on the data of a resolved config; None where that is not known."""

    def luck(self, config: Mapping[str, Any], epochs: int, stop: Callable[[], bool]) -> float | None:
        """How likely a trial's answers after so many epochs, dealt out to the validation rows at random, do as well.

        The trial is trained again, until `stop` says otherwise; None where that is not known.
        """

    def rehearse(self, config: Mapping[str, Any]) -> None:
        """Build what a resolved config says and train nothing.

        Raises:
            UserError: It cannot be built.
        """

    def run(self, desk: Desk) -> None:
        """Train what the desk hands out until it has no more and every trial that was begun has ended."""


@dataclass(frozen=True, slots=True)
class Record:
    """The whole story of one trial, as trackers and reports read it.

    Attributes:
        number: Its number in the study.
        name: Tells the strategy: ``t0007 adam lr 3e-3 b128 bn cosine``.
        family: The optimizer's name.
        state: Optuna's state.
        reason: None while it runs.
        stage: ``search``; later stages name themselves.
        params: The sampled values, by parameter name (``optimizer.sgd.lr``).
        config: The resolved config.
        objective: The value told to the study; None where there is none.
        curves: Metric name to its value at each epoch, from epoch 0 on; all of one length.
        cost: See `End.cost`.
        started: Timezone-aware.
        ended: Timezone-aware; None while it runs.
        error: One line, where the trial failed.
        would_stop: After how many epochs the pruner would have stopped the trial, which was trained to its end to find
            out whether it errs; None where it would not have, or did.
        logged: What the module logged through its logger in this run of the search; the study does not keep it.
    """

    number: int
    name: str
    family: str
    state: State
    reason: Reason | None
    stage: str
    params: Mapping[str, Any]
    config: Mapping[str, Any] = field(repr=False)
    objective: float | None
    curves: Mapping[str, Sequence[float]] = field(repr=False)
    cost: Mapping[str, float] = field(repr=False)
    started: datetime
    ended: datetime | None = None
    error: str | None = None
    would_stop: int | None = None
    logged: Logged = NOTHING_LOGGED

    @property
    def epochs(self) -> int:
        """How many epochs were trained."""
        return max((len(values) for values in self.curves.values()), default=0)

    @property
    def line(self) -> str:
        """How it ended, for the log."""
        value = "" if self.objective is None else f"{self.objective:.4g}"
        seconds = "" if self.ended is None else f"{(self.ended - self.started).total_seconds():.1f} s"
        return f"{self.name:<44} {value:>8}  {self.reason} after {self.epochs} epochs, {seconds}"
