"""MLflow's own server, Debian's PostgreSQL, and ports for them."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .commands import environment

PATIENCE = 240.0  # seconds


@contextmanager
def serving(folder: Path, port: int, database: str | None = None) -> Iterator[None]:
    """Within it MLflow's own server runs, in a process group of its own, and is killed at the end.

    Args:
        folder: Where it keeps what it serves.
        port: Where it listens.
        database: The address of another database than an SQLite file in the folder.
    """
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
            *("--backend-store-uri", database or f"sqlite:///{folder}/served.db"),
            *("--artifacts-destination", f"{folder}/served"),
        ],
        cwd=folder,
        env=environment(MLFLOW_DISABLE_TELEMETRY="true"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        end = time.monotonic() + PATIENCE
        while not _answers(port):
            assert process.poll() is None, f"the server ended with {process.returncode}"
            assert time.monotonic() < end, "the server never answered"
            time.sleep(0.01)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """One that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Postgres:
    """A PostgreSQL server of Debian's package postgresql, with a cluster of its own.

    Args:
        folder: Where the cluster is made; root gives it to the user postgres, as whom it has to run then.
    """

    def __init__(self, folder: Path) -> None:
        self._bin = _postgres_programs()
        self._data = folder / "cluster"
        self._port = free_port()
        self._user = "postgres" if os.getuid() == 0 else getpass.getuser()
        if os.getuid() == 0:
            shutil.chown(folder, "postgres")
        self._call("initdb", "--auth=trust", "--no-sync", "--encoding=UTF8", f"--pgdata={self._data}")

    @property
    def url(self) -> str:
        """The address of a database, as SQLAlchemy takes it."""
        return f"postgresql+psycopg://{self._user}@127.0.0.1:{self._port}/postgres"

    def another(self, name: str) -> str:
        """The address of another database, which is made."""
        self._call("createdb", "--host=127.0.0.1", f"--port={self._port}", f"--username={self._user}", name)
        return self.url.removesuffix("postgres") + name

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = f"-p {self._port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self._data} -c fsync=off"
        self._call("pg_ctl", "start", "--wait", "-D", str(self._data), "-l", str(self._data / "log"), "-o", options)

    def stop(self) -> None:
        """Stop the server: who is connected is sent away."""
        self._call("pg_ctl", "stop", "--wait", "--mode=fast", "-D", str(self._data))

    def _call(self, program: str, *arguments: str) -> None:
        as_user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        subprocess.run([*as_user, str(self._bin / program), *arguments], check=True, cwd="/", stdout=subprocess.DEVNULL)


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Within it a PostgreSQL server runs."""
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
        server = Postgres(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _postgres_programs() -> Path:
    """Where the server's programs are, which Debian keeps off the PATH; the test fails where they are not installed."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    found = versions[-1] if versions else shutil.which("initdb")
    if found is None:
        pytest.fail("PostgreSQL is missing: apt-get install postgresql, or make test", pytrace=False)
    return Path(found).parent
