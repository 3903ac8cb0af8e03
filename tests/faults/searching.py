"""A search that is to be disturbed: what is typed, how far it is, what must hold after whatever happened."""

from __future__ import annotations

import json
import os
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from autotune.kept.outcome import Outcome, read
from autotune.reconcile import reconcile

# Trials of some tens of milliseconds, from which something can be learnt, so that the best are confirmed.
TRIALS = (
    *("trainer.accelerator=cpu", "trainer.max_epochs=2", "model.hidden=[16]", "data.batch_size=choice(64,128)"),
    *("optimizer=adam", "optimizer.lr=tag(log,interval(1e-4,1e-1))", "schedule=constant,cosine"),
    *("confirm.top=2", "confirm.seeds=1", "confirm.most_seeds=1"),
)
_ENDED = re.compile(rb'"op_code":6,[^\n]*"state":[123][,}]|"confirmation:')


def typed(study: str, trials: int, *more: str) -> list[str]:
    """What is typed, each time the same."""
    return [*TRIALS, f"study.name={study}", f"budget.trials={trials}", *more]


def draw(what: str) -> random.Random:
    """Chance from a seed that is printed: FAULTS_SEED repeats a run."""
    seed = int(os.environ.get("FAULTS_SEED") or time.time_ns() % 2**32)
    print(f"{what}: FAULTS_SEED={seed}")
    return random.Random(seed)


@dataclass
class Progress:
    """How many trials and confirmations of a study have ended, by its journal."""

    journal: Path
    ended: int = 0
    _at: int = 0

    def look(self) -> int:
        """The count."""
        if self.journal.exists():
            with self.journal.open("rb") as file:
                file.seek(self._at)
                read = file.read()
            whole = read[: read.rfind(b"\n") + 1]
            self._at += len(whole)
            self.ended += len(_ENDED.findall(whole))
        return self.ended


def until(true: Callable[[], bool], seconds: float = 120.0) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.005)


@dataclass(frozen=True)
class Told:
    """What a study has told of its trials, by number."""

    configs: Mapping[int, Any]
    ended: Mapping[int, tuple[str, float | None]]

    @classmethod
    def of(cls, outcome: Outcome) -> Told:
        """What it tells at the moment."""
        records = outcome.records
        return cls(
            {record.number: record.config for record in records},
            {record.number: (record.state, record.objective) for record in records if record.ended is not None},
        )

    def assert_kept_by(self, later: Told) -> None:
        """Every trial has the config it had, and those that had ended are as they were."""
        assert all(later.configs[number] == config for number, config in self.configs.items())
        assert all(later.ended[number] == end for number, end in self.ended.items())


def told(study: str, home: Path) -> Told:
    """What a study tells at the moment; nothing where it has not begun."""
    journal = home / "studies" / study / "study.journal"
    has_begun = journal.exists() and b"\n" in journal.read_bytes() and (journal.parent / "config.yaml").exists()
    return Told.of(read(study, home)) if has_begun else Told({}, {})


def assert_files_are_whole(folder: Path) -> None:
    """What is there of the answer can be read."""
    for name in ("best.yaml", "config.yaml"):
        if (folder / name).exists():
            assert isinstance(yaml.safe_load((folder / name).read_text()), dict)
    if (folder / "summary.json").exists():
        assert isinstance(json.loads((folder / "summary.json").read_text()), dict)


def assert_nothing_is_lost(home: Path, uri: str | None = None) -> None:
    """What every test of a fault ends with."""
    assert reconcile(home, uri) == []
