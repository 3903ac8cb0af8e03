from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from autotune.errors import UserError
from autotune.tracking.store import Store


def test_the_default_is_the_database_in_the_home_and_its_command_is_as_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store(None, Path("mlruns"))
    assert store.uri == f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    assert store.ui_command == "mlflow ui --backend-store-uri sqlite:///mlruns/mlflow.db --host 127.0.0.1 --port 5000"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("uri", "command"),
    [
        (
            "postgresql+psycopg://me:secret@host/db",
            "mlflow ui --backend-store-uri 'postgresql+psycopg://***@host/db' --host 127.0.0.1 --port 5000",
        ),
        ("https://me:secret@mlflow.example", "https://***@mlflow.example"),
        (
            "sqlite:////data/my runs.db",
            "mlflow ui --backend-store-uri 'sqlite:////data/my runs.db' --host 127.0.0.1 --port 5000",
        ),
    ],
)
def test_the_command_shows_no_password(uri: str, command: str) -> None:
    assert Store(uri, Path("mlruns")).ui_command == command


def test_the_environment_names_the_store_where_the_config_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert Store(None, Path("mlruns")).uri == "http://127.0.0.1:5000"
    assert Store("sqlite:////x.db", Path("mlruns")).uri == "sqlite:////x.db"


def test_mlflow_is_kept_quiet_but_for_what_the_user_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DO_NOT_TRACK", "false")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    Store("http://127.0.0.1:5000", Path("mlruns"))
    assert "MLFLOW_DISABLE_TELEMETRY" not in os.environ
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"
    monkeypatch.delenv("DO_NOT_TRACK")
    Store(None, Path("mlruns"))
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_the_database_logs_ahead_and_is_whole_in_one_file_once_closed(home: Path, tmp_path: Path) -> None:
    store = Store(None, home)
    client, experiment = store.connect("e")
    client.create_run(experiment, run_name="r")
    store.close()
    copy = shutil.copy(home / "mlflow.db", tmp_path / "copy.db")
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("SELECT name FROM runs").fetchall() == [("r",)]
    assert [file.name for file in home.glob("mlflow.db*")] == ["mlflow.db"]
    client, _ = store.connect("e")
    assert len(client.search_runs([experiment])) == 1
    store.close()


@pytest.mark.parametrize("name", ["mlruns", "my runs", "ünï #1 100%"])
def test_artifacts_lie_in_the_home_whatever_its_name(tmp_path: Path, schema: Path, name: str) -> None:
    home = tmp_path / name
    home.mkdir()
    shutil.copy(schema, home)
    client, experiment = Store(None, home).connect("e")
    run = client.create_run(experiment)
    client.log_text(run.info.run_id, "hello", "a.txt")
    assert [path.read_text() for path in (home / "artifacts").rglob("a.txt")] == ["hello"]


def test_artifacts_are_found_again_when_the_home_was_moved(home: Path, tmp_path: Path) -> None:
    client, experiment = Store(None, home).connect("e")
    run = client.create_run(experiment).info.run_id
    client.log_text(run, "hello", "a.txt")
    moved = tmp_path / "elsewhere" / "runs"
    moved.parent.mkdir()
    home.rename(moved)
    client, _ = Store(None, moved).connect("e")
    assert Path(client.download_artifacts(run, "a.txt")).read_text() == "hello"
    later = client.create_run(experiment).info.artifact_uri
    assert later.startswith((moved / "artifacts").as_uri())


def test_an_experiment_that_keeps_its_artifacts_elsewhere_is_left_alone(home: Path, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    elsewhere = (tmp_path / "elsewhere").as_uri()
    MlflowClient(f"sqlite:///{home}/mlflow.db").create_experiment("e", elsewhere)
    client, experiment = Store(None, home).connect("e")
    assert client.get_experiment(experiment).artifact_location == elsewhere


@pytest.mark.parametrize("uri", ["nosuchdb://me:secret@x", "mlruns", "file:///mlruns"])
def test_an_address_that_mlflow_has_no_store_for_is_refused_at_once(uri: str, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"^tracking.uri: .* cannot be opened \(MLflow knows no \w+:\); give sqlite, "
    ) as caught:
        Store(uri, tmp_path)
    assert "secret" not in str(caught.value)


def test_the_name_of_an_experiment_is_no_path(home: Path) -> None:
    before = {path.name for path in home.parent.iterdir()}
    store = Store(None, home)
    client, experiment = store.connect("../../out")
    artifacts = client.create_run(experiment).info.artifact_uri
    store.close()
    assert client.get_experiment(experiment).name == "../../out"
    assert Path(artifacts.removeprefix("file://")).is_relative_to(home / "artifacts")
    assert ".." not in artifacts
    assert {path.name for path in home.parent.iterdir()} == before


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE experiments SET artifact_location = 'http://me:hunter2@127.0.0.1:9/x'",
        "UPDATE experiments SET artifact_location = ' S3://bucket/x'",
        "UPDATE experiments SET artifact_location = 'models://name@databricks/x'",
        "INSERT INTO runs (run_uuid, artifact_uri) VALUES ('r', 'dbfs:/x')",
        "CREATE TRIGGER t AFTER INSERT ON runs BEGIN UPDATE runs SET artifact_uri = 'http://127.0.0.1:9'; END",
        "INSERT INTO trace_tags VALUES ('mlflow.artifactLocation', 'http://127.0.0.1:9', 'r')",
    ],
)
def test_a_file_that_names_another_machine_is_refused(change: str, home: Path) -> None:
    """It may be somebody's, and the user's credentials go to an address."""
    store = Store(None, home)
    store.connect("e")
    store.close()
    with closing(sqlite3.connect(home / "mlflow.db")) as connection, connection:
        connection.execute(change)
    with pytest.raises(UserError) as refused:
        store.connect("e")
    assert refused.value.key == "tracking.uri"
    assert refused.value.remedy.startswith("serve it yourself (mlflow server --backend-store-uri ...)")
    assert "hunter2" not in str(refused.value)
