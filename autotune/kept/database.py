"""A study's storage in a database that may be a server: patient where that is away, and written by one search."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from autotune.drivers import check_driver
from autotune.errors import UserError, first_line
from autotune.kept.lease import Lease, clock, remove
from autotune.trust.masking import mask

if TYPE_CHECKING:
    from sqlalchemy.engine import ExceptionContext
    from sqlalchemy.orm import Session

_log = logging.getLogger(__name__)

# How long a database may be away while a study is written, and while it is opened: one that is misspelt is told soon.
PATIENCE = 60.0
OPENED_WITHIN = 5.0
LONGEST_PAUSE = 2.0

P = ParamSpec("P")
T = TypeVar("T")


class AwayError(Exception):
    """The database does not answer at the moment, or another process has it locked."""


def _reads(method: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], T]:
    """A method of Optuna's that may be called again, made patient."""

    def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        answer: T = self._persist(partial(method, self, *args, **kwargs))
        return answer

    return call


def _writes(method: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], T]:
    """The same of one that writes the same again when it is called again: the lease is checked within it."""

    def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        answer: T = self._persist(partial(method, self, *args, **kwargs), is_write=True)
        return answer

    return call


class Database(RDBStorage):
    """Optuna's storage in a database.

    A server that is away, as while it is started again, is waited for, and what it was to do is done again; what it had
    done already is not done twice. A study that is held (`hold`) is written by its holder alone: each transaction ends
    by finding out that it still is.

    Args:
        url: As SQLAlchemy takes it.

    Raises:
        Exception: Whatever SQLAlchemy or the driver says where it cannot be opened.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url, engine_kwargs={} if url.startswith("sqlite") else {"pool_pre_ping": True})
        from sqlalchemy import event

        self._lease: Lease | None = None
        self._is_writing = threading.local()
        self._is_given_up = False
        event.listen(self.engine, "handle_error", _tell_passing_errors)
        event.listen(self.scoped_session, "before_commit", self._check)

    def hold(self, study_id: int, name: str) -> None:
        """Take a study's lease and keep it until `release`.

        Raises:
            UserError: Another search holds the study.
        """
        lease = Lease(self.engine, study_id, name)
        self._persist(lease.take)
        self._lease = lease

    def release(self) -> None:
        """Let go of the study that is held; nothing where none is."""
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.release()

    def remove_session(self) -> None:
        """See Optuna's; lets go of the connections too."""
        super().remove_session()
        self.engine.dispose()

    def now(self) -> float:
        """The database's clock, s since 1970."""

        def ask() -> float:
            with self.engine.connect() as connection:
                return clock(connection)

        return self._persist(ask)

    def forget_holder(self, study_id: int) -> None:
        """Remove the lease that a copy of a study has of the original."""
        with self.engine.begin() as connection:
            remove(connection, study_id)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """See Optuna's; a trial that was made before the answer got lost is not made again."""
        create = partial(super().create_new_trial, study_id, template_trial)
        if template_trial is None:
            return self._persist(create, is_write=True)

        def again() -> int:
            last = next(reversed(RDBStorage.get_all_trials(self, study_id, deepcopy=False)), None)
            is_made = last is not None and _says(last) == _says(template_trial)
            return last._trial_id if last is not None and is_made else create()

        return self._persist(create, again, is_write=True)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """See Optuna's; a trial that ended before the answer got lost is not ended again."""
        write = partial(super().set_trial_state_values, trial_id, state, values)

        def again() -> bool:
            trial = RDBStorage.get_trial(self, trial_id)
            is_written = trial.state == state and (values is None or list(values) == trial.values)
            return is_written or write()

        return self._persist(write, again, is_write=True)

    create_new_study = _reads(RDBStorage.create_new_study)
    delete_study = _reads(RDBStorage.delete_study)
    set_study_user_attr = _writes(RDBStorage.set_study_user_attr)
    set_study_system_attr = _writes(RDBStorage.set_study_system_attr)
    set_trial_param = _writes(RDBStorage.set_trial_param)
    set_trial_intermediate_value = _writes(RDBStorage.set_trial_intermediate_value)
    set_trial_user_attr = _writes(RDBStorage.set_trial_user_attr)
    set_trial_system_attr = _writes(RDBStorage.set_trial_system_attr)
    get_study_id_from_name = _reads(RDBStorage.get_study_id_from_name)
    get_study_name_from_id = _reads(RDBStorage.get_study_name_from_id)
    get_study_directions = _reads(RDBStorage.get_study_directions)
    get_study_user_attrs = _reads(RDBStorage.get_study_user_attrs)
    get_study_system_attrs = _reads(RDBStorage.get_study_system_attrs)
    get_all_studies = _reads(RDBStorage.get_all_studies)
    get_trial = _reads(RDBStorage.get_trial)
    get_all_trials = _reads(RDBStorage.get_all_trials)
    get_trial_id_from_study_id_trial_number = _reads(RDBStorage.get_trial_id_from_study_id_trial_number)

    def _persist(self, call: Callable[[], T], again: Callable[[], T] | None = None, is_write: bool = False) -> T:
        """Call until the database answers.

        Args:
            call: What is called.
            again: What is called instead once a call failed that may have reached the database.
            is_write: Whether the lease is checked within the call's transaction.

        Raises:
            StorageInternalError: It has not answered for too long.
        """
        until = time.monotonic() + PATIENCE
        pause = 0.1
        is_again = False
        while True:
            try:
                with self._writing() if is_write else _nothing():
                    answer = again() if is_again and again is not None else call()
            except AwayError as error:
                if self._is_given_up or time.monotonic() > until:
                    self._is_given_up = True
                    raise StorageInternalError(f"the database does not answer ({error})") from error
                level = logging.DEBUG if is_again else logging.WARNING
                _log.log(level, "the study's database does not answer and is waited for: %s", error)
                time.sleep(pause)
                pause, is_again = min(2 * pause, LONGEST_PAUSE), True
            else:
                self._is_given_up = False
                if is_again:
                    _log.info("the study's database answers again")
                return answer

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self._is_writing.now = True
        try:
            yield
        finally:
            self._is_writing.now = False

    def _check(self, session: Session) -> None:
        if self._lease is not None and getattr(self._is_writing, "now", False):
            self._lease.check(session)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def _says(trial: FrozenTrial) -> tuple[Any, ...]:
    return trial.params, trial.user_attrs, trial.system_attrs


def _tell_passing_errors(context: ExceptionContext) -> None:
    """Raise an error that passes as an `AwayError`, which neither Optuna nor SQLAlchemy catches."""
    if not context.is_pre_ping and (context.is_disconnect or _passes(context.original_exception, context.dialect)):
        raise AwayError(mask(first_line(context.original_exception)))


def _passes(error: BaseException | None, dialect: Any) -> bool:
    """Whether the same call may work in a while."""
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    return dialect.name != "sqlite" and isinstance(error, dialect.loaded_dbapi.OperationalError)


def open_database(url: str) -> Database:
    """Open a database that studies are kept in; its tables are made where they are missing.

    Raises:
        UserError: It cannot be opened.
    """
    check_driver("storage.url", url)
    until = time.monotonic() + OPENED_WITHIN
    while True:
        try:
            return Database(url)
        except Exception as error:  # SQLAlchemy and the drivers raise their own kinds; each means it does not serve
            if time.monotonic() < until and _may_open_later(error):
                time.sleep(0.2)
                continue
            said = mask(f"{url} cannot be opened ({first_line(error)})")
            if isinstance(error, RuntimeError) and "table schema" in str(error):
                # MLflow's tables too, whose version Optuna takes for its own: both keep it in a table of one name.
                raise UserError("storage.url", said, "give Optuna a database of its own, not MLflow's") from error
            raise UserError("storage.url", said, "give a URL as in sqlite:///study.db") from error


def _may_open_later(error: Exception) -> bool:
    """Whether a server is being started, or another process is making the tables at the moment."""
    from sqlalchemy.exc import DBAPIError, IntegrityError

    if not isinstance(error, DBAPIError):
        return False
    is_server = not isinstance(error.orig, sqlite3.Error)
    is_made = isinstance(error, IntegrityError) or "already exists" in str(error.orig)
    dbapi_kind = type(error).__name__
    return is_made or (dbapi_kind == "OperationalError" and (is_server or "locked" in str(error.orig)))
