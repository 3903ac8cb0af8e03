"""A search as it goes, drawn at the bottom of the terminal: budget, best so far, families, slots, states."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from autotune import naming
from autotune.errors import UserError
from autotune.kept.ledger import LedgerView, trained_epochs
from autotune.logs import measuring, off_the_terminal
from autotune.settings import Settings
from autotune.tracking import Ending, Study, Tracker
from autotune.trial import Reason, Record, State

MODES = ("auto", True, False)
PICTURES_A_SECOND = 4
LATEST = 6  # lines of the log that are kept in view
RECENT = 64  # entries that the pace is measured over
ECHO = 4  # columns left behind the last line, so that a terminal that shows ^C^C begins no line of its own by it
WIDE = 72  # columns from which headings are written out
MOST_WIDE = 120

# Whose lines tell of single trials; there may be thousands, so they pass within the view.
TELLERS = ("autotune.study", "autotune.confirm")


@dataclass(slots=True)
class Family:
    """What came of the trials of one optimizer."""

    trials: int = 0
    completed: int = 0
    pruned: int = 0
    lost: int = 0
    best: float | None = None
    rate: Any = None


@dataclass(slots=True)
class _Stage:
    """What is under way: how much of it has ended, and when the latest did.

    Attributes:
        recent: When it began, then when trials ended and how many: those that end within a second count as one entry,
            since the trials of a lane end at once.
    """

    in_training: int = 0
    ended: int = 0
    most_at_once: int = 0
    recent: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=RECENT))

    def end(self, now: float) -> None:
        """Count the end of a trial."""
        self.ended += 1
        if len(self.recent) > 1 and now - self.recent[-1][0] < 1:
            self.recent[-1] = (self.recent[-1][0], self.recent[-1][1] + 1)
        else:
            self.recent.append((now, 1))

    def pace(self, now: float) -> float | None:
        """Trials a second, by the latest ends; None where none has ended yet."""
        passed = now - self.recent[0][0] if self.recent else 0.0
        ended = sum(count for _, count in self.recent) - self.recent[0][1] if self.recent else 0
        return ended / passed if ended and passed > 0 else None


class Tally:
    """The running sums of a search; hears what a `Tracker` hears, from one thread, while another draws.

    Args:
        settings: What the search is run by.
        ledger: The study as it was when this run began.
        clock: Seconds, monotonic.
    """

    def __init__(self, settings: Settings, ledger: LedgerView, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self.lock = threading.Lock()
        self.families: dict[str, Family] = {}
        self.outcomes = dict.fromkeys([*Reason], 0)
        self.best: Record | None = None
        self.latest: deque[str] = deque(maxlen=LATEST)
        self.search, self.confirmation = _Stage(), _Stage()
        self._clock = clock
        self._spent = ledger.seconds
        self._begun_at = clock()
        self._left_over: set[int] = set()
        self._known_epochs: dict[int, int] = {}  # of trials left over from earlier runs, which are trained again
        self.epochs = 0
        for trial, record in zip(ledger.trials(), ledger.records(), strict=True):
            self.epochs += trained_epochs(trial)
            if record.state in (State.RUNNING, State.WAITING):
                self._left_over.add(record.number)
                self._known_epochs[record.number] = trained_epochs(trial)
            else:
                self.search.ended += 1
                self._count(record)
        self._earlier_epochs = self.epochs

    @property
    def seconds(self) -> float:
        """How long the study has been searched, over all runs."""
        return self._spent + self._clock() - self._begun_at

    @property
    def stage(self) -> _Stage:
        """The stage under way."""
        return self.confirmation if self.is_confirming else self.search

    @property
    def is_confirming(self) -> bool:
        """Whether the best are being trained again."""
        return self.confirmation.in_training + self.confirmation.ended > 0

    @property
    def left_over(self) -> int:
        """Trials of earlier runs that wait to be taken up."""
        return len(self._left_over)

    @property
    def pace(self) -> float | None:
        """Trials a second of the stage under way, by the latest ends; None where none has ended in this run."""
        return self.stage.pace(self._clock())

    @property
    def to_confirm(self) -> tuple[int, int]:
        """How many trainings the confirmation has at first, and at most."""
        confirm = self.settings.confirm
        top = min(confirm.top, self.outcomes[Reason.COMPLETED])
        return top * confirm.seeds, top * max(confirm.seeds, confirm.most_seeds)

    def time_left(self) -> float | None:
        """Seconds until the stage under way ends by the pace so far; None where that is not known."""
        pace = self.pace
        if self.is_confirming:
            first, most = self.to_confirm
            left = (first if self.confirmation.ended < first else most) - self.confirmation.ended
            return None if pace is None else max(0, left) / pace
        return min((each for each in self.times_left().values() if each is not None), default=None)

    def times_left(self) -> dict[str, float | None]:
        """For each limit of the budget the seconds until it is used up, None where that is not known."""
        budget, pace = self.settings.budget, self.pace
        passed = self._clock() - self._begun_at
        trained = self.epochs - self._earlier_epochs
        left: dict[str, float | None] = {}
        if budget.trials is not None:
            left["trials"] = None if pace is None else max(0, budget.trials - self.search.ended) / pace
        if budget.seconds is not None:
            left["seconds"] = max(0.0, budget.seconds - self.seconds)
        if budget.epochs is not None:
            left["epochs"] = max(0, budget.epochs - self.epochs) * passed / trained if trained else None
        return left

    def started(self, record: Record) -> None:
        """Hear that a trial begins."""
        with self.lock:
            stage = self._stage_of(record)
            if not stage.recent:
                stage.recent.append((self._clock(), 0))
            stage.in_training += 1
            stage.most_at_once = max(stage.most_at_once, stage.in_training)
            if stage is self.search:
                self._left_over.discard(record.number)
                self._family(record).trials += 1

    def advanced(self, record: Record) -> None:
        """Hear of a trial's next epoch."""
        with self.lock:
            if self._stage_of(record) is self.search and record.epochs > self._known_epochs.get(record.number, 0):
                self.epochs += 1

    def ended(self, record: Record) -> None:
        """Hear how a trial ended."""
        with self.lock:
            stage = self._stage_of(record)
            stage.in_training -= 1
            if record.reason == Reason.INTERRUPTED:
                self.outcomes[Reason.INTERRUPTED] += stage is self.search
                return
            stage.end(self._clock())
            if stage is self.confirmation:
                return
            self._known_epochs.pop(record.number, None)
            self._family(record).trials -= 1
            self._count(record)

    def heard(self, line: str) -> None:
        """Hear a line of the log."""
        with self.lock:
            self.latest.append(line)

    def _stage_of(self, record: Record) -> _Stage:
        return self.search if record.stage == "search" else self.confirmation

    def _family(self, record: Record) -> Family:
        return self.families.setdefault(record.family, Family())

    def _count(self, record: Record) -> None:
        assert record.reason is not None
        objective, value = self.settings.objective, record.objective
        family = self._family(record)
        self.outcomes[record.reason] += 1
        family.trials += 1
        family.completed += record.reason == Reason.COMPLETED
        family.pruned += record.reason == Reason.PRUNED
        family.lost += record.reason not in (Reason.COMPLETED, Reason.PRUNED)
        if value is None or record.state != State.COMPLETE:
            return
        if family.best is None or objective.better(value, family.best):
            family.best, family.rate = value, record.config["optimizer"].get("lr")
        if self.best is None or self.best.objective is None or objective.better(value, self.best.objective):
            self.best = record


class Picture:
    """A tally as it is drawn, in as many columns and rows as the terminal has.

    Lines of text, not rich's tables and bars: laying those out takes several times as long, and training waits for it.

    Args:
        tally: The running sums.
    """

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, rows = min(options.max_width, MOST_WIDE), options.size.height - 1
        with self._tally.lock:
            lines = self.lines(width, rows, options.ascii_only)
        for line in lines:
            line.truncate(width, overflow="ellipsis")
        lines[-1].truncate(width - ECHO, overflow="ellipsis")
        yield Text("\n", no_wrap=True).join(lines)

    def lines(self, width: int, rows: int, ascii_only: bool = False) -> list[Text]:
        """The lines, no more than the rows where that can be, some wider than the columns."""
        tally = self._tally
        top = [_head(tally), *_bars(tally, width, ascii_only), *_best(tally, width, rows)]
        free = rows - len(top) - 3  # but for slots, states and the table's headings
        families = min(len(tally.families), max(3, free - min(len(tally.latest), LATEST)))
        latest = list(tally.latest)[-max(1, free - families) :]
        below = [Text(_fitted(line, width), style="dim") for line in latest]
        return [*top, *_families(tally, width, families), *_states(tally), *below]


def _head(tally: Tally) -> Text:
    doing = "confirming the best" if tally.is_confirming else f"searching {tally.settings.objective.metric}"
    said = Text.assemble((tally.settings.name, "bold"), f"  {doing}  ", (duration(tally.seconds), "dim"))
    left = tally.time_left()
    if left is not None:
        then = ", then the best again" if tally.to_confirm[0] and not tally.is_confirming else ""
        said.append(f", about {duration(left)} left{then}", "dim")
    return said


def _bars(tally: Tally, width: int, ascii_only: bool) -> Iterator[Text]:
    budget, left = tally.settings.budget, tally.times_left()
    if tally.is_confirming:
        first, most = tally.to_confirm
        done = tally.confirmation.ended
        of = first if done < first else most
        yield _bar("confirmed", done, of, f"{done} of {'at most ' if of > first else ''}{of}", width, ascii_only)
        return
    limits: list[tuple[str, float, float | None, Callable[[float], str]]] = [
        ("trials", tally.search.ended, budget.trials, str),
        ("seconds", tally.seconds, budget.seconds, duration),
        ("epochs", tally.epochs, budget.epochs, str),
    ]
    for name, used, limit, show in limits:
        if limit is not None:
            seconds = left[name]
            until = "" if seconds is None or len(left) == 1 else f", {duration(seconds)} left"
            yield _bar(name, used, limit, f"{show(used)} of {show(limit)}{until}", width, ascii_only)


def _bar(name: str, done: float, of: float, said: str, width: int, ascii_only: bool) -> Text:
    length = max(10, min(50, width - 11 - 2 - 36))
    full = min(length, int(length * done / of)) if of > 0 else 0
    mark = "#" if ascii_only else "━"
    rest = "-" if ascii_only else "─"  # told apart without colours too
    return Text.assemble(f"{name:<11}", (mark * full, "cyan"), (rest * (length - full), "bright_black"), f"  {said}")


def _best(tally: Tally, width: int, rows: int) -> list[Text]:
    best = tally.best
    if best is None:
        return [Text("best       none trained to its end yet", style="dim")]
    lines = [""]
    for said in (f"{name}={_short(value)}" for name, value in best.params.items()):
        if lines[-1] and len(lines[-1]) + len(said) + 2 > width - 11:
            lines.append("")
        lines[-1] += f"  {said}" if lines[-1] else said
    most = 2 if rows < 24 else 4
    if len(lines) > most:
        lines[most - 1] += "  ..."
    value = (f"{best.objective:.6g}", "bold green")
    head = Text.assemble("best       ", value, f"  trial {best.number}  {naming.strategy(best.config, best.params)}")
    return [head, *(Text(f"{'':11}{line}") for line in lines[:most] if line)]


def _families(tally: Tally, width: int, most: int) -> Iterator[Text]:
    is_wide = width >= WIDE
    headings = ("trials", "completed", "pruned", "diverged/failed", "best", "at lr")
    if not is_wide:
        headings = ("trials", "done", "pruned", "lost", "best", "at lr")
    widths = [max(8 if heading in ("best", "at lr") else 6, len(heading)) + 2 * is_wide for heading in headings]

    def line(name: str, cells: Sequence[object], style: str = "") -> Text:
        return Text(
            f"{name:<11}" + " ".join(f"{cell!s:>{size}}" for cell, size in zip(cells, widths, strict=True)), style=style
        )

    yield line("family", headings, "dim")
    sign = -1 if tally.settings.objective.direction == "maximize" else 1
    ranked = sorted(
        tally.families.items(), key=lambda item: (item[1].best is None, sign * (item[1].best or 0.0), item[0])
    )
    for name, family in ranked[:most]:
        best = "" if family.best is None else f"{family.best:.4g}"
        rate = "" if family.rate is None else _short(family.rate)
        yield line(name, (family.trials, family.completed, family.pruned, family.lost, best, rate))


def _states(tally: Tally) -> Iterator[Text]:
    stage, outcomes = tally.stage, tally.outcomes
    what = "trainings" if tally.is_confirming else "trials"
    pace = "" if tally.pace is None else f", {written_out(60 * tally.pace)} {what} a minute"
    yield Text.assemble("slots      ", (f"{stage.in_training} busy", "bold"), f", {stage.most_at_once} at most{pace}")
    counted = [
        (tally.search.in_training, "running"),
        (tally.left_over, "left over"),
        (outcomes[Reason.COMPLETED], "completed"),
        (outcomes[Reason.PRUNED], "pruned"),
        (outcomes[Reason.DIVERGED], "diverged"),
        (outcomes[Reason.OOM] + outcomes[Reason.ERROR], "failed"),
        (outcomes[Reason.INTERRUPTED], "interrupted"),
    ]
    yield Text(f"{'states':11}{', '.join(f'{count} {name}' for count, name in counted if count)}")


def _fitted(line: str, width: int) -> str:
    """A line of the log, without the white space that lines its parts up where that leaves too little room."""
    return line if len(line) <= width else " ".join(line.split())


def duration(seconds: float) -> str:
    """A time as people say it: 45 s, 12 min 05 s, 3 h 07 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def written_out(number: float) -> str:
    """A number by its first three digits, as people write it: 0.4, 15.3, 8,560."""
    return f"{Decimal(f'{number:.3g}'):,f}"


def _short(value: Any) -> str:
    return naming.short(value) if isinstance(value, float) and value != 0 else str(value)


class Watched:
    """A tracker, with a tally that hears of the trials too.

    Args:
        tracker: What mirrors the study.
        tally: What is drawn.
    """

    def __init__(self, tracker: Tracker, tally: Tally) -> None:
        self._tracker = tracker
        self._tally = tally

    @property
    def ui_command(self) -> str:
        """The tracker's."""
        return self._tracker.ui_command

    def search_started(self, study: Study, settings: Mapping[str, Any], description: str, resumed: bool) -> None:
        """Tell the tracker."""
        self._tracker.search_started(study, settings, description, resumed)

    def trial_started(self, record: Record) -> None:
        """Tell both."""
        with measuring("the view of the search"):
            self._tally.started(record)
        self._tracker.trial_started(record)

    def trial_advanced(self, record: Record) -> None:
        """Tell both."""
        with measuring("the view of the search"):
            self._tally.advanced(record)
        self._tracker.trial_advanced(record)

    def trial_ended(self, record: Record) -> None:
        """Tell both."""
        with measuring("the view of the search"):
            self._tally.ended(record)
        self._tracker.trial_ended(record)

    def search_ended(self, ending: Ending) -> None:
        """Tell the tracker."""
        self._tracker.search_ended(ending)

    def close(self) -> None:
        """Tell the tracker."""
        self._tracker.close()

    def abandon(self) -> None:
        """Tell the tracker."""
        self._tracker.abandon()


def check_mode(mode: Any) -> bool | str:
    """The key ``live``; where it is missing it is auto.

    Raises:
        UserError: It is neither auto, true nor false.
    """
    if mode is None or mode == "auto":
        return "auto"
    if not isinstance(mode, bool):
        raise UserError("live", f"{mode} is no way to show a search", "give auto, true or false")
    return mode


def watch(
    mode: bool | str, settings: Settings, ledger: LedgerView, tracker: Tracker
) -> tuple[Tracker, AbstractContextManager[None]]:
    """What a search tells its trials to, and the view of them, in which the search is to be run.

    Args:
        mode: Whether there is a view; auto: where stdout is a terminal that can move its cursor.
        settings: What the search is run by.
        ledger: The study as it is before the search.
        tracker: What mirrors it.
    """
    forced = True if mode is True else None
    console = Console(force_terminal=forced, force_interactive=forced)
    if mode is False or not console.is_interactive:
        return tracker, nullcontext()
    tally = Tally(settings, ledger)
    return Watched(tracker, tally), _drawn(tally, console)


@contextmanager
def _drawn(tally: Tally, console: Console) -> Iterator[None]:
    """Within it the tally is drawn below whatever else is printed; afterwards its last picture stays."""
    picture = Picture(tally)
    live = Live(console=console, get_renderable=lambda: picture, refresh_per_second=PICTURES_A_SECOND)
    _behind.append((sys.stdout, sys.stderr))
    try:
        with off_the_terminal(TELLERS, tally.heard), live:
            yield
    finally:
        _behind.pop()


_behind: list[tuple[TextIO, TextIO]] = []  # what a view has put itself in front of


def _leave_the_view() -> None:
    """Let a forked process, one that reads batches, print past the view, whose locks may be held for ever there."""
    if _behind:
        sys.stdout, sys.stderr = _behind[-1]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_the_view)
