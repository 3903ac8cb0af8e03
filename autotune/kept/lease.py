"""The lease of a study in a database: one search at a time writes it, wherever it runs.

The lease is a user attribute of the study, which says who holds it and when it was renewed last, by the database's own
clock. It is taken and renewed by comparing the attribute and writing it in one statement, so that of two at once one
gets it. A search that is gone is recognized by its process where that ran on the same machine, and by a lease that was
not renewed anywhere else.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from autotune.errors import UserError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, TableClause
    from sqlalchemy.orm import Session

# The study's user attribute.
ATTRIBUTE = "autotune:lease"
# How long a lease lasts that is not renewed, and how often it is, in seconds.
LASTS = 30.0
RENEWED_EVERY = 5.0


class LeaseLostError(Exception):
    """Another search has taken the study over; the message says which."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a study.

    Attributes:
        token: Its own, whoever else holds the study under the same process id.
        pid: Its process.
        started: When that started, s since 1970: process ids are used again.
        host: The machine's name.
        machine: Tells machines and containers apart that have one name: process ids mean nothing across them.
        since: When it took the study, in words.
        renewed: When it renewed the lease last, s since 1970 by the database's clock.
    """

    token: str
    pid: int
    started: float
    host: str
    machine: str
    since: str
    renewed: float

    @classmethod
    def this(cls) -> Holder:
        """This process, from now on."""
        import psutil

        started = psutil.Process().create_time()
        since = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
        return cls(str(uuid4()), os.getpid(), started, socket.gethostname(), _machine(), since, 0.0)

    @classmethod
    def parse(cls, text: str) -> Holder | None:
        """A holder as it was written; None where it is nothing that this version wrote."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None

    @property
    def text(self) -> str:
        """As it is written."""
        return json.dumps(asdict(self))

    def holds(self, now: float) -> bool:
        """Whether it still has the study, at a moment of the database's clock."""
        if (self.host, self.machine) == (socket.gethostname(), _machine()) and not self._is_alive():
            return False
        return now - self.renewed < LASTS

    def _is_alive(self) -> bool:
        import psutil

        try:
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.started) < 1 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


def _machine() -> str:
    """This boot of this machine and the namespace of process ids; empty where the system does not tell."""
    with suppress(OSError):
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115
    return ""


class Lease:
    """The right to write a study, for this process.

    Args:
        engine: Of the database.
        study_id: Optuna's number of the study.
        name: The study's name.
    """

    def __init__(self, engine: Engine, study_id: int, name: str) -> None:
        self._engine = engine
        self._study_id = study_id
        self._name = name
        self._table = _table()
        self._mine = Holder.this()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="study-lease", daemon=True)

    def take(self) -> None:
        """Take the study and hold it until `release`.

        Raises:
            UserError: Another search holds it; says which.
        """
        from sqlalchemy.exc import IntegrityError

        is_taken = False
        while not is_taken:
            with suppress(IntegrityError), self._engine.begin() as connection:  # another has just written the first one
                is_taken = self._try(connection)
        self._thread.start()

    def _try(self, connection: Connection) -> bool:
        found, now = self._read(connection), clock(connection)
        mine = replace(self._mine, renewed=now).text
        if found is None:
            connection.execute(self._table.insert().values(**self._key, value_json=mine))
            return True
        holder = Holder.parse(found)
        if holder is not None and holder.token != self._mine.token and holder.holds(now):
            raise held(self._name, holder)
        return self._replace(connection, found, mine)

    def check(self, session: Session) -> None:
        """Find out whether this process still holds the study, and keep it so until the transaction has ended.

        Raises:
            LeaseLostError: It does not.
        """
        query = self._query().with_for_update(read=True)
        found = session.execute(query).scalar_one_or_none()
        holder = None if found is None else Holder.parse(found)
        if holder is None or holder.token != self._mine.token:
            raise LeaseLostError("another search, which has ended since" if holder is None else str(holder))

    def release(self) -> None:
        """Let go of the study; a database that is away hears of it when the lease runs out."""
        self._is_over.set()
        if self._thread.ident is not None:
            self._thread.join()
        with suppress(Exception), self._engine.begin() as connection:
            found = self._read(connection)
            holder = None if found is None else Holder.parse(found)
            if holder is not None and holder.token == self._mine.token:
                connection.execute(self._table.delete().where(*self._where, self._table.c.value_json == found))

    def _keep(self) -> None:
        """Renew the lease until it is released or lost; a database that is away is asked again."""
        while not self._is_over.wait(RENEWED_EVERY):
            with suppress(Exception):  # the search itself hears of whatever it is, when it writes
                if not self._renew():
                    return

    def _renew(self) -> bool:
        """Write down that the holder is alive; returns whether it still holds the study."""
        with self._engine.begin() as connection:
            found = self._read(connection)
            holder = None if found is None else Holder.parse(found)
            if found is None or holder is None or holder.token != self._mine.token:
                return False
            renewed = replace(holder, renewed=clock(connection)).text
            return self._replace(connection, found, renewed)

    def _replace(self, connection: Connection, was: str, text: str) -> bool:
        """Write the attribute where it still is as it was; returns whether it was."""
        update = self._table.update().where(*self._where, self._table.c.value_json == was).values(value_json=text)
        return connection.execute(update).rowcount == 1 or was == text

    def _read(self, connection: Connection) -> str | None:
        found: str | None = connection.execute(self._query()).scalar_one_or_none()
        return found

    def _query(self) -> Any:
        from sqlalchemy import select

        return select(self._table.c.value_json).where(*self._where)

    @property
    def _key(self) -> dict[str, Any]:
        return {"study_id": self._study_id, "key": ATTRIBUTE}

    @property
    def _where(self) -> Iterator[Any]:
        return (self._table.c[name] == value for name, value in self._key.items())


def _table() -> TableClause:
    """Optuna's table of studies' user attributes."""
    from sqlalchemy import column, table

    return table("study_user_attributes", column("study_id"), column("key"), column("value_json"))


def remove(connection: Connection, study_id: int) -> None:
    """Remove a study's lease, whoever's it is."""
    attributes = _table()
    connection.execute(attributes.delete().where(attributes.c.study_id == study_id, attributes.c.key == ATTRIBUTE))


def clock(connection: Connection) -> float:
    """The database's clock, s since 1970."""
    from sqlalchemy import extract, func, select

    is_mysql = connection.dialect.name in ("mysql", "mariadb")
    seconds = func.unix_timestamp() if is_mysql else extract("epoch", func.current_timestamp())
    return float(connection.execute(select(seconds)).scalar_one())


def held(name: str, holder: Holder, key: str = "study.name") -> UserError:
    """The mistake of one who wants a study that another search holds."""
    return UserError(key, f"{name} is held by {holder}", "wait for it, or give another name")


def holder_in(attributes: Mapping[str, Any]) -> Holder | None:
    """Who holds a study, by its user attributes; its lease may have run out."""
    kept = attributes.get(ATTRIBUTE)
    return Holder.parse(json.dumps(kept)) if isinstance(kept, dict) else None
