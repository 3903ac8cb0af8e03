from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from autotune.errors import UserError
from autotune.tracking import schema
from autotune.tracking.schema import upgrade
from autotune.tracking.store import Store

# MLflow 2.0's.
OLD = "cc1f77228345"


def make_old(file: Path) -> None:
    """MLflow's database as an earlier release made it, with a run."""
    from alembic import command
    from mlflow.store.db.utils import InitialBase, _get_alembic_config
    from sqlalchemy import create_engine

    engine = create_engine(f"sqlite:///{file}")
    InitialBase.metadata.create_all(engine)
    config = _get_alembic_config(f"sqlite:///{file}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, OLD)
    engine.dispose()
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(
            "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage) "
            "VALUES (0, 'Default', '', 'active'), (1, 'autotune', '', 'active')"
        )
        connection.execute(
            "INSERT INTO runs "
            "(run_uuid, name, experiment_id, user_id, status, lifecycle_stage, artifact_uri, start_time) "
            "VALUES ('r1', 'kept', 1, 'me', 'FINISHED', 'active', '', 1)"
        )


def revision(file: Path) -> str:
    with closing(sqlite3.connect(file)) as connection:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


@pytest.fixture
def old(tmp_path: Path) -> Path:
    make_old(tmp_path / "mlflow.db")
    return tmp_path / "mlflow.db"


def test_the_homes_own_database_is_upgraded_after_a_copy(old: Path, warned: Callable[[], list[str]]) -> None:
    store = Store(None, old.parent)
    client, experiment = store.connect("autotune")
    assert [run.info.run_name for run in client.search_runs([experiment])] == ["kept"]
    store.close()
    copy = old.with_name(f"mlflow.db.bak-{OLD}")
    assert revision(copy) == OLD
    assert revision(old) != OLD
    (said,) = warned()
    assert said == f"mlflow.db is upgraded from an earlier MLflow's schema; as it was it is kept as {copy.name}"
    store.connect("autotune")
    store.close()
    assert len(warned()) == 1


def test_a_database_that_the_user_names_is_left_as_it_is(old: Path, tmp_path: Path) -> None:
    store = Store(f"sqlite:///{old}", tmp_path / "home")
    with pytest.raises(
        UserError, match=rf"^tracking.uri: .* schema \({OLD}\).*; copy it, then mlflow db upgrade sqlite:"
    ):
        store.connect("autotune")
    assert revision(old) == OLD
    assert list(old.parent.glob("*.bak-*")) == []


def test_who_only_looks_something_up_finds_it_upgraded_after_a_copy(old: Path) -> None:
    store = Store(None, old.parent)
    assert {each.name for each in store.client().search_experiments()} == {"autotune", "Default"}
    assert revision(old.with_name(f"mlflow.db.bak-{OLD}")) == OLD


def test_what_cannot_be_upgraded_is_as_it_was(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(file: Path) -> None:
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("DROP TABLE runs")
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(schema, "_upgrade", fail)
    with pytest.raises(sqlite3.OperationalError):
        upgrade(old)
    with closing(sqlite3.connect(old)) as connection:
        assert connection.execute("SELECT name FROM runs").fetchall() == [("kept",)]


def test_a_newer_mlflows_database_is_named(home: Path) -> None:
    with closing(sqlite3.connect(home / "mlflow.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    with pytest.raises(UserError, match=r"^home: .* was made by a newer MLflow .*; pip install --upgrade mlflow"):
        upgrade(home / "mlflow.db")


def test_a_deleted_experiment_names_its_remedy(home: Path) -> None:
    store = Store(None, home)
    client, experiment = store.connect("mine")
    client.delete_experiment(experiment)
    remedy = rf"restore it \(MLFLOW_TRACKING_URI=.*mlflow.db mlflow experiments restore --experiment-id {experiment}\)"
    with pytest.raises(UserError, match=rf"^tracking.experiment: the experiment mine is deleted in MLflow; {remedy}"):
        store.connect("mine")
    client.restore_experiment(experiment)
    store.connect("mine")
    store.close()
