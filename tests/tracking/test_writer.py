"""The process that writes, as one: how it lives, dies, and what is heard of it."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from autotune.tracking import Ending, writer
from autotune.tracking import mlflow as tracking
from autotune.tracking.mlflow import MlflowTracker
from autotune.tracking.writer import Claim
from autotune.trial import Reason
from tests.tracking.stories import THE_STUDY, Runs, completed, ended, record, until

COMPOSED = {"study": {"name": "s"}}


def writers(of: int | None = None) -> list[psutil.Process]:
    """The writers that a process, by default this one, has started and that are alive."""
    return [child for child in psutil.Process(of).children() if writer.__name__ in _command(child)]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []


@pytest.fixture
def tracker(home: Path) -> Iterator[MlflowTracker]:
    """The tracker of a search that has begun, its writer in training."""
    made = MlflowTracker(home, flush_seconds=0.02)
    made.search_started(THE_STUDY, COMPOSED, "", resumed=False)
    made.trial_started(record(0))
    until(lambda: len(Runs.at(home).children) == 1)
    yield made
    made.close()


def hanging() -> socket.socket:
    """A server that takes every call and answers none."""
    return socket.create_server(("127.0.0.1", 0))


# While it lives.


@pytest.mark.slow
@pytest.mark.usefixtures("tracker")
def test_it_imports_no_more_than_it_needs_and_is_no_part_of_the_terminals_foreground() -> None:
    (found,) = writers()
    assert os.getpgid(found.pid) != os.getpgrp()
    loaded = {Path(each.path).name for each in found.memory_maps()}
    assert any("sqlite" in name for name in loaded), loaded  # it is seen what it loaded
    assert not [name for name in loaded if "torch" in name]


@pytest.mark.slow
def test_interrupting_it_interrupts_nothing(
    tracker: MlflowTracker, home: Path, warned: Callable[[], list[str]]
) -> None:
    (found,) = writers()
    for number in (signal.SIGINT, signal.SIGTERM) * 2:
        found.send_signal(number)
        time.sleep(0.05)
    tracker.trial_ended(completed(0))
    tracker.search_ended(Ending("KILLED"))
    tracker.close()
    runs = Runs.at(home)
    assert (runs.parent.info.status, runs.child().info.status) == ("KILLED", "FINISHED")
    assert warned() == []


@pytest.mark.slow
def test_killed_it_is_started_again_and_nothing_is_lost_or_written_twice(
    tracker: MlflowTracker, home: Path, warned: Callable[[], list[str]]
) -> None:
    tracker.trial_ended(completed(1))
    until(lambda: len(Runs.at(home).children) == 2)
    for number in (2, 3):
        (found,) = writers()
        found.kill()
        tracker.trial_ended(completed(number))
        until(lambda number=number: len(Runs.at(home).children) == number + 1)
    tracker.trial_ended(completed(0))
    tracker.search_ended(Ending("FINISHED", completed(1), {"COMPLETE": 4}, [(0, 0.75)]))
    tracker.close()
    runs = Runs.at(home)
    assert [run.info.status for run in [runs.parent, *runs.children]] == ["FINISHED"] * 5
    for number in range(4):
        assert runs.history(runs.child(number), "train/loss") == [(1, 0.5), (2, 0.25), (3, 1 - 0.7)]
    (said,) = warned()
    assert said.endswith("ended and is started again: it was killed by signal 9")


@pytest.mark.slow
@pytest.mark.usefixtures("hasty")
def test_one_that_never_answers_is_given_up_and_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warned: Callable[[], list[str]]
) -> None:
    monkeypatch.setattr(tracking, "LONGEST", 3.0)
    with hanging() as server:
        made = MlflowTracker(tmp_path, uri=f"http://127.0.0.1:{server.getsockname()[1]}")
        made.search_started(THE_STUDY, COMPOSED, "", resumed=False)
        made.trial_ended(completed(0))
        made.close()
        until(lambda: writers() == [])
    (said,) = warned()
    assert "is incomplete: 1 trials are not written in full; the study itself is whole" in said


@pytest.mark.usefixtures("thread")
def test_what_gets_on_is_waited_for_however_long_it_takes(
    home: Path, monkeypatch: pytest.MonkeyPatch, warned: Callable[[], list[str]]
) -> None:
    made = MlflowTracker(home)
    made.search_started(THE_STUDY, COMPOSED, "", resumed=False)
    until(lambda: len(Runs.at(home).parents) == 1)
    monkeypatch.setattr(tracking, "LONGEST", 0.0)  # since the writer has answered, only standing still counts
    for number in range(40):
        made.trial_ended(completed(number))
    made.search_ended(Ending("FINISHED", completed(0), best_history=[(0, 0.75)]))
    made.close()
    assert warned() == []
    assert len(Runs.at(home).children) == 40


@pytest.mark.slow
@pytest.mark.usefixtures("hasty")
def test_a_dead_server_is_said_once_and_given_up_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warned: Callable[[], list[str]]
) -> None:
    monkeypatch.setattr(tracking, "PATIENCE", 0.5)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    tracker = MlflowTracker(tmp_path, uri=f"http://me:hunter2@127.0.0.1:{port}", flush_seconds=0.02)
    tracker.search_started(THE_STUDY, COMPOSED, "", resumed=False)
    until(lambda: len(warned()) > 0)
    for number in range(5):
        tracker.trial_started(record(number))
        tracker.trial_ended(completed(number))
    tracker.search_ended(Ending("FINISHED", completed(0), best_history=[(0, 0.75)]))
    tracker.close()
    tracker.close()
    failed, incomplete = warned()
    assert f"(http://***@127.0.0.1:{port}) is not written and will be tried again" in failed
    assert "is incomplete: 5 trials are not written in full; the study itself is whole" in incomplete
    assert "hunter2" not in failed + incomplete


CHATTY = """
import logging, sys, warnings

def registry(store_uri=None, **_):
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

    return SqlAlchemyStore(store_uri.replace("chatty:", "sqlite:", 1))

def store(store_uri=None, artifact_uri=None, **_):
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    print("to the terminal")
    print("to the terminal", file=sys.stderr)
    warnings.warn("beware of https://me:hunter2@host", stacklevel=1)
    logging.getLogger("mlflow.chatty").warning("slow: %s", "postgresql://me:hunter2@host/db")
    logging.getLogger("mlflow.chatty").info("of no interest")
    return SqlAlchemyStore(store_uri.replace("chatty:", "sqlite:", 1), artifact_uri or "file:///nowhere")
"""
ENTRY_POINTS = """
[mlflow.tracking_store]
chatty = chatty:store
[mlflow.model_registry_store]
chatty = chatty:registry
"""


@pytest.fixture
def chatty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of a plugin, which talks."""
    place = tmp_path / "plugin"
    metadata = place / "chatty-1.dist-info"
    metadata.mkdir(parents=True)
    (place / "chatty.py").write_text(CHATTY)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: chatty\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(place)


@pytest.mark.slow
@pytest.mark.usefixtures("chatty")
def test_what_it_logs_is_logged_here_and_nothing_reaches_the_terminal(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    library = logging.getLogger("mlflow")  # as it is where MLflow is not imported, or hushed
    monkeypatch.setattr(library, "handlers", [])
    monkeypatch.setattr(library, "propagate", True)
    made = MlflowTracker(home, uri=f"chatty:///{home}/mlflow.db")
    made.search_started(THE_STUDY, COMPOSED, "", resumed=False)
    made.close()
    assert Runs.at(home).parent.info.status == "FAILED"
    said = [(entry.name, entry.levelname, entry.getMessage()) for entry in caplog.records]
    assert ("mlflow.chatty", "WARNING", "slow: postgresql://***@host/db") in said
    assert [text for name, _, text in said if name == "py.warnings" and "beware of https://***@host" in text]
    assert "of no interest" not in caplog.text
    assert "hunter2" not in caplog.text
    assert capfd.readouterr() == ("", "")


# Once the search is over, or killed.


SEARCH = """
import os, sys
from pathlib import Path
from autotune.tracking import mlflow
from autotune.tracking import Ending, Study
from autotune.tracking.mlflow import MlflowTracker
from tests.tracking.stories import completed, record
mlflow.PATIENCE = mlflow.LONGEST = 600
home, study = Path(sys.argv[1]), sys.argv[2]
before = sorted(os.listdir("/proc/self/fd"))
tracker = MlflowTracker(home)
tracker.search_started(Study(study, study), {}, "", resumed=False)
tracker.trial_started(record())
tracker.trial_ended(completed())
tracker.search_ended(Ending("FINISHED"))
tracker.close()
assert sorted(os.listdir("/proc/self/fd")) == before
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    pass
else:
    raise AssertionError("a child is left")
"""
REACHED = """
import os, socket

def reached(*address, **_):
    with open(os.environ["REACHED"], "a") as file:
        print(address, file=file)
    raise OSError("no network")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = reached
"""


def searches(home: Path, studies: list[str]) -> list[tuple[int | None, str]]:
    """Run searches at once that must not reach for the network; how each ended and what it printed."""
    cut_off = home.parent / "cut_off"
    cut_off.mkdir()
    (cut_off / "sitecustomize.py").write_text(REACHED)
    # Nothing else that says this is a test.
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": f"{cut_off}:{Path.cwd()}",
        "REACHED": str(home.parent / "reached"),
    }
    begun = [
        subprocess.Popen(
            [sys.executable, "-c", SEARCH, str(home), study],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for study in studies
    ]
    said = [process.communicate()[0] for process in begun]
    assert not (home.parent / "reached").exists(), (home.parent / "reached").read_text()
    return [(process.returncode, text) for process, text in zip(begun, said, strict=True)]


@pytest.mark.slow
def test_a_new_home_is_made_without_a_word_a_trace_or_the_network(tmp_path: Path) -> None:
    assert searches(tmp_path / "mlruns", ["a"]) == [(0, "")]
    assert {path.name for path in (tmp_path / "mlruns").iterdir()} == {"artifacts", "mlflow.db", "mlflow.lock"}
    assert Runs.at(tmp_path / "mlruns").child().info.status == "FINISHED"


@pytest.mark.slow
def test_a_new_home_may_be_made_by_several_at_once(tmp_path: Path) -> None:
    assert searches(tmp_path / "mlruns", ["a", "b", "c", "d"]) == [(0, "")] * 4
    runs = Runs.at(tmp_path / "mlruns")
    assert sorted(parent.info.run_name for parent in runs.parents) == ["a", "b", "c", "d"]
    assert [run.info.status for run in runs.parents + runs.children] == ["FINISHED"] * 8


KILLED = """
import sys, time
from pathlib import Path
from autotune.tracking.mlflow import MlflowTracker
from tests.tracking.stories import THE_STUDY, record
tracker = MlflowTracker(Path(sys.argv[1]), uri=sys.argv[2] or None, flush_seconds=0.02)
tracker.search_started(THE_STUDY, {}, "", resumed=False)
tracker.trial_advanced(record(0, (0.5,)))
time.sleep(600)
"""


def search_that_will_be_killed(home: Path, uri: str = "") -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    return subprocess.Popen([sys.executable, "-c", KILLED, str(home), uri], env=environment)


@pytest.mark.slow
def test_it_dies_with_a_search_that_is_killed_and_its_runs_are_gone_on_with(
    home: Path, warned: Callable[[], list[str]]
) -> None:
    with search_that_will_be_killed(home) as killed:
        until(lambda: bool(Runs.at(home).children))
        (left,) = writers(killed.pid)
        killed.kill()
    psutil.wait_procs([left], timeout=10)
    assert not left.is_running()
    assert list(home.glob("*.mirror.lock"))
    made = MlflowTracker(home)
    made.search_started(THE_STUDY, {}, "", resumed=True)
    made.trial_ended(completed(0))
    made.search_ended(Ending("FINISHED"))
    made.close()
    runs = Runs.at(home)
    assert (runs.parent.info.status, runs.child().info.status) == ("FINISHED", "FINISHED")
    assert runs.history(runs.child(), "lr") == [(1, 0.01), (2, 0.01), (3, 0.01)]
    assert not list(home.glob("*.mirror.lock"))
    assert warned() == []


@pytest.mark.slow
def test_it_dies_with_the_search_in_the_middle_of_a_call(tmp_path: Path) -> None:
    with hanging() as server:
        uri = f"http://127.0.0.1:{server.getsockname()[1]}"
        with search_that_will_be_killed(tmp_path, uri) as killed, server.accept()[0]:  # it calls, and waits
            (left,) = writers(killed.pid)
            killed.kill()
        psutil.wait_procs([left], timeout=5)  # its call would take ten seconds
        assert not left.is_running()


def test_it_ends_where_nobody_is_there_any_more() -> None:
    """Where the system sends no signal of its parent's death it hears that the line is cut."""
    program = "import sys, time; from autotune.tracking import writer; writer.end_unheard(0); time.sleep(600)"
    here, there = socket.socketpair()
    with there, subprocess.Popen([sys.executable, "-c", program], stdin=there) as process:
        here.close()
        assert process.wait(30) == 1


# Who may write.


@pytest.mark.usefixtures("hasty")
def test_the_runs_of_a_study_are_written_by_one(tmp_path: Path) -> None:
    first, second, other = Claim(tmp_path, "s"), Claim(tmp_path, "s"), Claim(tmp_path, "other/study")
    first.take()
    first.take()
    other.take()
    with pytest.raises(OSError, match=r"^another process writes the same runs \(.*s\.mirror\.lock is locked\)$"):
        second.take()
    first.release()
    second.take()
    second.release()
    second.release()
    other.release()
    assert list(tmp_path.iterdir()) == []


def test_a_writer_waits_for_one_that_is_about_to_be_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Claim(tmp_path, "s"), Claim(tmp_path, "s")
    first.take()
    leaving = threading.Timer(0.3, first.release)
    leaving.start()
    second.take()
    leaving.join()
    monkeypatch.setattr(writer, "LAST_GASP", 0.0)
    with pytest.raises(OSError, match="another process writes"):
        Claim(tmp_path, "s").take()  # the second holds the file that is there, not the one that the first removed
    second.release()


@pytest.mark.usefixtures("thread", "hasty")
def test_a_search_whose_runs_another_writes_says_so_and_waits(home: Path, warned: Callable[[], list[str]]) -> None:
    other = Claim(home, "s")
    other.take()
    made = MlflowTracker(home, flush_seconds=0.02)
    made.search_started(THE_STUDY, COMPOSED, "", resumed=False)
    made.trial_ended(ended(record(0), Reason.PRUNED, 0.7))
    until(lambda: bool(warned()))
    assert Runs.at(home).parents == []
    other.release()
    made.close()
    assert Runs.at(home).child().info.status == "KILLED"
    (said,) = warned()
    assert "is not written and will be tried again: another process writes the same runs" in said
