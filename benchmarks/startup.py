"""How long from typing the command to the first finished trial, against the same put together as a user would.

    python benchmarks/startup.py [--repeats 5]

Both train one epoch of one trial on digits and mirror it to MLflow, in a fresh home each time and with bytecode written
before. Ours is `python -m autotune.search`. The peer imports Optuna, torch, Lightning, MLflow and scikit-learn's digits
and calls `study.optimize` with a Lightning Trainer and its MLFlowLogger. They take turns; figures are medians. Besides
the first trial's line it is said when the last word is printed, by when all is in MLflow, and when the process is gone.

Where our seconds go is read from a run of its own: its steps as they end, and Python's `-X importtime`, which itself
takes some time, summed up by package. Cold runs, from a disk whose cache was dropped, need root.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path

ARGUMENTS = ("budget.trials=1", "trainer.max_epochs=1", "study.name=first")
FIRST, LAST = "first trial", "last word"
NAMED = ("torch", "lightning", "torchmetrics", "mlflow", "sqlalchemy", "alembic", "optuna", "hydra", "omegaconf")
NAMED += ("sklearn", "scipy", "matplotlib", "sympy", "pandas", "numpy", "pydantic", "fastapi", "autotune")

PEER = """
import sys
import optuna
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import MLFlowLogger
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy


class Network(LightningModule):
    def __init__(self, rate):
        super().__init__()
        self.rate = rate
        self.network = nn.Sequential(
            nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(),
            nn.Linear(32, 10),
        )
        self.accuracy = MulticlassAccuracy(10)

    def training_step(self, batch, _):
        loss = functional.cross_entropy(self.network(batch[0]), batch[1])
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, _):
        self.accuracy(self.network(batch[0]), batch[1])
        self.log("val_accuracy", self.accuracy)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.rate)


def objective(trial):
    rate = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
    logger = MLFlowLogger("bench", tracking_uri=f"sqlite:///{sys.argv[1]}/mlflow.db")
    logger.log_hyperparams(trial.params)
    trainer = Trainer(
        max_epochs=1, devices=1, logger=logger, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Network(rate), DataLoader(train, batch_size=32, shuffle=True), DataLoader(val, batch_size=512))
    return float(trainer.callback_metrics["val_accuracy"])


features, target = load_digits(return_X_y=True)
features = torch.tensor(features / 16, dtype=torch.float32)
parts = train_test_split(features, torch.tensor(target), test_size=0.2, random_state=0, stratify=target)
train, val = TensorDataset(parts[0], parts[2]), TensorDataset(parts[1], parts[3])
study = optuna.create_study(direction="maximize", storage=f"sqlite:///{sys.argv[1]}/optuna.db")
study.optimize(objective, 1)
print("t0000 finished", flush=True)
"""

# Runs the command and says when each of its steps is over. The steps are functions of `autotune.search` by name.
STEPS = """
import sys, time
def say(step):
    print(f"STEP {time.time():.4f} {step}", flush=True)
say("interpreter")
import autotune.search as search
say("import of the command: hydra, optuna, numpy")
names = {
    "check_config": "config composed and checked",
    "construct": {"tracking": "tracker made", "executor": "executor made: torch, lightning, torchmetrics, sklearn"},
    "_rehearse": "rehearsal",
    "Coordinator": "study opened",
}
def watched(name, step):
    call = getattr(search, name)
    def watching(*args, **kwargs):
        made = call(*args, **kwargs)
        say(step[args[0]] if isinstance(step, dict) else step)
        return made
    setattr(search, name, watching)
for name, step in names.items():
    if hasattr(search, name):
        watched(name, step)
search.run_command("search", lambda config: search.check_config(config), search.search)
"""


def moments(command: list[str]) -> dict[str, float]:
    """Seconds from the start of a process to its steps, its first trial's line, its last line and its end."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "DO_NOT_TRACK": "true"}
    found: dict[str, float] = {}
    epoch, begun = time.time(), time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if step := re.match(r"STEP ([\d.]+) (.*)", line):
                found[step[2]] = float(step[1]) - epoch
            if line.startswith("t0000"):
                found[FIRST] = time.perf_counter() - begun
            found[LAST] = time.perf_counter() - begun
    if process.returncode != 0 or FIRST not in found:
        raise SystemExit(f"{' '.join(command[:4])} ended with {process.returncode}:\n{''.join(said)}")
    # Moved behind the steps, whose order is that of time.
    last = found.pop(LAST)
    return {**found, LAST: last, "process gone": time.perf_counter() - begun}


def ours(home: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "autotune.search", f"home={home}", *ARGUMENTS, *arguments]


def medians(peer: Path, repeats: int, cold: bool) -> dict[str, dict[str, float]]:
    """Of each side, the median of each moment; they take turns."""
    runs: dict[str, list[dict[str, float]]] = {"autotune": [], "by hand": []}
    for _ in range(repeats):
        for name, each in runs.items():
            with tempfile.TemporaryDirectory() as home:
                if cold:
                    drop_caches()
                command = ours(home) if name == "autotune" else [sys.executable, str(peer), home]
                each.append(moments(command))
    return {
        name: {moment: statistics.median(run[moment] for run in each) for moment in each[0]}
        for name, each in runs.items()
    }


def drop_caches() -> None:
    """Forget what was read from the disk.

    Raises:
        OSError: The system does not let us.
    """
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def show(found: dict[str, dict[str, float]]) -> None:
    print(f"{'':<12}" + "".join(f"{name:>14}" for name in found) + f"{'ratio':>10}")
    for moment in found["autotune"]:
        a, b = found["by hand"][moment], found["autotune"][moment]
        print(f"{moment:<12}{b:>12.2f} s{a:>12.2f} s{a / b:>9.2f}x")


def show_steps(program: Path) -> None:
    with tempfile.TemporaryDirectory() as home:
        found = moments([sys.executable, str(program), f"home={home}", *ARGUMENTS])
    before = 0.0
    for step, moment in found.items():
        print(f"  {moment:>6.2f} s   + {moment - before:>5.2f} s   {step}")
        before = moment


def show_imports() -> None:
    """What each package's modules took to import, those that they import left out."""
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-X", "importtime", *ours(home)[1:]]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    taken: Counter[str] = Counter()
    for microseconds, name in re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s*(\S+)", told):
        package = name.partition(".")[0]
        taken[package if package in NAMED else "others"] += int(microseconds)
    print("  " + ", ".join(f"{name} {each / 1e6:.2f}" for name, each in taken.most_common() if each >= 10_000))
    print(f"  together {taken.total() / 1e6:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "lightning", "optuna", "mlflow"))
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}")
    with tempfile.TemporaryDirectory() as name:
        peer, steps = Path(name, "peer.py"), Path(name, "steps.py")
        peer.write_text(PEER)
        steps.write_text(STEPS)
        medians(peer, 1, cold=False)  # writes bytecode, fills the disk's cache
        print(f"warm, median of {arguments.repeats}:")
        show(medians(peer, arguments.repeats, cold=False))
        print("where ours go, in a run of its own:")
        show_steps(steps)
        print("imports by package, those of the process that writes to MLflow left out, seconds:")
        show_imports()
        try:
            drop_caches()
        except OSError as error:
            print(f"cold: not measured, the disk's cache cannot be dropped here ({error.strerror})")
        else:
            print("cold, one run:")
            show(medians(peer, 1, cold=True))


if __name__ == "__main__":
    main()
