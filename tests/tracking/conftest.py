from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """A tracker sets MLflow's switches for the whole process: here they end with the test."""
    unset = ("MLFLOW_TRACKING_URI", "DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY")
    with mock.patch.dict(os.environ):
        for name in unset:
            os.environ.pop(name, None)
        yield


@pytest.fixture(scope="session")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's empty database: making it anew takes a second."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("schema") / "mlflow.db"
    with mock.patch.dict(os.environ, {"MLFLOW_DISABLE_TELEMETRY": "true"}), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # see Store.connect
        MlflowClient(f"sqlite:///{path}")
    return path


@pytest.fixture
def home(tmp_path: Path, schema: Path) -> Path:
    """A home whose database is there and empty."""
    home = tmp_path / "mlruns"
    home.mkdir()
    shutil.copy(schema, home)
    return home
