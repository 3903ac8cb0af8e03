"""The view of a search: what it counts, what it draws in how much room, and that it leaves the terminal in order."""

from __future__ import annotations

import io
import logging
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.storages import InMemoryStorage
from rich.console import Console

from autotune.kept.ledger import Ledger
from autotune.live import Picture, Tally, Watched, check_mode, duration, watch, written_out
from autotune.logs import logging_to
from autotune.settings import Budget, Confirm, Objective, Settings
from autotune.trial import Reason, Record

from .commands import environment, run
from .fakes import FakeTracker
from .tracking.stories import ended, record

ROOT = Path(__file__).parent.parent


def settings(folder: Path, direction: str = "maximize", **budget: Any) -> Settings:
    limits = {"trials": 10, "seconds": None, "epochs": None, **budget}
    objective = Objective("val/accuracy", direction, 0.0, None)
    return Settings("a", 0, (), folder, Budget(**limits), objective, Confirm(2, 3, 9))


def empty(direction: str = "maximize") -> Ledger:
    return Ledger(InMemoryStorage(), None, "a", direction)


class Clock:
    """A clock that stands still until it is put forward."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def tally(folder: Path, clock: Clock | None = None, **budget: Any) -> Tally:
    return Tally(settings(folder, **budget), empty(), clock or Clock())


def of(number: int, family: str = "adam", **changes: Any) -> Record:
    told = record(number, **changes)
    return replace(
        told, family=family, config={**told.config, "optimizer": {"name": family, "lr": 0.01 * (number + 1)}}
    )


def drawn(told: Tally, width: int = 100, height: int = 40) -> list[str]:
    """The picture's lines, without colours."""
    console = Console(file=io.StringIO(), width=width, height=height, legacy_windows=False)
    console.print(Picture(told))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def line(lines: Sequence[str], begin: str) -> str:
    """The one line that begins so, its white space taken together."""
    (found,) = (" ".join(each.split()) for each in lines if each.startswith(begin))
    return found


def train(told: Tally, story: Record, reason: Reason, value: float | None) -> None:
    told.started(story)
    told.ended(ended(story, reason, value))


# What is counted.


def test_nothing_has_happened(tmp_path: Path) -> None:
    lines = drawn(tally(tmp_path))
    assert line(lines, "a ") == "a searching val/accuracy 0 s"
    assert line(lines, "trials").endswith(" 0 of 10")
    assert line(lines, "best") == "best none trained to its end yet"
    assert line(lines, "slots") == "slots 0 busy, 0 at most"


def test_trials_by_state_and_by_family(tmp_path: Path) -> None:
    told = tally(tmp_path)
    train(told, of(0), Reason.COMPLETED, 0.8)
    train(told, of(1), Reason.PRUNED, 0.5)
    train(told, of(2, "sgd"), Reason.COMPLETED, 0.9)
    train(told, of(3, "sgd"), Reason.DIVERGED, 0.0)
    train(told, of(4, "sgd"), Reason.OOM, None)
    train(told, of(5, "sgd"), Reason.INTERRUPTED, None)
    told.started(of(6, "sgd"))
    told.started(of(7, "bgd"))
    lines = drawn(told)
    assert line(lines, "trials").endswith(" 5 of 10")
    assert line(lines, "best").startswith("best 0.9 trial 2 sgd lr 0.03 b64 bn cosine")
    assert "optimizer.adam.lr=0.01 model.batch_norm=True" in " ".join(" ".join(lines).split())
    assert line(lines, "family") == "family trials completed pruned diverged/failed best at lr"
    assert line(lines, "sgd") == "sgd 5 1 0 2 0.9 0.03"
    assert line(lines, "adam") == "adam 2 1 1 0 0.8 0.01"
    assert line(lines, "bgd") == "bgd 1 0 0 0"
    assert line(lines, "slots") == "slots 2 busy, 2 at most"
    assert line(lines, "states") == "states 2 running, 2 completed, 1 pruned, 1 diverged, 1 failed, 1 interrupted"


def test_the_smaller_is_better_where_it_is_to_be_minimized(tmp_path: Path) -> None:
    told = Tally(settings(tmp_path, "minimize"), empty("minimize"), Clock())
    train(told, of(0), Reason.COMPLETED, 0.8)
    train(told, of(1, "sgd"), Reason.COMPLETED, 0.3)
    train(told, of(2, "sgd"), Reason.COMPLETED, 0.4)
    lines = drawn(told)
    assert line(lines, "best").startswith("best 0.3 trial 1 ")
    assert [each.split()[0] for each in lines if each.startswith(("adam", "sgd"))] == ["sgd", "adam"]


def test_the_pace_and_the_time_left(tmp_path: Path) -> None:
    clock = Clock()
    told = tally(tmp_path, clock, trials=11, seconds=100, epochs=40)
    for number in range(3):
        told.started(of(number))
        told.advanced(of(number))
        clock.seconds += 4
        told.ended(ended(of(number), Reason.PRUNED, 0.5))
    lines = drawn(told)
    assert line(lines, "slots").endswith(", 15 trials a minute")
    assert line(lines, "trials").endswith("3 of 11, 32 s left")
    assert line(lines, "seconds").endswith("12 s of 1 min 40 s, 1 min 28 s left")
    assert line(lines, "epochs").endswith("3 of 40, 2 min 28 s left")
    assert line(lines, "a ") == "a searching val/accuracy 12 s, about 32 s left"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.00701, "8,560"), (0.0517, "1,160"), (0.2, "300"), (60, "1"), (150, "0.4"), (7200, "0.00833")],
)
def test_the_pace_is_written_out_at_any_speed(seconds: float, said: str, tmp_path: Path) -> None:
    clock = Clock()
    told = tally(tmp_path, clock)
    for number in range(3):
        told.started(of(number))
        clock.seconds += seconds
        told.ended(ended(of(number), Reason.PRUNED, 0.5))
    assert line(drawn(told), "slots") == f"slots 0 busy, 1 at most, {said} trials a minute"


@pytest.mark.parametrize(("stage", "what"), [("search", "trials"), ("confirm", "trainings")])
@pytest.mark.parametrize("together", [6, 200])
def test_trials_that_end_at_once_are_a_pace_since_they_began(
    together: int, stage: str, what: str, tmp_path: Path
) -> None:
    clock = Clock()
    told = tally(tmp_path, clock)
    records = [of(number, stage=stage) for number in range(together)]
    for each in records:
        told.started(each)
    clock.seconds += 30
    for each in records:
        clock.seconds += 1e-3
        told.ended(ended(each, Reason.COMPLETED, 0.5))
    said = line(drawn(told), "slots")
    assert said == f"slots 0 busy, {together} at most, {written_out(60 * together / clock.seconds)} {what} a minute"


@given(st.floats(1e-9, 1e12))
def test_a_number_that_is_written_out_is_that_number_to_three_digits(number: float) -> None:
    said = written_out(number)
    assert re.fullmatch(r"[1-9]\d{0,2}(,\d{3})*(\.\d+)?|0\.\d+", said)
    assert float(said.replace(",", "")) == float(f"{number:.3g}")


def test_what_earlier_runs_left_is_counted_and_what_was_left_over_only_once(tmp_path: Path) -> None:
    ledger = empty()
    config = {**record().config, "trainer": {"max_epochs": 3}}
    for _ in range(3):
        ledger.begin(config, {}, {})
    ledger.advance(0, 1, 0.5)
    ledger.advance(1, 1, 0.6)
    curves = {"val/accuracy": [0.5]}
    ledger.finish(0, Reason.COMPLETED, 0.5, curves, {}, {}, None)
    ledger.finish(1, Reason.INTERRUPTED, None, curves, {}, {}, None)
    ledger.keep_seconds(60)
    told = Tally(settings(tmp_path, epochs=50), ledger, Clock())
    lines = drawn(told)
    assert line(lines, "trials").endswith(" 1 of 10")
    assert line(lines, "epochs").endswith(" 2 of 50")
    assert line(lines, "states") == "states 2 left over, 1 completed"
    assert line(lines, "a ") == "a searching val/accuracy 1 min 00 s"
    told.started(record(1, ()))
    told.advanced(record(1, [0.6]))
    told.advanced(record(1, [0.6, 0.7]))
    lines = drawn(told)
    assert " 3 of 50" in line(lines, "epochs")
    assert line(lines, "states") == "states 1 running, 1 left over, 1 completed"
    told.ended(ended(record(1), Reason.PRUNED, 0.7))
    assert line(drawn(told), "adam") == "adam 2 1 1 0 0.5 0.01"


def test_the_confirmation_has_a_bar_of_its_own(tmp_path: Path) -> None:
    told = tally(tmp_path)
    for number in range(3):
        train(told, of(number), Reason.COMPLETED, 0.8)
    told.started(of(0, stage="confirm"))
    lines = drawn(told)
    assert line(lines, "a ").startswith("a confirming the best ")
    assert line(lines, "confirmed").endswith(" 0 of 6")
    assert not any(each.startswith("trials") for each in lines)
    told.ended(ended(of(0, stage="confirm"), Reason.COMPLETED, 0.9))
    for number in range(6):
        train(told, of(number, stage="confirm"), Reason.COMPLETED, 0.9)
    lines = drawn(told)
    assert line(lines, "confirmed").endswith(" 7 of at most 18")
    assert line(lines, "states") == "states 3 completed"
    assert line(lines, "best").startswith("best 0.8 trial 0 ")


@given(st.lists(st.tuples(st.sampled_from(["adam", "sgd", "bgd"]), st.sampled_from([*Reason]), st.floats(0, 1))))
def test_every_trial_is_in_one_family_and_in_one_state(
    tmp_path_factory: pytest.TempPathFactory, trials: list[tuple[str, Reason, float]]
) -> None:
    told = tally(tmp_path_factory.mktemp("study"))
    for number, (family, reason, value) in enumerate(trials):
        train(told, of(number, family), reason, value)
    assert sum(family.trials for family in told.families.values()) == len(trials)
    assert sum(told.outcomes.values()) == len(trials)
    assert told.search.in_training == 0
    complete = [value for _, reason, value in trials if reason == Reason.COMPLETED]
    assert (told.best.objective if told.best else None) == (max(complete) if complete else None)


# What is drawn in how much room.


def busy(folder: Path) -> Tally:
    """A tally with much to say."""
    told = tally(folder, seconds=100, epochs=1000)
    names = ["adafactor", "adagrad", "adam", "adamw", "bgd", "muon", "nadam", "radam", "rmsprop", "sgd"]
    for number, name in enumerate(names):
        train(told, of(number, name), Reason.COMPLETED, number / 10)
        told.heard(f"t{number:04d} {name} lr 0.01 b64 bn cosine {'':30} 0.5  completed after 27 epochs, 3.1 s")
    return told


@pytest.mark.parametrize(("width", "height"), [(60, 24), (80, 24), (100, 30), (200, 60)])
def test_it_fits_the_terminal_and_the_best_families_are_among_it(width: int, height: int, tmp_path: Path) -> None:
    lines = drawn(busy(tmp_path), width, height)
    assert len(lines) < height
    assert max(map(len, lines)) <= min(width, 120)
    assert [each.split()[0] for each in lines if each.startswith(("sgd", "rmsprop", "radam"))] == [
        "sgd",
        "rmsprop",
        "radam",
    ]
    assert lines[-1].startswith("t0009 sgd")
    assert line(lines, "states") == "states 10 completed"


def test_where_there_is_little_room_the_worst_families_are_left_out(tmp_path: Path) -> None:
    lines = drawn(busy(tmp_path), 80, 18)
    assert len(lines) < 18
    assert any(each.startswith("sgd") for each in lines)
    assert not any(each.startswith("adafactor") for each in lines)


def test_no_more_than_the_latest_lines_are_kept(tmp_path: Path) -> None:
    told = tally(tmp_path)
    for number in range(1000):
        told.heard(f"said {number}")
    assert [each for each in drawn(told) if each.startswith("said")] == [
        f"said {number}" for number in range(994, 1000)
    ]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (59.6, "1 min 00 s"),
        (61, "1 min 01 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 00 min"),
        (90061, "25 h 01 min"),
    ],
)
def test_times_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said


# Whether there is a view.


@pytest.mark.parametrize("value", ["sometimes", 1.5, "1"])
def test_a_wrong_mode_is_refused(value: object, tmp_path: Path) -> None:
    ended = run("search", f"live={value}", cwd=tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == f"error: live: {value} is no way to show a search; give auto, true or false\n"


def test_no_view_where_stdout_is_no_terminal_or_it_is_not_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker, ledger = FakeTracker(), empty()
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert watch("auto", settings(tmp_path), ledger, tracker)[0] is tracker
    assert watch(False, settings(tmp_path), ledger, tracker)[0] is tracker
    assert isinstance(watch(True, settings(tmp_path), ledger, tracker)[0], Watched)
    assert check_mode(None) == "auto"


def test_the_tracker_hears_all_that_the_view_hears(tmp_path: Path) -> None:
    tracker, told = FakeTracker(), tally(tmp_path)
    watched = Watched(tracker, told)
    story = record(0)
    watched.trial_started(story)
    watched.trial_advanced(story)
    watched.trial_ended(ended(story, Reason.COMPLETED, 0.75))
    assert [len(heard) for heard in (tracker.started, tracker.advanced, tracker.ended)] == [1, 1, 1]
    assert (told.epochs, told.search.ended) == (1, 1)


def test_lines_of_trials_stay_within_the_view_and_all_others_above_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stdout", screen)
    with logging_to(tmp_path / "a.log"):
        _, view = watch(True, settings(tmp_path), empty(), FakeTracker())
        with view:
            for number in range(50):
                logging.getLogger("autotune.study").info("trial %d", number)
            logging.getLogger("autotune.search").info("the executor")
            print("a library's word")
        logging.getLogger("autotune.search").info("the answer")
    shown = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", screen.getvalue()).replace("\r", "\n")
    lines = [each.strip() for each in shown.splitlines()]
    assert "the executor" in lines
    assert "a library's word" in lines
    assert lines[-1] == "the answer"
    assert "trial 49" in lines
    assert "trial 10" not in lines
    assert "trial 10" in (tmp_path / "a.log").read_text()
    assert screen.getvalue().count("\x1b[?25l") == screen.getvalue().count("\x1b[?25h") == 1
    assert sys.stdout is screen


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_prints_past_the_view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stdout", screen)
    _, view = watch(True, settings(tmp_path), empty(), FakeTracker())
    with view, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of forks beside threads
        child = os.fork()
        if child == 0:
            os._exit(0 if sys.stdout is screen else 1)
        assert sys.stdout is not screen
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


SMALLEST = (
    *("trainer.accelerator=cpu", "tracking=none", "study.name=a", "optimizer=adam", "schedule=constant"),
    *("data.batch_size=64", "model.batch_norm=false", "study.enqueue=[]", "sampler=random", "confirm.top=0"),
    "optimizer.lr=tag(log,interval(1e-4,1e-1))",
)


def on_a_terminal(cwd: Path, *arguments: str, interrupt_at: str = "", **more: str) -> tuple[int, str]:
    """Search in a process whose stdout is a terminal of 100 x 30; returns its exit code and all it wrote there."""
    here, there = pty.openpty()
    os.set_blocking(here, False)
    size = {"COLUMNS": "100", "LINES": "30", "TERM": "xterm", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "autotune.search", *SMALLEST, *arguments],
        cwd=cwd,
        env=environment(**{**size, **more}),
        stdin=there,
        stdout=there,
        stderr=there,
        start_new_session=True,
    )
    os.close(there)
    written, until = b"", time.monotonic() + 180
    while time.monotonic() < until:
        if select.select([here], [], [], 0.1)[0]:
            try:
                part = os.read(here, 65536)
            except OSError:  # what Linux says once the other end is closed
                break
            if not part:
                break
            written += part
            if interrupt_at and interrupt_at.encode() in written:
                process.send_signal(signal.SIGINT)
                interrupt_at = ""
    os.close(here)
    return process.wait(timeout=60), written.decode(errors="replace")


@pytest.mark.slow
def test_a_search_on_a_terminal_is_drawn_and_ends_with_its_answer(tmp_path: Path) -> None:
    code, written = on_a_terminal(tmp_path, "budget.trials=4", "trainer.max_epochs=2")
    assert code == 0, written
    assert (written.count("\x1b[?25l"), written.count("\x1b[?25h")) == (1, 1)
    after = written.rpartition("\x1b[?25h")[2]
    assert "ended: budget.trials=4 is used up" in after
    assert "train the best:" in after
    assert "\x1b" not in after
    assert "slots" in written
    assert not any(word in written for word in ("GPU available", "Warning", "alembic", "Traceback"))
    log = (tmp_path / "mlruns/studies/a/search.log").read_text()
    assert len(re.findall(r"autotune\.study: t000\d", log)) == 4


@pytest.mark.slow
@pytest.mark.parametrize("where", ["drawn", "lines", "no terminal"])
def test_what_trains_is_said_once_though_the_best_are_trained_again(where: str, tmp_path: Path) -> None:
    confirmed = ("confirm.top=2", "confirm.seeds=1", "confirm.most_seeds=1")
    arguments = ("budget.trials=4", "trainer.max_epochs=2", "pruner=none", *confirmed)
    if where == "no terminal":
        piped = run("search", *SMALLEST, *arguments, cwd=tmp_path)
        code, written = piped.code, piped.out
    else:
        code, written = on_a_terminal(tmp_path, *arguments, *(["live=false"] if where == "lines" else []))
    assert code == 0, written
    assert ("\x1b" in written) == (where == "drawn")
    log = (tmp_path / "mlruns/studies/a/search.log").read_text()
    for said in (written, log):
        assert "confirming the best 2" in said
        assert said.count("executor: population") == 1


@pytest.mark.slow
def test_an_interrupted_search_leaves_the_cursor_where_it_was(tmp_path: Path) -> None:
    code, written = on_a_terminal(
        tmp_path, "budget.trials=5000", "trainer.max_epochs=2", "pruner=none", interrupt_at="slots"
    )
    assert code == 130, written
    assert written.rstrip().endswith("interrupted; the same command with study.name=a goes on")
    assert written.rpartition("\x1b[?25h")[1] != ""
    assert "\x1b[?25l" not in written.rpartition("\x1b[?25h")[2]


@pytest.mark.slow
@pytest.mark.parametrize("more", [{"TERM": "dumb"}, {}], ids=["dumb", "live=false"])
def test_a_terminal_that_cannot_draw_gets_lines(more: dict[str, str], tmp_path: Path) -> None:
    arguments = ("budget.trials=2", "trainer.max_epochs=2", *(() if more else ("live=false",)))
    code, written = on_a_terminal(tmp_path, *arguments, **more)
    assert code == 0, written
    assert "\x1b" not in written
    assert len(re.findall(r"^t000\d ", written, re.MULTILINE)) == 2
