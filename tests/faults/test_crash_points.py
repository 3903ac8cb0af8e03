"""A crash forced before each write to the storage, to MLflow and to files, one after the other: nothing is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..commands import environment
from .searching import draw, typed

pytestmark = pytest.mark.slow

# Every process is forked from one that has imported all, MLflow's writer is a thread of it, and the page of the report
# is a line: a search takes a second that way.
FORKED = """
import json, os, shutil, sys
from collections import Counter
from pathlib import Path
from unittest import mock

import mlflow, torch
from mlflow import MlflowClient
import autotune.executors.auto, autotune.executors.lightning, autotune.executors.population
import autotune.report.findings, autotune.report.sentences, autotune.tracking.mlflow
from autotune.kept import whole
from autotune.reconcile import reconcile
from autotune.report import files
from autotune.kept.storage import OwnedJournal
from autotune.tracking import mirror, remote
from tests.commands import run
from tests.tracking.conftest import WriterThread

CRASHED = 70
POINTS = {
    "storage": [(OwnedJournal, name) for name in ("append_logs", "sync")],
    "mlflow": [
        *((MlflowClient, name) for name in ("create_experiment", "set_experiment_tag", "create_run", "update_run")),
        *((MlflowClient, name) for name in ("log_batch", "set_terminated", "log_text", "log_artifact")),
        (mirror.Mirror, "_write_text"),
    ],
    "files": [(Path, name) for name in ("replace", "write_text", "touch")] + [(os, "fsync")],
}


def crash_before(number):
    counts = Counter()

    def hooked(kind, name, original):
        def call(*args, **kwargs):
            if sum(counts.values()) == number:
                os.write(told, f"{kind} {name}\\n".encode())
                os._exit(CRASHED)
            counts[kind] += 1
            return original(*args, **kwargs)
        return call

    for kind, writes in POINTS.items():
        for owner, name in writes:
            setattr(owner, name, hooked(kind, name, getattr(owner, name)))


def search(number=None):
    pid = os.fork()
    if pid == 0:
        remote.start_process = WriterThread
        files.write_report = lambda folder, outcome, findings=None: whole.write_whole(folder / "report.html", "page")
        __import__("autotune.report").report.write_report = files.write_report
        if number is not None:
            crash_before(number)
        ended = run("search", *sys.argv[2:], cwd=cwd)
        os.write(told, ended.err.encode())
        os._exit(ended.code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def lost():
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.chdir(cwd)
        os.write(writing, json.dumps(reconcile(Path("mlruns"))).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        said = file.read()
    os.waitpid(pid, 0)
    return json.loads(said)


number, step = json.loads(sys.argv[1])
hear, told = os.pipe()
base = Path.cwd()
while True:
    cwd = base / str(number)
    cwd.mkdir()
    first = search(number)
    second = None if first == 0 else search()
    said = os.read(hear, 100_000).decode() if first else ""
    print(json.dumps({"number": number, "said": said, "codes": [first, second], "lost": lost()}), flush=True)
    shutil.rmtree(cwd)
    if first == 0:
        break
    number += step
"""


# Every twelfth write, from a random one on; FAULTS_STEP=1 tries all of them.
STEP = int(os.environ.get("FAULTS_STEP", "12"))


def test_a_crash_before_any_write_loses_nothing(tmp_path: Path) -> None:
    first = draw("crash points").randrange(STEP)
    arguments = typed("crashed", 2, "confirm.top=1", "executor=population", "tracking.flush_seconds=0.05")
    ended = subprocess.run(  # however long it takes: FAULTS_STEP says
        [sys.executable, "-c", FORKED, json.dumps([first, STEP]), *arguments],
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(Path(__file__).resolve().parents[2])),
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    found = [json.loads(line) for line in ended.stdout.splitlines()]
    print(f"crash points: {sum(each['codes'][0] == 70 for each in found)} tried")
    assert [each for each in found if each["lost"] or each["codes"] not in ([70, 0], [0, None])] == []
    kinds = {each["said"].partition(" ")[0] for each in found}
    assert kinds >= {"storage", "mlflow", "files"}
