from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import optuna
import pytest
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState

from autotune.errors import UserError
from autotune.kept import database, lease
from autotune.kept.database import Database, open_database
from autotune.kept.lease import LeaseLostError
from autotune.kept.ledger import Ledger, LedgerView
from autotune.trial import Reason

from ..commands import script
from ..servers import Postgres, postgres

CONFIG = {"optimizer": {"name": "sgd", "lr": 0.1}, "data": {"batch_size": 8}, "model": {}, "schedule": {}, "seed": 0}


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database; PostgreSQL's keeps the studies of other tests."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/study.db"
    server: Postgres = request.getfixturevalue("server")
    return server.url


def held(url: str, name: str) -> Ledger:
    return Ledger(open_database(url), None, name, "maximize")


# A search elsewhere that was given the study and never lets go of it.
GONE = """
import os, sys
from autotune.kept.database import open_database
from autotune.kept.ledger import Ledger
Ledger(open_database(sys.argv[1]), None, sys.argv[2], "maximize").begin({"seed": 0}, {}, {})
os._exit(0)
"""


def test_a_study_in_a_database_has_one_holder(url: str) -> None:
    first = held(url, "one")
    with pytest.raises(UserError, match=r"^study.name: one is held by process \d+ on .* since .* UTC; wait for it"):
        held(url, "one")
    view = LedgerView(open_database(url), "one")
    assert view.holder is not None
    held(url, "another").close()
    first.close()
    assert view.holder is None
    held(url, "one").close()


def test_of_many_at_once_one_gets_the_study(url: str) -> None:
    storages = [open_database(url) for _ in range(6)]
    optuna.create_study(storage=storages[0], study_name="wanted")
    begin, got = threading.Barrier(len(storages)), []

    def want(storage: Database) -> None:
        begin.wait()
        try:
            storage.hold(storage.get_study_id_from_name("wanted"), "wanted")
        except UserError:
            return
        got.append(storage)

    threads = [threading.Thread(target=want, args=(storage,)) for storage in storages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1
    got[0].release()


def test_a_search_that_was_killed_holds_nothing(url: str, tmp_path: Path) -> None:
    assert script(GONE, url, "killed", cwd=tmp_path).code == 0
    ledger = held(url, "killed")
    assert [trial.state for trial in ledger.trials()] == [TrialState.RUNNING]
    ledger.close()


def test_another_machines_lease_runs_out(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(lease.socket, "gethostname", lambda: "elsewhere")
        elsewhere.setattr(lease, "RENEWED_EVERY", 3600.0)
        theirs = held(url, "far")
    with pytest.raises(UserError, match=r"far is held by process .* on elsewhere since"):
        held(url, "far")
    with monkeypatch.context() as later:
        later.setattr(lease, "LASTS", 0.0)
        ours = held(url, "far")
    number = ours.begin(CONFIG, {}, {})
    for write in (
        lambda: theirs.begin(CONFIG, {}, {}),
        lambda: theirs.keep_seconds(1.0),
        lambda: theirs.note(finished="no"),
        lambda: theirs.lay_down(),
    ):
        with pytest.raises(LeaseLostError, match=r"^process \d+ on "):
            write()
    theirs.close()  # lets go of nothing that is not its own
    ours.keep_seconds(2.0)
    assert [trial.number for trial in ours.trials()] == [number]
    assert (ours.seconds, ours.notes) == (2.0, {})
    ours.close()


def test_a_lease_is_renewed_while_the_study_is_held(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEWED_EVERY", 0.02)
    ledger = held(url, "kept")
    view = LedgerView(open_database(url), "kept")
    begun = view.holder
    assert begun is not None
    while (now := view.holder) is not None and now.renewed == begun.renewed:
        pass
    assert now is not None
    assert now.token == begun.token
    ledger.close()


def test_a_server_that_is_started_again_is_waited_for_and_nothing_is_written_twice(
    server: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = held(server.url, "restarted")
    restarts = 3

    def restart() -> None:
        for _ in range(restarts):
            server.stop()
            server.start()

    thread = threading.Thread(target=restart)
    thread.start()
    ended = 0
    while thread.is_alive() or ended < 5:
        number = ledger.begin(CONFIG, {}, {}, {"number": ended})
        assert number == ended
        ledger.advance(number, 1, 0.5)
        ledger.finish(number, Reason.COMPLETED, float(ended), {"val": [0.5]}, {}, {}, None)
        ended += 1
    thread.join()
    trials = ledger.trials()
    assert [(trial.number, trial.value) for trial in trials] == [(number, float(number)) for number in range(ended)]
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert "does not answer and is waited for" in caplog.text
    ledger.close()


def test_an_answer_that_got_lost_is_not_written_again(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server goes away behind every second commit, before it has said so."""
    from sqlalchemy.orm import Session

    ledger = held(server.url, "lost")
    commit, calls = Session.commit, count()

    def losing(session: Session) -> None:
        commit(session)
        if next(calls) % 2 == 0:
            raise database.AwayError("the connection was closed")

    monkeypatch.setattr(Session, "commit", losing)
    for number in range(3):
        assert ledger.begin(CONFIG, {}, {}, {"number": number}) == number
        ledger.advance(number, 1, 0.5)
        ledger.finish(number, Reason.COMPLETED, 1.0, {}, {}, {}, None)
    monkeypatch.undo()
    assert [(trial.number, trial.value) for trial in ledger.trials()] == [(0, 1.0), (1, 1.0), (2, 1.0)]
    ledger.close()


def test_a_server_that_stays_away_ends_it(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = held(server.url, "away")
    monkeypatch.setattr(database, "PATIENCE", 0.0)
    server.stop()
    try:
        with pytest.raises(StorageInternalError, match=r"^the database does not answer"):
            ledger.keep_seconds(1.0)
        ledger.close()
        monkeypatch.setattr(database, "OPENED_WITHIN", 0.0)
        with pytest.raises(UserError, match=r"^storage.url: .* cannot be opened"):
            open_database(server.url)
    finally:
        server.start()
