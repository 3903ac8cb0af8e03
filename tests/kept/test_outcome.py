"""What a study has come to, read while it is searched, at its end and after its home was moved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from autotune.errors import UserError
from autotune.kept.ledger import Ledger
from autotune.kept.outcome import URL, Outcome, read, studies, study_folder
from autotune.kept.storage import open_storage
from autotune.settings import Objective
from autotune.trial import Reason, Record

from ..fakes import resolved

UP = Objective("val/accuracy", "maximize", 0.0, 1e4)
CONFIG: dict[str, Any] = {
    "home": "elsewhere",
    "study": {"name": "s", "seed": 0},
    "objective": {"metric": "val/accuracy", "direction": "maximize", "worst": 0.0, "explodes_above": 1e4},
    "optimizer": {"lr": "interval(0,1)"},
}
JOURNAL = {"name": "journal"}
OPENED: list[Ledger] = []
SQLITE = {"name": "sqlite", "url": "sqlite:///${home}/studies/${study.name}/study.db"}


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


def begin(home: Path, storage: dict[str, Any] = JOURNAL) -> Ledger:
    folder = home / "studies" / "s"
    folder.mkdir(parents=True)
    config = OmegaConf.create({**CONFIG, "storage": storage, "home": str(home)})
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(config))
    section = OmegaConf.to_container(config.storage, resolve=True)
    assert isinstance(section, dict)
    storage_and_journal = open_storage({str(key): value for key, value in section.items()}, folder)
    OPENED.append(Ledger(*storage_and_journal, "s", "maximize"))
    return OPENED[-1]


def finish(ledger: Ledger, number: int, value: float, reason: Reason = Reason.COMPLETED) -> None:
    ledger.begin(resolved(), {}, {})
    ledger.finish(number, reason, value, {"val/accuracy": [value]}, {}, {}, None)


@pytest.mark.parametrize("storage", [JOURNAL, SQLITE])
def test_it_is_read_while_it_is_written_and_after_it_was_moved(tmp_path: Path, storage: dict[str, Any]) -> None:
    home = tmp_path / "home"
    ledger = begin(home, storage)
    finish(ledger, 0, 0.5)
    finish(ledger, 1, 0.75)
    finish(ledger, 2, 0.9, Reason.PRUNED)
    ledger.begin(resolved(), {}, {})
    ledger.keep_seconds(3.0)
    ledger.note(executor="population", refused={"why": 2})
    outcome = read("s", home)
    assert [record.state.value for record in outcome.records] == ["COMPLETE", "COMPLETE", "PRUNED", "RUNNING"]
    assert (outcome.seconds, outcome.notes) == (3.0, {"executor": "population", "refused": {"why": 2}})
    assert (outcome.history, outcome.objective) == ([(0, 0.5), (1, 0.75)], UP)
    assert outcome.winner == outcome.best == outcome.records[1]
    assert (outcome.standing, outcome.verdict, outcome.is_noise) == (None, None, False)
    assert outcome.config["optimizer"] == {"lr": "interval(0,1)"}
    ledger.close()
    home.rename(tmp_path / "moved")
    assert len(read("s", tmp_path / "moved").records) == 4


def test_a_line_half_written_is_left_out(tmp_path: Path) -> None:
    finish(begin(tmp_path), 0, 0.5)
    journal = tmp_path / "studies" / "s" / "study.journal"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code": 8, "wor')
    assert len(read("s", tmp_path).records) == 1
    assert journal.read_bytes() == whole + b'{"op_code": 8, "wor'


def test_confirmation_may_choose_another_than_the_best(tmp_path: Path) -> None:
    ledger = begin(tmp_path)
    finish(ledger, 0, 0.8)
    finish(ledger, 1, 0.9)
    for number, value in ((0, 0.8), (1, 0.7)):
        for seed in (1, 2):
            story = ledger.records()[number]
            ledger.confirm(_again(story, seed, value + seed / 1000))
    outcome = Outcome.of(ledger, "s", UP, CONFIG)
    assert outcome.best is not None
    assert outcome.winner is not None
    assert (outcome.best.number, outcome.winner.number) == (1, 0)


def test_a_study_whose_best_is_a_guess_is_noise(tmp_path: Path) -> None:
    ledger = begin(tmp_path)
    finish(ledger, 0, 0.5)
    guessing = {"metric": "val/accuracy", "level": 0.5, "samples": 20, "error": 0.0}
    ledger.note(guessing=guessing)
    assert Outcome.of(ledger, "s", UP, CONFIG).verdict is None  # the rows were not looked at
    ledger.note(paired={"look": Outcome.of(ledger, "s", UP, CONFIG).best_look, "luck": 0.5})
    assert Outcome.of(ledger, "s", UP, CONFIG).is_noise
    ledger.note(paired={"look": [0, 7], "luck": 0.5})  # at another epoch, which was the best once
    assert Outcome.of(ledger, "s", UP, CONFIG).verdict is None
    ledger.note(guessing={**guessing, "level": 0.01})
    assert not Outcome.of(ledger, "s", UP, CONFIG).is_noise


def test_what_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with pytest.raises(UserError, match=r"^from: no study s in .*home; search first: python -m autotune.search$"):
        read("s", home)
    begin(home).close()
    with pytest.raises(UserError, match=r"^from: no study t in .*home; known are s$"):
        read("t", home)
    with pytest.raises(UserError, match=r"^from: no study \.\./studies/s in "):
        study_folder("../studies/s", home)
    (home / "studies" / "s" / "study.journal").unlink()
    with pytest.raises(UserError, match=r"^from: the study s has no study.journal; "):
        read("s", home)
    (home / "studies" / "s" / "study.journal").touch()
    with pytest.raises(UserError, match=r"^from: the study s has no trial yet; let it search on$"):
        read("s", home)
    assert studies(home) == ["s"]


@pytest.mark.parametrize("kept", ["postgresql://127.0.0.1:9/x", "sqlite:///{elsewhere}/x.db", "sqlite:///${data.path}"])
def test_a_database_elsewhere_is_read_where_the_environment_says_so(
    kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A home may be somebody's, and the user's credentials go to an address."""
    address = f"sqlite:///{tmp_path}/theirs.db"
    kept = kept.format(elsewhere=tmp_path) if "{elsewhere}" in kept else kept
    ledger = begin(tmp_path, {"url": address})
    finish(ledger, 0, 0.5)
    config = OmegaConf.create({**CONFIG, "storage": {"url": kept}, "data": {"path": f"{tmp_path}/theirs.db"}})
    (tmp_path / "studies/s/config.yaml").write_text(OmegaConf.to_yaml(config))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError) as refused:
        read("s", tmp_path)
    assert "config.yaml" in refused.value.problem
    assert URL in refused.value.remedy
    assert sorted(tmp_path.iterdir()) == before
    monkeypatch.setenv(URL, address)
    assert len(read("s", tmp_path).records) == 1


def test_a_study_is_looked_for_in_its_own_folder(tmp_path: Path) -> None:
    """Whatever its config.yaml says of its name."""
    finish(begin(tmp_path, SQLITE), 0, 0.5)
    path = tmp_path / "studies/s/config.yaml"
    path.write_text(path.read_text().replace("name: s\n", "name: ../../elsewhere\n"))
    assert len(read("s", tmp_path).records) == 1
    assert not (tmp_path.parent / "elsewhere").exists()


def _again(story: Record, seed: int, value: float) -> Record:
    return replace(story, stage="confirm", config={**story.config, "seed": seed}, objective=value)
