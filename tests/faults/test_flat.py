"""Many trials in one process: what is open stays as it is, and of a trial is kept what the study consists of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ..commands import script
from .searching import typed

# In a process of its own: what other tests left open may be closed meanwhile.
SEARCHES = """
import gc, itertools, json, os, sys, tracemalloc
from pathlib import Path

import autotune.executors.lightning, autotune.executors.population
import psutil
from autotune.learner import Learner
from autotune.study import Coordinator
from lightning.pytorch import Trainer
from tests.commands import run
from tests.faults.searching import until

arguments, trials, every, database = json.loads(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
ended, process, lines = Coordinator.ended, psutil.Process(), []
numbers = itertools.count(1)


def alive(kind):
    return sum(issubclass(type(each), kind) for each in gc.get_objects())


def measured(self, end):
    ended(self, end)
    number = next(numbers)
    if number == 1 and database.name:
        until(database.exists)  # by when the writer's process has been started
    if number % every == 0:
        gc.collect()
        traced = tracemalloc.get_traced_memory()[0]
        opened = {"files": process.num_fds(), "threads": process.num_threads()}
        lines.append(opened | {"bytes": traced, "learners": alive(Learner), "trainers": alive(Trainer)})
    if number == trials:
        print(json.dumps(lines), file=sys.__stdout__, flush=True)
        os._exit(0)  # the report would only take time


Coordinator.ended = measured
gc.freeze()  # what was imported is not looked at each time
tracemalloc.start()
raise SystemExit(run("search", *arguments, cwd=Path.cwd()).err or 1)
"""

EVERY = 4  # trials between two looks
WARM = 3  # looks that are not compared with
# Bytes that a trial may add. It adds 9 KiB: Optuna's study as it is kept, with the config, and the sampler's copy of
# it. A Learner with its Trainer is more than 60.
KEPT = 16 * 1024


@pytest.mark.slow
@pytest.mark.parametrize(("executor", "tracking", "trials"), [("population", "mlflow", 80), ("lightning", "none", 48)])
def test_nothing_grows_but_what_is_kept(executor: str, tracking: str, trials: int, tmp_path: Path) -> None:
    arguments = typed("flat", 2 * trials, f"executor={executor}", f"tracking={tracking}", "trainer.max_epochs=1")
    arguments += ["confirm.top=0", "pruner=none", "live=false"]
    arguments += ["executor.slots=4"] if executor == "population" else []
    database = str(tmp_path / "mlruns" / "mlflow.db") if tracking == "mlflow" else ""
    ended = script(SEARCHES, json.dumps(arguments), str(trials), str(EVERY), database, cwd=tmp_path)
    assert ended.code == 0, ended.err
    looks = json.loads(ended.out)
    assert len(looks) == trials // EVERY
    print(*looks, sep="\n")
    half = (len(looks) - WARM) // 2
    early, later = looks[WARM:-half], looks[-half:]
    for what in ("files", "threads"):
        assert {look[what] for look in later} == {early[-1][what]}
    # The least of each half: how many are in training as one ends differs, and with it what they take.
    for what in ("learners", "trainers"):
        assert min(look[what] for look in later) <= max(look[what] for look in early)
    grown = min(look["bytes"] for look in later) - min(look["bytes"] for look in early)
    assert grown < KEPT * EVERY * len(early)
