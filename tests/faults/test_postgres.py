"""Real PostgreSQL servers: a study kept in one, and MLflow's runs behind a server of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from optuna.trial import FrozenTrial, TrialState

from autotune.kept.database import open_database
from autotune.kept.ledger import LedgerView
from autotune.kept.outcome import URL
from autotune.reconcile import reconcile

from ..commands import environment, run, script, start, wait
from ..servers import Postgres, free_port, postgres, serving
from .searching import typed, until

pytestmark = pytest.mark.slow

AWAY = 3.0
LONG = ("executor=lightning", "trainer.max_epochs=20", "pruner=none", "confirm.top=1")
# A search whose lease runs out a second after it was stopped.
HASTY = """
import sys
from autotune import search
from autotune.kept import lease
lease.LASTS, lease.RENEWED_EVERY = 1.0, 0.2
sys.argv[0] = "autotune.search"
search.main()
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


def trials_of(url: str, study: str) -> list[FrozenTrial]:
    """A study's trials; none where it has not begun."""
    storage = open_database(url)
    try:
        return LedgerView(storage, study).trials()
    except KeyError:
        return []
    finally:
        storage.remove_session()


def ended(url: str, study: str) -> int:
    """How many trials of a study have ended."""
    trials = trials_of(url, study)
    return sum(trial.state == TrialState.COMPLETE for trial in trials)


def kept_in(url: str) -> tuple[str, str]:
    return "storage=rdb", f"storage.url={url}"


def test_a_study_and_its_mirror_outlive_a_restart_of_their_servers(
    server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    arguments = typed("both", 20, *LONG, *kept_in(server.url), f"tracking.uri={uri}", "tracking.flush_seconds=0.2")
    with serving(tmp_path, port, server.another("mlflow")):
        process = start("search", *arguments, cwd=tmp_path)
        for count in (3, 8):
            until(lambda: ended(server.url, "both") >= count)  # noqa: B023
            server.stop()
            time.sleep(AWAY)
            assert process.poll() is None, process.communicate()
            server.start()
        end = wait(process)
        assert (end.code, end.err, "incomplete" in end.out) == (0, "", False), end
        assert "Traceback" not in (tmp_path / "mlruns/studies/both/search.log").read_text()
        monkeypatch.setenv(URL, server.url)
        assert reconcile(tmp_path / "mlruns", uri) == []
        assert [trial.number for trial in trials_of(server.url, "both")] == list(range(20))


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_two_homes_do_not_search_one_study(database: str, server: Postgres, tmp_path: Path) -> None:
    url = server.url if database == "postgresql" else f"sqlite:///{tmp_path}/shared.db"
    arguments = typed("two", 200, *LONG, *kept_in(url), "tracking=none")
    process = start("search", *arguments, "home=h1", cwd=tmp_path)
    until(lambda: ended(url, "two") >= 1)
    refused = run("search", *arguments, "home=h2", cwd=tmp_path)
    assert refused.code == 2
    assert not (tmp_path / "h2").exists()
    holder = rf"process \d+ on {re.escape(os.uname().nodename)} since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC"
    assert re.fullmatch(f"error: study.name: two is held by {holder}; wait for it, or give another name\n", refused.err)
    process.send_signal(signal.SIGKILL)
    wait(process)
    before = ended(url, "two")
    end = run("search", *typed("two", before + 2, *LONG, *kept_in(url), "tracking=none"), "home=h2", cwd=tmp_path)
    assert (end.code, end.err) == (0, "")
    assert ended(url, "two") >= before + 1


def test_a_search_that_was_suspended_for_too_long_stops_without_harm(server: Postgres, tmp_path: Path) -> None:
    arguments = typed("slept", 40, *LONG, *kept_in(server.url), "tracking=none")
    asleep = subprocess.Popen(
        [sys.executable, "-c", HASTY, *arguments, "home=h1"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: ended(server.url, "slept") >= 2)
    asleep.send_signal(signal.SIGSTOP)
    time.sleep(1.5)
    end = script(HASTY, *typed("slept", 6, *LONG, *kept_in(server.url), "tracking=none"), "home=h2", cwd=tmp_path)
    assert end.code == 0, end
    before = trials_of(server.url, "slept")
    asleep.send_signal(signal.SIGCONT)
    out, err = asleep.communicate(timeout=600)
    assert asleep.returncode == 2, (out, err)
    assert re.fullmatch(r"error: study.name: slept was taken over by .* while this search did not answer; .*\n", err)
    assert trials_of(server.url, "slept") == before
    assert not (tmp_path / "h1/studies/slept/summary.json").exists()
    assert "ended by LeaseLostError" in (tmp_path / "h1/studies/slept/search.log").read_text()
