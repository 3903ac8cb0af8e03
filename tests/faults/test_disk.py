"""Disks that fail: full, read-only, another file system for temporary files. What had ended is kept, in a line."""

from __future__ import annotations

import os
import random
import re
import resource
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from autotune.kept.storage import OwnedJournal
from autotune.tracking import mlflow as tracking

from ..commands import Ended, run, start, summary, wait
from .searching import Progress, Told, assert_files_are_whole, assert_nothing_is_lost, draw, told, typed, until

pytestmark = pytest.mark.slow

BUDGET = 30
ARGUMENTS = typed("full", BUDGET, "executor=population", "tracking.flush_seconds=0.2")
# How often the disk is full at a moment of chance.
TIMES = int(os.environ.get("FAULTS_FULL", "1"))
ROOM = "; make room; the same command goes on\n"


@contextmanager
def mounted(place: Path, *options: str) -> Iterator[Path]:
    """Within it a small file system in memory is mounted at a place; skips where this user may not mount any."""
    place.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", *options, place], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def fill(folder: Path, spare: int = 0) -> Path:
    """Fill a file system up but for a few bytes; returns what to remove to make room."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            file.truncate(max(0, file.tell() - spare))
    return filler


def assert_full(ended: Ended, study: Path) -> None:
    """It ended with one line that says what is full."""
    assert ended.code == 2
    said = rf"error: home: \S*{study.name}/\S+ cannot be written \((No space left on device|File too large)\){ROOM}"
    assert re.fullmatch(said, ended.err), ended.err
    assert "Traceback" not in ended.out


def assert_goes_on(before: Told, cwd: Path, *arguments: str) -> None:
    """The same command does the rest, and what had ended before is as it was."""
    home = cwd / "mlruns"
    ended = run("search", *arguments, cwd=cwd)
    assert (ended.code, ended.err) == (0, "")
    after = told("full", home)
    before.assert_kept_by(after)
    assert len(after.configs) == len(after.ended) == summary(home / "studies" / "full")["trials"] == BUDGET
    assert_nothing_is_lost(home)


@pytest.mark.usefixtures("thread")
def test_a_full_disk_ends_the_search_until_there_is_room(tmp_path: Path) -> None:
    chance = draw("full disk")
    for time in range(TIMES):
        cwd = tmp_path / str(time)
        with mounted(cwd / "mlruns", "-t", "tmpfs", "-o", "size=12m", "none") as home:
            study = home / "studies" / "full"
            process = start("search", *ARGUMENTS, cwd=cwd)
            progress = Progress(study / "study.journal")
            enough = chance.randrange(BUDGET - 2)
            until(lambda progress=progress, enough=enough: progress.look() >= enough)
            filler = fill(home, spare=chance.randrange(8) * 4096)
            had_ended = progress.look()
            assert_full(wait(process), study)
            before = told("full", home)
            assert len(before.ended) >= min(had_ended, BUDGET)
            assert_files_are_whole(study)
            assert_full(run("search", *ARGUMENTS, cwd=cwd), study)  # as long as it is full
            assert told("full", home) == before
            filler.unlink()
            assert_goes_on(before, cwd, *ARGUMENTS)


@pytest.mark.usefixtures("thread")
def test_a_journal_that_cannot_grow_is_torn_nowhere(tmp_path: Path) -> None:
    chance = draw("journal that cannot grow")
    study = tmp_path / "mlruns" / "studies" / "full"
    process = start("search", *ARGUMENTS[:-1], "tracking=none", cwd=tmp_path)
    progress = Progress(study / "study.journal")
    enough = chance.randrange(BUDGET - 2)
    until(lambda: progress.look() >= enough)
    # As a quota does it: in the middle of a line, and of this process's files alone.
    most = progress.journal.stat().st_size + chance.randrange(4000)
    psutil.Process(process.pid).rlimit(psutil.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
    assert_full(wait(process), study)
    assert progress.journal.read_bytes().endswith(b"\n")
    assert_goes_on(told("full", study.parent.parent), tmp_path, *ARGUMENTS[:-1], "tracking=none")


def test_what_is_written_after_a_torn_line_is_whole(tmp_path: Path) -> None:
    journal = OwnedJournal(tmp_path / "journal")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    chance = random.Random(0)
    written = []
    named = set()
    for number in range(50):
        log = {"number": number, "text": "x" * chance.randrange(200)}
        size = (tmp_path / "journal").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + chance.randrange(200), limits[1]))
        try:
            journal.append_logs([log])
            written.append(log)
        except OSError as error:
            named.add(error.filename)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert list(journal.read_logs(0)) == written
    journal.close()
    assert 0 < len(written) < 50
    assert named == {str(tmp_path / "journal")}
    journal = OwnedJournal(tmp_path / "journal")
    assert list(journal.read_logs(0)) == written
    journal.close()


@pytest.mark.usefixtures("thread")
def test_a_log_that_cannot_be_written_is_said_once(tmp_path: Path) -> None:
    study = tmp_path / "mlruns" / "studies" / "full"
    study.mkdir(parents=True)
    (study / "search.log").symlink_to("/dev/full")
    ended = run("search", *typed("full", 4, "tracking=none", "executor=population"), cwd=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.count("search.log cannot be written (No space left on device): it lacks lines\n") == 1
    assert_nothing_is_lost(tmp_path / "mlruns")


@pytest.mark.usefixtures("thread")
@pytest.mark.parametrize("is_for_good", [False, True])
def test_a_full_disk_of_mlflow_alone_stops_no_search(
    is_for_good: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_for_good:
        monkeypatch.setattr(tracking, "PATIENCE", 2.0)
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=16m", "none") as place:
        uri = f"sqlite:///{place}/mlflow.db"
        arguments = [*ARGUMENTS, f"tracking.uri={uri}"]
        study = tmp_path / "mlruns" / "studies" / "full"
        progress = Progress(study / "study.journal")
        filler = fill(place)

        def make_room() -> None:
            until(lambda: progress.look() >= BUDGET // 2)
            filler.unlink()

        maker = threading.Thread(target=make_room)
        if not is_for_good:
            maker.start()
        ended = run("search", *arguments, cwd=tmp_path)
        assert (ended.code, ended.err) == (0, "")
        assert ("is incomplete" in ended.out) == is_for_good
        assert summary(study)["trials"] == len(told("full", tmp_path / "mlruns").ended) == BUDGET
        if is_for_good:
            filler.unlink()
            ended = run("sync", f"uri={uri}", cwd=tmp_path)
            assert (ended.code, ended.err, ended.out) == (0, "", f"full: {BUDGET + 3} runs written\n")
        else:
            maker.join()
        assert_nothing_is_lost(tmp_path / "mlruns", uri)


@pytest.mark.usefixtures("thread")
def test_a_read_only_home_is_said_and_can_be_read(tmp_path: Path) -> None:
    home, closed = tmp_path / "mlruns", tmp_path / "closed"
    arguments = typed("few", 2, "confirm.top=0")
    assert run("search", *arguments, cwd=tmp_path).code == 0
    shown = run("studies", cwd=tmp_path).out
    with mounted(closed, "--bind", str(home)):
        subprocess.run(["mount", "-o", "remount,ro,bind", closed], check=True)
        for command, *words in (
            ("search", *arguments),
            ("search", *typed("fresh", 2)),
            ("train", "from=few"),
            ("report", "from=few"),
            ("sync",),
        ):
            ended = run(command, *words, "home=closed", cwd=tmp_path)
            said = (
                rf"error: home: {closed}\S* cannot be written to \(Read-only file system\); "
                r"give a folder of your own: home=\.\.\.\n"
            )
            assert (ended.code, ended.out) == (2, "")
            assert re.fullmatch(said, ended.err), ended.err
        assert run("studies", "home=closed", cwd=tmp_path) == Ended(0, shown, "")
    assert_nothing_is_lost(home)


@pytest.mark.parametrize("command", ["search", "train"])
def test_a_read_only_folder_of_the_home_is_said(command: str, tmp_path: Path) -> None:
    folder = {"search": "studies", "train": "trained"}[command]
    with mounted(tmp_path / "mlruns" / folder, "-t", "tmpfs", "-o", "ro", "none"):
        words = typed("closed", 1) if command == "search" else ["train.name=closed", "optimizer=adam"]
        ended = run(command, *words, cwd=tmp_path)
    said = f"error: home: {tmp_path / 'mlruns' / folder} cannot be written to (Read-only file system); "
    assert (ended.code, ended.err) == (2, said + "give a folder of your own: home=...\n")


TABLE = "a,b,label\n" + "".join(f"{row % 7},{row % 5},{'yes' if row % 2 else 'no'}\n" for row in range(200))


@pytest.mark.usefixtures("thread")
@pytest.mark.parametrize("where", ["another file system", "not there"])
def test_temporary_files_need_not_lie_beside_the_home(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "table.csv").write_text(TABLE)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        if where == "not there":
            folder = f"{folder}/gone"
        elif Path(folder).stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("/dev/shm is no other file system")
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", None)
        data = ("data=csv", "data.path=table.csv", "data.target=label", "data.batch_size=50", "model=mlp")
        assert (tempfile.gettempdir() == folder) == (where != "not there")
        small = ("trainer.accelerator=cpu", "trainer.max_epochs=2", "optimizer=adam", "confirm.top=0")
        ended = run("search", *data, *small, "study.name=few", "budget.trials=2", cwd=tmp_path)
        assert (ended.code, ended.err) == (0, "")
        ended = run("train", "from=few", "train.register=mine", "trainer.accelerator=cpu", cwd=tmp_path)
        assert (ended.code, ended.err) == (0, "")
        assert run("report", "from=few", cwd=tmp_path).code == 0
        assert list((tmp_path / "mlruns").rglob("*.new")) == []
        assert_nothing_is_lost(tmp_path / "mlruns")
