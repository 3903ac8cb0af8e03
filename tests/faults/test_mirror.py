"""MLflow that is away: a server that dies for a while or for good, a database that was deleted, a home that moved."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from ..commands import USERS_ARGUMENTS, USERS_OWN, run, start, wait, write_users_own
from ..servers import free_port, serving
from ..tracking.stories import Runs
from .searching import Progress, assert_nothing_is_lost, typed, until

pytestmark = pytest.mark.slow

# Seconds.
AWAY = float(os.environ.get("FAULTS_AWAY", "10"))
FEW = ("executor=population", "confirm.top=1")
# A trial lies idle for a while: a search that lasts and costs nothing.
IDLE = (
    ("import torch", "import time\nimport torch"),
    ("        return self.part(0,", "        time.sleep(0.5)\n        return self.part(0,"),
)


@pytest.fixture
def few(thread: None, tmp_path: Path) -> Path:  # noqa: ARG001
    """The home of a study of four trials."""
    ended = run("search", *typed("few", 4, *FEW), cwd=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert_nothing_is_lost(tmp_path / "mlruns")
    return tmp_path / "mlruns"


def test_a_deleted_database_is_made_again_from_the_study(few: Path, tmp_path: Path) -> None:
    (few / "mlflow.db").unlink()
    shutil.rmtree(few / "artifacts")
    # A process of its own: this one has the deleted file open.
    ended = wait(start("sync", cwd=tmp_path))
    assert (ended.code, ended.err, ended.out) == (0, "", "few: 6 runs written\n")
    few = few.rename(tmp_path / "elsewhere")  # of which this process has nothing open
    assert_nothing_is_lost(few)
    ended = run("sync", "from=few", "home=elsewhere", cwd=tmp_path)
    assert (ended.code, ended.err, ended.out) == (0, "", "few: nothing to write\n")
    runs = Runs.at(few)
    assert runs.parent.info.status == "FINISHED"
    assert len(runs.children) == 5


def test_a_home_that_moved_is_whole_where_it_is(few: Path, tmp_path: Path) -> None:
    few.rename(tmp_path / "elsewhere")
    assert_nothing_is_lost(tmp_path / "elsewhere")
    assert run("sync", "home=elsewhere", cwd=tmp_path).out == "few: nothing to write\n"
    runs = Runs.at(tmp_path / "elsewhere")
    assert "optimizer" in runs.artifact(runs.child(3), "config.yaml")
    ended = run("search", *typed("few", 5, *FEW, "home=elsewhere"), cwd=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert_nothing_is_lost(tmp_path / "elsewhere")
    assert not few.exists()


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_server_that_dies_holds_nothing_up(comes_back: bool, tmp_path: Path) -> None:
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    write_users_own(tmp_path)
    (tmp_path / "users_own.py").write_text(USERS_OWN.replace(*IDLE[0], 1).replace(*IDLE[1]))
    study = tmp_path / "mlruns/studies/served"
    arguments = [
        *(*USERS_ARGUMENTS, "trainer.accelerator=cpu", "trainer.max_epochs=2", "confirm.top=0", "study.name=served"),
        *(f"tracking.uri={uri}", "tracking.flush_seconds=0.5"),
        f"budget.trials={20 + int(2 * AWAY) if comes_back else 12}",
    ]
    progress = Progress(study / "study.journal")
    with serving(tmp_path, port):
        process = start("search", *arguments, cwd=tmp_path)
        until(lambda: progress.look() >= 5)
    before = progress.look()
    if comes_back:
        time.sleep(AWAY)
        assert process.poll() is None, process.communicate()
    else:
        ended = wait(process)
    assert progress.look() > before + 5
    with serving(tmp_path, port):
        if comes_back:
            ended = wait(process)
            assert (ended.code, "is incomplete" in ended.out) == (0, False), ended
        else:
            assert (ended.code, "is incomplete" in ended.out) == (0, True), ended
            said = run("sync", f"uri={uri}", cwd=tmp_path)
            assert (said.code, said.err) == (0, "")
            assert said.out.endswith(" runs written\n")
        assert_nothing_is_lost(tmp_path / "mlruns", uri)
        assert run("sync", f"uri={uri}", cwd=tmp_path).out == "served: nothing to write\n"
