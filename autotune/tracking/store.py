"""Where MLflow keeps its runs: a server, a database, or the SQLite file in the home with its artifacts beside it."""

from __future__ import annotations

import fcntl
import logging
import os
import shlex
import sqlite3
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

from autotune.drivers import check_driver
from autotune.errors import UserError
from autotune.imports import uncollected
from autotune.kept.whole import write_whole
from autotune.sqlite_url import sqlite_path, sqlite_url
from autotune.tracking.entries import mask
from autotune.tracking.view import share_view

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment
    from sqlalchemy import Connection, Engine

# On an experiment whose artifacts lie beside the database and move with it.
BESIDE = "autotune.artifacts"

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
OTHERS = ("http", "https", "databricks", "uc")
PLUGINS = "mlflow.tracking_store"

# Where a database names what MLflow opens, with whose credentials.
_ELSEWHERE = (
    ("trace_tags", "value", "key = 'mlflow.artifactLocation'"),
    ("webhooks", "url", "TRUE"),
    ("workspaces", "trace_archival_location", "TRUE"),
)
# Addresses of what the store itself knows, unless they name a host.
_WITHIN = ("runs", "models", "mlflow-artifacts")
# MLflow's own trigger is on this table; others may change where a run's artifacts go.
_WITH_TRIGGER = "secrets"
# MLflow writes absolute paths here.
_PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)


class Store:
    """A place of MLflow's, opened by `connect`; until then nothing is imported, made or looked up.

    Args:
        uri: As MLflow takes it. None: MLFLOW_TRACKING_URI where it is set, else ``mlflow.db`` in the home.
        home: Where the default database and the artifacts of any database lie.

    Attributes:
        uri: What MLflow is given: absolute where it names a file.
        shown: The same for people: relative paths as given, passwords masked.

    Raises:
        UserError: MLflow has no store of such an address.
    """

    def __init__(self, uri: str | None, home: Path) -> None:
        given = uri or os.environ.get("MLFLOW_TRACKING_URI") or sqlite_url(home / "mlflow.db")
        self.shown = mask(given)
        self._scheme = given.partition(":")[0].partition("+")[0]
        if self._scheme not in (*DATABASES, *OTHERS, *(each.name for each in entry_points(group=PLUGINS))):
            remedy = f"give {', '.join(DATABASES)} or http(s)://..."
            raise UserError("tracking.uri", f"{self.shown} cannot be opened (MLflow knows no {self._scheme}:)", remedy)
        if self._scheme in DATABASES and self._scheme != "sqlite":
            check_driver("tracking.uri", given)
        file = sqlite_path(given)
        self._file = None if file is None else file.resolve()
        self._is_the_homes = self._file == (home / "mlflow.db").resolve()
        self._artifacts = (home.resolve() if self._file is None else self._file.parent) / "artifacts"
        self.uri = given if self._file is None else sqlite_url(self._file)
        self._listeners: dict[str, Callable[..., None]] = {}  # to SQLAlchemy's events
        self._engines: set[Engine] = set()
        _quieten(self._scheme)

    @property
    def ui_command(self) -> str:
        """What to type to see the runs; a server's address where there is one."""
        if not self._is_database:
            return self.shown
        return f"mlflow ui --backend-store-uri {shlex.quote(self.shown)} --host 127.0.0.1 --port 5000"

    @property
    def exists(self) -> bool:
        """Whether there is something to open; of a server that is not known."""
        return self._file is None or self._file.exists()

    @property
    def _is_database(self) -> bool:
        return self._scheme in DATABASES

    @uncollected()
    def connect(self, experiment: str) -> tuple[MlflowClient, str]:
        """Open the store, made where it is missing; returns a client and the experiment's id.

        Raises:
            UserError: It is a file, and names another machine.
            Exception: Whatever MLflow, SQLAlchemy or the operating system says where it cannot be opened.
        """
        from mlflow import MlflowClient

        # MLflow maps its tables in a way that SQLAlchemy 2.1 calls deprecated. Not catch_warnings: this is a thread.
        warnings.filterwarnings("ignore", "The ``noload`` loader strategy", DeprecationWarning)
        if self._file is None:
            self._check_schema()
            client = MlflowClient(self.uri)
            return client, self._experiment(client, experiment).experiment_id
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._locked():
            self._make()
            self._relax()
            self._check_addresses()
            self._check_schema()
            client = MlflowClient(self.uri)
            found = self._experiment(client, experiment)
            if found.tags.get(BESIDE) == "beside" and found.artifact_location != self._artifacts.as_uri():
                self._move(found.artifact_location)
        return client, found.experiment_id

    def client(self) -> MlflowClient:
        """A client of what is there, with no experiment made.

        Raises:
            Exception: As `connect`.
        """
        from mlflow import MlflowClient

        with nullcontext() if self._file is None else self._locked():
            self._check_schema()
            return MlflowClient(self.uri)

    def _check_schema(self) -> None:
        """Bring the home's own database up to this MLflow, and refuse any other that an earlier one made."""
        from autotune.tracking import schema  # imports SQLAlchemy

        if self._is_the_homes:
            assert self._file is not None
            schema.upgrade(self._file)
        elif self._is_database:
            schema.check(self.uri, self.shown)

    def close(self) -> None:
        """Leave the whole database in its one file, as whoever copies it expects."""
        if self._file is not None and self._listeners:
            from sqlalchemy import event
            from sqlalchemy.engine import Engine

            for name, listener in self._listeners.items():
                event.remove(Engine, name, listener)
            self._listeners.clear()
            for engine in self._engines:
                engine.dispose()
            self._engines.clear()
            with closing(sqlite3.connect(self._file)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _experiment(self, client: MlflowClient, name: str) -> Experiment:
        from mlflow.exceptions import MlflowException

        found = client.get_experiment_by_name(name)
        if found is not None:
            self._check_kept(found)
            return found
        location = self._artifacts.as_uri() if self._is_database else None
        tags = {} if self._file is None else {BESIDE: "beside"}
        try:
            made = client.get_experiment(client.create_experiment(name, location, tags))
        except MlflowException:
            found = client.get_experiment_by_name(name)  # another process may have been faster
            if found is None:
                raise
            return found
        share_view(client, made)
        return made

    def _check_kept(self, experiment: Experiment) -> None:
        """Refuse an experiment that somebody has deleted: MLflow takes no runs for it. Raises UserError."""
        if experiment.lifecycle_stage == "deleted":
            restore = ["mlflow", "experiments", "restore", "--experiment-id", experiment.experiment_id]
            command = f"MLFLOW_TRACKING_URI={shlex.quote(self.shown)} {shlex.join(restore)}"
            problem = f"the experiment {experiment.name} is deleted in MLflow"
            raise UserError("tracking.experiment", problem, f"restore it ({command}) or give another name")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Within it no other process makes the schema: two at once leave the database half made."""
        assert self._file is not None
        with self._file.with_name("mlflow.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _make(self) -> None:
        """Make the database where it is missing, elsewhere at first: one whose making was cut off cannot be opened."""
        from mlflow import MlflowClient

        assert self._file is not None
        if self._file.exists():
            return
        for leftover in self._file.parent.glob(f".{self._file.name}.making*"):
            leftover.unlink(missing_ok=True)
        # A name of its own each time: of an attempt that failed, as on a full disk, MLflow keeps the connection.
        fresh = self._file.with_name(f".{self._file.name}.making-{uuid4().hex}")
        MlflowClient(sqlite_url(fresh))
        write_whole(self._file, fresh.read_bytes())
        fresh.unlink()

    def _relax(self) -> None:
        """Have SQLite write each commit to the log alone, and wait for the disk only when it moves the log over.

        A commit then costs microseconds instead of a sync. What a crash of the machine may lose is the last commits,
        never the database; the study itself is in its own journal.
        """
        from sqlalchemy import event
        from sqlalchemy.engine import Engine

        assert self._file is not None
        file = self._file
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")  # is kept in the file: holds for everybody

        def relax(connection: Any, _: Any) -> None:
            if isinstance(connection, sqlite3.Connection):
                opened = connection.execute("PRAGMA database_list").fetchone()[2]
                if opened and Path(opened).resolve() == file:
                    connection.execute("PRAGMA synchronous = NORMAL")  # is not kept: once a connection

        def note(connection: Connection) -> None:
            if connection.engine.url.database == str(file):
                self._engines.add(connection.engine)

        if not self._listeners:
            self._listeners = {"connect": relax, "engine_connect": note}
            for name, listener in self._listeners.items():
                event.listen(Engine, name, listener)

    def _check_addresses(self) -> None:
        """Refuse a file, which may be somebody's, that has MLflow open what is elsewhere. Raises UserError."""
        assert self._file is not None
        own = "serve it yourself (mlflow server --backend-store-uri ...) and type that address"
        with closing(sqlite3.connect(self._file, timeout=20)) as connection:
            acting = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name != ?"
            for (name,) in connection.execute(acting, (_WITH_TRIGGER,)):
                raise UserError("tracking.uri", f"{self.shown} has the trigger {name}, which is not MLflow's", own)
            for table, column, which in (*((*place, "TRUE") for place in _PLACES), *_ELSEWHERE):
                if column not in _columns(connection, table):
                    continue
                query = f"SELECT DISTINCT {column} FROM {table} WHERE {column} LIKE '%:%' AND {which}"
                for (address,) in connection.execute(query):
                    if not _is_here(str(address)):
                        problem = f"{self.shown} names {mask(str(address))}, and an address is not taken from a file"
                        raise UserError("tracking.uri", f"{problem}: your credentials would go there", own)

    def _move(self, old: str) -> None:
        """Follow the home to where it was moved: MLflow keeps the artifacts' absolute paths."""
        assert self._file is not None
        with closing(sqlite3.connect(self._file, timeout=20)) as connection, connection:
            for table, column in _PLACES:
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                    f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                    (self._artifacts.as_uri(), len(old) + 1, old, len(old) + 1, f"{old}/"),
                )


def _is_here(address: str) -> bool:
    """Whether an address, as MLflow reads it, leads to this machine or to what the store itself knows."""
    parts = urlsplit(address)
    return parts.scheme in ("", "file") or (parts.scheme in _WITHIN and not parts.netloc)


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [name for (name,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))]


def _quieten(scheme: str) -> None:
    """Keep MLflow from the terminal and the network, where the user has not said otherwise."""
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    if "DO_NOT_TRACK" not in os.environ:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    if scheme in ("http", "https"):
        # The writer tries again by itself; MLflow's own 7 retries of 120 s would hold it for minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    if "mlflow" not in sys.modules:
        os.environ.setdefault("MLFLOW_CONFIGURE_LOGGING", "false")
        for name in ("mlflow", "alembic"):
            logger = logging.getLogger(name)
            logger.addHandler(logging.NullHandler())
            if logger.level == logging.NOTSET:
                logger.setLevel(logging.WARNING)
