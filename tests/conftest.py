from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

from autotune.trust.targets import Allowed, allowing

from .commands import SMALL, Ended, files, start, wait

# The tensors are small and test processes share the cores: threads would only wait for each other. Before torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No deadline: how long an example takes says nothing of what is right. Derandomized: a red suite is red for everybody.
settings.register_profile("autotune", deadline=None, derandomize=True)
settings.load_profile("autotune")


@pytest.fixture(autouse=True)
def our_own_classes() -> Iterator[None]:
    """What a test makes without a command line may be the tests' own; a command makes what is typed."""
    with allowing(Allowed(("tests",))):
        yield


@dataclass(frozen=True)
class Searched:
    """A search that ended in a process of its own.

    Attributes:
        ended: What it said.
        cwd: Where it was typed; its home is ``mlruns`` there. Not to be written to: `cwd` is a copy.
        left: What it left there.
    """

    ended: Ended
    cwd: Path
    left: set[str]

    @property
    def study(self) -> Path:
        """The study's folder."""
        return self.cwd / "mlruns" / "studies" / "first"


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    """One small search with MLflow, which many tests look at and begin from."""
    cwd = tmp_path_factory.mktemp("searched")
    ended = wait(start("search", *SMALL, "study.name=first", cwd=cwd))
    return Searched(ended, cwd, files(cwd))


@pytest.fixture
def cwd(searched: Searched, tmp_path: Path) -> Path:
    """A directory with a copy of that search's home."""
    shutil.copytree(searched.cwd / "mlruns", tmp_path / "mlruns")
    return tmp_path


@pytest.fixture(autouse=True)
def _no_store_of_another_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow keeps the store that it was last given in the environment."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
