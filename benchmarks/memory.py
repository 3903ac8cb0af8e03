"""What a search of many trials in one process holds on to: memory, file descriptors and threads, each 50 trials.

    python benchmarks/memory.py [--executors population lightning] [--trials 1000] [--seconds 300] [--traced]

Each search is the real command in a process of its own, with its journal and its MLflow mirror, on the default tree
with short trials. Whenever 50 more have ended, their process is measured after a garbage collection, and with it the
process that writes the mirror: resident set, open file descriptors, threads. What grows from trial 100 on is stated in
all and a trial. A search that has not come to its end after so many seconds ends as its budget says, and what it came
to is what is stated.

With --traced the search runs under `tracemalloc`, which takes memory and time of its own: stated is which files made
what Python has more of at the end than at trial 100, in bytes a trial.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from autotune.tracking import writer
from autotune.tracking.mlflow import MlflowTracker
from autotune.trial import Record

EVERY = 50
WARM = 100  # trials after which nothing but what is kept of each trial should grow
EPOCHS = 2
MIB = 2**20
MOST = 12  # files that are named
MEASURES = ("MiB", "files", "threads")


def held(process: psutil.Process) -> dict[str, float]:
    """What a process holds."""
    with process.oneshot():
        return {
            "MiB": process.memory_info().rss / MIB,
            "files": process.num_fds(),
            "threads": process.num_threads(),
        }


def _is_writer(process: psutil.Process) -> bool:
    return process.status() != psutil.STATUS_ZOMBIE and writer.__name__ in process.cmdline()


class Measured(MlflowTracker):
    """MLflow's tracker; whenever 50 trials have ended it writes down what its process and the writer's hold.

    Args:
        table: The file it writes a line of JSON to each time.
        home: See `MlflowTracker`.
        more: See `MlflowTracker`.
    """

    def __init__(self, table: str, home: Path, **more: Any) -> None:
        super().__init__(home, **more)
        self._table = Path(table)
        self._count = 0
        self._warm: tracemalloc.Snapshot | None = None

    def trial_ended(self, record: Record) -> None:
        """Hear how a trial ended."""
        super().trial_ended(record)
        self._count += 1
        if self._count % EVERY == 0:
            gc.collect()
            own = psutil.Process()
            writers = [held(child) for child in own.children() if _is_writer(child)]
            line = {"trials": self._count, "search": held(own), "mirror": writers[0] if writers else {}}
            if tracemalloc.is_tracing() and self._count >= WARM:
                line["grown"] = self._grown()
            with self._table.open("a") as file:
                print(json.dumps(line), file=file)

    def _grown(self) -> dict[str, float]:
        """Bytes a trial since trial `WARM`, by the file that made them."""
        ours = (tracemalloc.Filter(False, tracemalloc.__file__), tracemalloc.Filter(False, "*linecache.py"))
        now = tracemalloc.take_snapshot().filter_traces(ours)
        if self._warm is None:
            self._warm = now
            return {}
        trials = self._count - WARM
        return {each.traceback[0].filename: each.size_diff / trials for each in now.compare_to(self._warm, "filename")}


def searched(executor: str, trials: int, seconds: float, is_traced: bool, folder: Path) -> list[dict[str, Any]]:
    """The lines of a search."""
    table = folder / "table.jsonl"
    command = [
        *(sys.executable, "-m", "autotune.search", f"executor={executor}", "trainer.accelerator=cpu"),
        *(f"trainer.max_epochs={EPOCHS}", "pruner=none", "confirm.top=0", "study.name=memory", f"home={folder}/home"),
        *(f"budget.trials={trials}", f"budget.seconds={seconds}", "live=false"),
        *("tracking._target_=memory.Measured", f"+tracking.table={table}"),
    ]
    path = os.pathsep.join(filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path, **({"PYTHONTRACEMALLOC": "1"} if is_traced else {})}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise SystemExit(f"the search ended with {ended.returncode}: {ended.stdout[-2000:]}{ended.stderr}")
    return [json.loads(line) for line in table.read_text().splitlines()]


def show(executor: str, lines: list[dict[str, Any]]) -> None:
    heads = "".join(f"{head:>9}" for head in MEASURES)
    print(f"\nexecutor={executor}\n{'':>7}{'the search':>27}{'the mirror':>27}\n{'trials':>7}{heads}{heads}")
    for line in lines:
        print(f"{line['trials']:>7}" + "".join(_cells(line["search"])) + "".join(_cells(line["mirror"])))
    warm = next((line for line in lines if line["trials"] >= WARM), None)
    if warm is None or warm is lines[-1]:
        print(f"too few trials ended to tell what grows from trial {WARM} on")
        return
    trials = lines[-1]["trials"] - warm["trials"]
    print(f"from trial {warm['trials']} to trial {lines[-1]['trials']}:")
    for who in ("search", "mirror"):
        if not lines[-1][who] or not warm[who]:
            continue
        grown = {measure: lines[-1][who][measure] - warm[who][measure] for measure in MEASURES}
        print(
            f"  the {who}: {grown['MiB']:+.1f} MiB ({100 * grown['MiB'] / warm[who]['MiB']:+.1f} %, "
            f"{1024 * grown['MiB'] / trials:.1f} KiB a trial), {grown['files']:+.0f} file descriptors, "
            f"{grown['threads']:+.0f} threads"
        )
    if made := lines[-1].get("grown"):
        print(f"  of it made by Python, bytes a trial: {sum(made.values()):.0f}, the most by")
        for file, size in sorted(made.items(), key=lambda each: -abs(each[1]))[:MOST]:
            print(f"{size:>10.0f}  {'/'.join(Path(file).parts[-4:])}")


def _cells(measured: Mapping[str, float]) -> Iterator[str]:
    for measure in MEASURES:
        yield f"{measured[measure]:>9.{1 if measure == 'MiB' else 0}f}" if measured else f"{'-':>9}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--executors", nargs="*", default=["population", "lightning"])
    parser.add_argument("--trials", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=300, help="of each search, at most")
    parser.add_argument("--traced", action="store_true", help="say which files made what grows")
    arguments = parser.parse_args()
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "lightning", "optuna", "mlflow"))
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}")
    for executor in arguments.executors:
        with tempfile.TemporaryDirectory() as name:
            show(executor, searched(executor, arguments.trials, arguments.seconds, arguments.traced, Path(name)))


if __name__ == "__main__":
    main()
