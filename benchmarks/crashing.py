"""Searches that are gone before a write of theirs to Optuna's storage or to MLflow, for benchmarks/faults.py.

    python benchmarks/crashing.py autotune|peer FOLDER FRACTION...

A search of three trials is run once to count its writes, then once for each fraction of them: the process ends before
that write, by itself and at once, and the same search is begun again. Each is forked from this process, which has
imported everything; autotune's writer of MLflow's runs is a thread, so that its writes count too. Printed is how many
writes there were; FOLDER/<number> has what each search left.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

import optuna
import peer
from mlflow import MlflowClient
from optuna.storages import RDBStorage

from autotune import search
from autotune.executors import auto, lightning, population  # noqa: F401 - imported once for all
from autotune.kept.storage import OwnedJournal
from autotune.tracking import mirror, remote
from tests.tracking.conftest import WriterThread

CRASHED = 70  # exit code
TRIALS, EPOCHS = 3, 2
MLFLOW = [
    *("create_experiment", "create_run", "update_run", "set_terminated"),
    *("log_batch", "log_metric", "log_param", "log_artifact", "log_text", "set_tag", "set_experiment_tag"),
]
OPTUNA = [
    *("create_new_study", "create_new_trial", "set_trial_param", "set_trial_intermediate_value"),
    *("set_trial_state_values", "set_trial_user_attr", "set_trial_system_attr", "set_study_user_attr"),
]
WRITES: list[tuple[type, str]] = [
    *((MlflowClient, name) for name in MLFLOW),
    *((RDBStorage, name) for name in OPTUNA),
    *((OwnedJournal, name) for name in ("append_logs", "sync")),
    (mirror.Mirror, "_write_text"),
]


def ours(home: Path) -> None:
    remote.start_process = WriterThread
    sys.argv = [
        *("autotune.search", "trainer.accelerator=cpu", "confirm.top=0", "live=false", "tracking.flush_seconds=0.05"),
        *("study.name=bench", f"home={home}", f"budget.trials={TRIALS}", f"trainer.max_epochs={EPOCHS}"),
    ]
    search.main()


def theirs(home: Path) -> None:
    sys.argv = ["peer.py", str(home), f"--trials={TRIALS}", f"--epochs={EPOCHS}"]
    peer.main()


def hook(call: Callable[[], None]) -> None:
    """Have something called before each write; what one write does within another is not one of its own."""
    inside: set[int] = set()

    def hooked(original: Callable[..., object], key: int) -> Callable[..., object]:
        def write(*args: object, **kwargs: object) -> object:
            if not inside:
                call()
            inside.add(key)
            try:
                return original(*args, **kwargs)
            finally:
                inside.discard(key)

        return write

    for key, (owner, name) in enumerate(WRITES):
        setattr(owner, name, hooked(getattr(owner, name), key))


def forked(run: Callable[[Path], None], folder: Path, number: int | None) -> tuple[int, int]:
    """Run a search in a process of its own; returns its exit code and how many writes it made.

    Args:
        run: The search.
        folder: Its home and its log.
        number: Of the write before which it is gone; None lets it end.
    """
    hear, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        count = 0

        def write() -> None:
            nonlocal count
            if count == number:
                os._exit(CRASHED)
            count += 1
            os.write(tell, b".")

        hook(write)
        code = 1
        try:
            run(folder / "home")
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            os._exit(code)
    os.close(tell)
    with os.fdopen(hear, "rb") as file:
        writes = len(file.read())
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), writes


def main() -> None:
    side, base, *fractions = sys.argv[1:]
    run, folder = {"autotune": ours, "peer": theirs}[side], Path(base)
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    (folder / "counted").mkdir(parents=True)
    code, writes = forked(run, folder / "counted", None)
    if code:
        raise SystemExit(f"the search ended with {code}: {folder}/counted/log")
    for number, fraction in enumerate(map(float, fractions)):
        place = folder / str(number)
        place.mkdir()
        codes = [forked(run, place, int(fraction * writes))[0], forked(run, place, None)[0]]
        if codes != [CRASHED, 0]:
            print(f"exit codes {codes}: {place}/log", file=sys.stderr)
    print(writes)


if __name__ == "__main__":
    main()
