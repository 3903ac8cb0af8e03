"""What faults cost: the same ones on autotune and on Optuna, Lightning and MLflow by hand (benchmarks/peer.py).

    python benchmarks/faults.py [--faults kill,term,crash,server,journal] [--times 20] [--seed 0]

kill: kill -9 at random moments, begun again by the same command each time until all trials have ended. A moment is so
many ended trials and a part of the next.
term: SIGTERM while it trains, not begun again.
crash: the process is gone before a random write to Optuna's storage or to MLflow, and is begun again.
server: MLflow's server is dead for 30 seconds while it trains.
journal: Optuna's journal is cut off at a random byte, and the same command given again.

Both are given the same moments, the default space on digits and the same number of trials, and are commands in
processes of their own; those of `crash` are forked from one that has imported all. A trial is lost that is RUNNING in
Optuna or in MLflow while nothing runs any more, or that ended in one of them and not, or not once, in the other; of a
cut journal, one that had ended in the part that is left and cannot be read once the command was given again. Of
autotune counted is also what `autotune.reconcile` finds. How long training was blocked is the longest time between two
trials' ends that the server's death falls into, less the median of such times: a busy machine blocks it too, at other
times as well.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import optuna
from mlflow import MlflowClient
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from autotune.reconcile import reconcile
from tests.servers import free_port, serving

HERE = Path(__file__).parent
STUDY = "bench"  # of both
AWAY = 30.0  # seconds that the server is dead
KILLED_OF = 100  # trials of a search that is killed again and again
PATIENCE = 240.0  # seconds after which a process is taken to hang
_ENDED = re.compile(rb'[^\n]*"op_code": ?6,[^\n]*"state": ?[123][,}][^\n]*\n')  # a line of Optuna's journal
_NUMBER = re.compile(rb'"trial_id": ?(\d+)')


@dataclass(frozen=True)
class Lost:
    """Trials that are not what they should be, by number."""

    in_optuna: frozenset[int]  # RUNNING
    in_mlflow: frozenset[int]  # RUNNING
    one_sided: frozenset[int]  # ended in one alone, or twice in MLflow
    words: tuple[str, ...] = ()  # of `reconcile`

    @property
    def count(self) -> int:
        return max(len(self.in_optuna | self.in_mlflow | self.one_sided), len(self.words))

    @property
    def said(self) -> str:
        return (
            f"{len(self.in_optuna)} RUNNING in Optuna, {len(self.in_mlflow)} in MLflow, "
            f"{len(self.one_sided)} ended in one alone"
        )


@dataclass(frozen=True)
class Runs:
    """A trial's runs in MLflow: a pair of its number and a status each."""

    pairs: tuple[tuple[int, str], ...]

    def of(self, is_running: bool) -> list[int]:
        return [number for number, status in self.pairs if (status == "RUNNING") == is_running]


class Side:
    """autotune or the peer: its command, what it says of trials that ended, where it keeps them."""

    name: str
    crashing: str  # what benchmarks/crashing.py calls it
    told: re.Pattern[bytes]  # a line of its output for each trial that ended

    def command(
        self, folder: Path, trials: int, epochs: int, uri: str | None = None, seconds: float = 0.0
    ) -> list[str]:
        raise NotImplementedError

    def journalled(self, command: list[str]) -> list[str]:
        """The command with Optuna's journal for its storage."""
        return command

    def journal(self, folder: Path) -> Path:
        raise NotImplementedError

    def storage(self, folder: Path) -> str | BaseStorage:
        return JournalStorage(JournalFileBackend(str(self.journal(folder))))

    def trials(self, folder: Path) -> list[FrozenTrial]:
        return optuna.load_study(study_name=STUDY, storage=self.storage(folder)).trials

    def runs(self, uri: str) -> Runs:
        raise NotImplementedError

    def lost(self, folder: Path, uri: str | None = None) -> Lost:
        """What is lost, nothing running any more."""
        trials = self.trials(folder)
        runs = self.runs(uri or f"sqlite:///{self.database(folder)}")
        ended, counts = {trial.number for trial in trials if trial.state.is_finished()}, Counter(runs.of(False))
        running = frozenset(trial.number for trial in trials if trial.state == TrialState.RUNNING)
        twice = {number for number, count in counts.items() if count > 1}
        wrong = frozenset((ended ^ counts.keys()) | twice)
        return Lost(running, frozenset(runs.of(True)), wrong, self.words(folder, uri))

    def database(self, folder: Path) -> Path:
        raise NotImplementedError

    def words(self, folder: Path, uri: str | None) -> tuple[str, ...]:
        return ()

    def ended(self, log: Path) -> int:
        """How many trials have ended by what was said."""
        return len(self.told.findall(log.read_bytes())) if log.exists() else 0


class Ours(Side):
    name = crashing = "autotune"
    told = re.compile(rb" (?:completed|pruned|diverged) after \d+ epochs")

    def command(
        self, folder: Path, trials: int, epochs: int, uri: str | None = None, seconds: float = 0.0
    ) -> list[str]:
        command = [sys.executable, "-m", "autotune.search", *self.arguments(folder, trials, epochs)]
        command += [f"tracking.uri={uri}"] if uri else []
        # One trial after another, as the peer.
        return [*command, *([f"budget.seconds={seconds}", "executor=lightning"] if seconds else [])]

    def arguments(self, folder: Path, trials: int, epochs: int) -> list[str]:
        fixed = ["trainer.accelerator=cpu", "confirm.top=0", "live=false", f"study.name={STUDY}", f"home={folder}"]
        return [*fixed, f"budget.trials={trials}", f"trainer.max_epochs={epochs}"]

    def journal(self, folder: Path) -> Path:
        return folder / "studies" / STUDY / "study.journal"

    def database(self, folder: Path) -> Path:
        return folder / "mlflow.db"

    def runs(self, uri: str) -> Runs:
        # One that is to be run again has ended nowhere.
        tagged = ((run.data.tags, run.info.status) for run in _all_runs(uri))
        return Runs(
            tuple(
                (int(tags["trial_number"]), status)
                for tags, status in tagged
                if "trial_number" in tags and tags.get("reason") != "interrupted"
            )
        )

    def words(self, folder: Path, uri: str | None) -> tuple[str, ...]:
        return tuple(reconcile(folder, uri))


class Peer(Side):
    name, crashing = "by hand", "peer"
    told = re.compile(rb"Trial \d+ (?:finished|pruned)")

    def command(
        self, folder: Path, trials: int, epochs: int, uri: str | None = None, seconds: float = 0.0
    ) -> list[str]:
        command = [sys.executable, str(HERE / "peer.py"), str(folder), f"--trials={trials}", f"--epochs={epochs}"]
        command += [f"--uri={uri}"] if uri else []
        return [*command, *([f"--seconds={seconds}"] if seconds else [])]

    def journalled(self, command: list[str]) -> list[str]:
        return [*command, "--journal"]

    def journal(self, folder: Path) -> Path:
        return folder / "optuna.journal"

    def storage(self, folder: Path) -> str | BaseStorage:
        return super().storage(folder) if self.journal(folder).exists() else f"sqlite:///{folder}/optuna.db"

    def database(self, folder: Path) -> Path:
        return folder / "mlflow.db"

    def runs(self, uri: str) -> Runs:
        named = ((run.info.run_name.removeprefix("trial-"), run.info.status) for run in _all_runs(uri))
        return Runs(tuple((int(number), status) for number, status in named if number.isdecimal()))


SIDES = (Ours(), Peer())


def _all_runs(uri: str) -> Iterator:
    client = MlflowClient(uri)
    experiments = [each.experiment_id for each in client.search_experiments()]
    token = None
    while True:
        page = client.search_runs(experiments, max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


# Processes.


def environment() -> dict[str, str]:
    unset = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME")
    kept = {name: value for name, value in os.environ.items() if name not in unset}
    return kept | {"PYTHONUNBUFFERED": "1", "DO_NOT_TRACK": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}


def start(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a command; what it prints goes behind what is in its log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment())


def until(true: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Wait until something holds or a process has ended."""
    end = time.monotonic() + PATIENCE
    while process.poll() is None and not true():
        if time.monotonic() > end:
            process.kill()
            raise SystemExit(f"{process.args} hangs")
        time.sleep(0.01)


def to_the_end(command: Sequence[str], log: Path) -> int:
    """Run a command; returns its exit code."""
    process = start(command, log)
    return process.wait(PATIENCE)


@dataclass
class Pace:
    """How many trials have ended, and how long the latest took.

    Attributes:
        count: Counts those that have ended.
        seconds: Of the latest; a half where that is not known.
    """

    count: Callable[[], int]
    seconds: float = 0.5
    _last: int | None = None
    _at: float = 0.0

    def look(self) -> int:
        found, now = self.count(), time.monotonic()
        if found != self._last:
            if self._last is not None and self._at:
                self.seconds = (now - self._at) / (found - self._last)
            self._at = 0.0 if self._last is None else now
            self._last = found
        return found


# The faults.


@dataclass(frozen=True)
class Row:
    """What a fault did to a side.

    Attributes:
        tried: How often.
        lost: How many trials.
        said: In words.
        blocked: Seconds; None where nothing waits.
    """

    fault: str
    side: str
    tried: int
    lost: int
    said: str
    blocked: float | None = None


def kill(side: Side, folder: Path, times: int, seed: int) -> Row:
    chance = random.Random(f"kill {seed}")
    moments = sorted(chance.uniform(0, KILLED_OF) for _ in range(times))
    command, log = side.command(folder / "home", KILLED_OF, 2), folder / "log"
    killed = 0
    for moment in moments:
        pace = Pace(lambda: side.ended(log))
        process = start(command, log)
        until(lambda pace=pace, moment=moment: pace.look() >= int(moment), process)
        time.sleep(moment % 1 * pace.seconds)  # so far into the trial that follows
        if process.poll() is None:
            killed += 1
            process.kill()
        process.wait()
    code = to_the_end(command, log)
    lost = side.lost(folder / "home")
    ended = sum(trial.state.is_finished() for trial in side.trials(folder / "home"))
    return Row("kill -9", side.name, killed, lost.count, f"{lost.said}; {ended} trials ended, exit code {code}")


def term(side: Side, folder: Path, times: int, seed: int) -> Row:
    chance = random.Random(f"term {seed}")
    codes: Counter[int] = Counter()
    lost = []
    for number in range(times):
        home, log = folder / str(number) / "home", folder / str(number) / "log"
        process = start(side.command(home, 1000, 27), log)
        moment = chance.randint(1, 5)
        until(lambda moment=moment, log=log: side.ended(log) >= moment, process)
        time.sleep(chance.uniform(0, 0.5))
        process.terminate()
        codes[process.wait(PATIENCE)] += 1
        lost.append(side.lost(home))
    ends = ", ".join(f"exit code {code} {count} times" for code, count in codes.items())
    return Row("SIGTERM", side.name, times, sum(each.count for each in lost), f"{ends}; {_summed(lost)}")


def crash(side: Side, folder: Path, times: int, seed: int) -> Row:
    chance = random.Random(f"crash {seed}")
    fractions = [str(chance.random()) for _ in range(times)]
    command = [sys.executable, str(HERE / "crashing.py"), side.crashing, str(folder), *fractions]
    more = {"PYTHONPATH": os.pathsep.join(filter(None, (str(HERE.parent), os.environ.get("PYTHONPATH"))))}
    ended = subprocess.run(command, env=environment() | more, stdout=subprocess.PIPE, text=True, check=True)
    lost = [side.lost(folder / str(number) / "home") for number in range(times)]
    whole = sum(each.count == 0 for each in lost)
    said = f"nothing lost after {whole} of {times}; {_summed(lost)}; {ended.stdout.strip()} writes in all"
    return Row("a crash before a write", side.name, times, sum(each.count for each in lost), said)


def _summed(lost: Sequence[Lost]) -> str:
    in_optuna, in_mlflow = sum(len(each.in_optuna) for each in lost), sum(len(each.in_mlflow) for each in lost)
    one_sided = sum(len(each.one_sided) for each in lost)
    return f"{in_optuna} RUNNING in Optuna, {in_mlflow} in MLflow, {one_sided} ended in one alone"


def server(side: Side, folder: Path, times: int, seed: int) -> Row:  # noqa: ARG001 - once is 30 seconds
    fault = f"MLflow's server dead for {AWAY:.0f} s"
    folder.mkdir(parents=True)
    port, log = free_port(), folder / "log"
    command = side.command(folder / "home", 100_000, 9, f"http://127.0.0.1:{port}", seconds=AWAY + 40)
    with serving(folder, port):
        process = start(command, log)
        until(lambda: side.ended(log) >= 5, process)
        if process.poll() is not None:
            raise SystemExit(f"{side.name} ended before its fifth trial: {log.read_text()[-2000:]}")
    before, died = side.ended(log), datetime.now()
    time.sleep(AWAY)
    during = side.ended(log) - before
    with serving(folder, port):
        back = datetime.now()
        code = process.wait(PATIENCE)
    trained = (TrialState.COMPLETE, TrialState.PRUNED)
    trials = [each for each in side.trials(folder / "home") if each.state in trained]
    ends = sorted(each.datetime_complete for each in trials if each.datetime_complete is not None)
    gaps = {True: [timedelta(0)], False: [timedelta(0)]}
    for earlier, later in pairwise(ends):
        gaps[later > died and earlier < back].append(later - earlier)
    usual = statistics.median(gaps[False])
    with serving(folder, port):  # autotune.reconcile asks the server
        lost = side.lost(folder / "home", f"http://127.0.0.1:{port}")
    said = f"{during} trials ended meanwhile; {lost.said}; exit code {code}"
    if ends[-1] < died:
        return Row(fault, side.name, 1, lost.count, f"{said}; the search ended with the server")
    blocked, at_other_times = ((max(gaps[falls_in]) - usual).total_seconds() for falls_in in (True, False))
    said += f"; blocked for {blocked:.1f} s, at other times for up to {at_other_times:.1f} s"
    return Row(fault, side.name, 1, lost.count, said, blocked)


def journal(side: Side, folder: Path, times: int, seed: int) -> Row:
    chance = random.Random(f"journal {seed}")
    whole, trials = folder / "whole", 6
    if code := to_the_end(side.journalled(side.command(whole, trials, 2)), folder / "log"):
        raise SystemExit(f"{side.name} ended with {code}: {folder / 'log'}")
    content = side.journal(whole).read_bytes()
    first = re.search(rb'"op_code": ?4', content)
    assert first is not None
    lost = gone_on = 0
    for number in range(times):
        home = folder / str(number)
        shutil.copytree(whole, home)
        cut = int(first.start() + chance.random() * (len(content) - first.start()))
        while content[cut - 1 : cut] == b"\n":
            cut -= 1
        side.journal(home).write_bytes(content[:cut])
        had_ended = {int(_NUMBER.search(line)[1]) for line in _ENDED.findall(content[:cut])}  # type: ignore[index]
        code = to_the_end(side.journalled(side.command(home, trials, 2)), folder / f"{number}.log")
        try:
            ended = {each.number for each in side.trials(home) if each.state.is_finished()}
        except ValueError:  # a line that is none
            ended = set()
        lost += len(had_ended - ended)
        gone_on += code == 0 and len(ended) >= trials
    return Row("journal cut off", side.name, times, lost, f"goes on after {gone_on} of {times}")


FAULTS = {"kill": kill, "term": term, "crash": crash, "server": server, "journal": journal}
FEWER = {"term": 4, "crash": 2, "journal": 4}  # a part of --times: each begins anew


def show(row: Row) -> None:
    print(f"{row.fault:<32} {row.side:<9} tried {row.tried:>3}, lost {row.lost:>3}: {row.said}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", default=",".join(FAULTS), help="which, with commas between")
    parser.add_argument("--times", type=int, default=20, help="of kill -9; others a half or a quarter, the server once")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a folder for what they leave, logs among it")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for name in ("mlflow", "alembic", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ |= environment()
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "lightning", "optuna", "mlflow"))
    print(f"{platform.machine()}, {os.cpu_count()} cores, {versions}; seed {arguments.seed}")
    is_whole = True
    with tempfile.TemporaryDirectory() as temporary:
        base = arguments.keep or Path(temporary)
        for fault in arguments.faults.split(","):
            times = max(1, arguments.times // FEWER.get(fault, 1))
            rows = []
            for side in SIDES:
                rows.append(
                    FAULTS[fault](side, base.absolute() / fault / side.name.replace(" ", "-"), times, arguments.seed)
                )
                show(rows[-1])
            ours, theirs = rows
            is_whole &= ours.lost == 0
            if ours.blocked is not None and theirs.blocked is not None:
                ratio = theirs.blocked / max(ours.blocked, 0.01)
                print(f"{'':<32} by hand is blocked {ratio:.0f} times as long")
    raise SystemExit(0 if is_whole else 1)


if __name__ == "__main__":
    main()
