"""The schema of a database of MLflow's: the home's own is brought up to the MLflow that is installed."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import URL, create_engine, make_url

from autotune.errors import UserError

_log = logging.getLogger(__name__)


def upgrade(file: Path) -> None:
    """Upgrade the home's own database where an earlier MLflow made it, after a copy beside it.

    Args:
        file: The database; its writers are locked out.

    Raises:
        UserError: A newer MLflow made it.
        Exception: Whatever MLflow says where it cannot upgrade it; the database is as it was.
    """
    was = _other_revision(URL.create("sqlite", database=str(file)))
    if was is None:
        return
    if not _is_known(was):
        problem = f"{file} was made by a newer MLflow than the one that is installed (its schema is {was})"
        raise UserError("home", problem, "pip install --upgrade mlflow, or give another home")
    copy = file.with_name(f"{file.name}.bak-{was}")
    _copy(file, copy)
    try:
        _upgrade(file)
    except BaseException:  # MLflow's steps are not undone by themselves
        _copy(copy, file)
        raise
    _log.warning("%s is upgraded from an earlier MLflow's schema; as it was it is kept as %s", file.name, copy.name)


def check(uri: str, shown: str) -> None:
    """Refuse a database of the user's with another schema than this MLflow's, which would upgrade it without a copy.

    Args:
        uri: As SQLAlchemy takes it.
        shown: The same for people.

    Raises:
        UserError: It has one.
        Exception: Whatever SQLAlchemy or the driver says where it cannot be read.
    """
    was = _other_revision(make_url(uri))
    if was is None:
        return
    problem = f"{shown} has another MLflow's schema ({was}), and only the home's own database is upgraded"
    remedy = f"copy it, then mlflow db upgrade {shown}" if _is_known(was) else "pip install --upgrade mlflow"
    raise UserError("tracking.uri", problem, remedy)


def _other_revision(url: URL) -> str | None:
    """The schema's, as alembic names it; None where there is none, or it is this MLflow's."""
    from alembic.migration import MigrationContext
    from mlflow.store.db.utils import _get_latest_schema_revision

    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            revision = MigrationContext.configure(connection).get_current_revision()
    finally:
        engine.dispose()
    return None if revision == _get_latest_schema_revision() else revision  # type: ignore[no-untyped-call]


def _is_known(revision: str) -> bool:
    """Whether the MLflow that is installed has the steps from a revision on."""
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError
    from mlflow.store.db.utils import _get_alembic_config

    try:
        config = _get_alembic_config("")  # type: ignore[no-untyped-call]
        ScriptDirectory.from_config(config).get_revision(revision)
    except CommandError:
        return False
    return True


def _upgrade(file: Path) -> None:
    from mlflow.store.db.utils import _upgrade_db

    engine = create_engine(URL.create("sqlite", database=str(file)))
    try:
        _upgrade_db(engine)  # type: ignore[no-untyped-call]
    finally:
        engine.dispose()


def _copy(source: Path, target: Path) -> None:
    """Copy a database, what its log has included."""
    with closing(sqlite3.connect(source, timeout=20)) as one, closing(sqlite3.connect(target, timeout=20)) as other:
        one.backup(other)
