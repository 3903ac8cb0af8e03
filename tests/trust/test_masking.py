"""What is secret in the environment and in addresses: it is in no file, no run and no line that a command leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..commands import Ended, run
from ..tracking.conftest import WriterThread

SMALL = (
    *("trainer.accelerator=cpu", "trainer.max_epochs=1", "model.hidden=[8]", "optimizer=adam", "schedule=constant"),
    *("optimizer.lr=tag(log,interval(1e-4,1e-1))", "data.batch_size=128", "study.name=kept", "budget.trials=2"),
)
SECRETS = {"AWS_SECRET_ACCESS_KEY": "hunter3", "MLFLOW_TRACKING_PASSWORD": "hunter4"}


def holding(folder: Path, *secrets: str) -> list[str]:
    """The files that hold one of some texts."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path in found if any(secret.encode() in path.read_bytes() for secret in secrets)]


@pytest.mark.slow
def test_no_command_leaves_a_secret_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autotune.tracking.remote.start_process", WriterThread)
    address = f"sqlite:///{tmp_path}/store/mlflow.db?password=hunter2"
    typed, by_environment = f"tracking.uri='{address}'", {**SECRETS, "MLFLOW_TRACKING_URI": address}
    said: list[Ended] = [
        run("search", *SMALL, cwd=tmp_path, **by_environment),
        run("search", *SMALL, "budget.trials=3", typed, cwd=tmp_path, **SECRETS),
        run("train", "from=kept", "train.name=t", typed, cwd=tmp_path, **SECRETS),
        run("report", "from=kept", cwd=tmp_path, **by_environment),
        run("sync", f"uri='{address}'", cwd=tmp_path, **SECRETS),
        run("studies", cwd=tmp_path, **by_environment),
        run("ui", "experiment=autotun", "port=5999", cwd=tmp_path, **by_environment),
    ]
    assert [ended.code for ended in said] == [0] * (len(said) - 1) + [2]
    assert said[-1].err.startswith(f"error: experiment: there is no autotun in sqlite:///{tmp_path}/store/mlflow.db?")
    secrets = ("hunter2", *SECRETS.values())
    assert not [ended for ended in said if any(secret in ended.out + ended.err for secret in secrets)]
    assert (tmp_path / "store/mlflow.db").exists()
    assert holding(tmp_path, *secrets) == []


def test_a_database_that_the_ui_cannot_open_is_named_without_its_password(tmp_path: Path) -> None:
    ended = run("ui", "port=5999", cwd=tmp_path, MLFLOW_TRACKING_URI="postgresql://me:hunter2@127.0.0.1:1/x")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("error: home: postgresql://***@127.0.0.1:1/x cannot be opened (")
    assert ended.err.endswith("); give another: home=...\n")
    assert ended.err.count("\n") == 1
    assert "hunter2" not in ended.err
