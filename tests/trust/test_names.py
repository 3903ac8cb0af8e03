"""Names that a user, a config or a file gives: none of them leads out of the home."""

from __future__ import annotations

from pathlib import Path

import pytest

from autotune.errors import UserError
from autotune.final.origin import resolved
from autotune.tracking.writer import Claim

from ..commands import files, run

OUTSIDE = ("../out", "..", "/tmp/out", "a/b", "~root", ".hidden")
KEYS = {
    "search": ("study.name",),
    "train": ("train.name", "train.register"),
}


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize(("command", "key"), [(command, key) for command, keys in KEYS.items() for key in keys])
def test_a_name_that_leads_out_of_the_home_is_refused(command: str, key: str, name: str, tmp_path: Path) -> None:
    ended = run(command, f"{key}='{name}'", cwd=tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        f"error: {key}: {name} cannot name a folder; "
        "use letters, digits, '.', '_' and '-', beginning with a letter or digit\n"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("command", ["report", "sync"])
def test_a_study_is_looked_for_in_the_home_alone(command: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for place in ("out", "mlruns/studies", "mlruns"):
        (tmp_path / place).mkdir(exist_ok=True, parents=True)
        (tmp_path / place / "config.yaml").write_text("study: {}\n")
    before = files(tmp_path)
    ended = run(command, f"from='{name}'", cwd=tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"error: from: no study {name} in mlruns; ")
    assert files(tmp_path) == before


@pytest.mark.parametrize("name", [".", "..", "../out", "a/.."])
def test_a_training_begins_from_no_folder_above_the_studies(name: str, tmp_path: Path) -> None:
    for place in ("mlruns/studies/out", "mlruns/studies/a", "mlruns/out"):
        (tmp_path / place).mkdir(parents=True)
    for place in ("mlruns", "mlruns/studies", "mlruns/out"):
        (tmp_path / place / "best.yaml").write_text("data: {}\n")
    with pytest.raises(UserError) as refused:
        resolved(name, str(tmp_path / "mlruns"), None, lambda *_: "")
    assert refused.value.problem == f"no study {name} in {tmp_path}/mlruns"


def test_the_lock_of_a_study_lies_in_the_home_whatever_the_study_is_called(tmp_path: Path) -> None:
    claim = Claim(tmp_path / "mlruns", "../../out")
    claim.take()
    assert files(tmp_path) == {"mlruns/..%2F..%2Fout.mirror.lock"}
    claim.release()
