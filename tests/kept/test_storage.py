from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import signal
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.testing.pytest_storages import StorageTestCase
from optuna.trial import TrialState, create_trial

from autotune.errors import UserError
from autotune.kept.storage import OwnedJournal, StudyLock, open_storage


class TestOwnedJournalContract(StorageTestCase):
    """Optuna's own contract for storages."""

    @pytest.fixture
    def storage(self, tmp_path: Path) -> object:
        journal = OwnedJournal(tmp_path / "study.journal")
        yield JournalStorage(journal)
        journal.close()

    def test_pickle_storage(self, storage: object) -> None:
        """One process owns the file, so it cannot be handed to another."""
        with pytest.raises(TypeError, match="cannot pickle"):
            pickle.dumps(storage)


def study_with(path: Path, trials: int) -> OwnedJournal:
    journal = OwnedJournal(path)
    study = optuna.create_study(storage=JournalStorage(journal), study_name="s", load_if_exists=True)
    for value in range(trials):
        study.add_trial(create_trial(value=float(value)))
    return journal


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    study_with(tmp_path / "j", 3).close()
    journal = OwnedJournal(tmp_path / "j")
    study = optuna.load_study(study_name="s", storage=JournalStorage(journal))
    assert [trial.value for trial in study.trials] == [0.0, 1.0, 2.0]
    journal.close()


def test_words_that_operations_share_are_in_memory_once(tmp_path: Path) -> None:
    journal = OwnedJournal(tmp_path / "j")
    journal.read_logs(0)
    log = {"user_attr": {"config": {"the optimizer": {"name": "the one"}}}}
    journal.append_logs([log])
    journal.append_logs([log])
    first, second = journal.read_logs(0)
    assert first == second == log
    (key, inner), (same, others) = (each["user_attr"]["config"].popitem() for each in (first, second))
    assert key is same
    assert inner["name"] is others["name"]
    journal.close()


def test_every_optuna_tool_reads_the_file(tmp_path: Path) -> None:
    study_with(tmp_path / "j", 2).close()
    study = optuna.load_study(study_name="s", storage=JournalStorage(JournalFileBackend(str(tmp_path / "j"))))
    study.add_trial(create_trial(value=9.0))
    journal = study_with(tmp_path / "j", 1)
    journal.close()
    study = optuna.load_study(study_name="s", storage=JournalStorage(JournalFileBackend(str(tmp_path / "j"))))
    assert [trial.value for trial in study.trials] == [0.0, 1.0, 9.0, 0.0]


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_journal_cut_off_in_its_last_line_is_written_on(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "j"
    study_with(path, 3).close()
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    study_with(path, 1).close()
    study = optuna.load_study(study_name="s", storage=JournalStorage(JournalFileBackend(str(path))))
    assert [trial.value for trial in study.trials] == [0.0, 1.0, 0.0]
    assert all(json.loads(line) for line in path.read_text().splitlines())


def _hold(folder: Path, ready: object) -> None:
    with StudyLock(folder):
        ready.set()  # type: ignore[attr-defined]
        signal.pause()


def test_a_study_has_one_holder_and_a_dead_one_holds_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    holder = context.Process(target=_hold, args=(tmp_path, ready))
    holder.start()
    assert ready.wait(60)
    with (
        pytest.raises(
            UserError,
            match=rf"^study.name: {tmp_path.name} is held by process {holder.pid} on .* since .*; wait for it",
        ),
        StudyLock(tmp_path),
    ):
        pass
    assert holder.pid is not None
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    with StudyLock(tmp_path):
        pass
    assert not (tmp_path / "study.lock").exists()


def test_sqlite_and_what_is_no_database(tmp_path: Path) -> None:
    storage, journal = open_storage({"name": "sqlite", "url": f"sqlite:///{tmp_path}/study.db"}, tmp_path)
    study = optuna.create_study(storage=storage)
    study.add_trial(create_trial(value=1.0))
    assert journal is None
    assert study.trials[0].state == TrialState.COMPLETE
    storage.remove_session()
    with pytest.raises(UserError, match=r"^storage.url: nosuchdb://x cannot be opened"):
        open_storage({"url": "nosuchdb://x"}, tmp_path)
