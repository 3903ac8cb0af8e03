from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import threading
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO
from unittest import mock

import pytest

from autotune.tracking import mlflow as tracking
from autotune.tracking import remote, writer


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


class WriterThread:
    """A writer in a thread of this process: MLflow is imported already, and a test can break it.

    All but the process is as it is in earnest. A thread can't be killed: it hears nothing more.
    """

    returncode = 0

    def __init__(self, connection: Connection, _: IO[bytes]) -> None:
        self._socket = socket.socket(fileno=os.dup(connection.fileno()))
        self._thread = threading.Thread(
            target=self._serve, args=(Connection(os.dup(connection.fileno())),), daemon=True
        )
        self._thread.start()

    def _serve(self, connection: Connection) -> None:
        with connection, self._socket:
            writer.serve(connection, writer.Outlet(connection))

    def wait(self, timeout: float) -> None:
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise subprocess.TimeoutExpired("writer", timeout)

    def kill(self) -> None:
        if self._thread.is_alive():
            self._socket.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have trackers write by a thread instead of a process, which takes seconds to import MLflow."""
    monkeypatch.setattr(remote, "start_process", WriterThread)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is, a writer gets the time that it needs."""
    monkeypatch.setattr(tracking, "PATIENCE", 600.0)
    monkeypatch.setattr(tracking, "LONGEST", 600.0)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nobody wait before a last attempt, or for another writer."""
    monkeypatch.setattr(tracking, "LAST_PAUSE", 0.01)
    monkeypatch.setattr(writer, "LAST_GASP", 0.0)


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Asked for the warnings that were logged so far."""
    caplog.set_level(logging.INFO)
    return lambda: [entry.getMessage() for entry in caplog.records if entry.levelno >= logging.WARNING]
